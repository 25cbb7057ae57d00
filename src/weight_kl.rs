//! KL(p‖q) of two rows of probabilities or weights in one read: the twin of [`crate::sweep`] for linear numbers.
//!
//! With q' = c·q for a constant c near Σp/Σq, and ψ(x) = x − log1p(x),
//!
//! ```text
//! P = Σ p    D = Σ (q' − p)    S = Σ p·ψ((q' − p)/p)    ε = D/P    KL(p‖q) = S/P − ψ(ε)
//! ```
//!
//! No term of S is negative, and what c is off by enters only squared. With k the integer that brings r = q'·2^-k
//! within 3/2 of p, d = r − p and f = d/(r + p), a term is
//!
//! ```text
//! p·ψ((q' − p)/p) = [q' − r − p·k·ln 2] + f·(d − 2·p·f²·g(f²))        2·atanh(f) = 2·f + 2·f³·g(f²)
//! ```
//!
//! one division and no logarithm's special cases; the bracket is exactly 0 where p and q are close. Numbers are scaled
//! by a power of two so that none is subnormal; a zero is replaced by a number too small to count, and a p > 0 beside
//! q = 0 is looked for where a block holds a zero.
//!
//! Probabilities need no totals beforehand: c = 1, and their sums come with the pass. Where that c is too poor (KL is
//! not most of S/P), and for weights, c comes from the exact totals and q' − p is formed without the rounding of c·q.
//! Tried and dropped: totals first for everything (two more reads: a third of the speed).

use crate::linear::Totals;
use crate::prepare::{Side, TOLERANCE};
use crate::rows::{Ahead, BLOCK, InPlace, Kind, Row, Scratch, over_segments};
use crate::scalar::{exponent, power_of_two, psi};
use crate::simd::{Element, Kernel, Mask, Simd, Sum, Vector, dispatch, math, total};

/// KL of probabilities in one read, or `None` where more care is needed: sums far from 1 (perhaps an error), NaN,
/// negative numbers, rows so close that the rounding of their sums shows.
pub fn of_probs(p: &Side<'_>, q: &Side<'_>, parallel: bool) -> Option<f64> {
    if p.kind != Kind::Probs || q.kind != Kind::Probs {
        return None;
    }
    let (p, q) = (p.row, q.row);
    let wide = p.is_wide() || q.is_wide();
    let frame = Frame::unscaled(if wide { WIDE_TARGET } else { NARROW_TARGET });
    let sums = if wide { pass::<f64, false>(p, q, frame, parallel) } else { pass::<f32, false>(p, q, frame, parallel) };
    // Nearer to the tolerance than these sums are exact, the exact ones decide.
    let unit = 1.0 / frame.scale[0];
    let normal = |sum: f64| sum.mul_add(unit, -1.0).abs() < 0.99 * TOLERANCE;
    if sums.negative || !normal(sums.mass) || !normal(sums.mass + sums.gain) {
        return None;
    }
    let (sigma, kl) = sums.conclude();
    (sums.infinite || kl >= sigma / 2.0).then_some(kl)
}

/// KL of weights with known totals.
pub fn of_weights(p: Row<'_>, q: Row<'_>, totals: &[Totals; 2], parallel: bool) -> f64 {
    // Float32 lanes have no room to scale totals far from 1.
    let sums = if p.is_wide() || q.is_wide() || !totals.iter().all(Totals::is_ordinary) {
        pass::<f64, true>(p, q, Frame::scaled(totals, WIDE_TARGET, 1000), parallel)
    } else {
        pass::<f32, true>(p, q, Frame::scaled(totals, NARROW_TARGET, 120), parallel)
    };
    sums.conclude().1
}

/// Powers of two near which totals are put: every number of a row is then normal, and no product overflows.
const NARROW_TARGET: i32 = 64;
const WIDE_TARGET: i32 = 500;

/// The constants of a pass.
#[derive(Clone, Copy)]
struct Frame {
    /// What p and q are multiplied by, powers of two.
    scale: [f64; 2],
    /// c, and what a lane cannot hold of it.
    ratio: [f64; 2],
}

impl Frame {
    fn unscaled(target: i32) -> Self {
        Self { scale: [power_of_two(target); 2], ratio: [1.0, 0.0] }
    }

    fn scaled(totals: &[Totals; 2], target: i32, limit: i32) -> Self {
        let scale = totals.map(|t| t.scale(target, limit));
        let (ratio, rest) = totals[0].quotient(&totals[1], scale[0], scale[1]);
        Self { scale, ratio: [ratio, rest] }
    }
}

/// The sums of a pass over part of a row.
#[derive(Clone, Copy)]
struct Sums {
    mass: f64,
    gain: f64,
    second: f64,
    /// Some p > 0 has q = 0.
    infinite: bool,
    negative: bool,
}

impl Sums {
    fn merge(self, other: Sums) -> Sums {
        Sums {
            mass: self.mass + other.mass,
            gain: self.gain + other.gain,
            second: self.second + other.second,
            infinite: self.infinite | other.infinite,
            negative: self.negative | other.negative,
        }
    }

    /// σ and KL.
    fn conclude(&self) -> (f64, f64) {
        let unit = 1.0 / self.mass;
        let sigma = self.second * unit;
        if self.infinite {
            return (sigma, f64::INFINITY);
        }
        (sigma, (sigma - psi(self.gain * unit)).max(0.0))
    }
}

fn pass<T: InPlace, const EXACT: bool>(p: Row<'_>, q: Row<'_>, frame: Frame, parallel: bool) -> Sums {
    over_segments(
        p.len(),
        parallel,
        |from, to| dispatch(Pass::<T, EXACT> { p, q, from, to, frame, elem: std::marker::PhantomData }),
        Sums::merge,
    )
}

struct Pass<'a, T, const EXACT: bool> {
    p: Row<'a>,
    q: Row<'a>,
    from: usize,
    to: usize,
    frame: Frame,
    elem: std::marker::PhantomData<T>,
}

/// Lane sums of one block.
#[derive(Clone, Copy)]
struct Lane<V> {
    mass: V,
    gain: V,
    second: V,
}

/// A [`Frame`] in lanes.
struct Constants<V> {
    scale: [V; 2],
    ratio: [V; 2],
    tiny: V,
    minus_ln2: V,
}

impl<V: Vector> Constants<V> {
    #[inline(always)]
    fn new(frame: &Frame) -> Self {
        let high = V::Elem::from_f64(frame.ratio[0]).to_f64();
        // Below the smallest number that is not zero, but normal.
        let (smallest, normal) = if V::Elem::LANES == f32::LANES { (-151, -125) } else { (-1076, -1020) };
        let below = (exponent(frame.scale[0].min(frame.scale[1])) + smallest).max(normal);
        Self {
            scale: frame.scale.map(V::constant),
            ratio: [high, (frame.ratio[0] - high) + frame.ratio[1]].map(V::constant),
            tiny: V::constant(power_of_two(below)),
            minus_ln2: V::constant(-std::f64::consts::LN_2),
        }
    }

    /// Adds one vector of pairs; `least` is the smallest number met.
    #[inline(always)]
    fn add<const EXACT: bool>(&self, p: V, q: V, lane: &mut Lane<V>, least: &mut V) {
        let (p, q) = (p * self.scale[0], q * self.scale[1]);
        *least = q.min(p.min(*least));
        // c·q, and q' − p with the digits that rounding c·q would take.
        let (q, gap) = if EXACT {
            (q * self.ratio[0], q.mul_add(self.ratio[1], q.mul_add(self.ratio[0], V::zero() - p)))
        } else {
            (q, q - p)
        };
        lane.mass = lane.mass + p;
        lane.gain = lane.gain + gap;
        // NaN stays: of max's two arguments it is the second that NaN comes from.
        let (p, q) = (self.tiny.max(p), self.tiny.max(q));
        let (r, k) = q.align(p);
        let d = if EXACT { V::select(k.eq(V::zero()), gap, r - p) } else { r - p };
        let f = d / (r + p);
        let ff = f * f;
        let curve = p * (ff * math::polynomial(ff, <V::Elem as math::Coefficients>::ATANH));
        let near = f * (d - curve);
        let far = (k * self.minus_ln2).mul_add(p, q - r);
        lane.second = lane.second + (far + near);
    }
}

#[inline(always)]
fn add_block<V: Vector, const EXACT: bool>(
    k: &Constants<V>,
    ps: &[V::Elem],
    qs: &[V::Elem],
    ahead: [Ahead; 2],
    least: &mut V,
) -> Lane<V> {
    let (lanes, zero) = (V::Elem::LANES, V::zero());
    let mut even = Lane { mass: zero, gain: zero, second: zero };
    let mut odd = even;
    let len = ps.len().min(qs.len());
    let (ps, qs) = (&ps[..len], &qs[..len]);
    let mut i = 0;
    while i + 2 * lanes <= len {
        let (p, q) = (&ps[i..i + 2 * lanes], &qs[i..i + 2 * lanes]);
        for line in [0, lanes] {
            ahead[0].ask::<V>(i + line);
            ahead[1].ask::<V>(i + line);
        }
        k.add::<EXACT>(V::load(p), V::load(q), &mut even, least);
        k.add::<EXACT>(V::load(&p[lanes..]), V::load(&q[lanes..]), &mut odd, least);
        i += 2 * lanes;
    }
    if i < len {
        k.add::<EXACT>(V::load(&ps[i..]), V::load(&qs[i..]), &mut even, least);
    }
    Lane { mass: even.mass + odd.mass, gain: even.gain + odd.gain, second: even.second + odd.second }
}

/// True if some p > 0 stands beside q = 0.
#[inline(always)]
fn has_gap<V: Vector>(ps: &[V::Elem], qs: &[V::Elem]) -> bool {
    let (lanes, zero) = (V::Elem::LANES, V::zero());
    let pairs = ps.chunks_exact(lanes).zip(qs.chunks_exact(lanes));
    pairs.map(|(p, q)| (V::load(p), V::load(q))).any(|(p, q)| zero.lt(p).and(q.eq(zero)).count() > 0)
}

impl<T: InPlace, const EXACT: bool> Kernel for Pass<'_, T, EXACT> {
    type Output = Sums;

    #[inline(always)]
    fn run<S: Simd>(self) -> Sums {
        let (mut scratch_p, mut scratch_q) = (Scratch::<T>::new(), Scratch::<T>::new());
        let k = Constants::<T::In<S>>::new(&self.frame);
        let (zero, none) = (T::In::<S>::zero(), T::from_f64(0.0));
        let (mut mass, mut gain, mut second): (Sum, Sum, Sum) = ([0.0; 16], [0.0; 16], [0.0; 16]);
        let (mut infinite, mut negative) = (false, false);
        let mut from = self.from;
        while from < self.to {
            let left = BLOCK.min(self.to - from);
            // Whole vectors first: only what is left needs filling up.
            let whole = left - left % T::LANES;
            let len = if whole > 0 { whole } else { left };
            let ps = self.p.block::<S, T>(from, len, &mut scratch_p, none);
            let qs = self.q.block::<S, T>(from, len, &mut scratch_q, none);
            let ahead = [self.p.ahead(from), self.q.ahead(from)];
            let mut least = T::In::<S>::one();
            let lane = add_block::<T::In<S>, EXACT>(&k, ps, qs, ahead, &mut least);
            lane.mass.add_to(&mut mass);
            lane.gain.add_to(&mut gain);
            lane.second.add_to(&mut second);
            if !zero.lt(least).all() {
                negative |= least.lt(zero).count() > 0;
                infinite = infinite || has_gap::<T::In<S>>(ps, qs);
            }
            from += len;
        }
        Sums { mass: total(&mass), gain: total(&gain), second: total(&second), infinite, negative }
    }
}
