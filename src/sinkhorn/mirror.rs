//! A distribution against itself: the self-terms of the Sinkhorn divergence.
//!
//! The cost is symmetric, so both potentials are one, the fixed point of f = T(f) with T half a Sinkhorn iteration.
//! Averaging, f ← ½(f + T(f)), converges at least as fast as halving where exp(−C/ε) is positive definite, as it is for
//! all three distances: the derivative of T is −K̃, with eigenvalues between −1 and 0, and averaging moves them to
//! [0, ½]. No ladder of regularisations, and half the work of a full iteration in every sweep.

use super::cost::Cost;
use super::problem::{Method, Options, Problem, Solution};
use super::softmin::soft_minimum;
use super::sweep::{Measured, Pass, Plan, pass};
use super::vectors::{distance, ln_all};
use crate::error::{Error, Result};
use crate::pool::{Call, install};

/// What float32 sweeps resolve, as a multiple of the rounding of their largest exponent.
const NARROW_FLOOR: f64 = 32.0;

/// The same for float64 sweeps, which bounds what can be aimed at.
const FLOOR: f64 = 4.0;

/// Solves a problem whose cost is symmetric and whose weights on both sides are `problem.a`, of mass 1. The value is
/// that of the semi-dual, ⟨a, T(f)⟩ + ⟨a, f⟩, whose error is the square of the potentials'.
pub fn solve_mirror<C: Cost>(problem: &Problem<'_, C>, options: &Options<'_>, call: &Call) -> Result<Solution> {
    let extent = problem.check()?;
    let wanted = call.threads();
    let n = problem.a.len();
    let plan = Plan::new(n, n, wanted > 1, call);
    let run = || Mirror::new(problem, plan, extent.range(), options).solve(options);
    if plan.parallel { install(wanted, run) } else { run() }
}

struct Mirror<'a, 'b, C> {
    problem: &'a Problem<'b, C>,
    plan: Plan<'a>,
    ln_a: Vec<f64>,
    f: Vec<f64>,
    z: Vec<f64>,
    noise: f64,
    target: f64,
}

impl<'a, 'b, C: Cost> Mirror<'a, 'b, C> {
    fn new(problem: &'a Problem<'b, C>, plan: Plan<'a>, range: f64, options: &Options<'_>) -> Self {
        let mut ln_a = problem.a.to_vec();
        ln_all(&mut ln_a);
        let f = match options.init {
            Some(init) => init.iter().map(|&f| if f.is_finite() { f } else { 0.0 }).collect(),
            None => vec![0.0; ln_a.len()],
        };
        let noise = NARROW_FLOOR * f64::from(f32::EPSILON) * range / problem.epsilon;
        let z = f.iter().map(|f| f / problem.epsilon).collect();
        let floor = FLOOR * f64::EPSILON * (1.0 + range / problem.epsilon);
        Self { problem, plan, ln_a, f, z, noise, target: options.tol.max(floor) }
    }

    fn h(&self) -> Vec<f64> {
        let pairs = self.f.iter().zip(&self.ln_a);
        pairs.map(|(f, ln_a)| if ln_a.is_finite() { f / self.problem.epsilon + ln_a } else { *ln_a }).collect()
    }

    /// Works T(f) out; returns the L1 error of the rows of the plan that f is both potentials of.
    fn step(&mut self, wide: bool) -> Result<f64> {
        let (h, problem) = (self.h(), self.problem);
        if wide {
            soft_minimum::<C, f64>(problem.cost, &h, problem.epsilon, &self.plan, &mut self.z)?;
        } else {
            soft_minimum::<C, f32>(problem.cost, &h, problem.epsilon, &self.plan, &mut self.z)?;
        }
        let rows = self.f.iter().zip(&self.z).zip(problem.a);
        Ok(rows.map(|((f, z), a)| a * libm::expm1(f / problem.epsilon - z).abs()).sum())
    }

    fn solve(mut self, options: &Options<'_>) -> Result<Solution> {
        let problem = self.problem;
        let (mut history, mut error) = (Vec::new(), f64::INFINITY);
        let wide_only = problem.cost.is_wide() || self.noise > 1.0;
        while history.len() < options.max_iter.max(1) {
            let wide = wide_only || error < self.noise.max(2.0 * self.target);
            error = self.step(wide)?;
            history.push(error);
            if options.watch.is_some_and(|watch| !watch(history.len(), error)) {
                return Err(Error::Interrupted);
            }
            if error <= self.target && wide {
                break;
            }
            for (f, z) in self.f.iter_mut().zip(&self.z) {
                *f = 0.5 * (*f + problem.epsilon * z);
            }
        }
        let h = self.h();
        let given = Pass { a: problem.a, h: &h, epsilon: problem.epsilon, bend: 1.0, near: false };
        let (mut measured, mut columns) = (Measured::default(), vec![0.0; h.len()]);
        pass::<C, f64, f64>(problem.cost, &given, &self.plan, &mut self.z, &mut columns, None, Some(&mut measured))?;
        let error = distance(&columns, problem.a);
        let held = |x: f64, a: f64| if a > 0.0 { x } else { f64::NEG_INFINITY };
        let rows = self.z.iter().zip(problem.a).map(|(z, &a)| held(problem.epsilon * z, a)).collect::<Vec<_>>();
        let value = rows.iter().zip(&self.f).zip(problem.a);
        let value = value.map(|((row, f), a)| if *a > 0.0 { a * (row + f) } else { 0.0 }).sum();
        Ok(Solution {
            g: self.f.iter().zip(problem.a).map(|(&f, &a)| held(f, a)).collect(),
            f: rows,
            value,
            transport_cost: measured.cost,
            mass: measured.mass,
            converged: error <= self.target,
            n_iter: history.len(),
            error,
            target: self.target,
            history,
            method: Method::Sinkhorn,
        })
    }
}
