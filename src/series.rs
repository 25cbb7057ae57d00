//! One pass over two rows of logits for any smooth divergence, where the rows are close: moments of the log-ratio.
//!
//! A divergence is Σ p·g(t), t = log q/p, and t is u = (y − x) − c less a constant λ that is known only once the pass
//! has seen both normalisers. Where g is a quickly converging series, that does not matter: from
//!
//! ```text
//! M_k = Σ w·u^k,  k = 0 … 12,   w = e^x·2^-K
//! ```
//!
//! follow λ (from Σ w·(e^u − 1) = Σ M_k/k!), the moments about λ (binomially, in float64), and Σ p·g(t) =
//! Σ g_k·N_k/M_0. Every even M_k has terms of one sign, and g₀ = g₁ = 0, so little cancels while λ² is no larger than
//! the variance; where more does, c was poor, and the pass is done again. One exponential and two operations a moment pair
//! take the place of the first pass (normalisers) and the second (terms), or of the float64 lanes of
//! [`crate::sided`], which are ten times slower.
//!
//! What the series leaves out is bounded by N₁₂ and the largest |t|. Rows where it would show (log-ratios with a
//! standard deviation beyond about 0.35), rows with zeros, NaN or |u| ≥ 2 anywhere, and float64 numbers are left to the
//! two passes.

use std::f64::consts::LN_2;

use crate::divergences::Row as Entry;
use crate::error::Result;
use crate::jet::{Jet, TERMS};
use crate::moments::{guess, offset_shows};
use crate::prepare::Side;
use crate::rows::{Ahead, BLOCK, Row, Scratch, over_segments};
use crate::scalar::{exponent, power_of_two};
use crate::simd::{Element, Kernel, Mask, Simd, Sum, Vector, dispatch, math, total};
use crate::sweep::{Shift, difference, power_for};

/// The highest moment. With one or two fewer, models quantised to four bits would be left to the two passes.
const ORDER: usize = 12;

/// How many there are, with M₀.
const MOMENTS: usize = ORDER + 1;

/// Largest u² of a block.
const SQUARE: f64 = 4.0;

/// The size that u is given, by a power of two: twelfth powers of much smaller numbers would leave the normal numbers,
/// on which arithmetic is a hundred times slower.
const TARGET: f64 = 16.0;

/// Vectors looked at for the size of u.
const PROBES: usize = 16;

/// What the series may leave out, relative to the sum.
const REMAINDER: f64 = 1e-7;

/// How many times the sum its parts may be, before c counts as poor.
const CANCELLED: f64 = 3.5;

/// What a first block may say that the series would leave out, before the rest is spared.
const HOPELESS: f64 = 1e-6;

/// The generator g of a divergence, and what makes the value of Σ p·g.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    entry: Entry,
    terms: [f64; TERMS],
    /// e^u.
    exponential: [f64; TERMS],
    /// Largest M₁₂/M₂ of a first block.
    hopeless: f64,
}

impl Series {
    /// That of a row of the table, if it is smooth.
    pub fn of(entry: Entry) -> Option<Self> {
        let Jet(mut terms) = entry.generator()?;
        // Exactly: what rounding left of them would be multiplied by 1 and t.
        (terms[0], terms[1]) = (0.0, 0.0);
        let Jet(exponential) = Jet::exp(1.0);
        let hopeless = terms[2].abs() * HOPELESS / remainder(&terms, SQUARE.sqrt());
        Some(Self { entry, terms, exponential, hopeless })
    }

    /// The divergence of two rows, or `None` if they are none of those this pass is for.
    pub fn value(&self, p: &Side<'_>, q: &Side<'_>, parallel: bool) -> Result<Option<f64>> {
        let narrow = |side: &Side<'_>| side.kind.is_log() && !side.row.is_wide();
        if !narrow(p) || !narrow(q) || p.row.len() < f32::LANES {
            return Ok(None);
        }
        let Some(found) = self.sums(p.row, q.row, parallel) else { return Ok(None) };
        p.check_log_probs(|| found.lse_x, parallel)?;
        q.check_log_probs(|| found.lse_x + found.gain, parallel)?;
        Ok(self.entry.of_sum(found.sum.max(0.0)))
    }

    /// The sum from a pass with a guessed shift and, if that was poor, one with the shift it found.
    fn sums(&self, x: Row<'_>, y: Row<'_>, parallel: bool) -> Option<Found> {
        let mut shift = guess::<f32>(x, y)?;
        if shift.careful {
            return None;
        }
        let unit_of = |offset| dispatch(Spread { x, y, offset }).map_or(1.0, unit_for);
        let (mut unit, mut exact) = (unit_of(shift.offset), shift.offset.abs() > 1.0);
        for _ in 0..3 {
            let sums = if exact {
                self.pass::<true>(x, y, shift, unit, parallel)
            } else {
                self.pass::<false>(x, y, shift, unit, parallel)
            }?;
            let moments = sums.moments;
            let correction = libm::log1p(of_moments(&self.exponential, 1, &moments) / moments[0]);
            let about = about(&moments, correction);
            let variance = about[2] / moments[0];
            if !exact && offset_shows(shift.offset, 0.5 * variance) {
                exact = true;
                continue;
            }
            let sum = of_moments(&self.terms, 2, &about);
            if self.lost(&moments, correction) > CANCELLED * sum {
                let offset = f64::from((shift.offset + correction) as f32);
                if offset != shift.offset {
                    shift = Shift { power: sums.power, offset, careful: false };
                    unit = unit_of(offset);
                    continue;
                }
            }
            let left_out = remainder(&self.terms, sums.square.sqrt() + correction.abs()) * about[ORDER];
            // Not for a sum that is NaN either.
            if !(left_out <= REMAINDER * sum || sum == 0.0) {
                return None;
            }
            let lse_x = sums.power * LN_2 + libm::log(moments[0]);
            return Some(Found { sum: sum / moments[0], lse_x, gain: shift.offset + correction });
        }
        None
    }

    /// What the moments about λ are differences of: where it is several times the sum, so are the roundings.
    fn lost(&self, moments: &[f64; MOMENTS], lambda: f64) -> f64 {
        of_moments(&self.terms.map(f64::abs), 2, &about(&moments.map(f64::abs), -lambda.abs()))
    }

    fn pass<const EXACT: bool>(&self, x: Row<'_>, y: Row<'_>, shift: Shift, unit: f64, parallel: bool) -> Option<Sums> {
        let hopeless = self.hopeless * unit.powi(ORDER as i32 - 2);
        let sums = over_segments(
            x.len(),
            parallel,
            |from, to| dispatch(Pass::<EXACT> { x, y, from, to, shift, unit, hopeless }),
            |a, b| Some(a?.merge(b?)),
        )?;
        let moments = std::array::from_fn(|k| sums.moments[k] / unit.powi(k as i32));
        Some(Sums { moments, square: sums.square / (unit * unit), ..sums })
    }
}

/// Bounds Σ g_k·t^(k − 12) over the terms left out, for |t| up to `largest`.
fn remainder(terms: &[f64; TERMS], largest: f64) -> f64 {
    // Three times those at hand: the ones beyond fall off like a geometric series of ratio 2/π.
    let sum = terms[ORDER + 1..].iter().rev().fold(0.0, |sum, term| largest * (term.abs() + sum));
    3.0 * sum
}

/// The power of two that brings log-ratios of this size near [`TARGET`].
fn unit_for(spread: f64) -> f64 {
    power_of_two((exponent(TARGET) - exponent(spread)).clamp(0, 100))
}

/// The root mean square of u, of a few vectors all over the row; `None` if there are none such or that is 0.
struct Spread<'a> {
    x: Row<'a>,
    y: Row<'a>,
    offset: f64,
}

impl Kernel for Spread<'_> {
    type Output = Option<f64>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Option<f64> {
        let (mut scratch_x, mut scratch_y) = (Scratch::<f32>::new(), Scratch::<f32>::new());
        let (mut squares, mut sum): (S::F32, Sum) = (S::F32::zero(), [0.0; 16]);
        let vectors = self.x.len() / f32::LANES;
        let step = vectors.div_ceil(PROBES);
        for vector in (0..vectors).step_by(step.max(1)) {
            let from = vector * f32::LANES;
            let x = S::F32::load(self.x.block::<S, f32>(from, f32::LANES, &mut scratch_x, 0.0));
            let y = S::F32::load(self.y.block::<S, f32>(from, f32::LANES, &mut scratch_y, 0.0));
            let u = difference::<S::F32, true>(x, y, S::F32::constant(self.offset));
            squares = squares + u * u;
        }
        squares.add_to(&mut sum);
        let spread = (total(&sum) / (vectors.div_ceil(step.max(1)) * f32::LANES) as f64).sqrt();
        (spread > 0.0 && spread.is_finite()).then_some(spread)
    }
}

/// What the pass says about two rows.
struct Found {
    /// Σ p·g(t).
    sum: f64,
    /// log Σ e^x.
    lse_x: f64,
    /// log Σ e^y less that.
    gain: f64,
}

/// Σ g_k·M_k from k = `first`.
fn of_moments(terms: &[f64; TERMS], first: usize, moments: &[f64; MOMENTS]) -> f64 {
    // From the highest: the small ones first. No fused operation: outside a kernel it would be a call.
    (first..MOMENTS).rev().fold(0.0, |sum, k| sum + terms[k] * moments[k])
}

/// Σ w·(u − λ)^k from Σ w·u^k.
fn about(moments: &[f64; MOMENTS], lambda: f64) -> [f64; MOMENTS] {
    let mut about = *moments;
    for first in 1..MOMENTS {
        for k in (first..MOMENTS).rev() {
            about[k] -= lambda * about[k - 1];
        }
    }
    about
}

/// The sums of a pass over part of a row.
#[derive(Clone, Copy)]
struct Sums {
    /// K, raised where a larger x was met.
    power: f64,
    moments: [f64; MOMENTS],
    /// The largest u².
    square: f64,
}

impl Sums {
    fn merge(self, other: Sums) -> Sums {
        let power = self.power.max(other.power);
        let factor = |sums: &Sums| libm::scalbn(1.0, (sums.power - power).max(-2000.0) as i32);
        let (a, b) = (factor(&self), factor(&other));
        Sums {
            power,
            moments: std::array::from_fn(|k| self.moments[k] * a + other.moments[k] * b),
            square: self.square.max(other.square),
        }
    }
}

/// The pass over one segment; `None` once a block is not one for it.
struct Pass<'a, const EXACT: bool> {
    x: Row<'a>,
    y: Row<'a>,
    from: usize,
    to: usize,
    shift: Shift,
    /// What u is multiplied by: a power of two.
    unit: f64,
    /// Largest M₁₂/M₂ of a first block, in that unit.
    hopeless: f64,
}

/// Lane sums of one block.
struct Block<V> {
    moments: [V; MOMENTS],
    square: V,
    top: V,
}

/// A [`Shift`] in lanes, and the unit of u.
struct Constants<V> {
    offset: V,
    unit: V,
    /// −c in that unit.
    far: V,
    magic: V,
    low: V,
}

impl<V: Vector> Constants<V> {
    #[inline(always)]
    fn new(shift: &Shift, unit: f64) -> Self {
        Self {
            offset: V::constant(shift.offset),
            unit: V::constant(unit),
            far: V::constant(-shift.offset * unit),
            magic: math::magic(shift.power),
            low: math::lowest(shift.power),
        }
    }

    /// Adds N vectors of pairs, side by side: their exponentials, each a chain of thirteen operations, overlap.
    #[inline(always)]
    fn add<const N: usize, const EXACT: bool>(&self, x: [V; N], y: [V; N], block: &mut Block<V>) {
        let (mut u, mut low) = (x, x);
        for i in 0..N {
            block.top = x[i].max(block.top);
            low[i] = x[i].max(self.low);
            u[i] = if EXACT {
                difference::<V, true>(x[i], y[i], self.offset) * self.unit
            } else {
                (y[i] - x[i]).mul_add(self.unit, self.far)
            };
        }
        let w = math::exps_scaled(&low, self.magic);
        let (mut uu, mut wu) = (u, u);
        for i in 0..N {
            uu[i] = u[i] * u[i];
            wu[i] = w[i] * u[i];
            block.square = uu[i].max(block.square);
        }
        // By index: an iterator, once not inlined, would keep the sums in memory.
        let moments = &mut block.moments;
        let mut even = uu;
        for i in 0..N {
            moments[0] = moments[0] + w[i];
            moments[1] = moments[1] + wu[i];
        }
        let mut k = 2;
        while k <= ORDER {
            for i in 0..N {
                moments[k] = w[i].mul_add(even[i], moments[k]);
                if k < ORDER {
                    moments[k + 1] = wu[i].mul_add(even[i], moments[k + 1]);
                    even[i] = even[i] * uu[i];
                }
            }
            k += 2;
        }
    }
}

#[inline(always)]
fn add_block<V: Vector, const EXACT: bool>(
    xs: &[V::Elem],
    ys: &[V::Elem],
    ahead: [Ahead; 2],
    shift: &Shift,
    unit: f64,
) -> Block<V> {
    let constants = Constants::new(shift, unit);
    let lanes = V::Elem::LANES;
    let mut block = Block { moments: [V::zero(); MOMENTS], square: V::zero(), top: V::constant(f64::NEG_INFINITY) };
    let len = xs.len().min(ys.len());
    let (xs, ys) = (&xs[..len], &ys[..len]);
    let mut i = 0;
    while i + 2 * lanes <= len {
        let (x, y) = (&xs[i..i + 2 * lanes], &ys[i..i + 2 * lanes]);
        for line in [0, lanes] {
            ahead[0].ask::<V>(i + line);
            ahead[1].ask::<V>(i + line);
        }
        let both = |numbers: &[V::Elem]| [V::load(numbers), V::load(&numbers[lanes..])];
        constants.add::<2, EXACT>(both(x), both(y), &mut block);
        i += 2 * lanes;
    }
    if i < len {
        constants.add::<1, EXACT>([V::load(&xs[i..])], [V::load(&ys[i..])], &mut block);
    }
    block
}

impl<const EXACT: bool> Kernel for Pass<'_, EXACT> {
    type Output = Option<Sums>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Option<Sums> {
        let (mut scratch_x, mut scratch_y) = (Scratch::<f32>::new(), Scratch::<f32>::new());
        let mut shift = self.shift;
        let mut moments: [Sum; MOMENTS] = [[0.0; 16]; MOMENTS];
        let mut square = S::F32::zero();
        let mut from = self.from;
        while from < self.to {
            let left = BLOCK.min(self.to - from);
            let whole = left - left % f32::LANES;
            let len = if whole > 0 { whole } else { left };
            let xs = self.x.block_repeating::<S, f32>(from, len, &mut scratch_x);
            let ys = self.y.block_repeating::<S, f32>(from, len, &mut scratch_y);
            let ahead = [self.x.ahead(from), self.y.ahead(from)];
            let block = add_block::<S::F32, EXACT>(xs, ys, ahead, &shift, self.unit);
            let power = power_for::<S, f32>(&shift, block.top, xs)?;
            if power != shift.power {
                let factor = libm::scalbn(1.0, (shift.power - power) as i32);
                moments.iter_mut().flatten().for_each(|lane| *lane *= factor);
                shift.power = power;
                continue;
            }
            square = block.square.max(square);
            // A NaN passes the maximum but not the sum.
            let held = block
                .square
                .lt(S::F32::constant(SQUARE * self.unit * self.unit))
                .and(block.moments[2].eq(block.moments[2]));
            if !held.all() {
                return None;
            }
            let kept = |lane| S::F32::select(S::F32::first(len), lane, S::F32::zero());
            for (sum, &lane) in moments.iter_mut().zip(&block.moments) {
                let lane = if whole > 0 { lane } else { kept(lane) };
                lane.add_to(sum);
            }
            if from == self.from && total(&moments[ORDER]) > self.hopeless * total(&moments[2]) {
                return None;
            }
            from += len;
        }
        let moments = moments.map(|sum| total(&sum));
        Some(Sums { power: shift.power, moments, square: f64::from(square.largest()) })
    }
}

#[cfg(test)]
mod tests;
