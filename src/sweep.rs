//! The pass of [`crate::moments`] over one segment of two rows of logits.
//!
//! Each block takes the cheapest path that holds for all of its numbers: `near` (|u| < 2: a series for φ, one
//! exponential), `wide` (|u| < 8: the series of u/4, doubled twice; a fifth more work), `mid` (|u| < 40: two
//! exponentials), `careful` (float64 lanes: infinities, NaN, any range). A path that does not hold is found out after
//! the block, which is then done again; the next block starts where this one ended. Segments start with `near`, so the
//! choice, like everything else, does not depend on the threads.

use std::f64::consts::{LN_2, LOG2_E};

use crate::rows::{Ahead, InPlace, Row, Scratch, block_of, over_segments};
use crate::simd::{Element, Kernel, Mask, Simd, Sum, Vector, dispatch, math, total};

/// Largest |level| of a row whose exponentials are scaled by an integer power of two.
pub const MAX_LEVEL: f64 = 1e5;

/// Largest u² of the near path. A bound of 1 would save three of its thirty operations, and send every other block of
/// a model quantised to four bits through both paths.
const NEAR_SQUARE: f64 = 4.0;

/// Largest u² of the wide path: beyond it the rounding of u would show in e^u.
const WIDE_SQUARE: f64 = 64.0;

/// Largest u² of the mid path, whose products stay far from overflow.
const MID_SQUARE: f64 = 1600.0;

/// The constants of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// K: weights are e^x·2^-K.
    pub power: f64,
    /// c: subtracted from y − x.
    pub offset: f64,
    /// Take the careful path for every block.
    pub careful: bool,
}

impl Shift {
    fn level(&self) -> f64 {
        self.power * LN_2
    }
}

/// The sums of a pass over part of a row.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    /// K, raised where a larger x was met.
    pub power: f64,
    /// A.
    pub weights: f64,
    /// D.
    pub gain: f64,
    /// S.
    pub second: f64,
    /// Some p > 0 has q = 0.
    pub infinite: bool,
    /// NaN or +inf was met.
    pub invalid: bool,
    /// The shift was unusable.
    pub poor: bool,
}

impl Sums {
    /// True if the rows have distributions and the shift was no obstacle.
    #[inline(always)]
    pub fn is_usable(&self) -> bool {
        !self.invalid && !self.poor && self.weights > 0.0 && self.weights.is_finite()
    }

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

/// Passes over two rows of logits.
pub fn pass<T: InPlace, const EXACT: bool>(x: Row<'_>, y: Row<'_>, shift: Shift, parallel: bool) -> Sums {
    over_segments(
        x.len(),
        parallel,
        |from, to| dispatch(Pass::<T, EXACT> { x, y, from, to, shift, elem: std::marker::PhantomData }),
        Sums::merge,
    )
}

/// The largest number of a block; NaN is passed over.
#[inline(always)]
pub fn largest<S: Simd, T: InPlace>(block: &[T]) -> f64 {
    let mut top = T::In::<S>::constant(f64::NEG_INFINITY);
    for lanes in block.chunks_exact(T::LANES) {
        top = T::In::<S>::load(lanes).max(top);
    }
    top.largest().to_f64()
}

/// K for a block whose largest numbers are `top`: raised where its exponentials would be too large, `None` where no K
/// will do.
#[inline(always)]
pub fn power_for<S: Simd, T: InPlace>(shift: &Shift, top: T::In<S>, block: &[T]) -> Option<f64> {
    if top.lt(T::In::<S>::constant((shift.power + 60.0) * LN_2)).all() {
        return Some(shift.power);
    }
    let top = largest::<S, T>(block);
    (top.is_finite() && top < MAX_LEVEL).then(|| (top * LOG2_E).round())
}

/// y − x − c in lanes. `EXACT` keeps the part of y − x that rounding drops, which matters once c is larger than u.
#[inline(always)]
pub fn difference<V: Vector, const EXACT: bool>(x: V, y: V, offset: V) -> V {
    let d = y - x;
    if !EXACT {
        return d - offset;
    }
    let from_y = d - y;
    let lost = (y - (d - from_y)) - (x + from_y);
    // Of an infinite difference nothing is lost.
    (d - offset) + V::select(lost.eq(lost), lost, V::zero())
}

/// The pass over one segment.
struct Pass<'a, T, const EXACT: bool> {
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
    Wide,
    Mid,
    Careful,
}

impl Path {
    /// Largest u² for which it holds.
    fn bound(self) -> f64 {
        match self {
            Path::Near => NEAR_SQUARE,
            Path::Wide => WIDE_SQUARE,
            Path::Mid | Path::Careful => MID_SQUARE,
        }
    }
}

/// [`Path`] as a constant.
const NEAR: u8 = Path::Near as u8;
const WIDE: u8 = Path::Wide as u8;
const MID: u8 = Path::Mid as u8;

/// Lane sums of one block.
#[derive(Clone, Copy)]
struct Lane<V> {
    weights: V,
    /// Σ (v − w) on the mid path, Σ w·u on the others.
    first: V,
    second: V,
}

impl<V: Vector> Lane<V> {
    /// Only the first `count` lanes.
    #[inline(always)]
    fn first_of(self, count: usize) -> Self {
        let keep = |sum: V| V::select(V::first(count), sum, V::zero());
        Self { weights: keep(self.weights), first: keep(self.first), second: keep(self.second) }
    }
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
    fn new<const PATH: u8>(shift: &Shift) -> Self {
        let power_y = shift.power + (shift.offset * LOG2_E).round();
        // Only the mid path reads y by itself.
        let scale_y = if PATH == MID { libm::exp((power_y - shift.power) * LN_2 - shift.offset) } else { 1.0 };
        Self {
            offset: V::constant(shift.offset),
            magic: math::magic(shift.power),
            low: math::lowest(shift.power),
            magic_y: math::magic(power_y),
            low_y: math::lowest(power_y),
            scale_y: V::constant(scale_y),
        }
    }

    /// Adds one vector of pairs.
    #[inline(always)]
    fn add<const PATH: u8, const EXACT: bool>(&self, x: V, y: V, lane: &mut Lane<V>, extent: &mut Extent<V>) {
        extent.top = x.max(extent.top);
        let w = math::exp_scaled(x.max(self.low), self.magic);
        let u = difference::<V, EXACT>(x, y, self.offset);
        let uu = u * u;
        extent.square = uu.max(extent.square);
        lane.weights = lane.weights + w;
        if PATH == NEAR {
            let wu = w * u;
            lane.first = lane.first + wu;
            lane.second = (wu * u).mul_add(math::polynomial(u, <V::Elem as math::Coefficients>::PHI), lane.second);
        } else if PATH == WIDE {
            lane.first = w.mul_add(u, lane.first);
            lane.second = w.mul_add(math::phi_wide(u), lane.second);
        } else {
            // v = e^(y−c)·2^-K from y itself: e^u would carry the rounding of u, which is relative to u.
            let v = math::exp_scaled(y.max(self.low_y), self.magic_y) * self.scale_y;
            // Where u is small both sums keep their digits only without the difference v − w.
            let small = uu.lt(V::constant(NEAR_SQUARE));
            let phi = math::phi_near(u);
            let gain = V::select(small, w * (u + phi), v - w);
            lane.first = lane.first + gain;
            lane.second = lane.second + V::select(small, w * phi, gain - w * u);
        }
    }
}

#[inline(always)]
fn add_block<V: Vector, const PATH: u8, const EXACT: bool>(
    xs: &[V::Elem],
    ys: &[V::Elem],
    ahead: [Ahead; 2],
    shift: &Shift,
) -> (Lane<V>, Extent<V>) {
    let k = Constants::<V>::new::<PATH>(shift);
    let lanes = V::Elem::LANES;
    let zero = V::zero();
    let mut extent = Extent { square: zero, top: V::constant(f64::NEG_INFINITY) };
    // Two sets of sums: half as many additions, and so half the rounding, in each lane.
    let mut even = Lane { weights: zero, first: zero, second: zero };
    let mut odd = even;
    // By index: an iterator over both, once not inlined, would keep the sums in memory.
    let len = xs.len().min(ys.len());
    let (xs, ys) = (&xs[..len], &ys[..len]);
    let mut i = 0;
    while i + 2 * lanes <= len {
        let (x, y) = (&xs[i..i + 2 * lanes], &ys[i..i + 2 * lanes]);
        for line in [0, lanes] {
            ahead[0].ask::<V>(i + line);
            ahead[1].ask::<V>(i + line);
        }
        k.add::<PATH, EXACT>(V::load(x), V::load(y), &mut even, &mut extent);
        k.add::<PATH, EXACT>(V::load(&x[lanes..]), V::load(&y[lanes..]), &mut odd, &mut extent);
        i += 2 * lanes;
    }
    if i < len {
        k.add::<PATH, EXACT>(V::load(&xs[i..]), V::load(&ys[i..]), &mut even, &mut extent);
    }
    let second = even.second + odd.second;
    let first = even.first + odd.first;
    // w·(e^u − 1) = w·u + w·φ(u).
    let first = if PATH == MID { first } else { first + second };
    (Lane { weights: even.weights + odd.weights, first, second }, extent)
}

impl<T: InPlace, const EXACT: bool> Kernel for Pass<'_, T, EXACT> {
    type Output = Sums;

    #[inline(always)]
    fn run<S: Simd>(self) -> Sums {
        segment::<S, T, EXACT>(&self.x, &self.y, self.from, self.to, self.shift)
    }
}

/// The sums over one segment.
#[inline(always)]
pub fn segment<S: Simd, T: InPlace, const EXACT: bool>(
    x: &Row<'_>,
    y: &Row<'_>,
    mut from: usize,
    to: usize,
    mut shift: Shift,
) -> Sums {
    let (mut scratch_x, mut scratch_y) = (Scratch::<T>::new(), Scratch::<T>::new());
    let (mut weights, mut gain, mut second): (Sum, Sum, Sum) = ([0.0; 16], [0.0; 16], [0.0; 16]);
    let (mut infinite, mut poor) = (false, false);
    // A row that does not fill a vector may be all in one place, where only float64 lanes know that nothing moved.
    let short = x.len() < T::LANES;
    let mut path = if shift.careful || short { Path::Careful } else { Path::Near };
    while from < to {
        let len = block_of::<T>(to - from);
        if path != Path::Careful {
            let xs = x.block_repeating::<S, T>(from, len, &mut scratch_x);
            let ys = y.block_repeating::<S, T>(from, len, &mut scratch_y);
            let ahead = [x.ahead(from), y.ahead(from)];
            let (lane, extent) = match path {
                Path::Near => add_block::<T::In<S>, NEAR, EXACT>(xs, ys, ahead, &shift),
                Path::Wide => add_block::<T::In<S>, WIDE, EXACT>(xs, ys, ahead, &shift),
                Path::Mid | Path::Careful => add_block::<T::In<S>, MID, EXACT>(xs, ys, ahead, &shift),
            };
            let below = |bound: f64| extent.square.lt(T::In::<S>::constant(bound));
            let power = power_for::<S, T>(&shift, extent.top, xs);
            if let Some(power) = power.filter(|&power| power != shift.power) {
                let factor = libm::scalbn(1.0, (shift.power - power) as i32);
                for lane in [&mut weights, &mut gain, &mut second].into_iter().flatten() {
                    *lane *= factor;
                }
                shift.power = power;
                continue;
            } else if power.is_none() {
                // No K will do: the careful path.
            } else if below(path.bound()).and(lane.second.eq(lane.second)).all() {
                // What fills up a part of a vector does not count.
                let lane = if len >= T::LANES { lane } else { lane.first_of(len) };
                lane.weights.add_to(&mut weights);
                lane.first.add_to(&mut gain);
                lane.second.add_to(&mut second);
                // Not back to near: a wrong guess there costs more than the wide path does.
                if path == Path::Mid && below(WIDE_SQUARE).all() {
                    path = Path::Wide;
                }
                from += len;
                continue;
            } else if path == Path::Near && !below(NEAR_SQUARE).all() && below(WIDE_SQUARE).all() {
                path = Path::Wide;
                continue;
            } else if path != Path::Mid {
                path = Path::Mid;
                continue;
            }
        }
        let mut block = Careful { shift, infinite: false, invalid: false, poor: false };
        block.add::<S>(x, y, from, len, [&mut weights, &mut gain, &mut second]);
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
        x: &Row<'_>,
        y: &Row<'_>,
        from: usize,
        len: usize,
        [weights, gain, second]: [&mut Sum; 3],
    ) {
        let (mut scratch_x, mut scratch_y) = (Scratch::<f64>::new(), Scratch::<f64>::new());
        let none = f64::NEG_INFINITY;
        let xs = x.block::<S, f64>(from, len, &mut scratch_x, none);
        let ys = y.block::<S, f64>(from, len, &mut scratch_y, none);
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
            let u = S::F64::select(regular, difference::<S::F64, true>(x, y, offset), zero);
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
