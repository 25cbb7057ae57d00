//! The moments of one segment of two rows, around a c that follows what has been seen.
//!
//! A row's mass may lie in a few numbers, and the first ones, from which c is guessed, seldom have them. Moments are
//! taken to another c exactly but for the digits that cancel, which is harmless while little mass has been summed: so a
//! block that brings much of it is asked for the mean of u first, and where that is not near 0, c becomes that mean, and
//! the block is done again.

use crate::rows::{Ahead, Row, Scratch, block_of};
use crate::scalar::{exponent, power_of_two};
use crate::simd::{Element, Kernel, Mask, Simd, Sum, Vector, math, total};
use crate::sweep::{Shift, difference, power_for};

/// The highest moment. With one or two fewer, models quantised to four bits would be left to the two passes.
pub const ORDER: usize = 12;

/// How many there are, with M₀.
pub const MOMENTS: usize = ORDER + 1;

/// Largest u² of a block.
pub const SQUARE: f64 = 4.0;

/// The size that u is given, by a power of two: twelfth powers of much smaller numbers would leave the normal numbers,
/// on which arithmetic is a hundred times slower.
const TARGET: f64 = 16.0;

/// Vectors looked at for the size of u.
const PROBES: usize = 16;

/// The part of the mass so far that a lane of a block must bring, to be asked for its mean.
const HEAVY: f64 = 1.0 / 32.0;

/// Square of the mean of u, over its variance, from which c moves there.
const OFF: f64 = 0.5;

/// How a pass starts.
#[derive(Clone, Copy)]
pub struct Start {
    /// K and c.
    pub shift: Shift,
    /// What u is multiplied by: a power of two.
    pub unit: f64,
    /// Whether c may move.
    pub follow: bool,
    /// Largest M₁₂/M₂ of a first block, in that unit.
    pub hopeless: f64,
}

/// The power of two that brings log-ratios of this size near [`TARGET`].
pub fn unit_for(spread: f64) -> f64 {
    power_of_two((exponent(TARGET) - exponent(spread)).clamp(0, 100))
}

/// See [`spread`].
pub struct Spread<'a> {
    pub x: &'a Row<'a>,
    pub y: &'a Row<'a>,
    pub offset: f64,
}

impl Kernel for Spread<'_> {
    type Output = Option<f64>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Option<f64> {
        spread::<S>(self.x, self.y, self.offset)
    }
}

/// The root mean square of u, of a few vectors all over the row; `None` if there are none such or that is 0.
#[inline(always)]
pub fn spread<S: Simd>(x: &Row<'_>, y: &Row<'_>, offset: f64) -> Option<f64> {
    let (mut scratch_x, mut scratch_y) = (Scratch::<f32>::new(), Scratch::<f32>::new());
    let (mut squares, mut sum): (S::F32, Sum) = (S::F32::zero(), [0.0; 16]);
    let vectors = x.len() / f32::LANES;
    let step = vectors.div_ceil(PROBES);
    for vector in (0..vectors).step_by(step.max(1)) {
        let from = vector * f32::LANES;
        let x = S::F32::load(x.block::<S, f32>(from, f32::LANES, &mut scratch_x, 0.0));
        let y = S::F32::load(y.block::<S, f32>(from, f32::LANES, &mut scratch_y, 0.0));
        let u = difference::<S::F32, true>(x, y, S::F32::constant(offset));
        squares = squares + u * u;
    }
    squares.add_to(&mut sum);
    let spread = (total(&sum) / (vectors.div_ceil(step.max(1)) * f32::LANES) as f64).sqrt();
    (spread > 0.0 && spread.is_finite()).then_some(spread)
}

/// The sums of a pass over part of a row.
#[derive(Clone, Copy)]
pub struct Sums {
    /// K, raised where a larger x was met.
    pub power: f64,
    /// The c that the moments are about.
    pub offset: f64,
    pub moments: [f64; MOMENTS],
    /// A bound of the largest u².
    pub square: f64,
    /// Σ w·(offset − c) over the pairs, c being that of their block, and Σ w·(offset − c)².
    pub lean: f64,
    pub drift: f64,
    /// The largest |c|.
    pub furthest: f64,
}

impl Sums {
    /// The sums of two parts, about the c of the heavier one.
    #[inline(always)]
    pub fn merge(self, other: Sums) -> Sums {
        let power = self.power.max(other.power);
        let (a, b) = (self.scaled_to(power), other.scaled_to(power));
        let offset = if b.moments[0] > a.moments[0] { b.offset } else { a.offset };
        let (a, b) = (a.about(offset), b.about(offset));
        Sums {
            power,
            offset,
            moments: std::array::from_fn(|k| a.moments[k] + b.moments[k]),
            square: a.square.max(b.square),
            lean: a.lean + b.lean,
            drift: a.drift + b.drift,
            furthest: a.furthest.max(b.furthest),
        }
    }

    fn scaled_to(self, power: f64) -> Sums {
        let factor = libm::scalbn(1.0, (self.power - power).max(-2000.0) as i32);
        Sums {
            power,
            moments: self.moments.map(|sum| sum * factor),
            lean: self.lean * factor,
            drift: self.drift * factor,
            ..self
        }
    }

    fn about(self, offset: f64) -> Sums {
        let step = offset - self.offset;
        if step == 0.0 {
            return self;
        }
        let mut moments = self.moments.map(|sum| [sum]);
        step_by(&mut moments, step);
        let moments = moments.map(|[sum]| sum);
        let furthest = self.square.sqrt() + step.abs();
        let (lean, drift) = leaning(self.lean, self.drift, step, self.moments[0]);
        Sums { offset, moments, square: furthest * furthest, lean, drift, ..self }
    }
}

/// Σ w·(offset − c) and Σ w·(offset − c)² after a step of the offset.
fn leaning(lean: f64, drift: f64, step: f64, mass: f64) -> (f64, f64) {
    (lean + step * mass, (drift + 2.0 * step * lean) + step * step * mass)
}

/// The pass over one segment; `None` once a block is not one for it.
pub struct Pass<'a, const EXACT: bool> {
    pub x: &'a Row<'a>,
    pub y: &'a Row<'a>,
    pub from: usize,
    pub to: usize,
    pub start: &'a Start,
}

impl<const EXACT: bool> Kernel for Pass<'_, EXACT> {
    type Output = Option<Sums>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Option<Sums> {
        segment::<S, EXACT>(self.x, self.y, self.from, self.to, self.start)
    }
}

/// Lane sums of one block.
struct Block<V> {
    moments: [V; MOMENTS],
    square: V,
    top: V,
}

impl<V: Vector> Block<V> {
    #[inline(always)]
    fn empty() -> Self {
        Self { moments: [V::zero(); MOMENTS], square: V::zero(), top: V::constant(f64::NEG_INFINITY) }
    }
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

/// Sums one block into `out`.
struct AddBlock<'a, V, const EXACT: bool> {
    xs: &'a [f32],
    ys: &'a [f32],
    ahead: [Ahead; 2],
    shift: &'a Shift,
    unit: f64,
    out: &'a mut Block<V>,
}

impl<V: Vector<Elem = f32>, const EXACT: bool> Kernel for AddBlock<'_, V, EXACT> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let constants = Constants::new(self.shift, self.unit);
        let mut block = Block::<V>::empty();
        let len = self.xs.len().min(self.ys.len());
        let (xs, ys, ahead) = (&self.xs[..len], &self.ys[..len], self.ahead);
        let lanes = f32::LANES;
        let mut i = 0;
        while i + 2 * lanes <= len {
            let (x, y) = (&xs[i..i + 2 * lanes], &ys[i..i + 2 * lanes]);
            for line in [0, lanes] {
                ahead[0].ask::<V>(i + line);
                ahead[1].ask::<V>(i + line);
            }
            let (x, y) = ([V::load(x), V::load(&x[lanes..])], [V::load(y), V::load(&y[lanes..])]);
            constants.add::<2, EXACT>(x, y, &mut block);
            i += 2 * lanes;
        }
        if i < len {
            constants.add::<1, EXACT>([V::load(&xs[i..])], [V::load(&ys[i..])], &mut block);
        }
        *self.out = block;
    }
}

/// The sums over part of a row; `None` once a block is not one for the series.
#[inline(always)]
pub fn segment<S: Simd, const EXACT: bool>(
    x: &Row<'_>,
    y: &Row<'_>,
    from: usize,
    to: usize,
    start: &Start,
) -> Option<Sums> {
    let (mut scratch_x, mut scratch_y) = (Scratch::<f32>::new(), Scratch::<f32>::new());
    let (mut shift, unit) = (start.shift, start.unit);
    let mut moments: [Sum; MOMENTS] = [[0.0; 16]; MOMENTS];
    let mut square = S::F32::zero();
    let (mut lean, mut drift, mut furthest) = (0.0, 0.0, shift.offset.abs());
    let (mut heavy, mut may_move) = (S::F32::zero(), start.follow);
    let mut block = Block::<S::F32>::empty();
    let mut at = from;
    while at < to {
        let len = block_of::<f32>(to - at);
        let xs = x.block_repeating::<S, f32>(at, len, &mut scratch_x);
        let ys = y.block_repeating::<S, f32>(at, len, &mut scratch_y);
        let ahead = [x.ahead(at), y.ahead(at)];
        S::apart(AddBlock::<S::F32, EXACT> { xs, ys, ahead, shift: &shift, unit, out: &mut block });
        let power = power_for::<S, f32>(&shift, block.top, xs)?;
        if power != shift.power {
            let factor = libm::scalbn(1.0, (shift.power - power) as i32);
            for lane in moments.iter_mut().flatten() {
                *lane *= factor;
            }
            (lean, drift) = (lean * factor, drift * factor);
            heavy = S::F32::zero();
            shift.power = power;
            continue;
        }
        // A NaN passes the maximum but not the sum.
        let held = block.square.lt(S::F32::constant(SQUARE * unit * unit)).and(block.moments[2].eq(block.moments[2]));
        if !held.all() {
            return None;
        }
        if len < f32::LANES {
            for lane in &mut block.moments {
                *lane = S::F32::select(S::F32::first(len), *lane, S::F32::zero());
            }
        }
        if may_move && !block.moments[0].lt(heavy).all() {
            let [mut mass, mut first, mut second] = [moments[0], moments[1], moments[2]];
            block.moments[0].add_to(&mut mass);
            block.moments[1].add_to(&mut first);
            block.moments[2].add_to(&mut second);
            let [mass, first, second] = [total(&mass), total(&first), total(&second)];
            heavy = S::F32::constant(mass * HEAVY);
            let mean = first / mass;
            if mean * mean > OFF * (second / mass - mean * mean) {
                let offset = f64::from((shift.offset + mean / unit) as f32);
                let step = offset - shift.offset;
                if step != 0.0 {
                    (lean, drift) = leaning(lean, drift, step, total(&moments[0]));
                    if at > from {
                        step_by(&mut moments, step * unit);
                    }
                    let largest = f64::from(square.largest()).sqrt() + (step * unit).abs();
                    square = S::F32::constant(largest * largest);
                    shift.offset = offset;
                    furthest = furthest.max(offset.abs());
                    may_move = false;
                    continue;
                }
            }
        }
        may_move = start.follow;
        square = block.square.max(square);
        for (sum, lane) in moments.iter_mut().zip(&block.moments) {
            lane.add_to(sum);
        }
        if at == from && total(&moments[ORDER]) > start.hopeless * total(&moments[2]) {
            return None;
        }
        at += len;
    }
    let (inverse, mut factor) = (1.0 / unit, 1.0);
    let mut found = [0.0; MOMENTS];
    for (moment, sum) in found.iter_mut().zip(&moments) {
        *moment = total(sum) * factor;
        factor *= inverse;
    }
    let square = f64::from(square.largest()) * inverse * inverse;
    Some(Sums { power: shift.power, offset: shift.offset, moments: found, square, lean, drift, furthest })
}

/// Takes moments, each in L lanes, to a c that is `step` further.
fn step_by<const L: usize>(moments: &mut [[f64; L]; MOMENTS], step: f64) {
    for first in 1..MOMENTS {
        for k in (first..MOMENTS).rev() {
            let (below, above) = moments.split_at_mut(k);
            for (sum, lower) in above[0].iter_mut().zip(&below[k - 1]) {
                *sum -= step * lower;
            }
        }
    }
}
