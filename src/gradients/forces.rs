//! What pushes a logit: h = ∂D/∂b for the second of two distributions a and b, times b.
//!
//! The gradient of D with respect to the logits of b is b·(h − Σ b·h). A *force* is b·h over max(a, b), with the constant
//! of h (which the mean takes away) chosen so that h = 0 where a = b: close rows lose nothing, because a force is then a
//! multiple of the log-ratio to first order and never a difference of numbers near 1.
//!
//! As the terms of [`crate::divergences`], forces hold in a near block, which is seen from a with t and z of either sign.
//! Means are taken from the value wherever they are a multiple of it, which is a sum of terms of one sign.

use crate::pair::Pair;
use crate::rows::InPlace;
use crate::simd::{Element, Vector, math};
use crate::terms::MAX_SUMS;

/// The force of a divergence D(a, b) on b, and the sums that its value and its mean need.
pub trait Force: Copy + Send + Sync {
    /// The lanes that narrow rows are computed in.
    type Narrow: InPlace;
    /// Those are float64 ones.
    const WIDE: bool = <Self::Narrow as Element>::LANES == <f64 as Element>::LANES;
    /// The value is KL(a‖b) and the mean 0, so that rows of logits need no sums.
    const IS_FORWARD: bool = false;
    /// How many sums are used.
    const COUNT: usize = 1;
    /// b·h/max(a, b); `x` is the number of a's row.
    fn force<V: Vector>(&self, pair: &Pair<V>, x: V) -> V;
    /// What is summed, over max(a, b).
    fn sums<V: Vector>(&self, pair: &Pair<V>, x: V) -> [V; 4];
    /// Value and mean from the sums.
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64);
    /// The same force, knowing its sums.
    fn settled(self, sums: &[f64; MAX_SUMS]) -> Self {
        let _ = sums;
        self
    }
    /// The force less its mean, b·(h − mean)/max(a, b), with b/max(a, b) = `own`.
    #[inline(always)]
    fn centred<V: Vector>(&self, pair: &Pair<V>, x: V, own: V, mean: V) -> V {
        self.force(pair, x) - own * mean
    }
}

/// KL(a‖b): h = 1 − a/b.
#[derive(Clone, Copy)]
pub struct Forward;

impl Force for Forward {
    type Narrow = f32;
    const IS_FORWARD: bool = true;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, _: V) -> V {
        pair.by_side(V::zero() - pair.z, pair.z)
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, _: V) -> [V; 4] {
        [pair.by_side(pair.phi_down(), pair.phi_up()), V::zero(), V::zero(), V::zero()]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        (sums[0], 0.0)
    }
}

/// KL(b‖a): h = log b/a.
#[derive(Clone, Copy)]
pub struct Reverse;

impl Force for Reverse {
    type Narrow = f32;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, _: V) -> V {
        pair.by_side(V::zero() - pair.st(), pair.t)
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, _: V) -> [V; 4] {
        [pair.by_side(pair.phi_up(), pair.phi_down()), V::zero(), V::zero(), V::zero()]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        (sums[0], sums[0])
    }
}

/// KL(a‖b) + KL(b‖a).
#[derive(Clone, Copy)]
pub struct Jeffreys;

impl Force for Jeffreys {
    type Narrow = f32;
    const COUNT: usize = 2;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, x: V) -> V {
        Forward.force(pair, x) + Reverse.force(pair, x)
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, x: V) -> [V; 4] {
        [Reverse.sums(pair, x)[0], pair.t * pair.z, V::zero(), V::zero()]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        (sums[1], sums[0])
    }
}

/// ½·Σ|a − b|: h = ½·sign(b − a), 0 where they are equal.
///
/// The mean is ½·(the b that grew less the b that shrank), and where nearly all of b did the one, ½ less the mean has no
/// digits. There it is the b that shrank, and half of the b that did neither: so what is left of h is kept
/// for either side, each from a sum of its own.
#[derive(Clone, Copy, Default)]
pub struct TotalVariation {
    /// What is left of h where b is the larger.
    pub grown: f64,
    /// What is left of −h where b is the smaller.
    pub shrunk: f64,
}

impl TotalVariation {
    /// Picks by the side that b is on.
    #[inline(always)]
    fn pick<V: Vector>(pair: &Pair<V>, grown: V, shrunk: V, equal: V) -> V {
        let zero = V::zero();
        let side = if pair.near { V::select(pair.t.lt(zero), grown, shrunk) } else { pair.by_side(shrunk, grown) };
        V::select(pair.t.eq(zero), equal, side)
    }
}

impl Force for TotalVariation {
    type Narrow = f32;
    const COUNT: usize = 4;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, _: V) -> V {
        let half = V::constant(0.5);
        let own = pair.by_side(pair.s, V::one());
        own * Self::pick(pair, half, V::zero() - half, V::zero())
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, _: V) -> [V; 4] {
        let (zero, own) = (V::zero(), pair.by_side(pair.s, V::one()));
        let grown = Self::pick(pair, own, zero, zero);
        let shrunk = Self::pick(pair, zero, own, zero);
        [V::constant(0.5) * pair.z.abs(), grown, shrunk, Self::pick(pair, zero, zero, own)]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        (sums[0], 0.5 * (sums[1] - sums[2]))
    }
    fn settled(self, sums: &[f64; MAX_SUMS]) -> Self {
        let equal = 0.5 * sums[3];
        Self { grown: sums[2] + equal, shrunk: sums[1] + equal }
    }
    #[inline(always)]
    fn centred<V: Vector>(&self, pair: &Pair<V>, _: V, own: V, mean: V) -> V {
        let zero = V::zero();
        own * Self::pick(pair, V::constant(self.grown), V::constant(-self.shrunk), zero - mean)
    }
}

/// ½·Σ(√a − √b)²: h = ½·(1 − √(a/b)), whose mean is half the value.
#[derive(Clone, Copy)]
pub struct SquaredHellinger;

impl Force for SquaredHellinger {
    type Narrow = f32;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, _: V) -> V {
        let half = V::constant(0.5) * pair.h;
        pair.by_side(V::zero() - pair.root * half, half)
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, _: V) -> [V; 4] {
        [V::constant(0.5) * pair.h * pair.h, V::zero(), V::zero(), V::zero()]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        (sums[0], 0.5 * sums[0])
    }
}

/// Jensen-Shannon with equal weights: h = ½·log b/m.
///
/// The divergence holds both logarithms, 2·JS = −log m/a − s·log m/b over a, and they differ by t; so the logarithm costs a
/// division once JS is known, and none of its terms cancel: log m/b is (t − 2·JS)/(1 + s) where a is the larger, and
/// −(s·t + 2·JS)/(1 + s) where b is.
#[derive(Clone, Copy)]
pub struct Js;

impl Force for Js {
    type Narrow = f32;
    const COUNT: usize = 2;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, _: V) -> V {
        let js = pair.js();
        let half = V::constant(0.5) / (V::one() + pair.s);
        let st = pair.st();
        let from_a = half * (pair.s * (js + js) - st);
        pair.by_side(from_a, half * (st + (js + js)))
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, x: V) -> [V; 4] {
        [pair.js(), self.force(pair, x), V::zero(), V::zero()]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        (sums[0], sums[1])
    }
}

/// −Σ b·log a: h = −log a, which is (top − x) + above for logits x with that maximum, above = −log of its probability.
#[derive(Clone, Copy)]
pub struct CrossEntropy {
    /// The maximum of a's row.
    pub top: f64,
    /// Minus the logarithm of its probability.
    pub above: f64,
    /// The row holds weights.
    pub linear: bool,
}

impl Force for CrossEntropy {
    type Narrow = f32;
    #[inline(always)]
    fn force<V: Vector>(&self, pair: &Pair<V>, x: V) -> V {
        let (zero, top) = (V::zero(), V::constant(self.top));
        let own = pair.by_side(pair.s, V::one());
        let depth = if self.linear {
            let none = x.eq(zero);
            let safe = V::select(none, top, x);
            V::select(none, V::constant(f64::INFINITY), math::ln_quotient(top, safe, top - safe))
        } else {
            top - x
        };
        V::select((pair.big * own).eq(zero), zero, own * (depth + V::constant(self.above)))
    }
    #[inline(always)]
    fn sums<V: Vector>(&self, pair: &Pair<V>, x: V) -> [V; 4] {
        [self.force(pair, x), V::zero(), V::zero(), V::zero()]
    }
    fn conclude(&self, sums: &[f64; MAX_SUMS]) -> (f64, f64) {
        (sums[0], sums[0])
    }
}
