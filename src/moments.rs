//! One pass over two rows of logits: both normalisers and KL(p‖q), without cancellation.
//!
//! With u = (y − x) − c for a constant c near lse(y) − lse(x), w = e^x·2^-K and φ(u) = e^u − 1 − u,
//!
//! ```text
//! A = Σ w    D = Σ (e^u − 1)·w    S = Σ φ(u)·w    ε = D/A    σ = S/A
//! lse(y) − lse(x) = c + log1p(ε)          KL(p‖q) = σ − (ε − log1p(ε))
//! ```
//!
//! Every term of S has one sign and an error in c enters only squared, so a KL of 1e-13 keeps its digits in float32
//! lanes. K, an integer, is the running maximum in powers of two: e^x·2^-K is one exponential without a rounding of
//! x − max, and raising K rescales the sums exactly.
//!
//! The pass itself is in [`crate::sweep`].
//!
//! A row is read again (from the cache) when the result says that c was poor, with exact differences y − x when their
//! rounding is not small against u (c is several times larger than u), and relative to its maxima when the logits are
//! too large for the integer K.
//!
//! Tried and dropped: float64 lanes instead of exact float32 differences (four times the work); v from e^u instead of
//! from y (its error is that of u, relative to 1: 3e-6 in the normaliser of a far row).

use std::f64::consts::{LN_2, LOG2_E};

use crate::order::peak;
use crate::rows::{InPlace, Row, Scratch};
use crate::scalar::log1p_and_psi;
use crate::simd::{Element, Kernel, Simd, Vector, dispatch, math, total};
use crate::sweep::{MAX_LEVEL, Shift, Sums, largest, pass, segment};

/// What one pass says about a pair of rows.
#[derive(Clone, Copy, Debug)]
pub struct Moments<'a> {
    /// The rows as they must be read from here on.
    pub x: Row<'a>,
    /// See `x`.
    pub y: Row<'a>,
    /// True if float64 lanes are needed.
    pub wide: bool,
    /// Σ e^x = e^base · 2^power · weights.
    pub base: f64,
    /// See `base`.
    pub power: f64,
    /// See `base`.
    pub weights: f64,
    /// log Σ e^y − log Σ e^x is `offset + correction`, offset a number of the lane type.
    pub offset: f64,
    /// See `offset`.
    pub correction: f64,
    /// KL(p‖q).
    pub kl: f64,
}

impl Moments<'_> {
    /// log Σ e^x.
    pub fn lse_x(&self) -> f64 {
        self.base + (self.power * LN_2 + libm::log(self.weights))
    }

    /// True if the rounding of the normalisers shows in a sum that an error of theirs enters in the first order, as it
    /// does total variation. ε has the digits of a lane, so it must not be much larger than the sum.
    pub fn shows_in(&self, sum: f64) -> bool {
        3.0 * sum < self.correction.abs()
    }

    /// The same from one more pass, around the shift that this one found; itself where that is impossible.
    #[must_use]
    pub fn refined(&self, parallel: bool) -> Self {
        let found =
            if self.wide { self.around_own_shift::<f64>(parallel) } else { self.around_own_shift::<f32>(parallel) };
        found.unwrap_or(*self)
    }

    fn around_own_shift<T: InPlace>(&self, parallel: bool) -> Option<Self> {
        let shift = self.next_shift::<T>()?;
        if self.base != 0.0 || shift.power.abs() * LN_2 > MAX_LEVEL {
            return None;
        }
        let sums = pass::<T, true>(self.x, self.y, shift, parallel);
        let (found, ..) = conclude(self.x, self.y, self.wide, shift, &sums);
        found.filter(|_| sums.is_usable()).map(|found| Self { kl: self.kl, ..found })
    }

    /// The shift that its pass found; `None` if it is that of the pass.
    #[inline(always)]
    fn next_shift<T: InPlace>(&self) -> Option<Shift> {
        let offset = T::from_f64(self.offset + self.correction).to_f64();
        (offset != self.offset).then_some(Shift { power: self.power, offset, careful: false })
    }

    /// True if what rounding takes from y − x shows beside log-ratios of the size that KL tells.
    pub fn needs_exact_differences(&self) -> bool {
        self.wide || self.kl.is_nan() || offset_shows(self.offset, self.kl)
    }

    /// log Σ e^y.
    pub fn lse_y(&self) -> f64 {
        self.lse_x() + self.offset + self.correction
    }
}

/// The moments of two rows of logits, or `None` if a row holds NaN, +inf or no mass.
pub fn moments<'a>(x: Row<'a>, y: Row<'a>, parallel: bool) -> Option<Moments<'a>> {
    if x.is_wide() || y.is_wide() {
        return in_wide_lanes(x, y, parallel);
    }
    match attempt::<f32>(x, y, parallel) {
        Attempt::Done(found) => Some(found),
        Attempt::Invalid => None,
        Attempt::Failed => in_wide_lanes(x, y, parallel),
    }
}

fn in_wide_lanes<'a>(x: Row<'a>, y: Row<'a>, parallel: bool) -> Option<Moments<'a>> {
    match attempt::<f64>(x, y, parallel) {
        Attempt::Done(found) => Some(found),
        Attempt::Invalid => None,
        Attempt::Failed => relative_to_maxima(x, y, parallel),
    }
}

#[allow(clippy::large_enum_variant)] // one a row, and nearly always the large one
enum Attempt<'a> {
    Done(Moments<'a>),
    /// A row has no distribution.
    Invalid,
    /// These lanes cannot hold it.
    Failed,
}

/// A pass with a guessed shift and, if that was poor, one with the shift it found.
fn attempt<'a, T: InPlace>(x: Row<'a>, y: Row<'a>, parallel: bool) -> Attempt<'a> {
    let wide = T::LANES == f64::LANES;
    let Some(mut shift) = guess::<T>(x, y) else {
        return Attempt::Failed;
    };
    let mut exact = wide || shift.offset.abs() > 1.0;
    for _ in 0..4 {
        if shift.careful {
            return Attempt::Failed;
        }
        let sums =
            if exact { pass::<T, true>(x, y, shift, parallel) } else { pass::<f32, false>(x, y, shift, parallel) };
        if sums.invalid {
            return Attempt::Invalid;
        }
        if !sums.is_usable() {
            return Attempt::Failed;
        }
        let (outcome, sigma, epsilon) = conclude(x, y, wide, shift, &sums);
        // All of q's mass is lost beside p's: c was hopeless, or q has none, which the maxima tell.
        let Some(found) = outcome else { return Attempt::Failed };
        if !exact && !sums.infinite && offset_shows(shift.offset, sigma.abs()) {
            exact = true;
            continue;
        }
        if settled(&sums, &found, sigma, epsilon) {
            return Attempt::Done(found);
        }
        let Some(next) = found.next_shift::<T>() else { return Attempt::Done(found) };
        shift = next;
    }
    Attempt::Failed
}

/// True if y − x, once c is taken from it, is so much smaller than c that its rounding shows. √(2·KL) is about the rms
/// of u.
pub fn offset_shows(offset: f64, kl: f64) -> bool {
    offset.abs() > 1.0 || offset.abs() > 4.0 * (2.0 * kl).sqrt()
}

/// For logits of any size: both rows relative to their maxima, every block on the careful path.
fn relative_to_maxima<'a>(x: Row<'a>, y: Row<'a>, parallel: bool) -> Option<Moments<'a>> {
    let top = |row: Row<'a>| peak(&row.widened(true), parallel).map(|entry| entry.value);
    let (top_x, top_y) = (top(x)?, top(y)?);
    let (below_x, below_y) = (x.below(top_x), y.below(top_y));
    let mut offset = 0.0;
    let mut best = None;
    for _ in 0..3 {
        let shift = Shift { power: 0.0, offset, careful: true };
        let sums = pass::<f64, true>(below_x, below_y, shift, parallel);
        if sums.invalid || sums.weights <= 0.0 || sums.weights.is_nan() {
            return None;
        }
        let (found, sigma, epsilon) = conclude(below_x, below_y, true, shift, &sums);
        let found = found?;
        best = Some(found);
        if settled(&sums, &found, sigma, epsilon) {
            break;
        }
        offset = found.offset + found.correction;
    }
    // Rows of ordinary size keep their own numbers: subtracting the maximum may round them.
    let best = best?;
    if top_x.abs().max(top_y.abs()) > MAX_LEVEL {
        return Some(best);
    }
    let tops = top_y - top_x;
    let offset = best.offset + tops;
    let lost = (best.offset - (offset - tops)) + (top_y - (tops + top_x));
    Some(Moments { x, y, base: top_x, offset, correction: best.correction + lost, ..best })
}

/// How many times KL σ may be, the rest being the shift's: so many times do the roundings of σ show. At 4, half of the
/// rows read again would not have to be, and errors of 1.7e-6 were seen in peaked ones.
const SHIFTED: f64 = 2.0;

/// True if c was good enough: 1 + ε keeps its digits, and so does KL.
fn settled(sums: &Sums, found: &Moments<'_>, sigma: f64, epsilon: f64) -> bool {
    epsilon > -0.75 && (sums.infinite || SHIFTED * found.kl >= sigma)
}

/// Results from sums; `None` if q's mass does not show beside p's. Also σ and ε.
fn conclude<'a>(x: Row<'a>, y: Row<'a>, wide: bool, shift: Shift, sums: &Sums) -> (Option<Moments<'a>>, f64, f64) {
    let sigma = sums.second / sums.weights;
    let epsilon = sums.gain / sums.weights;
    if epsilon <= -1.0 || epsilon.is_nan() {
        return (None, sigma, epsilon);
    }
    let (correction, excess) = log1p_and_psi(epsilon);
    let kl = if sums.infinite { f64::INFINITY } else { (sigma - excess).max(0.0) };
    let (power, weights) = (sums.power, sums.weights);
    (Some(Moments { x, y, wide, base: 0.0, power, weights, offset: shift.offset, correction, kl }), sigma, epsilon)
}

/// K and c from the first part of the rows that has mass on both sides; `None` if there is none, or +∞ comes first.
pub fn guess<T: InPlace>(x: Row<'_>, y: Row<'_>) -> Option<Shift> {
    dispatch(Guess::<T> { x, y, elem: std::marker::PhantomData })
}

/// See [`guess`].
struct Guess<'a, T> {
    x: Row<'a>,
    y: Row<'a>,
    elem: std::marker::PhantomData<T>,
}

/// Numbers the guess looks at: of logits with a standard deviation of 3, one row in twenty is read again. Looking at
/// 1,024 halves that, and was not seen to pay.
const PROBE: usize = 256;

impl<T: InPlace> Kernel for Guess<'_, T> {
    type Output = Option<Shift>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Option<Shift> {
        guess_in::<S, T>(&self.x, &self.y)
    }
}

/// See [`guess`].
#[inline(always)]
pub fn guess_in<S: Simd, T: InPlace>(x: &Row<'_>, y: &Row<'_>) -> Option<Shift> {
    let (mut scratch_x, mut scratch_y) = (Scratch::<T>::new(), Scratch::<T>::new());
    let none = T::from_f64(f64::NEG_INFINITY);
    for from in (0..x.len()).step_by(PROBE) {
        let len = PROBE.min(x.len() - from);
        let xs = x.block::<S, T>(from, len, &mut scratch_x, none);
        let ys = y.block::<S, T>(from, len, &mut scratch_y, none);
        let (top_x, top_y) = (largest::<S, T>(xs), largest::<S, T>(ys));
        if top_x.is_finite() && top_y.is_finite() {
            let power = (top_x * LOG2_E).round();
            let power_y = (top_y * LOG2_E).round();
            if power.abs().max(power_y.abs()) * LN_2 > MAX_LEVEL {
                return Some(Shift { power, offset: 0.0, careful: true });
            }
            let (a, b) = (mass::<S, T>(xs, power), mass::<S, T>(ys, power_y));
            // As good as a lane is: in a short row this c is final.
            let offset = libm::log(b / a) + (power_y - power) * LN_2;
            let offset = if offset.is_finite() { T::from_f64(offset).to_f64() } else { 0.0 };
            return Some(Shift { power, offset, careful: false });
        }
        if top_x == f64::INFINITY || top_y == f64::INFINITY {
            return None;
        }
    }
    None
}

/// KL of two short rows of float32 logits within a kernel, as in [`attempt`], or `None` where they take more care.
#[inline(always)]
pub fn kl_of_segment<S: Simd>(x: &Row<'_>, y: &Row<'_>) -> Option<f64> {
    let mut shift = guess_in::<S, f32>(x, y)?;
    for _ in 0..2 {
        if shift.careful || shift.offset.abs() > 1.0 {
            return None;
        }
        let sums = segment::<S, f32, false>(x, y, 0, x.len(), shift);
        if !sums.is_usable() {
            return None;
        }
        let (found, sigma, epsilon) = conclude(*x, *y, false, shift, &sums);
        let found = found?;
        if !sums.infinite && offset_shows(shift.offset, sigma.abs()) {
            return None;
        }
        if settled(&sums, &found, sigma, epsilon) {
            return Some(found.kl);
        }
        shift = found.next_shift::<f32>()?;
    }
    None
}

/// Σ e^x·2^-K over a block, near enough for a guess.
#[inline(always)]
fn mass<S: Simd, T: InPlace>(block: &[T], power: f64) -> f64 {
    let (magic, low) = (math::magic(power), math::lowest(power));
    let mut lane = T::In::<S>::zero();
    for lanes in block.chunks_exact(T::LANES) {
        lane = lane + math::exp_scaled::<T::In<S>>(T::In::<S>::load(lanes).max(low), magic);
    }
    let mut sum = [0.0; 16];
    lane.add_to(&mut sum);
    total(&sum)
}
