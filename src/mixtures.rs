//! Divergences from a mixture m of p and q, and the mass that both share.
//!
//! With first the distribution compared, m = a·first + (1 − a)·other and g = |m − first|, which is (1 − a)·|p − q|, the
//! term of KL(first‖m) is first·φ(log m/first): g − first·log(m/first) where m is the larger, and
//! first·log(first/m) − g where first is. The logarithm comes from g where the two are close, and so does φ.

use crate::divergences::{Js, Kl, Measure, Visitor};
use crate::evaluate::value;
use crate::jet::Jet;
use crate::prepare::Prepared;
use crate::sided::{Addends, MOST, Sided, sums};
use crate::simd::{Element, Vector, math};

/// KL(first‖share·first + rest·other), relative to the larger of the two; share + rest = 1, each with its own digits.
#[inline(always)]
fn to_mixture<V: Vector>(at: &Sided<V>, q_first: bool, [share, rest]: [f64; 2]) -> V {
    let (share, rest) = (V::constant(share), V::constant(rest));
    // Where the divergence is infinite without the share, the share must not vanish either.
    let tiny = V::constant(libm::exp2(V::Elem::MIN_EXPONENT));
    let first = at.by_first(q_first, V::one(), at.s);
    let mixed = at.by_first(q_first, rest.mul_add(at.s, share), share.mul_add(at.s, rest));
    let gap = rest * at.z;
    let (top, bottom) = (at.by_first(q_first, first, mixed), at.by_first(q_first, mixed, first).max(tiny));
    let log = math::ln_quotient(top, bottom, gap);
    let near = first * math::phi_near(at.by_first(q_first, V::zero() - log, log));
    let far = at.by_first(q_first, log - gap, gap - first * log);
    V::select(log.lt(V::one()), near, far)
}

/// The smallest share whose divergence is taken from its power series.
const CLOSE: f64 = 1e-4;

/// share + rest·e^(sign·t): m relative to one of the distributions.
fn mixed(share: f64, rest: f64, sign: f64) -> Jet {
    let Jet(mut terms) = Jet::constant(share) + rest * Jet::exp(sign);
    terms[0] = 1.0;
    Jet(terms)
}

/// Skew divergence KL(p‖alpha·p + (1 − alpha)·q).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkewDivergence {
    alpha: f64,
}

impl SkewDivergence {
    /// `None` unless alpha is between 0 and 1.
    pub fn new(alpha: f64) -> Option<Self> {
        (0.0..=1.0).contains(&alpha).then_some(Self { alpha })
    }
}

impl Addends for SkewDivergence {
    #[inline(always)]
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST] {
        let term = to_mixture(at, false, [self.alpha, 1.0 - self.alpha]);
        [at.big * term, V::zero(), V::zero(), V::zero()]
    }
}

impl Measure for SkewDivergence {
    fn is_wide(&self) -> bool {
        self.alpha != 0.0
    }

    fn value(&self, rows: &Prepared<'_>, parallel: bool) -> f64 {
        if self.alpha == 0.0 { value(Kl, rows, parallel) } else { sums(rows, *self, parallel)[0] }
    }

    fn generator(&self) -> Option<Jet> {
        let rest = 1.0 - self.alpha;
        let e = Jet::exp(1.0);
        // Its first terms are differences, of which this much is left.
        (rest > CLOSE).then(|| rest * (e - Jet::constant(1.0)) - mixed(self.alpha, rest, 1.0).ln())
    }
}

/// Jensen-Shannon divergence of any weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JensenShannon {
    weight: f64,
}

impl JensenShannon {
    /// `None` unless the weight is between 0 and 1.
    pub fn new(weight: f64) -> Option<Self> {
        (0.0..=1.0).contains(&weight).then_some(Self { weight })
    }
}

impl Addends for JensenShannon {
    #[inline(always)]
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST] {
        let (weight, rest) = (self.weight, 1.0 - self.weight);
        let of_p = to_mixture(at, false, [weight, rest]);
        let of_q = to_mixture(at, true, [rest, weight]);
        let term = V::constant(weight).mul_add(of_p, V::constant(rest) * of_q);
        [at.big * term, V::zero(), V::zero(), V::zero()]
    }
}

impl Measure for JensenShannon {
    fn is_wide(&self) -> bool {
        self.weight != 0.5
    }

    fn value(&self, rows: &Prepared<'_>, parallel: bool) -> f64 {
        if self.weight == 0.5 { value(Js, rows, parallel) } else { sums(rows, *self, parallel)[0] }
    }

    fn generator(&self) -> Option<Jet> {
        let (weight, rest) = (self.weight, 1.0 - self.weight);
        let to_p = weight * mixed(weight, rest, 1.0).ln();
        let to_q = rest * (Jet::exp(1.0) * mixed(rest, weight, -1.0).ln());
        (weight.min(rest) > CLOSE).then(|| Jet::constant(0.0) - to_p - to_q)
    }

    fn as_sum<A: Visitor>(&self, visitor: A) -> Option<A::Output> {
        (self.weight == 0.5).then(|| visitor.visit(Js))
    }
}

/// The probability with which a token drawn from q is accepted as one of p: Σ min(p, q).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Acceptance;

impl Addends for Acceptance {
    #[inline(always)]
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST] {
        [at.big * at.s, V::zero(), V::zero(), V::zero()]
    }
}

impl Measure for Acceptance {
    fn is_wide(&self) -> bool {
        true
    }

    fn value(&self, rows: &Prepared<'_>, parallel: bool) -> f64 {
        let shared = sums(rows, *self, parallel)[0];
        if shared > 1.0 { 1.0 } else { shared }
    }
}
