//! Sums of powers Σ p^α·q^(1 − α): alpha divergences (both χ² among them), Rényi divergences, Bhattacharyya distance.
//!
//! D = (Σ p^α·q^(1 − α) − 1)/(α·(α − 1)) is a sum of terms that are never negative. With A ≥ ½ the larger of α and
//! 1 − α, B = 1 − A ≤ ½ the other, and `first` the side that A belongs to, the term is, for t = |log p/q|,
//!
//! ```text
//! first·[φ(−t) − φ(−B·t)/B]/A   = [W·(1 − e^(−|B|·t))/|B| − first·z]/A      where first is the larger
//! first·[φ(t) − φ(B·t)/B]/A     = [other·z − W·(1 − e^(−|B|·t))/|B|]/A      where other is
//! ```
//!
//! with z = 1 − e^−t and W one of p, q and p^α·q^(1 − α). The forms on the left are taken by their series where t and
//! B·t are small, those on the right elsewhere; neither cancels, and both go smoothly to KL as B → 0. The power itself
//! is one exponential of a sum of logarithms: p²/q counts where p² has underflowed.
//!
//! log Σ p^α·q^(1 − α) is log1p(α·(α − 1)·D) while that is well above −1, the logarithm of the plain sum where it is
//! not, and one relative to the largest term where the plain sum has left the range of float64.

use crate::divergences::{Kl, Measure, ReverseKl};
use crate::evaluate::value;
use crate::jet::Jet;
use crate::prepare::Prepared;
use crate::sided::{Addends, MOST, Sided, sums};
use crate::simd::math::{Coefficients, polynomial};
use crate::simd::{Vector, special};

/// Where B is smaller the divergence is its limit to the last digit, and 1/B might overflow.
const TINY: f64 = 1e-60;

/// Orders beyond which the Rényi divergence is its limit, and the products with t might overflow.
const HUGE: f64 = 1e290;

/// The prepared constants of an exponent α.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Power {
    /// α and 1 − α.
    exponents: [f64; 2],
    /// A ≥ ½.
    large: f64,
    /// B = 1 − A.
    small: f64,
    /// A belongs to q.
    q_first: bool,
    /// Below this t the series hold.
    near: f64,
}

impl Power {
    fn new(alpha: f64) -> Self {
        let rest = 1.0 - alpha;
        let q_first = alpha < 0.5;
        let (large, small) = if q_first { (rest, alpha) } else { (alpha, rest) };
        Self { exponents: [alpha, rest], large, small, q_first, near: 2.0 / small.abs().max(1.0) }
    }

    /// The limit that stands for α near 0 or 1.
    fn limit(&self, rows: &Prepared<'_>, parallel: bool) -> Option<f64> {
        match self.small.abs() < TINY {
            true if self.q_first => Some(value(ReverseKl, rows, parallel)),
            true => Some(value(Kl, rows, parallel)),
            false => None,
        }
    }

    /// The generator of D: g_k = (1 + b + … + b^(k − 2))/k!, b = 1 − α.
    fn generator(&self) -> Jet {
        let base = self.exponents[1];
        let (mut geometric, mut factorial) = (0.0, 1.0);
        let mut terms = Jet::constant(0.0);
        for (k, term) in terms.0.iter_mut().enumerate().skip(2) {
            geometric = base.mul_add(geometric, 1.0);
            factorial *= k as f64;
            *term = geometric / factorial;
        }
        terms
    }

    /// D and Σ p^α·q^(1 − α).
    fn sums(self, rows: &Prepared<'_>, parallel: bool) -> [f64; 2] {
        let [divergence, plain, ..] = sums(rows, self, parallel);
        [divergence, plain]
    }
}

impl Addends for Power {
    #[inline(always)]
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST] {
        let plain = special::exp_any(at.log_power(self.exponents[0], self.exponents[1]));
        let small = at.big * at.s;
        let b = V::constant(self.small);

        let signed = at.by_first(self.q_first, V::zero() - at.t, at.t);
        let series = polynomial(signed, V::Elem::PHI) - b * polynomial(b * signed, V::Elem::PHI);
        let near = at.by_first(self.q_first, at.big, small) * at.t * at.t * series;

        let fraction = special::one_less_exp(b.abs() * at.t) * V::constant(1.0 / self.small.abs());
        let (down, up) = if self.small < 0.0 { (plain, small) } else { (at.big, plain) };
        let gap = at.big * at.z;
        let far = at.by_first(self.q_first, down * fraction - gap, gap - up * fraction);

        let term = V::select(at.t.lt(V::constant(self.near)), near, far) * V::constant(1.0 / self.large);
        [term, plain, V::zero(), V::zero()]
    }
}

/// The logarithm of p^a·q^b: its largest value.
#[derive(Clone, Copy)]
struct LargestPower([f64; 2]);

impl Addends for LargestPower {
    const LARGEST: bool = true;

    #[inline(always)]
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST] {
        let none = V::constant(f64::NEG_INFINITY);
        [at.log_power(self.0[0], self.0[1]), none, none, none]
    }
}

/// p^a·q^b·e^−shift.
#[derive(Clone, Copy)]
struct ShiftedPower([f64; 2], f64);

impl Addends for ShiftedPower {
    #[inline(always)]
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST] {
        let power = special::exp_any(at.log_power(self.0[0], self.0[1]) - V::constant(self.1));
        [power, V::zero(), V::zero(), V::zero()]
    }
}

/// log Σ p^a·q^b whatever its size: −∞ without a common column, +∞ with an infinite term.
pub fn log_power_sum(rows: &Prepared<'_>, exponents: [f64; 2], parallel: bool) -> f64 {
    let top = sums(rows, LargestPower(exponents), parallel)[0];
    if !top.is_finite() {
        return top;
    }
    top + libm::log(sums(rows, ShiftedPower(exponents, top), parallel)[0])
}

/// A multiple of the alpha divergence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlphaDivergence {
    factor: f64,
    power: Power,
}

impl AlphaDivergence {
    /// `None` unless alpha is finite.
    pub fn times(factor: f64, alpha: f64) -> Option<Self> {
        alpha.is_finite().then(|| Self { factor, power: Power::new(alpha) })
    }
}

impl Measure for AlphaDivergence {
    fn is_wide(&self) -> bool {
        true
    }

    fn value(&self, rows: &Prepared<'_>, parallel: bool) -> f64 {
        let limit = self.power.limit(rows, parallel);
        self.factor * limit.unwrap_or_else(|| self.power.sums(rows, parallel)[0])
    }

    fn generator(&self) -> Option<Jet> {
        Some(self.factor * self.power.generator())
    }
}

/// A multiple of the Rényi divergence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RenyiDivergence {
    factor: f64,
    order: f64,
    power: Power,
}

impl RenyiDivergence {
    /// `None` unless the order is at least 0.
    pub fn times(factor: f64, order: f64) -> Option<Self> {
        (order >= 0.0).then(|| Self { factor, order, power: Power::new(order) })
    }

    fn divergence(&self, rows: &Prepared<'_>, parallel: bool) -> f64 {
        if self.order > HUGE {
            return sums(rows, LargestRatio, parallel)[0].max(0.0);
        }
        if self.order < TINY {
            let [inside, outside, ..] = sums(rows, Support, parallel);
            return 0.0 - if outside < 0.5 { libm::log1p(-outside) } else { libm::log(inside) };
        }
        if let Some(limit) = self.power.limit(rows, parallel) {
            return limit;
        }
        let [divergence, plain] = self.power.sums(rows, parallel);
        if let Some(value) = self.of_alpha(divergence) {
            return value;
        }
        let rest = self.order - 1.0;
        if plain > 1e-250 && plain < f64::INFINITY {
            return libm::log(plain) / rest;
        }
        log_power_sum(rows, self.power.exponents, parallel) / rest
    }

    /// log1p(α·(α − 1)·D)/(α − 1), the quotient of two small numbers near α = 1, unless the logarithm loses digits.
    fn of_alpha(&self, divergence: f64) -> Option<f64> {
        let gain = self.order * divergence * (self.order - 1.0);
        let slope = if gain == 0.0 { 1.0 } else { libm::log1p(gain) / gain };
        (gain > -0.75 && gain < f64::INFINITY).then_some(self.order * divergence * slope)
    }
}

impl Measure for RenyiDivergence {
    fn is_wide(&self) -> bool {
        true
    }

    fn value(&self, rows: &Prepared<'_>, parallel: bool) -> f64 {
        if matches!(rows, Prepared::Nothing) { f64::NAN } else { self.factor * self.divergence(rows, parallel) }
    }

    fn generator(&self) -> Option<Jet> {
        (TINY..HUGE).contains(&self.order).then(|| self.power.generator())
    }

    fn of_sum(&self, sum: f64) -> Option<f64> {
        self.of_alpha(sum).map(|divergence| self.factor * divergence)
    }
}

/// log p/q where p > 0: the Rényi divergence of order ∞ is the largest.
#[derive(Clone, Copy)]
struct LargestRatio;

impl Addends for LargestRatio {
    const LARGEST: bool = true;

    #[inline(always)]
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST] {
        let none = V::constant(f64::NEG_INFINITY);
        [at.by_side(at.t, V::zero() - at.t), none, none, none]
    }
}

/// The mass of q where p > 0, and where p = 0.
#[derive(Clone, Copy)]
struct Support;

impl Addends for Support {
    #[inline(always)]
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST] {
        let q = at.by_side(at.big * at.s, at.big);
        let alone = at.by_side(V::zero(), V::select(at.t.eq(V::constant(f64::INFINITY)), q, V::zero()));
        [q - alone, alone, V::zero(), V::zero()]
    }
}
