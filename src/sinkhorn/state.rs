//! The semi-dual at a point: for a given g the best f, the column sums of the plan, and how far they are off.
//!
//! A point is evaluated by a sweep over the absorbed kernel if g is near the point of absorption, and by absorbing
//! there otherwise. Both give the same numbers, so methods do not know which it was.

use super::absorbed::Absorbed;
use super::cost::{Cost, Number};
use super::problem::{Options, Problem, Watch};
use super::sparse::Sparse;
use super::sweep::{Measured, NEAR, Pass, Plan};
use super::sweeps::{Kind, Sweeps};
use super::vectors::{distance, dot, exp_all, largest, ln_all};
use crate::error::{Error, Result};

/// Largest |ln v| before the kernel is absorbed again.
const LIMIT_NARROW: f64 = 10.0;
const LIMIT_WIDE: f64 = 30.0;

/// How much of the rounding of float32 exponents an error must exceed for float32 sweeps to still be worth it.
const NARROW_FLOOR: f64 = 32.0;

/// The kernel, if one is stored.
pub(super) enum Storage {
    None,
    Narrow(Absorbed<f32>),
    Wide(Absorbed<f64>),
}

/// A point of the semi-dual and everything known there.
pub struct State<'a> {
    costs: &'a dyn Sweeps,
    pub(super) reaches: [f64; 2],
    pub(super) plan: Plan<'a>,
    /// Weights of the rows over their mass.
    pub(super) a: Vec<f64>,
    /// Mass of the rows.
    pub mass: f64,
    /// Weights of the columns, of the rows' mass where both marginals hold.
    pub b: Vec<f64>,
    ln_b: Vec<f64>,
    /// The current regularisation: on a ladder, not the problem's.
    pub epsilon: f64,
    pub(super) storage: Storage,
    absorbed: bool,
    /// The plan at the point, where it is sparse: for the products of one Newton step.
    pub(super) sparse: Option<Sparse>,
    /// False once it was found to be dense at this regularisation.
    pub(super) may_be_sparse: bool,
    /// True once conjugate gradients were seen not to get there at this regularisation.
    pub(super) stiff: bool,
    /// Range of the costs: says what float32 exponents can resolve.
    pub(super) range: f64,
    /// The point.
    pub g: Vec<f64>,
    /// z of its rows: φ = ε·z; up to date after [`State::normalisers`] only where a kernel is stored.
    z: Vec<f64>,
    /// h that z belongs to; empty where it is none.
    z_h: Vec<f64>,
    /// Row sums of the absorbed kernel times v, and v, at the point.
    pub(super) dots: Vec<f64>,
    pub(super) v: Vec<f64>,
    /// Column sums of the plan.
    pub columns: Vec<f64>,
    /// What they should be.
    pub wanted: Vec<f64>,
    /// ln(wanted/columns); 0 where a column has no weight.
    pub gap: Vec<f64>,
    /// Σ |columns − wanted|.
    pub error: f64,
    /// Sweeps so far.
    pub sweeps: usize,
    /// Most sweeps.
    pub most: usize,
    /// Errors of all evaluations.
    pub history: Vec<f64>,
    watch: Option<Watch<'a>>,
}

/// Whether and how the kernel is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Not at all.
    No,
    /// In float32.
    Narrow,
    /// In float64.
    Wide,
}

impl<'a> State<'a> {
    /// At g = 0, not evaluated.
    pub fn new<C: Cost>(
        problem: &'a Problem<'a, C>,
        plan: Plan<'a>,
        store: Store,
        range: f64,
        options: &Options<'a>,
    ) -> Self {
        let (n, m) = (problem.a.len(), problem.b.len());
        let mass: f64 = problem.a.iter().sum();
        let scale = if problem.is_unbalanced() { 1.0 } else { mass / problem.b.iter().sum::<f64>() };
        let b: Vec<f64> = problem.b.iter().map(|b| b * scale).collect();
        let mut ln_b = b.clone();
        ln_all(&mut ln_b);
        let storage = match store {
            Store::No => Storage::None,
            Store::Narrow => Storage::Narrow(Absorbed::new(n, m)),
            Store::Wide => Storage::Wide(Absorbed::new(n, m)),
        };
        Self {
            costs: problem.cost,
            reaches: problem.reach,
            plan,
            a: problem.a.iter().map(|a| a / mass).collect(),
            mass,
            wanted: b.clone(),
            b,
            ln_b,
            epsilon: problem.epsilon,
            storage,
            absorbed: false,
            sparse: None,
            may_be_sparse: true,
            stiff: false,
            range,
            g: vec![0.0; m],
            z: vec![0.0; n],
            z_h: Vec::new(),
            dots: vec![1.0; n],
            v: vec![1.0; m],
            columns: vec![0.0; m],
            gap: vec![0.0; m],
            error: f64::INFINITY,
            sweeps: 0,
            most: options.max_iter.max(1),
            history: Vec::new(),
            watch: options.watch,
        }
    }

    /// ρ/(ρ + ε) of the rows (0) or the columns (1).
    pub fn bend(&self, side: usize) -> f64 {
        let reach = self.reaches[side];
        if reach.is_finite() { reach / (reach + self.epsilon) } else { 1.0 }
    }

    /// ρ of the rows (0) or the columns (1).
    pub fn reach(&self, side: usize) -> f64 {
        self.reaches[side]
    }

    /// How far one step may move g: potentials of a solution differ by little more than the costs do.
    pub fn furthest(&self) -> f64 {
        self.range + 100.0 * self.epsilon
    }

    /// True if no sweep is left.
    pub fn spent(&self) -> bool {
        self.sweeps >= self.most
    }

    /// Goes on to another regularisation.
    pub fn set_epsilon(&mut self, epsilon: f64) {
        for z in &mut self.z {
            *z *= self.epsilon / epsilon;
        }
        self.z_h.clear();
        self.may_be_sparse = true;
        self.stiff = false;
        self.epsilon = epsilon;
        self.absorbed = false;
    }

    /// Absorbs again at the next evaluation.
    pub fn forget(&mut self) {
        self.absorbed = false;
    }

    /// Moves to g and evaluates there.
    pub fn evaluate(&mut self, g: &[f64]) -> Result<()> {
        self.sweeps += 1;
        self.sparse = None;
        self.g.copy_from_slice(g);
        let near = self.absorbed && self.moved_little();
        let lost = if near { self.sweep()? } else { self.restart()? };
        for (sum, &b) in self.columns.iter_mut().zip(&self.b) {
            *sum = if b > 0.0 { *sum * self.mass } else { 0.0 };
        }
        let reach = self.reaches[1];
        if reach.is_finite() {
            for ((wanted, ln_b), g) in self.wanted.iter_mut().zip(&self.ln_b).zip(&self.g) {
                *wanted = ln_b - g / reach;
            }
            exp_all(&mut self.wanted);
        }
        for ((gap, &wanted), &sum) in self.gap.iter_mut().zip(&self.wanted).zip(&self.columns) {
            *gap = if wanted > 0.0 { wanted / sum } else { 1.0 };
        }
        ln_all(&mut self.gap);
        if lost {
            self.find_lost()?;
        }
        self.error = distance(&self.columns, &self.wanted);
        self.history.push(self.error);
        if self.watch.is_some_and(|watch| !watch(self.sweeps, self.error)) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Sets v; false if some |ln v| is beyond the limit.
    fn moved_little(&mut self) -> bool {
        let (origin, limit) = match &self.storage {
            Storage::None => return false,
            Storage::Narrow(kernel) => (&kernel.g, LIMIT_NARROW),
            Storage::Wide(kernel) => (&kernel.g, LIMIT_WIDE),
        };
        let mut most = 0.0f64;
        for ((v, g), origin) in self.v.iter_mut().zip(&self.g).zip(origin) {
            *v = (g - origin) / self.epsilon;
            most = most.max(v.abs());
        }
        exp_all(&mut self.v);
        most <= limit
    }

    /// Evaluates on the absorbed kernel; true if a column sum is too small to be believed.
    fn sweep(&mut self) -> Result<bool> {
        let (a, bend) = (&self.a, self.bend(0));
        let origin = match &self.storage {
            Storage::None => return self.restart(),
            Storage::Narrow(kernel) => &kernel.z,
            Storage::Wide(kernel) => &kernel.z,
        };
        let coefficient = |i: usize, dot: f64| scaling(a[i], bend, origin[i], dot);
        let least = match &self.storage {
            Storage::None => return self.restart(),
            Storage::Narrow(kernel) => {
                kernel.sweep(&self.plan, &self.v, &mut self.dots, &mut self.columns, coefficient)?;
                f32::LOST
            }
            Storage::Wide(kernel) => {
                kernel.sweep(&self.plan, &self.v, &mut self.dots, &mut self.columns, coefficient)?;
                f64::LOST
            }
        };
        let lost = self.columns.iter().zip(&self.b).any(|(&sum, &b)| b > 0.0 && sum < least);
        for (sum, v) in self.columns.iter_mut().zip(&self.v) {
            *sum *= v;
        }
        Ok(lost)
    }

    /// Evaluates from the costs, and absorbs if a kernel is stored.
    fn restart(&mut self) -> Result<bool> {
        let h = self.h();
        let bend = self.bend(0);
        let near = !self.z_h.is_empty() && largest(&h, &self.z_h, |h, last| (h - last).abs()) <= NEAR;
        let given = Pass { a: &self.a, h: &h, epsilon: self.epsilon, bend, near };
        let (costs, plan, columns) = (self.costs, &self.plan, &mut self.columns);
        let least = match &mut self.storage {
            Storage::None => {
                // Exponents are as large as the costs or, from a start that was given, as the potentials.
                let size = self.range.max(largest(&self.g, &self.g, |g, _| g.abs()));
                let noise = NARROW_FLOOR * f64::from(f32::EPSILON) * size / self.epsilon * self.mass;
                if costs.is_wide() || self.error < noise || noise > self.mass {
                    costs.sweep(&given, plan, &mut self.z, columns, Kind::Wide)?;
                    f64::LOST
                } else {
                    costs.sweep(&given, plan, &mut self.z, columns, Kind::Narrow)?;
                    f32::LOST
                }
            }
            Storage::Narrow(kernel) => {
                kernel.z.copy_from_slice(&self.z);
                kernel.absorb(&self.g, |z, kept| costs.sweep(&given, plan, z, columns, Kind::KeepNarrow(kept)))?;
                self.z.copy_from_slice(&kernel.z);
                f64::LOST
            }
            Storage::Wide(kernel) => {
                kernel.z.copy_from_slice(&self.z);
                kernel.absorb(&self.g, |z, kept| costs.sweep(&given, plan, z, columns, Kind::KeepWide(kept)))?;
                self.z.copy_from_slice(&kernel.z);
                f64::LOST
            }
        };
        self.z_h = h;
        self.absorbed = !matches!(self.storage, Storage::None);
        self.dots.fill(1.0);
        self.v.fill(1.0);
        Ok(self.columns.iter().zip(&self.b).any(|(&sum, &b)| b > 0.0 && sum < least))
    }

    /// h_j = g_j/ε + ln b_j.
    fn h(&self) -> Vec<f64> {
        let pairs = self.g.iter().zip(&self.ln_b);
        pairs.map(|(g, ln_b)| if ln_b.is_finite() { g / self.epsilon + ln_b } else { f64::NEG_INFINITY }).collect()
    }

    /// Brings z up to date and returns it.
    pub fn normalisers(&mut self) -> &[f64] {
        let origin = match &self.storage {
            Storage::None => return &self.z,
            Storage::Narrow(kernel) => &kernel.z,
            Storage::Wide(kernel) => &kernel.z,
        };
        let mut ln = self.dots.clone();
        ln_all(&mut ln);
        for ((z, origin), ln) in self.z.iter_mut().zip(origin).zip(&ln) {
            *z = if origin.is_finite() { origin - ln } else { *origin };
        }
        self.z_h = self.h();
        &self.z
    }

    /// The dual at the point, and how much of it is rounding.
    pub fn dual(&mut self) -> (f64, f64) {
        let scale = self.bend(0) * self.epsilon;
        let [rows, columns] = self.reaches;
        let mass: f64 = self.columns.iter().sum();
        let (mut value, mut noise) = (0.0, 0.0);
        if rows.is_finite() {
            value += rows * (self.mass - mass);
            noise += rows * mass;
        } else {
            self.normalisers();
            for (z, a) in self.z.iter().zip(&self.a).filter(|&(_, &a)| a > 0.0) {
                value += self.mass * scale * z * a;
                noise += self.mass * (scale * z).abs() * a;
            }
        }
        if columns.is_finite() {
            let wanted: f64 = self.wanted.iter().sum();
            value += columns * (self.b.iter().sum::<f64>() - wanted);
            noise += columns * wanted;
        } else {
            value += dot(&self.g, &self.b);
            noise += self.g.iter().zip(&self.b).map(|(g, b)| (g * b).abs()).sum::<f64>();
        }
        (value - self.epsilon * mass, 1e-14 * (noise + self.epsilon * mass))
    }

    /// Works out the logarithms of columns that underflowed, from the costs.
    fn find_lost(&mut self) -> Result<()> {
        self.normalisers();
        let (bend, h) = (self.bend(0), self.h());
        let rows: Vec<f64> = {
            let mut ln_a = self.a.clone();
            ln_all(&mut ln_a);
            ln_a.iter().zip(&self.z).map(|(ln, z)| if ln.is_finite() { ln + bend * z } else { *ln }).collect()
        };
        let sums = self.costs.ln_columns(&self.plan, &rows, &h, self.epsilon)?;
        let ln_mass = libm::log(self.mass);
        for (j, sum) in sums.into_iter().enumerate().take(self.b.len()) {
            if self.b[j] > 0.0 && self.columns[j] < f32::LOST * self.mass {
                let wanted = if self.wanted[j] > 0.0 { libm::log(self.wanted[j]) } else { -745.0 };
                // Nothing at all: only where the forbidden pairs leave no plan. A step as long as any.
                self.gap[j] = if sum.is_finite() { wanted - sum - ln_mass } else { 700.0 };
                self.columns[j] = libm::exp(sum) * self.mass;
            }
        }
        Ok(())
    }

    /// Measures the point in float64, from the costs: error, ⟨C,P⟩, mass; leaves z and the columns exact.
    pub fn measure(&mut self) -> Result<Measured> {
        self.normalisers();
        let h = self.h();
        let (bend, near) = (self.bend(0), true);
        let given = Pass { a: &self.a, h: &h, epsilon: self.epsilon, bend, near };
        let mut found = Measured::default();
        self.costs.sweep(&given, &self.plan, &mut self.z, &mut self.columns, Kind::Measure(&mut found))?;
        for (sum, &b) in self.columns.iter_mut().zip(&self.b) {
            *sum = if b > 0.0 { *sum * self.mass } else { 0.0 };
        }
        self.error = distance(&self.columns, &self.wanted);
        Ok(Measured { cost: found.cost * self.mass, mass: found.mass * self.mass })
    }

    /// Weights of the rows over their mass.
    pub fn unit_rows(&self) -> &[f64] {
        &self.a
    }

    /// ⟨C,P⟩ + ε·KL(P‖abᵀ) and the penalties, from potentials whose rows are exact. As ln(P/abᵀ) = (f + g − C)/ε,
    /// the costs cancel, and so does everything that grows while ε falls.
    pub fn value(&self, f: &[f64], mass: f64) -> f64 {
        let [rows, columns] = self.reaches;
        let mut value = self.epsilon * (self.mass * self.b.iter().sum::<f64>() - mass);
        for (&f, &a) in f.iter().zip(&self.a) {
            if a > 0.0 {
                let a = a * self.mass;
                // The row's own mass r = a·e^(−f/ρ), and ρ·KL(r‖a) = −f·r + ρ·(a − r).
                value += if rows.is_finite() { -rows * a * libm::expm1(-f / rows) } else { f * a };
            }
        }
        for ((&g, &b), &sum) in self.g.iter().zip(&self.b).zip(&self.columns) {
            if b > 0.0 {
                value += g * sum;
                if columns.is_finite() && sum > 0.0 {
                    value += columns * (sum * libm::log(sum / b) - sum + b);
                } else if columns.is_finite() {
                    value += columns * b;
                }
            }
        }
        value
    }

    /// z of the rows, exact after [`State::measure`].
    pub fn exact_normalisers(&self) -> &[f64] {
        &self.z
    }
}

/// a·u of a row whose kernel was absorbed at z and whose dot with v is `dot`.
#[inline(always)]
pub fn scaling(a: f64, bend: f64, z: f64, dot: f64) -> f64 {
    if a == 0.0 {
        0.0
    } else if bend == 1.0 {
        a / dot
    } else {
        a * libm::exp(bend * (z - libm::log(dot)) - z)
    }
}
