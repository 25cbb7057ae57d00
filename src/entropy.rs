//! Shannon entropy, accurate also where it vanishes.
//!
//! With m the first maximum of a row and d_i = m − x_i ≥ 0, B = Σ_{i≠m} e^-d, D = Σ e^-d·d,
//! H = log1p(B) + D/(1 + B): no term cancels, and a row of nearly all its mass in one place keeps the digits of H.

use std::f64::consts::{LN_2, LOG2_E};

use crate::linear::Totals;
use crate::order::{Entry, peak};
use crate::rows::{BLOCK, InPlace, Row, Scratch, over_segments};
use crate::simd::{Kernel, Simd, Sum, Vector, dispatch, math, total};
use crate::sweep::MAX_LEVEL;

/// B and D of a row.
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    /// Σ e^-d without the maximum itself.
    pub mass: f64,
    /// Σ e^-d·d.
    pub spread: f64,
}

impl Tail {
    /// H.
    pub fn entropy(&self) -> f64 {
        libm::log1p(self.mass) + self.spread / (1.0 + self.mass)
    }
}

/// log Σ e^x, or `None` if the row has NaN, +inf or no mass.
pub fn log_sum_exp(row: &Row<'_>, parallel: bool) -> Option<f64> {
    let top = peak(row, parallel)?;
    Some(top.value + libm::log1p(log_tail(row, top, parallel).mass))
}

/// B and D of a row of logits with that maximum.
pub fn log_tail(row: &Row<'_>, top: Entry, parallel: bool) -> Tail {
    if top.value.abs() > MAX_LEVEL {
        return log_tail_in::<f64>(row.below(top.value), Entry { value: 0.0, ..top }, parallel);
    }
    if row.is_wide() { log_tail_in::<f64>(*row, top, parallel) } else { log_tail_in::<f32>(*row, top, parallel) }
}

fn log_tail_in<T: InPlace>(row: Row<'_>, top: Entry, parallel: bool) -> Tail {
    let power = (top.value * LOG2_E).round();
    let (mass, spread) = over_segments(
        row.len(),
        parallel,
        |from, to| dispatch(LogTail::<T> { row, from, to, top, power, elem: std::marker::PhantomData }),
        |a, b| (a.0 + b.0, a.1 + b.1),
    );
    let unit = libm::exp(power * LN_2 - top.value);
    Tail { mass: mass * unit, spread: spread * unit }
}

struct LogTail<'a, T> {
    row: Row<'a>,
    from: usize,
    to: usize,
    top: Entry,
    power: f64,
    elem: std::marker::PhantomData<T>,
}

impl<T: InPlace> Kernel for LogTail<'_, T> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<S: Simd>(self) -> (f64, f64) {
        let mut scratch = Scratch::<T>::new();
        let (magic, low) = (math::magic::<T::In<S>>(self.power), math::lowest::<T::In<S>>(self.power));
        let (zero, top) = (T::In::<S>::zero(), T::In::<S>::constant(self.top.value));
        let none = T::from_f64(f64::NEG_INFINITY);
        let (mut mass, mut spread): (Sum, Sum) = ([0.0; 16], [0.0; 16]);
        for from in (self.from..self.to).step_by(BLOCK) {
            let len = BLOCK.min(self.to - from);
            let block = self.row.block_without::<S, T>(from, len, &mut scratch, none, self.top.index);
            let (mut block_mass, mut block_spread) = (zero, zero);
            for x in block.chunks_exact(T::LANES) {
                let x = T::In::<S>::load(x);
                let clamped = x.max(low);
                let w = T::In::<S>::select(low.lt(x), math::exp_scaled(clamped, magic), zero);
                block_mass = block_mass + w;
                block_spread = w.mul_add(top - clamped, block_spread);
            }
            block_mass.add_to(&mut mass);
            block_spread.add_to(&mut spread);
        }
        (total(&mass), total(&spread))
    }
}

/// The entropy of a row of weights with those totals.
pub fn weight_entropy(row: &Row<'_>, totals: &Totals, parallel: bool) -> f64 {
    let Some(top) = peak(row, parallel) else { return f64::NAN };
    // The numbers are scaled to put the maximum near 2^500: no weight is subnormal, no product overflows.
    let scale = libm::scalbn(1.0, (500 - libm::ilogb(top.value)).min(1000));
    let (mass, spread) = over_segments(
        row.len(),
        parallel,
        |from, to| dispatch(WeightTail { row: *row, from, to, top, scale }),
        |a, b| (a.0 + b.0, a.1 + b.1),
    );
    debug_assert!(totals.has_mass());
    let unit = 1.0 / (top.value * scale);
    Tail { mass: mass * unit, spread: spread * unit }.entropy()
}

struct WeightTail<'a> {
    row: Row<'a>,
    from: usize,
    to: usize,
    top: Entry,
    scale: f64,
}

impl Kernel for WeightTail<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<S: Simd>(self) -> (f64, f64) {
        let mut scratch = Scratch::<f64>::new();
        let (zero, scale) = (S::F64::zero(), S::F64::constant(self.scale));
        let top = S::F64::constant(self.top.value * self.scale);
        let (mut mass, mut spread): (Sum, Sum) = ([0.0; 16], [0.0; 16]);
        for from in (self.from..self.to).step_by(BLOCK) {
            let len = BLOCK.min(self.to - from);
            let block = self.row.block_without::<S, f64>(from, len, &mut scratch, 0.0, self.top.index);
            for w in block.chunks_exact(8) {
                let w = S::F64::load(w) * scale;
                let none = w.eq(zero);
                let safe = S::F64::select(none, top, w);
                w.add_to(&mut mass);
                S::F64::select(none, zero, w * math::ln_quotient(top, safe, top - safe)).add_to(&mut spread);
            }
        }
        (total(&mass), total(&spread))
    }
}
