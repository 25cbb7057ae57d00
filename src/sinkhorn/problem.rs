//! A problem: weights, regularisation, marginals that hold or bend; and what can be wrong with one.
//!
//! Minimise ⟨C,P⟩ + ε·KL(P‖abᵀ) over P ≥ 0 with marginals a and b, or with ρ·KL(P1‖a) (and the same for the columns)
//! in place of a marginal. KL is that of unnormalised measures, Σ p·ln(p/q) − p + q. The solution is
//! P_ij = a_i·b_j·exp((f_i + g_j − C_ij)/ε).

use thiserror::Error;

use super::cost::Cost;
use super::vectors::load_or;
use crate::simd::{Element, Kernel, Mask, Simd, Vector, dispatch};

/// Smallest ε, of the largest cost: below, float64 exponents have no digits left.
const SMALLEST: f64 = 1e-13;

/// What is wrong with a problem. Python words the message.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{argument}: {reason} at ({row}, {column}): {value}")]
pub struct Flaw {
    /// A short name of the rule that was broken.
    pub reason: &'static str,
    /// The argument that breaks it.
    pub argument: &'static str,
    /// Row, or index in a vector.
    pub row: usize,
    /// Column.
    pub column: usize,
    /// The number that breaks it.
    pub value: f64,
}

impl Flaw {
    /// A broken rule.
    pub fn new(reason: &'static str, argument: &'static str, row: usize, column: usize, value: f64) -> Self {
        Self { reason, argument, row, column, value }
    }
}

/// How to look for the solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the regularisation and the contraction observed.
    Auto,
    /// Plain iterations, over the absorbed kernel.
    Sinkhorn,
    /// Plain iterations over the costs: one exponential an entry, nothing of the size of the costs is stored.
    Log,
    /// A ladder of regularisations, then Anderson mixing.
    Accelerated,
    /// A ladder of regularisations, then Newton steps.
    Newton,
}

impl Method {
    /// The method of that name.
    pub fn from_name(name: &str) -> Option<Method> {
        Some(match name {
            "auto" => Method::Auto,
            "sinkhorn" => Method::Sinkhorn,
            "log" => Method::Log,
            "accelerated" => Method::Accelerated,
            "newton" => Method::Newton,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Method::Auto => "auto",
            Method::Sinkhorn => "sinkhorn",
            Method::Log => "log",
            Method::Accelerated => "accelerated",
            Method::Newton => "newton",
        }
    }
}

/// Weights and costs.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, C> {
    /// Costs.
    pub cost: &'a C,
    /// Weights of the rows.
    pub a: &'a [f64],
    /// Weights of the columns.
    pub b: &'a [f64],
    /// Regularisation.
    pub epsilon: f64,
    /// ρ of the rows and of the columns; infinite where the marginal holds exactly.
    pub reach: [f64; 2],
}

/// Told the sweeps done and the error after every evaluation; false stops the solve.
pub type Watch<'a> = &'a (dyn Fn(usize, f64) -> bool + Sync);

/// When to stop, and how to get there.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Largest L1 error of both marginals together, of the mass if that is below 1.
    pub tol: f64,
    /// Most sweeps.
    pub max_iter: usize,
    /// How.
    pub method: Method,
    /// Potential of the columns to start from.
    pub init: Option<&'a [f64]>,
    /// True to compute in float64 whatever the costs are.
    pub wide: bool,
    /// Who watches.
    pub watch: Option<Watch<'a>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { tol: 1e-6, max_iter: 10_000, method: Method::Auto, init: None, wide: false, watch: None }
    }
}

/// Potentials and what was measured of them.
#[derive(Clone, Debug)]
pub struct Solution {
    /// Potential of the rows; −∞ where the weight is zero.
    pub f: Vec<f64>,
    /// Potential of the columns.
    pub g: Vec<f64>,
    /// ⟨C,P⟩ + ε·KL(P‖abᵀ), with the penalties of marginals that bend.
    pub value: f64,
    /// ⟨C,P⟩.
    pub transport_cost: f64,
    /// Total mass of the plan.
    pub mass: f64,
    /// True if the error is within the tolerance.
    pub converged: bool,
    /// Sweeps over the costs or the kernel.
    pub n_iter: usize,
    /// L1 error of both marginals, measured in float64 on the potentials returned.
    pub error: f64,
    /// The error that was aimed at.
    pub target: f64,
    /// L1 error at every evaluation.
    pub history: Vec<f64>,
    /// The method that finished.
    pub method: Method,
}

/// What a look over the costs finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    /// Smallest cost.
    pub lowest: f64,
    /// Largest finite cost.
    pub highest: f64,
    /// True if a pair is forbidden.
    pub forbids: bool,
}

impl Extent {
    /// Range of the finite costs.
    pub fn range(&self) -> f64 {
        (self.highest - self.lowest).max(0.0)
    }
}

impl<C: Cost> Problem<'_, C> {
    /// True if a marginal bends.
    pub fn is_unbalanced(&self) -> bool {
        self.reach.iter().any(|reach| reach.is_finite())
    }

    /// Checks that weights and costs have one shape.
    pub fn check_shape(&self) -> Result<(), Flaw> {
        let (n, m) = (self.cost.rows(), self.cost.columns());
        if self.a.len() != n {
            return Err(Flaw::new("length", "a", self.a.len(), n, f64::NAN));
        }
        if self.b.len() != m {
            return Err(Flaw::new("length", "b", self.b.len(), m, f64::NAN));
        }
        Ok(())
    }

    /// Checks everything; gives the extent of the costs.
    pub fn check(&self) -> Result<Extent, Flaw> {
        self.check_shape()?;
        if !(self.epsilon > 0.0 && self.epsilon < f64::INFINITY) {
            return Err(Flaw::new("epsilon", "epsilon", 0, 0, self.epsilon));
        }
        if let Some(&reach) = self.reach.iter().find(|&&reach| reach.is_nan() || reach <= 0.0) {
            return Err(Flaw::new("reach", "reach", 0, 0, reach));
        }
        let mut masses = [0.0; 2];
        for ((argument, weights), mass) in [("a", self.a), ("b", self.b)].into_iter().zip(&mut masses) {
            if let Some(index) = weights.iter().position(|w| !(0.0..f64::INFINITY).contains(w)) {
                return Err(Flaw::new("weight", argument, index, 0, weights[index]));
            }
            *mass = weights.iter().sum();
            if !(*mass > 0.0 && *mass < f64::INFINITY) {
                return Err(Flaw::new("mass", argument, 0, 0, *mass));
            }
        }
        let [mass, other] = masses;
        if !self.is_unbalanced() && (mass - other).abs() > 1e-6 * mass {
            return Err(Flaw::new("masses", "b", 0, 0, other / mass));
        }
        let extent = self.extent()?;
        let largest = extent.lowest.abs().max(extent.highest.abs());
        if self.epsilon < SMALLEST * largest || !(1.0 / self.epsilon).is_finite() {
            return Err(Flaw::new("epsilon small", "epsilon", 0, 0, self.epsilon));
        }
        Ok(extent)
    }

    /// Looks over the costs: NaN, −∞, and rows or columns with mass that nothing may enter.
    fn extent(&self) -> Result<Extent, Flaw> {
        if let Some(extent) = self.cost.known_extent() {
            return Ok(extent);
        }
        let mut extent = Extent { lowest: f64::INFINITY, highest: f64::NEG_INFINITY, forbids: false };
        let mut open = Vec::new();
        dispatch(Look { cost: self.cost, weights: (self.a, self.b), extent: &mut extent, open: &mut open })?;
        if extent.forbids {
            let closed = |index: &usize| self.b[*index] > 0.0 && !open[*index];
            if let Some(column) = (0..self.b.len()).find(closed) {
                return Err(Flaw::new("closed column", "cost", 0, column, f64::INFINITY));
            }
        }
        Ok(extent)
    }
}

struct Look<'a, C> {
    cost: &'a C,
    weights: (&'a [f64], &'a [f64]),
    extent: &'a mut Extent,
    /// Columns that some row with mass may enter; filled from the first forbidden pair on.
    open: &'a mut Vec<bool>,
}

impl<C: Cost> Look<'_, C> {
    #[inline(always)]
    fn rows<S: Simd, E: super::Number>(self) -> Result<(), Flaw> {
        let (n, m) = (self.cost.rows(), self.cost.columns());
        let (a, b) = self.weights;
        let mut buffer = vec![E::from_f64(0.0); m];
        for i in 0..n {
            let row = self.cost.row::<S, E>(i, &mut buffer);
            let infinity = E::from_f64(f64::INFINITY);
            let Some((lowest, highest, finite)) = survey::<E::In<S>>(row) else {
                let bad = |x: &E| x.to_f64().is_nan() || x.to_f64() == f64::NEG_INFINITY;
                let column = row.iter().position(bad).unwrap_or(0);
                return Err(Flaw::new("not a cost", "cost", i, column, row[column].to_f64()));
            };
            self.extent.lowest = self.extent.lowest.min(lowest);
            self.extent.highest = self.extent.highest.max(highest);
            if !finite && !self.extent.forbids {
                self.extent.forbids = true;
                // Every earlier row was open everywhere.
                self.open.resize(m, a[..i].iter().any(|&w| w > 0.0));
            }
            if self.extent.forbids && a[i] > 0.0 {
                let mut enters = false;
                for ((open, &x), &weight) in self.open.iter_mut().zip(row).zip(b) {
                    *open |= x < infinity;
                    enters |= x < infinity && weight > 0.0;
                }
                if !enters {
                    return Err(Flaw::new("closed row", "cost", i, 0, f64::INFINITY));
                }
            }
        }
        Ok(())
    }
}

/// Smallest and largest finite number of a row, and whether all are finite; None if one is NaN or −∞.
#[inline(always)]
fn survey<V: Vector>(row: &[V::Elem]) -> Option<(f64, f64, bool)> {
    let (none, infinity) = (V::constant(f64::NEG_INFINITY), V::constant(f64::INFINITY));
    // The smallest is the largest of the negatives: lanes have one kind of maximum only.
    let (mut below, mut above, mut sound, mut finite) = (none, none, true, true);
    let first = row.first().copied()?;
    for at in (0..row.len()).step_by(V::Elem::LANES) {
        let x = load_or::<V>(row, at, first);
        let regular = x.lt(infinity);
        sound &= none.lt(x).all();
        finite &= regular.all();
        let x = V::select(regular, x, none);
        above = x.max(above);
        below = V::select(regular, V::zero() - x, none).max(below);
    }
    if sound { Some((-below.largest().to_f64(), above.largest().to_f64(), finite)) } else { None }
}

impl<C: Cost> Kernel for Look<'_, C> {
    type Output = Result<(), Flaw>;
    #[inline(always)]
    fn run<S: Simd>(self) -> Result<(), Flaw> {
        if self.cost.is_wide() { self.rows::<S, f64>() } else { self.rows::<S, f32>() }
    }
}
