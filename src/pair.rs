//! The lanes of two distributions, seen from the larger side.
//!
//! With t = |log p/q| and s = min/max = e^-t, every divergence is max(p, q) times a function of t and s that neither
//! overflows nor cancels: only e^-t is ever computed, and 1 − s, 1 − √s and φ(−t) each come from an expression that
//! keeps its digits as t → 0. Zeros are ordinary values: t = ∞, s = 0.
//!
//! Where every t of a block is small there is nothing to overflow, and the choice of a side is work for nothing: a
//! `near` pair is seen from p throughout, with t = log p/q of either sign. Every expression holds for both signs,
//! except that z and h then have the sign of t.

use crate::simd::{Vector, math};
use crate::sweep::difference;

/// One vector of coordinates of p and q.
#[derive(Clone, Copy)]
pub struct Pair<V: Vector> {
    /// max(p, q), or p if near, in the unit of the kernel.
    pub big: V,
    /// |log p/q|, or log p/q if near.
    pub t: V,
    /// √s.
    pub root: V,
    /// s = min(p, q)/max(p, q).
    pub s: V,
    /// z = 1 − s.
    pub z: V,
    /// h = 1 − √s.
    pub h: V,
    /// Where q > p.
    pub q_larger: V::Mask,
    /// Every |t| is below [`NEAR`].
    pub near: bool,
}

/// The constants that turn two rows of logits into probabilities.
#[derive(Clone, Copy, Debug)]
pub struct LogFrame {
    /// log Σe^y − log Σe^x, its part in the lane type.
    pub offset: f64,
    /// The rest of it.
    pub correction: f64,
    /// lse of each row, as an integer power of two and a factor: e^-lse = 2^-power · scale.
    pub power: [f64; 2],
    /// See `power`.
    pub scale: [f64; 2],
}

/// Largest |t| of a near pair.
pub const NEAR: f64 = 2.0;

impl<V: Vector> Pair<V> {
    /// From logits where every |t| is below [`NEAR`], in units of 2^power of the reference. `EXACT` is that of
    /// [`difference`].
    #[inline(always)]
    pub fn near_logs<const EXACT: bool>(x: V, y: V, frame: &LogFrame) -> Self {
        let t = difference::<V, EXACT>(y, x, V::constant(-frame.offset)) + V::constant(frame.correction);
        let big = math::exp_scaled(x.max(math::lowest(frame.power[0])), math::magic(frame.power[0]));
        Self::new(big, t, math::half_near(t), V::zero().lt(V::zero()), true)
    }

    /// From any logits but NaN and +inf.
    #[inline(always)]
    pub fn far_logs(x: V, y: V, frame: &LogFrame) -> Self {
        let pick = |mask, [a, b]: [f64; 2], f: fn(f64) -> V| V::select(mask, f(b), f(a));
        let tau = difference::<V, true>(x, y, V::constant(frame.offset)) - V::constant(frame.correction);
        let q_larger = V::zero().lt(tau);
        let top = V::select(q_larger, y, x);
        let low = pick(q_larger, frame.power, math::lowest);
        let magic = pick(q_larger, frame.power, math::magic);
        let scale = pick(q_larger, frame.scale, V::constant);
        let big = math::exp_scaled(top.max(low), magic) * scale;
        let big = V::select(top.eq(V::constant(f64::NEG_INFINITY)), V::zero(), big);
        // −∞ − −∞: both are zero, and their quotient does not matter.
        let t = V::select(tau.eq(tau), tau.abs(), V::zero());
        let h = V::zero() - math::expm1(t * V::constant(-0.5));
        Self::new(big, t, h, q_larger, false)
    }

    #[inline(always)]
    fn new(big: V, t: V, h: V, q_larger: V::Mask, near: bool) -> Self {
        let root = V::one() - h;
        Self { big, t, root, s: root * root, z: h * (V::one() + root), h, q_larger, near }
    }

    /// From weights p and q·(ratio + ratio_low), which have the same total.
    #[inline(always)]
    pub fn from_weights(p: V, q: V, ratio: V, ratio_low: V) -> Self {
        let d = q.mul_add(ratio_low, q.mul_add(ratio, V::zero() - p));
        Self::from_difference(p, q * ratio, d)
    }

    /// From p, q and q − p with all its digits.
    #[inline(always)]
    pub fn from_difference(p: V, q: V, d: V) -> Self {
        let q_larger = V::zero().lt(d);
        let big = V::select(q_larger, q, p);
        let small = V::select(q_larger, p, q);
        let divisor = V::select(big.eq(V::zero()), V::one(), big);
        let none = small.eq(V::zero());
        let inverse = V::one() / divisor;
        let s = small * inverse;
        let z = V::select(none, V::one(), d.abs() * inverse);
        let root = s.sqrt();
        let t = math::ln_quotient(divisor, V::select(none, divisor, small), d.abs());
        let t = V::select(none, V::constant(f64::INFINITY), t);
        // Zero against zero carries no weight; t = 0 keeps 0·∞ away.
        let t = V::select(big.eq(V::zero()), V::zero(), t);
        Self { big, t, root, s, z, h: z / (V::one() + root), q_larger, near: false }
    }

    /// s·t, with 0·∞ = 0.
    #[inline(always)]
    pub fn st(&self) -> V {
        V::select(self.s.eq(V::zero()), V::zero(), self.s * self.t)
    }

    /// φ(−t) = t − z: KL's generator where p is the larger.
    #[inline(always)]
    pub fn phi_down(&self) -> V {
        let minus = V::zero() - self.t;
        if self.near {
            return math::phi_near(minus);
        }
        V::select(self.t.lt(V::one()), math::phi_near(minus), self.t - self.z)
    }

    /// s·φ(t) = z − s·t: KL's generator where q is the larger.
    #[inline(always)]
    pub fn phi_up(&self) -> V {
        let near = self.t.mul_add(self.z, V::zero() - self.phi_down());
        if self.near {
            return near;
        }
        V::select(self.t.lt(V::one()), near, self.z - self.st())
    }

    /// `p_side` where p is the larger, `q_side` where q is.
    #[inline(always)]
    pub fn by_side(&self, p_side: V, q_side: V) -> V {
        if self.near {
            return p_side;
        }
        V::select(self.q_larger, q_side, p_side)
    }

    /// JS relative to max(p, q).
    #[inline(always)]
    pub fn js(&self) -> V {
        let near = self.root * math::js_near(self.t);
        if self.near {
            return near;
        }
        let ln2 = V::constant(std::f64::consts::LN_2);
        let mixed = (V::one() + self.s) * (ln2 - math::log1p_small(self.s)) - self.st();
        V::select(self.t.lt(V::one()), near, V::constant(0.5) * mixed)
    }

    /// p, in the unit of the kernel.
    #[inline(always)]
    pub fn p(&self) -> V {
        self.by_side(self.big, self.big * self.s)
    }

    /// q, in the unit of the kernel.
    #[inline(always)]
    pub fn q(&self) -> V {
        self.by_side(self.big * self.s, self.big)
    }
}
