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
pub fn psi(epsilon: f64) -> f64 {
    log1p_and_psi(epsilon).1
}

/// log1p(ε) and ψ(ε) for the price of one.
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

#[cfg(test)]
mod tests {
    use super::{exponent, power_of_two, psi};

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
}
