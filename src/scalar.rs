//! Scalar finishes: once a row, in float64, with the same bits on every platform.

/// ψ(ε) = ε − log1p(ε), accurate near zero.
pub fn psi(epsilon: f64) -> f64 {
    if epsilon.abs() > 0.05 {
        return epsilon - libm::log1p(epsilon);
    }
    // ε²/2 − ε³/3 + …: fifteen terms reach 1e-17 at |ε| = 0.05.
    let mut sum = 0.0;
    for n in (2..=16).rev() {
        sum = 1.0 / f64::from(n) - epsilon * sum;
    }
    epsilon * epsilon * sum
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
    use super::{phi, phi_mirrored, psi, psi2};

    #[test]
    fn psi_is_continuous_and_exact_where_known() {
        assert_eq!(psi(0.0), 0.0);
        for epsilon in [0.05f64, -0.05] {
            let series = psi(epsilon);
            let direct = epsilon - libm::log1p(epsilon);
            assert!((series / direct - 1.0).abs() < 1e-13, "{series} {direct}");
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
