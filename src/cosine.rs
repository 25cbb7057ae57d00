//! Cauchy-Schwarz divergence −log cos² of the angle between p and q, accurate from equal to orthogonal rows.
//!
//! cos² = (Σpq)²/(Σp²·Σq²) loses its digits as it goes to 1. There sin² = Σ(p − λq)²/Σp² with λ = Σpq/Σq², whose terms
//! come from p − q: p − λq = (p − q) − (λ − 1)·q, λ − 1 = Σ(p − q)q/Σq². An error in λ counts only squared.

use crate::divergences::Measure;
use crate::powers::log_power_sum;
use crate::prepare::Prepared;
use crate::sided::{Addends, MOST, Sided, sums};
use crate::simd::Vector;

/// The Cauchy-Schwarz divergence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CauchySchwarzMeasure;

impl Measure for CauchySchwarzMeasure {
    fn is_wide(&self) -> bool {
        true
    }

    fn value(&self, rows: &Prepared<'_>, parallel: bool) -> f64 {
        let [pp, qq, pq, gain] = sums(rows, Products, parallel);
        let cosine = pq / (pp.sqrt() * qq.sqrt());
        if cosine > 0.7 {
            let rest = sums(rows, Residual(gain / qq), parallel)[0];
            return 0.0 - libm::log1p(-rest / pp);
        }
        let log_pq = if pq > 1e-250 { libm::log(pq) } else { log_power_sum(rows, [1.0, 1.0], parallel) };
        libm::log(pp) + libm::log(qq) - 2.0 * log_pq
    }
}

/// p − q and q.
#[inline(always)]
fn difference<V: Vector>(at: &Sided<V>) -> (V, V) {
    let gap = at.big * at.z;
    (at.by_side(gap, V::zero() - gap), at.by_side(at.big * at.s, at.big))
}

/// Σp², Σq², Σpq, Σ(p − q)q.
#[derive(Clone, Copy)]
struct Products;

impl Addends for Products {
    #[inline(always)]
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST] {
        let (difference, q) = difference(at);
        let p = at.by_side(at.big, at.big * at.s);
        [p * p, q * q, p * q, difference * q]
    }
}

/// Σ(p − λq)², given λ − 1.
#[derive(Clone, Copy)]
struct Residual(f64);

impl Addends for Residual {
    #[inline(always)]
    fn values<V: Vector>(&self, at: &Sided<V>) -> [V; MOST] {
        let (difference, q) = difference(at);
        let rest = V::constant(-self.0).mul_add(q, difference);
        [rest * rest, V::zero(), V::zero(), V::zero()]
    }
}
