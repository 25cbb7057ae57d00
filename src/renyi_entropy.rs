//! Rényi and Tsallis entropies, smooth through order 1 and accurate where they vanish.
//!
//! With m the first maximum of a row, d = log p_m/p ≥ 0 and B = Σ_{i≠m} e^-d, the mass outside the maximum,
//!
//! ```text
//! X = Σ e^(−min(1, α)·d)·(1 − e^(−|1 − α|·d))/|1 − α|          Y = X/(1 + B)
//! H_α = (log Σp^α)/(1 − α) = log(1 + B) + log(1 + (1 − α)·Y)/(1 − α)
//! T_α = (Σp^α − 1)/(1 − α) = (e^((1 − α)·H_α) − 1)/(1 − α)
//! ```
//!
//! No term is negative, and X goes to Shannon's Σ e^-d·d as α → 1.

use crate::batch::{Matrix, map_rows};
use crate::error::{Error, Result};
use crate::order::{Entry, peak};
use crate::pool::Call;
use crate::prepare::Side;
use crate::rows::{BLOCK, Row, Scratch, over_segments};
use crate::simd::{Element, Kernel, Simd, Sum, Vector, dispatch, math, special, total};

/// Where |1 − α| is smaller the entropy is Shannon's to the last digit.
const TINY: f64 = 1e-60;

/// The Rényi entropy of every row.
pub fn renyi_entropy(p: &Matrix<'_>, order: f64, call: &Call) -> Result<Vec<f64>> {
    of_rows(p, order, call, |renyi| renyi)
}

/// The Tsallis entropy of every row.
pub fn tsallis_entropy(p: &Matrix<'_>, order: f64, call: &Call) -> Result<Vec<f64>> {
    of_rows(p, order, call, |renyi| {
        let rest = 1.0 - order;
        let exponent = rest * renyi;
        if order == f64::INFINITY {
            renyi * 0.0
        } else if exponent.abs() < TINY {
            renyi
        } else {
            libm::expm1(exponent) / rest
        }
    })
}

fn of_rows(p: &Matrix<'_>, order: f64, call: &Call, finish: impl Fn(f64) -> f64 + Sync) -> Result<Vec<f64>> {
    if order.is_nan() || order < 0.0 {
        return Err(Error::Parameter(format!("an entropy of order {order}")));
    }
    map_rows(p.rows(), p.columns(), 1, call, |index, parallel, out| {
        out[0] = finish(renyi(&p.side(index).in_wide_lanes(), order, parallel)?);
        Ok(())
    })
}

fn renyi(side: &Side<'_>, order: f64, parallel: bool) -> Result<f64> {
    let distance = (1.0 - order).abs();
    let shannon = side.entropy(parallel)?;
    if shannon.is_nan() || distance < TINY {
        return Ok(shannon);
    }
    let Some(top) = peak(&side.row, parallel) else { return Ok(f64::NAN) };
    let terms = Terms { top, slope: order.min(1.0), distance, linear: !side.kind.is_log() };
    let (mass, spread) = over_segments(
        side.row.len(),
        parallel,
        |from, to| dispatch(Pass { row: side.row, from, to, terms }),
        |a, b| (a.0 + b.0, a.1 + b.1),
    );
    let lowest = libm::log1p(mass);
    if order == f64::INFINITY {
        return Ok(lowest);
    }
    let gain = (1.0 - order) * (spread / (1.0 + mass));
    let above = if gain.abs() < TINY { spread / (1.0 + mass) } else { libm::log1p(gain) / (1.0 - order) };
    Ok(lowest + above)
}

#[derive(Clone, Copy)]
struct Terms {
    top: Entry,
    /// min(1, α).
    slope: f64,
    /// |1 − α|.
    distance: f64,
    /// The numbers are weights.
    linear: bool,
}

struct Pass<'a> {
    row: Row<'a>,
    from: usize,
    to: usize,
    terms: Terms,
}

impl Kernel for Pass<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<S: Simd>(self) -> (f64, f64) {
        let Terms { top, slope, distance, linear } = self.terms;
        let mut scratch = Scratch::<f64>::new();
        let constant = S::F64::constant;
        let (zero, infinity) = (S::F64::zero(), constant(f64::INFINITY));
        let scale = if linear { libm::scalbn(1.0, (500 - libm::ilogb(top.value)).min(1000)) } else { 1.0 };
        let top_value = constant(top.value * scale);
        let inverse = constant(1.0 / distance);
        let none = if linear { 0.0 } else { f64::NEG_INFINITY };
        let (mut mass, mut spread): (Sum, Sum) = ([0.0; 16], [0.0; 16]);
        for from in (self.from..self.to).step_by(BLOCK) {
            let len = BLOCK.min(self.to - from);
            let block = self.row.block_without::<S, f64>(from, len, &mut scratch, none, top.index);
            for x in block.chunks_exact(f64::LANES) {
                let x = S::F64::load(x) * constant(scale);
                let depth = if linear {
                    let absent = x.eq(zero);
                    let safe = S::F64::select(absent, top_value, x);
                    S::F64::select(absent, infinity, math::ln_quotient(top_value, safe, top_value - safe))
                } else {
                    top_value - x
                };
                let present = depth.lt(infinity);
                let depth = S::F64::select(present, depth, zero);
                let weight = special::exp_any(zero - constant(slope) * depth);
                let fraction = special::one_less_exp(constant(distance) * depth) * inverse;
                S::F64::select(present, special::exp_any(zero - depth), zero).add_to(&mut mass);
                S::F64::select(present, weight * fraction, zero).add_to(&mut spread);
            }
        }
        (total(&mass), total(&spread))
    }
}
