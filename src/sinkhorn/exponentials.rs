//! The exponentials of rows of costs, powers of two taken out of them, and their sums.

use std::f64::consts::{LN_2, LOG2_E};

use super::cost::Number;
use super::vectors::{Aligned, load_or, padded, sum_lanes};
use crate::simd::{Element, Kernel, SUM_LANES, Simd, Sum, Vector, math};

/// Vectors of a row that are worked on side by side: their chains of operations hide each other's latency.
pub const UNROLLED: usize = 4;

/// How far ahead of their use costs are asked for.
const AHEAD: usize = 512;

/// Numbers between two additions of a row's lanes to its float64 sum.
pub const BLOCK: usize = 1024;

/// h in units of ln 2, filled up.
pub(super) fn in_bits<E: Number>(h: &[f64]) -> Aligned<E> {
    let h: Vec<f64> = h.iter().map(|h| h * LOG2_E).collect();
    padded(&h, f64::NEG_INFINITY)
}

/// z of a row whose exponentials, less so many powers of two, have a sum of this logarithm. The product of the high
/// part of ln 2 with any power in use is exact.
#[inline(always)]
pub(super) fn normaliser(power: f64, ln_sum: f64) -> f64 {
    const LN2_HIGH: f64 = <f64 as math::Coefficients>::LN2_HIGH;
    const LN2_LOW: f64 = <f64 as math::Coefficients>::LN2_LOW;
    -power * LN2_HIGH - (power * LN2_LOW + ln_sum)
}

/// A row whose exponentials are taken.
#[derive(Clone, Copy)]
pub(super) struct Row<'a, E> {
    pub costs: &'a [E],
    /// Power of two to take out of them, a guess at first.
    pub power: f64,
    /// Their sum.
    pub sum: f64,
    /// The largest x over ln 2, where it is looked for.
    pub top: f64,
}

impl<E> Row<'_, E> {
    /// The power that the last normaliser of a row suggests.
    pub fn guess(z: f64) -> f64 {
        // Rounded by addition, as `round` is a call on machines that may lack the instruction.
        if z.is_finite() { (-z * LOG2_E + f64::MAGIC) - f64::MAGIC } else { 0.0 }
    }

    /// True if the power keeps every exponential that matters in range. Above -30 the clamped exponentials of far
    /// entries are still nothing beside the sum.
    fn is_fit(&self) -> bool {
        let above = (self.top - self.power) * LN_2;
        (above > -30.0 && above < 60.0) || !self.top.is_finite()
    }
}

/// What rows of costs are set against.
#[derive(Clone, Copy)]
pub(super) struct Against<'a, E> {
    /// [`in_bits`].
    pub h: &'a [E],
    pub epsilon: f64,
    /// As in [`super::sweep::Pass`].
    pub near: bool,
}

impl<E: Number> Against<'_, E> {
    /// e_j·2^−power of every row, in `out` if they are to be stored, and their sums.
    #[inline(always)]
    pub fn exponentials<S: Simd, const STORE: bool>(self, rows: &mut [Row<'_, E>], out: &mut [E], stride: usize) {
        if self.near {
            S::apart(Exponentials::<_, false, STORE> { against: self, rows, out, stride });
            return;
        }
        S::apart(Exponentials::<_, true, STORE> { against: self, rows, out, stride });
        for (r, row) in rows.iter_mut().enumerate() {
            for _ in 0..3 {
                if row.is_fit() {
                    break;
                }
                row.power = row.top.round();
                let (rows, out) = (std::slice::from_mut(row), &mut out[if STORE { r * stride } else { 0 }..]);
                S::apart(Exponentials::<_, true, STORE> { against: self, rows, out, stride });
            }
        }
    }
}

/// See [`Against::exponentials`]. Several rows a call: what one needs to start is in registers when the last one ends.
struct Exponentials<'a, 'b, E, const TOP: bool, const STORE: bool> {
    against: Against<'a, E>,
    rows: &'a mut [Row<'b, E>],
    out: &'a mut [E],
    stride: usize,
}

impl<E: Number, const TOP: bool, const STORE: bool> Kernel for Exponentials<'_, '_, E, TOP, STORE> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let lanes = E::LANES;
        let scale = E::In::<S>::constant(-LOG2_E / self.against.epsilon);
        for (r, row) in self.rows.iter_mut().enumerate() {
            let magic = math::magic_of_eighths::<E::In<S>>(row.power);
            // Less is taken for that: far below what a sum can hold, and its product with a weight is still no
            // subnormal number, which processors handle a hundred times more slowly.
            let low = E::In::<S>::constant(row.power + 0.7 * E::MIN_EXPONENT);
            let mut top = [E::In::<S>::constant(f64::NEG_INFINITY); UNROLLED];
            let mut all: Sum = [0.0; SUM_LANES];
            let (mut costs, mut h) = (row.costs, self.against.h);
            let mut out = if STORE { &mut self.out[r * self.stride..] } else { &mut self.out[..0] };
            while !costs.is_empty() {
                let mut sum = [E::In::<S>::zero(); UNROLLED];
                let mut left = BLOCK;
                // Cut off piece by piece: one check of each length a piece, and none of them inside.
                while left > 0 && costs.len() >= UNROLLED * lanes {
                    let (costs_now, costs_then) = costs.split_at(UNROLLED * lanes);
                    let (h_now, h_then) = h.split_at(UNROLLED * lanes);
                    let (out_now, out_then) = out.split_at_mut(if STORE { UNROLLED * lanes } else { 0 });
                    let mut x = [E::In::<S>::zero(); UNROLLED];
                    for i in 0..UNROLLED {
                        E::In::<S>::prefetch(costs_now.as_ptr().wrapping_add(i * lanes + AHEAD));
                        let cost = E::In::<S>::load(&costs_now[i * lanes..]);
                        x[i] = cost.mul_add(scale, E::In::<S>::load(&h_now[i * lanes..]));
                        if TOP {
                            top[i] = x[i].max(top[i]);
                        }
                        x[i] = x[i].max(low);
                    }
                    let exps = math::exps2_scaled(&x, magic);
                    // Stored after all were loaded, so that the compiler may mix their operations.
                    for i in 0..UNROLLED {
                        if STORE {
                            exps[i].store(&mut out_now[i * lanes..]);
                        }
                        sum[i] = sum[i] + exps[i];
                    }
                    (costs, h, out) = (costs_then, h_then, out_then);
                    left -= UNROLLED * lanes;
                }
                while left > 0 && !costs.is_empty() {
                    let cost = load_or::<E::In<S>>(costs, 0, E::from_f64(f64::INFINITY));
                    let x = cost.mul_add(scale, E::In::<S>::load(h));
                    if TOP {
                        top[0] = x.max(top[0]);
                    }
                    let [e] = math::exps2_scaled(&[x.max(low)], magic);
                    if STORE {
                        e.store(out);
                        out = &mut out[lanes..];
                    }
                    sum[0] = sum[0] + e;
                    (costs, h) = (&costs[lanes.min(costs.len())..], &h[lanes..]);
                    left -= lanes;
                }
                ((sum[0] + sum[1]) + (sum[2] + sum[3])).add_to(&mut all);
            }
            if TOP {
                row.top = top[0].max(top[1]).max(top[2].max(top[3])).largest().to_f64();
            }
            row.sum = sum_lanes(&all);
        }
    }
}
