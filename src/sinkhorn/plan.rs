//! The plan from its potentials, row by row: stored, or multiplied with vectors on the way.
//!
//! P_ij = a_i·b_j·exp((f_i + g_j − C_ij)/ε), in float64 exponents whatever the costs are.

use super::cost::{Cost, Number};
use super::problem::Problem;
use super::sweep::{Plan, add_chunks, sums_len};
use super::vectors::{dot, ln_all, load_or, padded};
use crate::error::Result;
use crate::pool::{Call, install};
use crate::simd::{Element, Kernel, Simd, Vector, dispatch, math};

/// Potentials of a problem.
#[derive(Clone, Copy, Debug)]
pub struct Potentials<'a, 'b, C> {
    /// The problem.
    pub problem: &'a Problem<'b, C>,
    /// Of the rows.
    pub f: &'a [f64],
    /// Of the columns.
    pub g: &'a [f64],
}

/// x/ε + ln weight of each, −∞ where there is no weight.
pub(super) fn exponents(potential: &[f64], weights: &[f64], epsilon: f64) -> Vec<f64> {
    let mut out = weights.to_vec();
    ln_all(&mut out);
    for (out, x) in out.iter_mut().zip(potential) {
        *out = if out.is_finite() && x.is_finite() { *out + x / epsilon } else { f64::NEG_INFINITY };
    }
    out
}

impl<C: Cost> Potentials<'_, '_, C> {
    fn on_chunks<T: Send>(
        &self,
        call: &Call,
        items: impl FnOnce(&Plan<'_>) -> Vec<T>,
        work: impl Fn(usize, &Rows<'_, C>, &mut T) + Sync + Send,
    ) -> Result<()> {
        let problem = self.problem;
        let wanted = call.threads();
        let (n, m) = (problem.a.len(), problem.b.len());
        let plan = Plan::new(n, m, wanted > 1, call);
        let levels = exponents(self.f, problem.a, problem.epsilon);
        let h = padded::<f64>(&exponents(self.g, problem.b, problem.epsilon), f64::NEG_INFINITY);
        let rows = Rows { cost: problem.cost, levels: &levels, h: &h, epsilon: problem.epsilon, step: plan.rows };
        let items = items(&plan).into_iter().enumerate().collect::<Vec<_>>();
        let run = || plan.run(items, |(index, item)| work(*index, &rows, item));
        if plan.parallel { install(wanted, run) } else { run() }
    }

    /// Writes the plan, in C order.
    pub fn plan<E: Number>(&self, out: &mut [E], call: &Call) -> Result<()> {
        let columns = self.problem.b.len();
        self.on_chunks(
            call,
            |plan| out.chunks_mut(plan.rows * columns).collect(),
            |index, rows, out| dispatch(Write { rows, index, out, columns }),
        )
    }

    /// P·v for each of the vectors, one after the other in `vectors`; `out` has one row sum each.
    pub fn apply(&self, vectors: &[f64], out: &mut [f64], call: &Call) -> Result<()> {
        let (n, m) = (self.problem.a.len(), self.problem.b.len());
        let count = vectors.len() / m;
        // Rows first while threads write, so that a chunk is one slice.
        let mut by_row = vec![0.0; n * count];
        self.on_chunks(
            call,
            |plan| by_row.chunks_mut((plan.rows * count).max(1)).collect(),
            |index, rows, out| dispatch(Apply { rows, index, vectors, out, count, columns: m }),
        )?;
        for (k, out) in out.chunks_mut(n).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                *out = by_row[i * count + k];
            }
        }
        Ok(())
    }

    /// Pᵀ·v for each of the vectors.
    pub fn apply_transposed(&self, vectors: &[f64], out: &mut [f64], call: &Call) -> Result<()> {
        let (n, m) = (self.problem.a.len(), self.problem.b.len());
        let count = vectors.len() / n;
        let stride = sums_len(m);
        let chunk = count * stride;
        let mut sums = Vec::new();
        self.on_chunks(
            call,
            |plan| {
                sums.resize(n.div_ceil(plan.rows) * chunk, 0.0);
                sums.chunks_mut(chunk.max(1)).collect()
            },
            |index, rows, sums| dispatch(Transposed { rows, index, vectors, sums, stride, n }),
        )?;
        let mut all = vec![0.0; chunk];
        add_chunks(&sums, chunk.max(1), &mut all);
        for (out, sums) in out.chunks_mut(m).zip(all.chunks(stride)) {
            out.copy_from_slice(&sums[..m]);
        }
        Ok(())
    }
}

/// Rows of the plan on demand.
struct Rows<'a, C> {
    cost: &'a C,
    /// f_i/ε + ln a_i.
    levels: &'a [f64],
    h: &'a [f64],
    epsilon: f64,
    /// Rows of a chunk.
    step: usize,
}

impl<C: Cost> Rows<'_, C> {
    /// Calls `work` with the index within the chunk and the row of the plan, for each row of a chunk.
    #[inline(always)]
    fn each<S: Simd>(&self, chunk: usize, mut work: impl FnMut(usize, usize, &[f64])) {
        let len = self.h.len();
        let (mut lent, mut row) = (vec![0.0; len], vec![0.0; len]);
        let scale = S::F64::constant(-1.0 / self.epsilon);
        let low = S::F64::constant(-700.0);
        let first = chunk * self.step;
        for i in first..self.levels.len().min(first + self.step) {
            let level = S::F64::splat(self.levels[i]);
            if self.levels[i] == f64::NEG_INFINITY {
                row.fill(0.0);
            } else {
                let costs = self.cost.row::<S, f64>(i, &mut lent);
                for at in (0..costs.len()).step_by(f64::LANES) {
                    let cost = load_or::<S::F64>(costs, at, f64::INFINITY);
                    let x = cost.mul_add(scale, S::F64::load(&self.h[at..])) + level;
                    let e = S::F64::select(low.lt(x), math::exp(x.max(low)), S::F64::zero());
                    e.store(&mut row[at..]);
                }
            }
            work(i - first, i, &row);
        }
    }
}

struct Write<'a, 'b, C, E> {
    rows: &'a Rows<'b, C>,
    index: usize,
    out: &'a mut [E],
    columns: usize,
}

impl<C: Cost, E: Number> Kernel for Write<'_, '_, C, E> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        self.rows.each::<S>(self.index, |local, _, row| {
            let out = &mut self.out[local * self.columns..(local + 1) * self.columns];
            for (out, &x) in out.iter_mut().zip(row) {
                *out = E::from_f64(x);
            }
        });
    }
}

struct Apply<'a, 'b, C> {
    rows: &'a Rows<'b, C>,
    index: usize,
    vectors: &'a [f64],
    out: &'a mut [f64],
    count: usize,
    columns: usize,
}

impl<C: Cost> Kernel for Apply<'_, '_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        self.rows.each::<S>(self.index, |local, _, row| {
            for (k, vector) in self.vectors.chunks(self.columns).enumerate() {
                self.out[local * self.count + k] = dot(&row[..self.columns], vector);
            }
        });
    }
}

struct Transposed<'a, 'b, C> {
    rows: &'a Rows<'b, C>,
    index: usize,
    vectors: &'a [f64],
    sums: &'a mut [f64],
    stride: usize,
    n: usize,
}

impl<C: Cost> Kernel for Transposed<'_, '_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        self.rows.each::<S>(self.index, |_, i, row| {
            for (vector, sums) in self.vectors.chunks(self.n).zip(self.sums.chunks_mut(self.stride)) {
                let weight = S::F64::splat(vector[i]);
                let mut at = 0;
                while at < row.len() {
                    S::F64::load(&row[at..]).mul_add(weight, S::F64::load(&sums[at..])).store(&mut sums[at..]);
                    at += f64::LANES;
                }
            }
        });
    }
}
