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

#[cfg(test)]
mod tests {
    use super::psi;

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
}
