//! Totals of rows of probabilities and weights, in twice float64's digits: q·(Σp/Σq) − p must keep its digits for p ≈ q.

use crate::rows::{BLOCK, Row, Scratch, over_segments};
use crate::scalar::{exponent, power_of_two};
use crate::simd::{Element, Kernel, Mask, Simd, Sum, Vector, dispatch, total};

/// The sum of a row, times 2^-power.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Totals {
    /// The sum, rounded. Zero without mass; NaN if the row holds NaN or +inf.
    pub sum: f64,
    /// What rounding left out of `sum`.
    pub low: f64,
    /// Nonzero only where the plain sum would overflow.
    pub power: i32,
}

impl Totals {
    /// The sum as a plain number.
    pub fn value(&self) -> f64 {
        libm::scalbn(self.sum, self.power)
    }

    /// True if the row is a distribution once normalised.
    pub fn has_mass(&self) -> bool {
        self.sum > 0.0 && self.sum.is_finite()
    }

    /// True if float32 lanes can hold the sum, brought near any power of two that they can hold.
    pub fn is_ordinary(&self) -> bool {
        exponent(self.sum).abs() <= 40 && self.power == 0
    }

    /// The power of two that brings the sum into [2^target, 2^(target + 1)), as far as `limit` allows.
    pub fn scale(&self, target: i32, limit: i32) -> f64 {
        let power = target - exponent(self.sum) - self.power;
        power_of_two(power.clamp(-limit, limit))
    }

    /// self/other as a rounded number and the rest, both sums multiplied by their scale first.
    pub fn quotient(&self, other: &Totals, scale: f64, other_scale: f64) -> (f64, f64) {
        let part = |totals: &Totals, scale: f64| {
            let factor = if totals.power == 0 { scale } else { libm::scalbn(scale, totals.power) };
            (totals.sum * factor, totals.low * factor)
        };
        let ((a, a_low), (b, b_low)) = (part(self, scale), part(other, other_scale));
        let quotient = a / b;
        let rest = (-quotient).mul_add(b, a) + a_low - quotient * b_low;
        (quotient, rest / b)
    }
}

/// The totals of a row, or the column of its first negative number.
pub fn totals(row: &Row<'_>, parallel: bool) -> Result<Totals, usize> {
    let plain = totals_scaled(row, 0, parallel)?;
    if plain.sum == f64::INFINITY {
        // Weights near the largest float64: their sum may overflow where they do not.
        let scaled = totals_scaled(row, 64, parallel)?;
        return Ok(if scaled.sum.is_finite() { scaled } else { Totals { sum: f64::NAN, ..plain } });
    }
    Ok(plain)
}

fn totals_scaled(row: &Row<'_>, power: i32, parallel: bool) -> Result<Totals, usize> {
    let found = over_segments(
        row.len(),
        parallel,
        |from, to| {
            if row.is_wide() {
                dispatch(Sums { row: *row, from, to, scale: power_of_two(-power) })
            } else {
                dispatch(NarrowSums { row: *row, from, to })
            }
        },
        |a, b| {
            let (sum, rest) = two_sum(a.0, b.0);
            (sum, a.1 + b.1 + rest, a.2 | b.2)
        },
    );
    if found.2 {
        let column = (0..row.len()).find(|&i| row.at(i) < 0.0);
        if let Some(column) = column {
            return Err(column);
        }
    }
    let (sum, rest) = two_sum(found.0, found.1);
    // Where the sum is infinite or NaN the rest is meaningless.
    Ok(Totals { sum: if sum.is_finite() { sum } else { found.0 }, low: rest, power })
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let from_b = sum - a;
    (sum, (a - (sum - from_b)) + (b - from_b))
}

/// The sum of numbers of at most 24 digits: float64 adds those with an error that no promise for them can see.
struct NarrowSums<'a> {
    row: Row<'a>,
    from: usize,
    to: usize,
}

impl Kernel for NarrowSums<'_> {
    type Output = (f64, f64, bool);

    #[inline(always)]
    fn run<S: Simd>(self) -> (f64, f64, bool) {
        narrow_sums::<S>(&self.row, self.from, self.to)
    }
}

#[inline(always)]
fn narrow_sums<S: Simd>(row: &Row<'_>, from: usize, to: usize) -> (f64, f64, bool) {
    let mut scratch = Scratch::<f32>::new();
    let (zero, mut least) = (S::F32::zero(), S::F32::zero());
    let (mut even, mut odd): (Sum, Sum) = ([0.0; 16], [0.0; 16]);
    for from in (from..to).step_by(BLOCK) {
        let len = BLOCK.min(to - from);
        let block = row.block::<S, f32>(from, len, &mut scratch, 0.0);
        let mut pairs = block.chunks_exact(2 * f32::LANES);
        for pair in &mut pairs {
            let (a, b) = (S::F32::load(pair), S::F32::load(&pair[f32::LANES..]));
            least = b.min(a.min(least));
            a.add_to(&mut even);
            b.add_to(&mut odd);
        }
        for rest in pairs.remainder().chunks_exact(f32::LANES) {
            let a = S::F32::load(rest);
            least = a.min(least);
            a.add_to(&mut even);
        }
    }
    (total(&even) + total(&odd), 0.0, !least.eq(zero).all())
}

/// The totals of a short row of at most 24 digits within a kernel; `None` if it has no mass, or a negative number.
#[inline(always)]
pub fn totals_of_segment<S: Simd>(row: &Row<'_>) -> Option<Totals> {
    let (sum, low, negative) = narrow_sums::<S>(row, 0, row.len());
    let totals = Totals { sum, low, power: 0 };
    (!negative && totals.has_mass()).then_some(totals)
}

struct Sums<'a> {
    row: Row<'a>,
    from: usize,
    to: usize,
    scale: f64,
}

impl Kernel for Sums<'_> {
    type Output = (f64, f64, bool);

    #[inline(always)]
    fn run<S: Simd>(self) -> (f64, f64, bool) {
        let mut scratch = Scratch::<f64>::new();
        let zero = S::F64::zero();
        let (mut sum, mut rest, mut negative) = (zero, zero, false);
        let scale = S::F64::constant(self.scale);
        for from in (self.from..self.to).step_by(BLOCK) {
            let len = BLOCK.min(self.to - from);
            let block = self.row.block::<S, f64>(from, len, &mut scratch, 0.0);
            let mut least = zero;
            for x in block.chunks_exact(f64::LANES) {
                let x = S::F64::load(x);
                least = S::F64::select(x.lt(least), x, least);
                let x = x * scale;
                // Two-sum: exact, whatever the order of magnitude of the terms.
                let next = sum + x;
                let from_x = next - sum;
                rest = rest + ((sum - (next - from_x)) + (x - from_x));
                sum = next;
            }
            negative |= !least.eq(zero).all();
        }
        let (mut sums, mut rests) = ([0.0; 8], [0.0; 8]);
        sum.store(&mut sums);
        rest.store(&mut rests);
        let (mut all, mut low) = (0.0, 0.0);
        for (sum, rest) in sums.into_iter().zip(rests) {
            let (next, lost) = two_sum(all, sum);
            all = next;
            low += lost + rest;
        }
        if all.is_finite() { (all, low, negative) } else { (all, 0.0, negative) }
    }
}
