//! The lanes of two rows of probabilities or weights: the twin of [`crate::pair`] for linear numbers.
//!
//! With q' = c·q for a constant c near Σp/Σq the difference q' − p is there without a logarithm, and has all its digits,
//! so a term needs one division at most where [`Pair`] needs three and a root: a Pair is what a term falls back on.
//!
//! Logarithms: with k the integer that brings r = q'·2^-k within 3/2 of p, d = r − p and f = d/(r + p),
//!
//! ```text
//! log(q'/p) = k·ln 2 + 2·atanh(f)                                    2·atanh(f) = 2·f + 2·f³·g(f²)
//! p·ψ((q' − p)/p) = [q' − r − p·k·ln 2] + f·(d − 2·p·f²·g(f²))       ψ(x) = x − log1p(x)
//! ```
//!
//! where the bracket is exactly 0 if p and q are close. A zero is replaced by a number too small to count; where a
//! zero makes a term infinite the pass looks for zeros itself.

use std::f64::consts::LN_2;

use crate::pair::Pair;
use crate::scalar::{exponent, power_of_two};
use crate::simd::math::{self, Coefficients};
use crate::simd::{Element, Mask, Vector};

/// Largest ((p − q)/(p + q))² for which JS is a polynomial in it.
const JS_NEAR: f64 = 0.5;

/// The constants of a pass.
#[derive(Clone, Copy)]
pub struct Frame {
    /// What p and q are multiplied by, powers of two.
    pub scale: [f64; 2],
    /// c, and what a lane cannot hold of it.
    pub ratio: [f64; 2],
}

/// A [`Frame`] in lanes. `EXACT`: c is not 1.
#[derive(Clone, Copy)]
pub struct Constants<V, const EXACT: bool> {
    scale: [V; 2],
    ratio: [V; 2],
    tiny: V,
}

/// One vector of coordinates of p and q.
#[derive(Clone, Copy)]
pub struct Weights<V> {
    /// p, in the unit of the pass.
    pub p: V,
    /// q' = c·q, in the unit of the pass.
    pub q: V,
    /// q' − p with the digits that rounding c·q would take.
    pub gap: V,
    tiny: V,
    /// `gap` has more digits than the difference of `q` and `p`.
    exact: bool,
}

impl<V: Vector, const EXACT: bool> Constants<V, EXACT> {
    /// The constants of a frame.
    #[inline(always)]
    pub fn new(frame: &Frame) -> Self {
        let high = V::Elem::from_f64(frame.ratio[0]).to_f64();
        // Below the smallest number that is not zero, but normal.
        let (smallest, normal) = if V::Elem::LANES == f32::LANES { (-151, -125) } else { (-1076, -1020) };
        let below = (exponent(frame.scale[0].min(frame.scale[1])) + smallest).max(normal);
        Self {
            scale: V::constants(frame.scale),
            ratio: V::constants([high, (frame.ratio[0] - high) + frame.ratio[1]]),
            tiny: V::constant(power_of_two(below)),
        }
    }

    /// The coordinates of one vector of numbers.
    #[inline(always)]
    pub fn weights(&self, p: V, q: V) -> Weights<V> {
        let (p, q) = (p * self.scale[0], q * self.scale[1]);
        let (q, gap) = if EXACT {
            (q * self.ratio[0], q.mul_add(self.ratio[1], q.mul_add(self.ratio[0], V::zero() - p)))
        } else {
            (q, q - p)
        };
        Weights { p, q, gap, tiny: self.tiny, exact: EXACT }
    }
}

/// q' beside p, a power of two taken off: d and f of the head of this file, and k.
struct Aligned<V> {
    p: V,
    r: V,
    k: V,
    d: V,
    f: V,
}

impl<V: Vector> Weights<V> {
    #[inline(always)]
    fn aligned(&self) -> Aligned<V> {
        // NaN stays: of max's two arguments it is the second that NaN comes from.
        let (p, q) = (self.tiny.max(self.p), self.tiny.max(self.q));
        let (r, k) = q.align(p);
        let d = if self.exact { V::select(k.eq(V::zero()), self.gap, r - p) } else { r - p };
        Aligned { p, r, k, d, f: d / (r + p) }
    }

    /// The same with p and q in each other's place.
    #[inline(always)]
    pub fn swapped(&self) -> Self {
        Self { p: self.q, q: self.p, gap: V::zero() - self.gap, ..*self }
    }

    /// p + q', not zero.
    #[inline(always)]
    pub fn sum(&self) -> V {
        self.tiny.max(self.p + self.q)
    }

    /// p·ψ((q' − p)/p): the term of KL(p‖q), a zero of q aside.
    #[inline(always)]
    pub fn kl(&self) -> V {
        let Aligned { p, r, k, d, f } = self.aligned();
        let ff = f * f;
        let curve = p * (ff * math::polynomial(ff, V::Elem::ATANH));
        let near = f * (d - curve);
        let far = (k * V::constant(-LN_2)).mul_add(p, self.tiny.max(self.q) - r);
        far + near
    }

    /// (q' − p)·log(q'/p), a zero beside a number aside.
    #[inline(always)]
    pub fn jeffreys(&self) -> V {
        let Aligned { k, f, .. } = self.aligned();
        let log = k.mul_add(V::constant(LN_2), f * math::polynomial(f * f, V::Elem::LOG));
        self.gap * log
    }

    /// The term of JS.
    #[inline(always)]
    pub fn js(&self) -> V {
        let sum = self.sum();
        let a = self.gap / sum;
        let square = a * a;
        let near = sum * math::js_even(square);
        let is_near = square.lt(V::constant(JS_NEAR));
        if is_near.all() {
            return near;
        }
        let pair = self.pair();
        V::select(is_near, near, pair.big * pair.js())
    }

    /// ½·(√p − √q')².
    #[inline(always)]
    pub fn squared_hellinger(&self) -> V {
        let difference = self.gap / self.tiny.max(self.p.sqrt() + self.q.sqrt());
        V::constant(0.5) * difference * difference
    }

    /// As a [`Pair`].
    #[inline(always)]
    pub fn pair(&self) -> Pair<V> {
        Pair::from_difference(self.p, self.q, self.gap)
    }
}
