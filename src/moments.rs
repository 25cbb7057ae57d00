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
//! Each block takes the cheapest path that holds for all of its numbers: `near` (|u| < 1: the series for φ, one
//! exponential), `mid` (|u| < 40: two exponentials), `careful` (float64 lanes: infinities, NaN, any range). A path
//! that does not hold is found out after the block, which is then done again; the next block starts where this one
//! ended. Segments start with `near`, so the choice, like everything else, does not depend on the threads.
//!
//! A row is read again (from the cache) when the result says that c was poor, in float64 lanes when float32
//! differences y − x lose too much against an offset c much larger than u, and relative to its maxima when the logits
//! are too large for the integer K.

use std::f64::consts::{LN_2, LOG2_E};

use crate::rows::{BLOCK, InPlace, Row, Scratch, over_segments};
use crate::scalar::psi;
use crate::simd::{Element, Kernel, Mask, Simd, Sum, Vector, dispatch, math, total};

/// Largest |level| of a row whose exponentials are scaled by an integer power of two.
const MAX_LEVEL: f64 = 1e5;

/// The constants of a pass.
#[derive(Clone, Copy, Debug)]
struct Shift {
    /// K: weights are e^x·2^-K.
    power: f64,
    /// c: subtracted from y − x.
    offset: f64,
    /// Take the careful path for every block.
    careful: bool,
}

impl Shift {
    fn level(&self) -> f64 {
        self.power * LN_2
    }
}

/// The sums of a pass over part of a row.
#[derive(Clone, Copy, Debug)]
struct Sums {
    power: f64,
    weights: f64,
    gain: f64,
    second: f64,
    /// Some p > 0 has q = 0.
    infinite: bool,
    /// NaN or +inf was met.
    invalid: bool,
    /// The shift was unusable.
    poor: bool,
}

impl Sums {
    fn scaled_to(self, power: f64) -> Sums {
        let factor = libm::scalbn(1.0, (self.power - power).max(-2000.0) as i32);
        Sums { power, weights: self.weights * factor, gain: self.gain * factor, second: self.second * factor, ..self }
    }

    fn merge(self, other: Sums) -> Sums {
        let power = self.power.max(other.power);
        let (a, b) = (self.scaled_to(power), other.scaled_to(power));
        Sums {
            power,
            weights: a.weights + b.weights,
            gain: a.gain + b.gain,
            second: a.second + b.second,
            infinite: a.infinite | b.infinite,
            invalid: a.invalid | b.invalid,
            poor: a.poor | b.poor,
        }
    }
}

/// What one pass says about a pair of rows.
#[derive(Clone, Copy, Debug)]
pub struct Moments<'a> {
    /// The rows as they must be read from here on.
    pub x: Row<'a>,
    /// See `x`.
    pub y: Row<'a>,
    /// True if float64 lanes are needed.
    pub wide: bool,
    /// log Σ e^x.
    pub lse_x: f64,
    /// log Σ e^y − log Σ e^x is `offset + correction`, offset a number of the lane type.
    pub offset: f64,
    /// See `offset`.
    pub correction: f64,
    /// KL(p‖q).
    pub kl: f64,
}

impl Moments<'_> {
    /// log Σ e^y.
    pub fn lse_y(&self) -> f64 {
        self.lse_x + self.offset + self.correction
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
    let Some(mut shift) = dispatch(Guess::<T> { x, y, elem: std::marker::PhantomData }) else {
        return Attempt::Failed;
    };
    for _ in 0..3 {
        if shift.level().abs() > MAX_LEVEL {
            return Attempt::Failed;
        }
        let sums = pass::<T>(x, y, shift, parallel);
        if sums.invalid {
            return Attempt::Invalid;
        }
        if sums.poor || !(sums.weights > 0.0) || !sums.weights.is_finite() {
            return Attempt::Failed;
        }
        let (outcome, sigma, epsilon) = conclude(x, y, wide, shift, &sums);
        let Some(found) = outcome else { return Attempt::Invalid };
        // Differences y − x are rounded relative to c; u must not be much smaller than c to survive that.
        if !wide && !sums.infinite && shift.offset.abs() > 8.0 * (2.0 * sigma.abs()).sqrt() && shift.offset != 0.0 {
            return Attempt::Failed;
        }
        if epsilon > -0.75 && (sums.infinite || found.kl >= sigma / 8.0 || epsilon == 0.0) {
            return Attempt::Done(found);
        }
        let offset = T::from_f64(found.offset + found.correction).to_f64();
        if offset == shift.offset {
            return Attempt::Done(found);
        }
        shift = Shift { power: sums.power, offset, careful: false };
    }
    Attempt::Failed
}

/// For logits of any size: both rows relative to their maxima, every block on the careful path.
fn relative_to_maxima<'a>(x: Row<'a>, y: Row<'a>, parallel: bool) -> Option<Moments<'a>> {
    let (top_x, top_y) = (maximum(&x, parallel)?, maximum(&y, parallel)?);
    let (below_x, below_y) = (x.below(top_x), y.below(top_y));
    let mut offset = 0.0;
    let mut best = None;
    for _ in 0..3 {
        let shift = Shift { power: 0.0, offset, careful: true };
        let sums = pass::<f64>(below_x, below_y, shift, parallel);
        if sums.invalid || !(sums.weights > 0.0) {
            return None;
        }
        let (found, sigma, epsilon) = conclude(below_x, below_y, true, shift, &sums);
        let found = found?;
        best = Some(found);
        if epsilon > -0.75 && (sums.infinite || found.kl >= sigma / 8.0) {
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
    Some(Moments { x, y, lse_x: best.lse_x + top_x, offset, correction: best.correction + lost, ..best })
}

/// Results from sums; `None` if q has no mass. Also σ and ε.
fn conclude<'a>(x: Row<'a>, y: Row<'a>, wide: bool, shift: Shift, sums: &Sums) -> (Option<Moments<'a>>, f64, f64) {
    let sigma = sums.second / sums.weights;
    let epsilon = sums.gain / sums.weights;
    if !(epsilon > -1.0) {
        return (None, sigma, epsilon);
    }
    let kl = if sums.infinite { f64::INFINITY } else { (sigma - psi(epsilon)).max(0.0) };
    let lse_x = sums.power * LN_2 + libm::log(sums.weights);
    let correction = libm::log1p(epsilon);
    (Some(Moments { x, y, wide, lse_x, offset: shift.offset, correction, kl }), sigma, epsilon)
}

fn pass<T: InPlace>(x: Row<'_>, y: Row<'_>, shift: Shift, parallel: bool) -> Sums {
    over_segments(
        x.len(),
        parallel,
        |from, to| dispatch(Pass::<T> { x, y, from, to, shift, elem: std::marker::PhantomData }),
        Sums::merge,
    )
}

/// K and c from the first part of the rows that has mass on both sides.
struct Guess<'a, T> {
    x: Row<'a>,
    y: Row<'a>,
    elem: std::marker::PhantomData<T>,
}

/// Numbers the guess looks at; more would not improve it enough to pay.
const PROBE: usize = 256;

impl<T: InPlace> Kernel for Guess<'_, T> {
    type Output = Option<Shift>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Option<Shift> {
        let (mut scratch_x, mut scratch_y) = (Scratch::<T>::new(), Scratch::<T>::new());
        let none = T::from_f64(f64::NEG_INFINITY);
        for from in (0..self.x.len()).step_by(PROBE) {
            let len = PROBE.min(self.x.len() - from);
            let xs = self.x.block::<S, T>(from, len, &mut scratch_x, none);
            let ys = self.y.block::<S, T>(from, len, &mut scratch_y, none);
            let (top_x, top_y) = (largest::<S, T>(xs), largest::<S, T>(ys));
            if top_x.is_finite() && top_y.is_finite() {
                let power = (top_x * LOG2_E).round();
                let power_y = (top_y * LOG2_E).round();
                if power.abs().max(power_y.abs()) * LN_2 > MAX_LEVEL {
                    return Some(Shift { power, offset: 0.0, careful: true });
                }
                let (a, b) = (mass::<S, T>(xs, power), mass::<S, T>(ys, power_y));
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
}

#[inline(always)]
fn largest<S: Simd, T: InPlace>(block: &[T]) -> f64 {
    let mut top = T::In::<S>::constant(f64::NEG_INFINITY);
    for lanes in block.chunks_exact(T::LANES) {
        top = T::In::<S>::load(lanes).max(top);
    }
    top.largest().to_f64()
}

/// Σ e^x·2^-K over a block, near enough for a guess.
#[inline(always)]
fn mass<S: Simd, T: InPlace>(block: &[T], power: f64) -> f64 {
    let (magic, low) = (math::magic(power), math::lowest(power));
    let mut sum = [0.0; 16];
    for lanes in block.chunks_exact(T::LANES) {
        math::exp_scaled::<T::In<S>>(T::In::<S>::load(lanes).max(low), magic).add_to(&mut sum);
    }
    total(&sum)
}

/// The largest number of a row, or `None` if the row has NaN, +inf or no mass.
pub fn maximum(row: &Row<'_>, parallel: bool) -> Option<f64> {
    struct Largest<'a>(Row<'a>, usize, usize);
    impl Kernel for Largest<'_> {
        type Output = (f64, bool);
        #[inline(always)]
        fn run<S: Simd>(self) -> (f64, bool) {
            let mut scratch = Scratch::<f64>::new();
            let (mut top, mut valid) = (f64::NEG_INFINITY, true);
            for from in (self.1..self.2).step_by(BLOCK) {
                let len = BLOCK.min(self.2 - from);
                let block = self.0.block::<S, f64>(from, len, &mut scratch, f64::NEG_INFINITY);
                top = top.max(largest::<S, f64>(block));
                for lanes in block.chunks_exact(f64::LANES) {
                    valid &= S::F64::load(lanes).lt(S::F64::constant(f64::INFINITY)).all();
                }
            }
            (top, valid)
        }
    }
    let (top, valid) = over_segments(
        row.len(),
        parallel,
        |from, to| dispatch(Largest(*row, from, to)),
        |a, b| (a.0.max(b.0), a.1 & b.1),
    );
    (valid && top.is_finite()).then_some(top)
}

/// y − x − c in lanes; float64 differences keep the part that rounding would drop.
#[inline(always)]
pub fn difference<V: Vector>(x: V, y: V, offset: V) -> V {
    let d = y - x;
    if V::Elem::LANES == 16 {
        return d - offset;
    }
    let from_y = d - y;
    let lost = (y - (d - from_y)) - (x + from_y);
    (d - offset) + lost
}

/// The pass over one segment.
struct Pass<'a, T> {
    x: Row<'a>,
    y: Row<'a>,
    from: usize,
    to: usize,
    shift: Shift,
    elem: std::marker::PhantomData<T>,
}

#[derive(Clone, Copy, PartialEq)]
enum Path {
    Near,
    Mid,
    Careful,
}

/// Lane sums of one block.
#[derive(Clone, Copy)]
struct Lane<V> {
    weights: V,
    /// Σ w·u on the near path, Σ (v − w) on the other.
    first: V,
    second: V,
}

/// Largest u² and largest x of a block: they decide whether its path held.
#[derive(Clone, Copy)]
struct Extent<V> {
    square: V,
    top: V,
}

/// A [`Shift`] in lanes.
struct Constants<V> {
    offset: V,
    magic: V,
    low: V,
    magic_y: V,
    low_y: V,
    scale_y: V,
}

impl<V: Vector> Constants<V> {
    #[inline(always)]
    fn new(shift: &Shift) -> Self {
        let power_y = shift.power + (shift.offset * LOG2_E).round();
        Self {
            offset: V::constant(shift.offset),
            magic: math::magic(shift.power),
            low: math::lowest(shift.power),
            magic_y: math::magic(power_y),
            low_y: math::lowest(power_y),
            scale_y: V::constant(libm::exp((power_y - shift.power) * LN_2 - shift.offset)),
        }
    }

    /// Adds one vector of pairs.
    #[inline(always)]
    fn add<const NEAR: bool>(&self, x: V, y: V, lane: &mut Lane<V>, extent: &mut Extent<V>) {
        extent.top = x.max(extent.top);
        let w = math::exp_scaled(x.max(self.low), self.magic);
        let u = difference(x, y, self.offset);
        let uu = u * u;
        extent.square = uu.max(extent.square);
        lane.weights = lane.weights + w;
        let near = math::polynomial(u, <V::Elem as math::Coefficients>::PHI);
        if NEAR {
            let wu = w * u;
            lane.first = lane.first + wu;
            lane.second = (wu * u).mul_add(near, lane.second);
        } else {
            // v = e^(y−c)·2^-K from y itself: e^u would carry the rounding of u, which is relative to u.
            let v = math::exp_scaled(y.max(self.low_y), self.magic_y) * self.scale_y;
            let gain = v - w;
            lane.first = lane.first + gain;
            lane.second = lane.second + V::select(uu.lt(V::one()), w * uu * near, gain - w * u);
        }
    }
}

#[inline(always)]
fn add_block<V: Vector, const NEAR: bool>(xs: &[V::Elem], ys: &[V::Elem], shift: &Shift) -> (Lane<V>, Extent<V>) {
    let k = Constants::<V>::new(shift);
    let lanes = V::Elem::LANES;
    let zero = V::zero();
    let mut extent = Extent { square: zero, top: V::constant(f64::NEG_INFINITY) };
    // Two sets of sums: half as many additions, and so half the rounding, in each lane.
    let mut even = Lane { weights: zero, first: zero, second: zero };
    let mut odd = even;
    let (pairs_x, pairs_y) = (xs.chunks_exact(2 * lanes), ys.chunks_exact(2 * lanes));
    let (last_x, last_y) = (pairs_x.remainder(), pairs_y.remainder());
    for (x, y) in pairs_x.zip(pairs_y) {
        k.add::<NEAR>(V::load(x), V::load(y), &mut even, &mut extent);
        k.add::<NEAR>(V::load(&x[lanes..]), V::load(&y[lanes..]), &mut odd, &mut extent);
    }
    if !last_x.is_empty() {
        k.add::<NEAR>(V::load(last_x), V::load(last_y), &mut even, &mut extent);
    }
    let second = even.second + odd.second;
    let first = even.first + odd.first;
    // w·(e^u − 1) = w·u + w·φ(u).
    let first = if NEAR { first + second } else { first };
    (Lane { weights: even.weights + odd.weights, first, second }, extent)
}

impl<T: InPlace> Kernel for Pass<'_, T> {
    type Output = Sums;

    #[inline(always)]
    fn run<S: Simd>(self) -> Sums {
        let (mut scratch_x, mut scratch_y) = (Scratch::<T>::new(), Scratch::<T>::new());
        let mut shift = self.shift;
        let (mut weights, mut gain, mut second): (Sum, Sum, Sum) = ([0.0; 16], [0.0; 16], [0.0; 16]);
        let (mut infinite, mut poor) = (false, false);
        let mut path = if shift.careful { Path::Careful } else { Path::Near };
        let mut from = self.from;
        while from < self.to {
            let len = BLOCK.min(self.to - from);
            // Padding that weighs nothing: a vanishing weight and no difference.
            let pad = (shift.power + T::MIN_EXPONENT + 1.0) * LN_2;
            if path != Path::Careful {
                let xs = self.x.block::<S, T>(from, len, &mut scratch_x, T::from_f64(pad));
                let ys = self.y.block::<S, T>(from, len, &mut scratch_y, T::from_f64(pad + shift.offset));
                let near = path == Path::Near;
                let (lane, extent) = if near {
                    add_block::<T::In<S>, true>(xs, ys, &shift)
                } else {
                    add_block::<T::In<S>, false>(xs, ys, &shift)
                };
                let limit = T::In::<S>::constant((shift.power + 60.0) * LN_2);
                let bound = T::In::<S>::constant(if near { 1.0 } else { 1600.0 });
                if !extent.top.lt(limit).all() {
                    let top = largest::<S, T>(xs);
                    if top.is_finite() && top < MAX_LEVEL {
                        let power = (top * LOG2_E).round();
                        let factor = libm::scalbn(1.0, (shift.power - power) as i32);
                        for sum in [&mut weights, &mut gain, &mut second] {
                            sum.iter_mut().for_each(|lane| *lane *= factor);
                        }
                        shift.power = power;
                        continue;
                    }
                } else if extent.square.lt(bound).and(lane.second.eq(lane.second)).all() {
                    lane.weights.add_to(&mut weights);
                    lane.first.add_to(&mut gain);
                    lane.second.add_to(&mut second);
                    if extent.square.lt(T::In::<S>::one()).all() {
                        path = Path::Near;
                    }
                    from += len;
                    continue;
                } else if near {
                    path = Path::Mid;
                    continue;
                }
            }
            let mut block = Careful { shift, infinite: false, invalid: false, poor: false };
            block.add::<S>(&self, from, len, [&mut weights, &mut gain, &mut second]);
            if block.invalid {
                let nan = f64::NAN;
                let power = shift.power;
                return Sums { power, weights: nan, gain: nan, second: nan, infinite, invalid: true, poor };
            }
            infinite |= block.infinite;
            poor |= block.poor;
            from += len;
        }
        Sums {
            power: shift.power,
            weights: total(&weights),
            gain: total(&gain),
            second: total(&second),
            infinite,
            invalid: false,
            poor,
        }
    }
}

/// A block in float64 lanes with every special case.
struct Careful {
    shift: Shift,
    infinite: bool,
    invalid: bool,
    poor: bool,
}

impl Careful {
    #[inline(always)]
    fn add<S: Simd>(
        &mut self,
        rows: &Pass<'_, impl InPlace>,
        from: usize,
        len: usize,
        [weights, gain, second]: [&mut Sum; 3],
    ) {
        let (mut scratch_x, mut scratch_y) = (Scratch::<f64>::new(), Scratch::<f64>::new());
        let none = f64::NEG_INFINITY;
        let xs = rows.x.block::<S, f64>(from, len, &mut scratch_x, none);
        let ys = rows.y.block::<S, f64>(from, len, &mut scratch_y, none);
        let constant = S::F64::constant;
        let (zero, one) = (S::F64::zero(), S::F64::one());
        let (level, offset) = (constant(self.shift.level()), constant(self.shift.offset));
        let (low, high) = (constant(-700.0), constant(600.0));
        let (none, infinity, huge) = (constant(none), constant(f64::INFINITY), constant(1e300));
        for (x, y) in xs.chunks_exact(f64::LANES).zip(ys.chunks_exact(f64::LANES)) {
            let (x, y) = (S::F64::load(x), S::F64::load(y));
            self.invalid |= !x.lt(infinity).and(y.lt(infinity)).all();
            let regular = none.lt(x).and(none.lt(y));
            self.infinite |= none.lt(x).and(y.eq(none)).count() > 0;
            let (at_x, at_y) = (x - level, (y - offset) - level);
            self.poor |= !at_x.lt(high).and(at_y.lt(high)).all();
            let w = S::F64::select(low.lt(at_x), math::exp(at_x.max(low)), zero);
            let v = S::F64::select(low.lt(at_y), math::exp(at_y.max(low)), zero);
            let u = S::F64::select(regular, difference(x, y, offset), zero);
            let u = S::F64::select(u.abs().lt(huge), u, S::F64::select(zero.lt(u), huge, zero - huge));
            let near = regular.and(u.abs().lt(one));
            let phi = math::phi_near(u);
            let more = S::F64::select(near, w * (u + phi), v - w);
            w.add_to(weights);
            more.add_to(gain);
            S::F64::select(near, w * phi, more - w * u).add_to(second);
        }
    }
}
