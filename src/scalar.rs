//! Scalar finishes: once a row, in float64, with the same bits on every platform.

/// 2^n; 0 and +inf where that is no normal number.
#[inline]
pub fn power_of_two(n: i32) -> f64 {
    match n {
        -1022..=1023 => f64::from_bits(((n + 1023) as u64) << 52),
        1024.. => f64::INFINITY,
        _ => 0.0,
    }
}

/// The n of 2^n ≤ x < 2^(n + 1), for a positive number.
#[inline]
pub fn exponent(x: f64) -> i32 {
    let biased = (x.to_bits() >> 52) as i32;
    if (1..2047).contains(&biased) { biased - 1023 } else { libm::ilogb(x) }
}

/// 1/2, 1/3, …, 1/16.
const RECIPROCALS: [f64; 15] = {
    let mut table = [0.0; 15];
    let mut n = 0;
    while n < table.len() {
        table[n] = 1.0 / (n as f64 + 2.0);
        n += 1;
    }
    table
};

/// ψ(ε) = ε − log1p(ε), accurate near zero.
#[inline]
pub fn psi(epsilon: f64) -> f64 {
    log1p_and_psi(epsilon).1
}

/// log1p(ε) and ψ(ε) for the price of one.
#[inline]
pub fn log1p_and_psi(epsilon: f64) -> (f64, f64) {
    if epsilon.abs() > 0.05 {
        let log = libm::log1p(epsilon);
        return (log, epsilon - log);
    }
    // ε²/2 − ε³/3 + …: fifteen terms reach 1e-17 at |ε| = 0.05, four at 1e-4, where a good shift leaves it.
    let terms = if epsilon.abs() > 1e-4 { RECIPROCALS.len() } else { 4 };
    let sum = RECIPROCALS[..terms].iter().rev().fold(0.0, |sum, reciprocal| reciprocal - epsilon * sum);
    let psi = epsilon * epsilon * sum;
    (epsilon - psi, psi)
}

/// φ(u) = e^u − 1 − u by its series, for |u| ≤ 1/2.
fn phi_series(u: f64) -> f64 {
    let sum = (3..=17).rev().fold(1.0, |sum, n| 1.0 + u / f64::from(n) * sum);
    0.5 * u * u * sum
}

/// φ(s) for s ≤ 0, infinite at −∞.
pub fn phi(s: f64) -> f64 {
    if s > -0.5 { phi_series(s) } else { libm::expm1(s) - s }
}

/// e^s·φ(−s) = 1 − e^s + s·e^s for s ≤ 0, 1 at −∞.
pub fn phi_mirrored(s: f64) -> f64 {
    // Where the clamp acts s·e^s is 0, not NaN.
    let far = s.max(-800.0);
    let power = libm::exp(far);
    if s > -0.5 { power * phi_series(-s) } else { far * power + (1.0 - power) }
}

/// (1 + a)·ln(1 + a) + (1 − a)·ln(1 − a) at a = tanh(s/2), for s ≤ 0: 2·ln 2 at −∞.
pub fn psi2(s: f64) -> f64 {
    let a = libm::tanh(0.5 * s);
    let square = a * a;
    if square < 0.0625 {
        // Σ a^2k/(k·(2k − 1)).
        return square * (1..=13).rev().fold(0.0, |sum, k| 1.0 / f64::from(k * (2 * k - 1)) + square * sum);
    }
    let power = libm::exp(s);
    2.0 * (std::f64::consts::LN_2 - libm::log1p(power) + power / (1.0 + power) * s.max(-800.0))
}

#[cfg(test)]
mod tests {
    use super::{exponent, phi, phi_mirrored, power_of_two, psi, psi2};

    #[test]
    fn powers_and_exponents_are_those_of_libm() {
        for n in -1022..1024 {
            let power = power_of_two(n);
            assert_eq!(power, libm::scalbn(1.0, n));
            assert_eq!(exponent(power), n);
            assert_eq!(exponent(power * 1.999), n);
        }
        assert_eq!((power_of_two(1024), power_of_two(-1023)), (f64::INFINITY, 0.0));
        assert_eq!(exponent(f64::from_bits(1)), -1074);
    }

    #[test]
    fn psi_is_continuous_and_exact_where_known() {
        assert_eq!(psi(0.0), 0.0);
        for epsilon in [0.05f64, -0.05, 1e-4, -1e-4, 1.0001e-4] {
            let series = psi(epsilon);
            let direct = epsilon - libm::log1p(epsilon);
            assert!((series - direct).abs() < 1e-16, "{series} {direct}");
        }
        assert!((psi(1e-9) / 5e-19 - 1.0).abs() < 1e-8);
        assert!((psi(1.0) - (1.0 - std::f64::consts::LN_2)).abs() < 1e-16);
    }

    #[test]
    fn generators_meet_where_their_forms_change_and_have_their_limits() {
        let join = -0.5f64;
        let (after, before) = (join, f64::from_bits(join.to_bits() - 1));
        for (series, direct) in [(phi(before), phi(after)), (phi_mirrored(before), phi_mirrored(after))] {
            assert!((series / direct - 1.0).abs() < 1e-14, "{series} {direct}");
        }
        let join = -2.0 * libm::atanh(0.25);
        assert!((psi2(join * (1.0 + 1e-12)) / psi2(join * (1.0 - 1e-12)) - 1.0).abs() < 1e-11);
        for s in [-1e-3, -1e-8] {
            assert!((phi(s) / (0.5 * s * s * (1.0 + s / 3.0 + s * s / 12.0)) - 1.0).abs() < 1e-10);
            assert!((phi_mirrored(s) / (0.5 * s * s) - 1.0).abs() < 1e-3);
            assert!((psi2(s) / (0.25 * s * s) - 1.0).abs() < 1e-6);
        }
        let none = f64::NEG_INFINITY;
        assert_eq!([phi(none), phi_mirrored(none)], [f64::INFINITY, 1.0]);
        assert!((psi2(none) - 2.0 * std::f64::consts::LN_2).abs() < 1e-15);
    }
}
