//! Divergences of probabilities or weights in one read: the twin of [`crate::sweep`] for linear numbers.
//!
//! With q' = c·q for a constant c near Σp/Σq, and f the term of a divergence,
//!
//! ```text
//! P = Σ p    D = Σ (q' − p)    S = Σ f(p, q')    ε = D/P
//! ```
//!
//! KL is S/P − ψ(ε) for any c, with ψ(x) = x − log1p(x) and f as in [`crate::weights`]. Of every other divergence no
//! term is negative and each is stationary where p = q, so that S/(P + D/2) lacks ε·value and ε²; only in total
//! variation ε enters as it is.
//!
//! Probabilities need no totals beforehand: c = 1, and their sums come with the pass. Where that c is too poor, and for
//! weights, c comes from the sums of that pass or from the exact totals, and q' − p is formed without the rounding of
//! c·q.
//!
//! Tried and dropped: totals first for everything (two more reads: a third of the speed).

use std::marker::PhantomData;

use crate::divergences::{Divergence, Term};
use crate::linear::{Totals, totals_of_segment};
use crate::prepare::{Side, TOLERANCE};
use crate::rows::{Ahead, InPlace, Kind, Row, Scratch, block_of, over_segments};
use crate::scalar::{power_of_two, psi};
use crate::simd::{Element, Kernel, Mask, Simd, Sum, Vector, dispatch, total};
use crate::weights::{Constants, Frame};

/// Powers of two near which totals are put: every number of a row is then normal, and no product overflows.
const NARROW_TARGET: i32 = 64;
const WIDE_TARGET: i32 = 500;

/// Largest |ε| that needs no better c: a small part of the error that each type of lane may have.
const NARROW_BOUND: f64 = 1.0 / (1u64 << 22) as f64;
const WIDE_BOUND: f64 = 1.0 / (1u64 << 44) as f64;

/// What suits lanes of type `T`: `target`, and `bound`.
const fn narrow_or_wide<T: Element, N: Copy>(narrow: N, wide: N) -> N {
    if T::LANES == f32::LANES { narrow } else { wide }
}

/// Probabilities as they are.
fn unscaled<T: Element>() -> Frame {
    Frame { scale: [power_of_two(narrow_or_wide::<T, _>(NARROW_TARGET, WIDE_TARGET)); 2], ratio: [1.0, 0.0] }
}

/// Weights with known totals.
fn scaled<T: Element>(totals: &[Totals; 2]) -> Frame {
    let (target, limit) = narrow_or_wide::<T, _>((NARROW_TARGET, 120), (WIDE_TARGET, 1000));
    let scale = totals.map(|t| t.scale(target, limit));
    let (ratio, rest) = totals[0].quotient(&totals[1], scale[0], scale[1]);
    Frame { scale, ratio: [ratio, rest] }
}

/// A divergence of probabilities, or `None` where more care is needed: sums far from 1 (perhaps an error), NaN,
/// negative numbers.
pub fn of_probs<D: Divergence>(p: &Side<'_>, q: &Side<'_>, parallel: bool) -> Option<f64> {
    if p.kind != Kind::Probs || q.kind != Kind::Probs {
        return None;
    }
    let (p, q) = (p.row, q.row);
    if p.is_wide() || q.is_wide() {
        of_probs_in::<f64, D>(p, q, parallel)
    } else {
        of_probs_in::<f32, D>(p, q, parallel)
    }
}

fn of_probs_in<T: InPlace, D: Divergence>(p: Row<'_>, q: Row<'_>, parallel: bool) -> Option<f64> {
    let frame = unscaled::<T>();
    let sums = pass::<T, D::Term, false>(p, q, frame, parallel);
    match sums.judge::<T, D>(&frame) {
        Verdict::Settled(value) => Some(value),
        Verdict::Again(frame) => Some(pass::<T, D::Term, true>(p, q, frame, parallel).value::<D>()),
        Verdict::Unusual => None,
    }
}

/// A divergence of weights with known totals.
pub fn of_weights<D: Divergence>(p: Row<'_>, q: Row<'_>, totals: &[Totals; 2], parallel: bool) -> f64 {
    // Float32 lanes have no room to scale totals far from 1.
    let sums = if p.is_wide() || q.is_wide() || !totals.iter().all(Totals::is_ordinary) {
        pass::<f64, D::Term, true>(p, q, scaled::<f64>(totals), parallel)
    } else {
        pass::<f32, D::Term, true>(p, q, scaled::<f32>(totals), parallel)
    };
    sums.value::<D>()
}

/// [`of_probs`] of rows no longer than a segment, within a kernel.
#[inline(always)]
pub fn probs_of_segment<S: Simd, T: InPlace, D: Divergence>(p: &Row<'_>, q: &Row<'_>) -> Option<f64> {
    let frame = unscaled::<T>();
    match segment::<S, T, D::Term, false>(p, q, 0, p.len(), &frame).judge::<T, D>(&frame) {
        Verdict::Settled(value) => Some(value),
        Verdict::Again(frame) => Some(segment::<S, T, D::Term, true>(p, q, 0, p.len(), &frame).value::<D>()),
        Verdict::Unusual => None,
    }
}

/// A divergence of weights of at most 24 digits, in rows no longer than a segment, within a kernel; `None` without
/// mass, with negative numbers, or where float32 lanes do not do.
#[inline(always)]
pub fn weights_of_segment<S: Simd, D: Divergence>(p: &Row<'_>, q: &Row<'_>) -> Option<f64> {
    let totals = [totals_of_segment::<S>(p)?, totals_of_segment::<S>(q)?];
    if !totals.iter().all(Totals::is_ordinary) {
        return None;
    }
    Some(segment::<S, f32, D::Term, true>(p, q, 0, p.len(), &scaled::<f32>(&totals)).value::<D>())
}

/// The sums of a pass over part of a row.
#[derive(Clone, Copy)]
struct Sums {
    mass: f64,
    gain: f64,
    second: f64,
    /// A term is infinite.
    infinite: bool,
    negative: bool,
}

/// What the sums of a pass with c = 1 say.
enum Verdict {
    /// The value.
    Settled(f64),
    /// One more pass is needed, with this c.
    Again(Frame),
    /// Perhaps an error.
    Unusual,
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

    /// The value of a divergence, c being as good as it needs to be.
    #[inline(always)]
    fn value<D: Divergence>(&self) -> f64 {
        if self.infinite {
            return f64::INFINITY;
        }
        if D::IS_KL {
            let unit = 1.0 / self.mass;
            return (self.second * unit - psi(self.gain * unit)).max(0.0);
        }
        D::finish(self.second / 0.5f64.mul_add(self.gain, self.mass))
    }

    /// Whether c = 1 was good enough.
    #[inline(always)]
    fn judge<T: Element, D: Divergence>(&self, frame: &Frame) -> Verdict {
        // Nearer to the tolerance than these sums are exact, the exact ones decide.
        let unit = 1.0 / frame.scale[0];
        let normal = |sum: f64| sum.mul_add(unit, -1.0).abs() < 0.99 * TOLERANCE;
        let other = self.mass + self.gain;
        if self.negative || !normal(self.mass) || !normal(other) {
            return Verdict::Unusual;
        }
        let value = self.value::<D>();
        // Both are close to one times the unit: no need to divide.
        let (sigma, epsilon) = (self.second * unit, self.gain * unit);
        let settled = self.infinite
            || if D::IS_KL {
                value >= sigma / 2.0
            } else {
                let bound = narrow_or_wide::<T, _>(NARROW_BOUND, WIDE_BOUND);
                let entering = if D::IS_FIRST_ORDER { epsilon.abs() } else { 8.0 * epsilon * epsilon };
                epsilon.abs() <= bound && entering <= bound * sigma
            };
        if settled {
            return Verdict::Settled(value);
        }
        let excess = self.gain / other;
        let ratio = 1.0 - excess;
        Verdict::Again(Frame { ratio: [ratio, (1.0 - ratio) - excess], ..*frame })
    }
}

fn pass<T: InPlace, K: Term, const EXACT: bool>(p: Row<'_>, q: Row<'_>, frame: Frame, parallel: bool) -> Sums {
    over_segments(
        p.len(),
        parallel,
        |from, to| dispatch(Pass::<T, K, EXACT> { p, q, from, to, frame, types: PhantomData }),
        Sums::merge,
    )
}

struct Pass<'a, T, K, const EXACT: bool> {
    p: Row<'a>,
    q: Row<'a>,
    from: usize,
    to: usize,
    frame: Frame,
    types: PhantomData<(T, K)>,
}

impl<T: InPlace, K: Term, const EXACT: bool> Kernel for Pass<'_, T, K, EXACT> {
    type Output = Sums;

    #[inline(always)]
    fn run<S: Simd>(self) -> Sums {
        segment::<S, T, K, EXACT>(&self.p, &self.q, self.from, self.to, &self.frame)
    }
}

/// Lane sums of one block.
#[derive(Clone, Copy)]
struct Lane<V> {
    mass: V,
    gain: V,
    second: V,
}

/// Adds one vector of pairs; `least` is the smallest number met.
#[inline(always)]
fn add<V: Vector, K: Term, const EXACT: bool>(k: &Constants<V, EXACT>, p: V, q: V, lane: &mut Lane<V>, least: &mut V) {
    *least = q.min(p.min(*least));
    let at = k.weights(p, q);
    lane.mass = lane.mass + at.p;
    lane.gain = lane.gain + at.gap;
    lane.second = lane.second + K::of_weights(&at);
}

#[inline(always)]
fn add_block<V: Vector, K: Term, const EXACT: bool>(
    k: &Constants<V, EXACT>,
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
        add::<V, K, EXACT>(k, V::load(p), V::load(q), &mut even, least);
        add::<V, K, EXACT>(k, V::load(&p[lanes..]), V::load(&q[lanes..]), &mut odd, least);
        i += 2 * lanes;
    }
    if i < len {
        add::<V, K, EXACT>(k, V::load(&ps[i..]), V::load(&qs[i..]), &mut even, least);
    }
    Lane { mass: even.mass + odd.mass, gain: even.gain + odd.gain, second: even.second + odd.second }
}

/// True if a zero stands beside a number that makes the term infinite.
#[inline(always)]
fn has_gap<V: Vector, K: Term>(ps: &[V::Elem], qs: &[V::Elem]) -> bool {
    let (lanes, zero) = (V::Elem::LANES, V::zero());
    let [zero_p, zero_q] = K::INFINITE_AT_ZERO;
    for (p, q) in ps.chunks_exact(lanes).zip(qs.chunks_exact(lanes)) {
        let (p, q) = (V::load(p), V::load(q));
        if zero_q && zero.lt(p).and(q.eq(zero)).count() > 0 || zero_p && zero.lt(q).and(p.eq(zero)).count() > 0 {
            return true;
        }
    }
    false
}

/// The sums over part of a row.
#[inline(always)]
fn segment<S: Simd, T: InPlace, K: Term, const EXACT: bool>(
    p: &Row<'_>,
    q: &Row<'_>,
    mut from: usize,
    to: usize,
    frame: &Frame,
) -> Sums {
    let k = Constants::<T::In<S>, EXACT>::new(frame);
    let (mut scratch_p, mut scratch_q) = (Scratch::<T>::new(), Scratch::<T>::new());
    let (zero, none) = (T::In::<S>::zero(), T::from_f64(0.0));
    let (mut mass, mut gain, mut second): (Sum, Sum, Sum) = ([0.0; 16], [0.0; 16], [0.0; 16]);
    let (mut infinite, mut negative) = (false, false);
    while from < to {
        let len = block_of::<T>(to - from);
        let ps = p.block::<S, T>(from, len, &mut scratch_p, none);
        let qs = q.block::<S, T>(from, len, &mut scratch_q, none);
        let ahead = [p.ahead(from), q.ahead(from)];
        let mut least = T::In::<S>::one();
        let lane = add_block::<T::In<S>, K, EXACT>(&k, ps, qs, ahead, &mut least);
        lane.mass.add_to(&mut mass);
        lane.gain.add_to(&mut gain);
        lane.second.add_to(&mut second);
        if !zero.lt(least).all() {
            negative |= least.lt(zero).count() > 0;
            infinite = infinite || has_gap::<T::In<S>, K>(ps, qs);
        }
        from += len;
    }
    Sums { mass: total(&mass), gain: total(&gain), second: total(&second), infinite, negative }
}
