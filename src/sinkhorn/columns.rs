//! Column sums of any size: by their logarithms, straight from the costs, where the fused sweep's sums underflowed.
//!
//! Two passes, one for the largest exponent of each column and one for the sum beneath it. They cost twice a sweep or
//! more, but are needed only where some column is far from what it should be: early, at small ε, without a ladder.

use super::cost::Cost;
use super::sweep::{Plan, add_chunks, sums_len};
use super::vectors::{ln_all, load_or, padded};
use crate::error::Result;
use crate::simd::{Element, Kernel, Simd, Vector, dispatch, math};

/// ln Σ_i exp(rows_i + h_j − C_ij/ε) of every column, whatever their size.
pub fn ln_columns<C: Cost>(cost: &C, plan: &Plan<'_>, rows: &[f64], h: &[f64], epsilon: f64) -> Result<Vec<f64>> {
    let stride = sums_len(h.len());
    let chunks = rows.len().div_ceil(plan.rows);
    let h = padded::<f64>(h, f64::NEG_INFINITY);
    let mut tops = vec![f64::NEG_INFINITY; chunks * stride];
    let run = |first: usize, out: &mut [f64], top: Option<&[f64]>| {
        let count = plan.rows.min(rows.len() - first);
        dispatch(Columns { cost, first, rows: &rows[first..first + count], h: &h, epsilon, top, out });
    };
    plan.run(tops.chunks_mut(stride).enumerate().collect(), |(index, out)| run(*index * plan.rows, out, None))?;
    let mut top = vec![f64::NEG_INFINITY; stride];
    for chunk in tops.chunks(stride) {
        for (top, &x) in top.iter_mut().zip(chunk) {
            *top = top.max(x);
        }
    }
    let finite: Vec<f64> = top.iter().map(|&x| if x.is_finite() { x } else { 0.0 }).collect();
    let mut sums = vec![0.0; chunks * stride];
    plan.run(sums.chunks_mut(stride).enumerate().collect(), |(index, out)| {
        run(*index * plan.rows, out, Some(&finite));
    })?;
    let mut out = vec![0.0; h.len()];
    add_chunks(&sums, stride, &mut out);
    ln_all(&mut out);
    Ok(out.iter().zip(&top).map(|(ln, top)| if top.is_finite() { ln + top } else { f64::NEG_INFINITY }).collect())
}

struct Columns<'a, C> {
    cost: &'a C,
    first: usize,
    rows: &'a [f64],
    h: &'a [f64],
    epsilon: f64,
    top: Option<&'a [f64]>,
    out: &'a mut [f64],
}

impl<C: Cost> Kernel for Columns<'_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut lent = vec![0.0; self.h.len()];
        let scale = S::F64::constant(-1.0 / self.epsilon);
        let low = math::lowest::<S::F64>(0.0);
        for (i, &row) in self.rows.iter().enumerate() {
            if row == f64::NEG_INFINITY {
                continue;
            }
            let costs = self.cost.row::<S, f64>(self.first + i, &mut lent);
            for at in (0..costs.len()).step_by(f64::LANES) {
                let cost = load_or::<S::F64>(costs, at, f64::INFINITY);
                let x = cost.mul_add(scale, S::F64::load(&self.h[at..])) + S::F64::splat(row);
                let out = &mut self.out[at..at + f64::LANES];
                let before = S::F64::load(out);
                if let Some(top) = self.top {
                    let x = x - S::F64::load(&top[at..]);
                    let e = S::F64::select(low.lt(x), math::exp(x.max(low)), S::F64::zero());
                    (before + e).store(out);
                } else {
                    x.max(before).store(out);
                }
            }
        }
    }
}
