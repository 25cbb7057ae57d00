//! Truncated power series: the definition of a smooth function, written down once, gives its coefficients.

use std::ops::{Add, Div, Mul, Sub};

/// Coefficients kept, those of t⁰ to t¹⁸.
pub const TERMS: usize = 19;

/// Coefficients of a power series in t, lowest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jet(pub [f64; TERMS]);

impl Jet {
    /// A constant.
    pub fn constant(value: f64) -> Self {
        Self(std::array::from_fn(|k| if k == 0 { value } else { 0.0 }))
    }

    /// t itself.
    pub fn variable() -> Self {
        Self(std::array::from_fn(|k| if k == 1 { 1.0 } else { 0.0 }))
    }

    /// e^(rate·t).
    pub fn exp(rate: f64) -> Self {
        let mut term = 1.0;
        Self(std::array::from_fn(|k| {
            if k > 0 {
                term *= rate / k as f64;
            }
            term
        }))
    }

    /// tanh(t/2) = (e^t − 1)/(e^t + 1).
    pub fn tanh_half() -> Self {
        let (e, one) = (Self::exp(1.0), Self::constant(1.0));
        (e - one) / (e + one)
    }

    /// The logarithm of a series whose constant is 1.
    pub fn ln(self) -> Self {
        // From f·(ln f)′ = f′.
        let f = self.0;
        let mut log = [0.0; TERMS];
        for k in 1..TERMS {
            let known: f64 = (1..k).map(|j| j as f64 * log[j] * f[k - j]).sum();
            log[k] = f[k] - known / k as f64;
        }
        Self(log)
    }
}

impl Add for Jet {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|k| self.0[k] + other.0[k]))
    }
}

impl Sub for Jet {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|k| self.0[k] - other.0[k]))
    }
}

impl Mul for Jet {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self(std::array::from_fn(|k| (0..=k).map(|j| self.0[j] * other.0[k - j]).sum()))
    }
}

impl Mul<Jet> for f64 {
    type Output = Jet;
    fn mul(self, jet: Jet) -> Jet {
        Jet(jet.0.map(|term| self * term))
    }
}

impl Div for Jet {
    type Output = Self;
    fn div(self, divisor: Self) -> Self {
        let mut quotient = [0.0; TERMS];
        for k in 0..TERMS {
            let known: f64 = (0..k).map(|j| quotient[j] * divisor.0[k - j]).sum();
            quotient[k] = (self.0[k] - known) / divisor.0[0];
        }
        Self(quotient)
    }
}

#[cfg(test)]
mod tests {
    use super::{Jet, TERMS};

    fn at(jet: Jet, t: f64) -> f64 {
        jet.0.iter().rev().fold(0.0, |sum, term| sum.mul_add(t, *term))
    }

    #[test]
    fn series_are_the_functions() {
        let one = Jet::constant(1.0);
        let (e, t) = (Jet::exp(1.0), 0.25);
        for (jet, value) in [
            (Jet::exp(-2.0), libm::exp(-2.0 * t)),
            ((0.5 * (one + e)).ln(), libm::log(0.5 * (1.0 + libm::exp(t)))),
            (Jet::tanh_half(), libm::tanh(0.5 * t)),
            (Jet::variable() * e, t * libm::exp(t)),
        ] {
            assert!((at(jet, t) - value).abs() < 1e-15 * value.abs(), "{} {value}", at(jet, t));
        }
        assert_eq!(Jet::exp(1.0).0[TERMS - 1], (1..TERMS).fold(1.0, |term, k| term * (1.0 / k as f64)));
    }
}
