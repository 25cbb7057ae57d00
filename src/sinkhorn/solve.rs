//! Which method, along which ladder of regularisations, and the verification at the end.
//!
//! Small ε is a problem of algorithms. Sweeps to an error of 1e-6, costs over their range (Newton steps count their
//! products; plain iterations are far beyond the table below 0.01: 1,381 for the first problem at 0.001):
//!
//! | ε/range | 0.1 | 0.03 | 0.01 | 0.003 | 0.001 | 0.0001 |
//! |---|---|---|---|---|---|---|
//! | 400 points in the plane: mixing | 9 | 16 | 29 | 53 | 152 | 858 |
//! | Newton | 20 | 31 | 50 | 72 | 141 | 347 |
//! | 400 cosines in 64-d, Zipf weights: mixing | 8 | 13 | 34 | 91 | 282 | 2,994 |
//! | Newton | 18 | 29 | 69 | 192 | 361 | 4,725 |
//! | 1000 points in 16-d: mixing | 7 | 14 | 76 | 926 | 4,231 | 19,356 |
//! | Newton | 19 | 31 | 54 | 93 | 161 | 845 |
//! | 200 tokens, cost 0 or 1: mixing | 24 | 202 | 2,398 | 3,600 | not in 20,000 | not in 20,000 |
//! | Newton | 38 | 74 | 98 | 243 | 358 | 1,351 |
//!
//! So: plain iterations from 0.05 on, while they predict fewer than 20 more; mixing from 0.005 on, while it predicts
//! fewer than 60 more; Newton otherwise, which never failed.

use super::cost::Cost;
use super::fixed::{End, Fixed, iterate};
use super::newton::newton;
use super::problem::{Flaw, Method, Options, Problem, Solution};
use super::state::{State, Store};
use super::sweep::Plan;
use crate::error::Result;
use crate::pool::{Call, install};

/// What float32 kernels resolve of the mass, and float64 ones.
const FLOOR_NARROW: f64 = 3e-7;
const FLOOR_WIDE: f64 = 1e-15;

/// Verifications after which the error is returned as it is.
const VERIFICATIONS: usize = 4;

/// Solves a problem on the threads of a call.
pub fn solve<C: Cost>(problem: &Problem<'_, C>, options: &Options<'_>, call: &Call) -> Result<Solution> {
    let entries = problem.a.len().saturating_mul(problem.b.len());
    let threads = call.threads();
    // Below, one sweep is less than the waking of a thread.
    if threads == 1 || entries < 1 << 17 {
        return solve_here(problem, options, false, call);
    }
    install(threads, || solve_here(problem, options, true, call))
}

/// Solves a problem in the pool the caller is in, or without threads.
pub fn solve_here<C: Cost>(
    problem: &Problem<'_, C>,
    options: &Options<'_>,
    parallel: bool,
    call: &Call,
) -> Result<Solution> {
    let extent = problem.check()?;
    if let Some(init) = options.init.filter(|init| init.len() != problem.b.len()) {
        return Err(Flaw::new("length", "init", init.len(), problem.b.len(), f64::NAN).into());
    }
    let range = extent.range();
    let plan = Plan::new(problem.a.len(), problem.b.len(), parallel, call);
    let wide = options.wide || problem.cost.is_wide();
    let lazy = problem.cost.is_lazy();
    // Newton steps need the kernel many times over: without one, mixing needs fewer exponentials.
    let method = if lazy && options.method != Method::Sinkhorn { Method::Accelerated } else { options.method };
    let options = &Options { method, ..*options };
    let store = match (options.method, wide) {
        (Method::Log, _) => Store::No,
        _ if lazy => Store::No,
        (_, true) => Store::Wide,
        (_, false) => Store::Narrow,
    };
    let mut state = State::new(problem, plan, store, range, options);
    // g/ε is a number of the size of range/ε, and a column cannot be nearer to what it should be than its last place.
    let places = 0.5 * f64::EPSILON * range / problem.epsilon;
    let floor = if wide { FLOOR_WIDE.max(places) } else { FLOOR_NARROW.max(places) };
    let target = (options.tol * state.mass.min(1.0)).max(floor * state.mass);
    let mut run = Run { state: &mut state, range, target };
    let method = run.from(options)?;
    finish(&mut state, target, method)
}

/// The way to the solution of one problem.
struct Run<'a, 'b> {
    state: &'a mut State<'b>,
    range: f64,
    target: f64,
}

impl Run<'_, '_> {
    /// Runs the method asked for; returns the one that finished.
    fn from(&mut self, options: &Options<'_>) -> Result<Method> {
        let start: Vec<f64> = match options.init {
            Some(g) => g.iter().map(|&g| if g.is_finite() { g } else { 0.0 }).collect(),
            None => vec![0.0; self.state.g.len()],
        };
        if options.init.is_some() {
            self.state.evaluate(&start)?;
            // A good start needs no ladder.
            if self.state.error <= 0.1 * self.state.mass || self.state.error <= self.target {
                return self.finish_from_here(options.method);
            }
        }
        match options.method {
            Method::Sinkhorn | Method::Log => {
                if options.init.is_none() {
                    self.state.evaluate(&start)?;
                }
                self.plain()?;
                Ok(options.method)
            }
            Method::Accelerated => {
                self.ladder(&start, 2)?;
                self.mixed(None)?;
                Ok(Method::Accelerated)
            }
            Method::Newton => {
                self.newton_ladder(&start)?;
                Ok(Method::Newton)
            }
            Method::Auto => self.choose(&start),
        }
    }

    fn finish_from_here(&mut self, method: Method) -> Result<Method> {
        match method {
            Method::Sinkhorn | Method::Log => self.plain()?,
            Method::Accelerated => self.mixed(None)?,
            Method::Newton => newton(self.state, self.target)?,
            Method::Auto => {
                if self.mixed(Some(60))? == End::Slow {
                    newton(self.state, self.target)?;
                    return Ok(Method::Newton);
                }
                return Ok(Method::Accelerated);
            }
        };
        Ok(method)
    }

    /// By ε over the range of the costs, and by the contraction seen.
    fn choose(&mut self, start: &[f64]) -> Result<Method> {
        let ratio = if self.range > 0.0 { self.state.epsilon / self.range } else { f64::INFINITY };
        if ratio < 0.005 {
            self.newton_ladder(start)?;
            return Ok(Method::Newton);
        }
        if ratio >= 0.05 {
            self.state.evaluate(start)?;
            let how = Fixed { mixing: false, target: self.target, patience: Some(20), most: usize::MAX };
            if iterate(self.state, &how)? != End::Slow {
                return Ok(Method::Sinkhorn);
            }
        } else {
            self.ladder(start, 2)?;
        }
        if self.mixed(Some(60))? == End::Slow {
            newton(self.state, self.target)?;
            return Ok(Method::Newton);
        }
        Ok(Method::Accelerated)
    }

    fn plain(&mut self) -> Result<End> {
        iterate(self.state, &Fixed { mixing: false, target: self.target, patience: None, most: usize::MAX })
    }

    fn mixed(&mut self, patience: Option<usize>) -> Result<End> {
        iterate(self.state, &Fixed { mixing: true, target: self.target, patience, most: usize::MAX })
    }

    /// The rungs above the problem's own regularisation.
    fn rungs(&self) -> Vec<f64> {
        let mut rungs = Vec::new();
        let mut epsilon = 0.25 * self.range;
        while epsilon > 1.5 * self.state.epsilon {
            rungs.push(epsilon);
            epsilon *= 0.25;
        }
        rungs
    }

    /// Descends the ladder with a few plain sweeps a rung, and evaluates at the bottom.
    fn ladder(&mut self, start: &[f64], sweeps: usize) -> Result<()> {
        let bottom = self.state.epsilon;
        let mut g = start.to_vec();
        for epsilon in self.rungs() {
            if self.state.spent() {
                break;
            }
            self.state.set_epsilon(epsilon);
            self.state.evaluate(&g)?;
            let how = Fixed { mixing: false, target: self.target, patience: None, most: sweeps };
            iterate(self.state, &how)?;
            g.copy_from_slice(&self.state.g);
        }
        self.state.set_epsilon(bottom);
        self.state.evaluate(&g)
    }

    /// Descends the ladder with Newton steps, loosely on the way and tightly at the bottom.
    fn newton_ladder(&mut self, start: &[f64]) -> Result<()> {
        let bottom = self.state.epsilon;
        let mut g = start.to_vec();
        for epsilon in self.rungs() {
            if self.state.spent() {
                break;
            }
            self.state.set_epsilon(epsilon);
            self.state.evaluate(&g)?;
            newton(self.state, (1e-2 * self.state.mass).max(self.target))?;
            g.copy_from_slice(&self.state.g);
        }
        self.state.set_epsilon(bottom);
        self.state.evaluate(&g)?;
        newton(self.state, self.target)?;
        Ok(())
    }
}

/// Verifies in float64, goes on where the verification asks for it, and gathers the result.
fn finish(state: &mut State<'_>, target: f64, method: Method) -> Result<Solution> {
    let mut measured = state.measure()?;
    for attempt in 1..VERIFICATIONS {
        if state.error <= target || state.spent() {
            break;
        }
        // The kernel's rounding hid the rest: absorb at the very point and aim lower.
        state.forget();
        let g = state.g.clone();
        state.evaluate(&g)?;
        let aim = target * 0.5f64.powi(attempt as i32);
        if method == Method::Newton {
            newton(state, aim)?;
        } else {
            let mixing = method == Method::Accelerated;
            iterate(state, &Fixed { mixing, target: aim, patience: None, most: usize::MAX })?;
        }
        measured = state.measure()?;
    }
    let epsilon = state.epsilon;
    let (bend, reach) = (state.bend(0), [state.reach(0), state.reach(1)]);
    let mut f: Vec<f64> = state.exact_normalisers().iter().map(|z| bend * epsilon * z).collect();
    let mut g: Vec<f64> =
        state.g.iter().zip(&state.b).map(|(&g, &b)| if b > 0.0 { g } else { f64::NEG_INFINITY }).collect();
    let value = state.value(&f, measured.mass);
    if reach.iter().all(|reach| reach.is_infinite()) {
        centre(&mut f, &mut g, state);
    }
    Ok(Solution {
        f,
        g,
        value,
        transport_cost: measured.cost,
        mass: measured.mass,
        converged: state.error <= target,
        n_iter: state.sweeps,
        error: state.error,
        target,
        history: std::mem::take(&mut state.history),
        method,
    })
}

/// Balanced potentials are known up to a constant: the one that makes their weighted means equal.
fn centre(f: &mut [f64], g: &mut [f64], state: &State<'_>) {
    let mean = |x: &[f64], w: &[f64]| {
        let (mut sum, mut mass) = (0.0, 0.0);
        for (x, w) in x.iter().zip(w) {
            if *w > 0.0 {
                sum += w * x;
                mass += w;
            }
        }
        sum / mass
    };
    let shift = 0.5 * (mean(f, state.unit_rows()) - mean(g, &state.b));
    if shift.is_finite() {
        for f in f {
            *f -= shift;
        }
        for g in g {
            *g += shift;
        }
    }
}
