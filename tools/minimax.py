"""Print the polynomial coefficients of ``src/simd/coefficients.rs`` (run: ``python tools/minimax.py``; needs mpmath).

Each polynomial is the near-minimax (Chebyshev) approximation of a function that is smooth and of order one on its
interval, so that absolute and relative error agree; the printed error is measured on a dense grid in 60 digits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

from mpmath import chebyfit, cosh, exp, expm1, log, log1p, mp, mpf, polyval, sinh, sqrt

mp.dps = 60


def _expm1_over_r(x: mpf) -> mpf:
    return expm1(x) / x if x else mpf(1)


def _exp2m1_over_r(x: mpf) -> mpf:
    return expm1(x * log(mpf(2))) / x if x else log(mpf(2))


def _phi_over_square(x: mpf) -> mpf:
    if abs(x) < mpf("1e-3"):
        return sum(x**n / mp.factorial(n + 2) for n in range(20))
    return (exp(x) - 1 - x) / x**2


def _atanh_over_f(s: mpf) -> mpf:
    if s < mpf("1e-12"):
        return 2 + 2 * s / 3
    f = sqrt(s)
    return log((1 + f) / (1 - f)) / f


def _atanh_beyond(s: mpf) -> mpf:
    if s < mpf("1e-6"):
        return mpf(2) / 3 + 2 * s / 5 + 2 * s**2 / 7 + 2 * s**3 / 9 + 2 * s**4 / 11 + 2 * s**5 / 13
    return (_atanh_over_f(s) - 2) / s


def _log1p_over(x: mpf) -> mpf:
    return log1p(x) / x if x else mpf(1)


def _half_over(t: mpf) -> mpf:
    return -expm1(-t / 2) / t if t else mpf(1) / 2


def _js_even(v: mpf) -> mpf:
    """JS(p, q) / (sqrt(p q) t^2) as a function of v = t^2."""
    if v < mpf("1e-12"):
        return mpf(1) / 8
    t = sqrt(v)
    return (t * sinh(t / 2) - 2 * cosh(t / 2) * log(cosh(t / 2))) / (2 * v)


def _js_of_square(s: mpf) -> mpf:
    """JS(p, q) / ((p + q) s) as a function of s = ((p - q) / (p + q))^2."""
    if s < mpf("1e-4"):
        return sum(s**k / (4 * (k + 1) * (2 * k + 1)) for k in range(16))
    a = sqrt(s)
    return ((1 + a) * log1p(a) + (1 - a) * log1p(-a)) / (4 * s)


class Fit(NamedTuple):
    """A function, the interval and the degrees of its two polynomials."""

    name: str
    meaning: str
    function: Callable[[mpf], mpf]
    low: mpf
    high: mpf
    degree_f32: int
    degree_f64: int


HALF_LN2 = log(mpf(2)) / 2 * (1 + mpf("1e-6"))
SIXTEENTH = (1 + mpf("1e-6")) / 16
FITS = [
    Fit("EXPM1", "(e^r - 1)/r, |r| <= ln2/2", _expm1_over_r, -HALF_LN2, HALF_LN2, 5, 11),
    Fit("EXP2M1", "(2^r - 1)/r, |r| <= 1/16", _exp2m1_over_r, -SIXTEENTH, SIXTEENTH, 2, 6),
    Fit("HALF", "(1 - e^(-t/2))/t, |t| <= 2", _half_over, mpf(-2), mpf(2), 7, 15),
    Fit("PHI", "(e^u - 1 - u)/u^2, |u| <= 2", _phi_over_square, mpf(-2), mpf(2), 10, 18),
    Fit("LOG", "2 atanh(f)/f in f^2, |f| <= 1/3", _atanh_over_f, mpf(0), mpf(1) / 9, 4, 10),
    Fit("ATANH", "2 (atanh(f) - f)/f^3 in f^2, |f| <= 1/5", _atanh_beyond, mpf(0), mpf(1) / 25, 3, 8),
    Fit("LOG1P", "log(1 + s)/s, 0 <= s <= 1/e", _log1p_over, mpf(0), exp(-1), 7, 15),
    Fit("JS", "the even part of JS in t^2, |t| <= 2", _js_even, mpf(0), mpf(4), 5, 15),
    Fit("JS_EVEN", "JS/((p + q) s) in s = ((p - q)/(p + q))^2 <= 1/2", _js_of_square, mpf(0), mpf(1) / 2, 7, 18),
]


def _worst(fit: Fit, coefficients: list[mpf]) -> mpf:
    grid = [fit.low + (fit.high - fit.low) * k / 2000 for k in range(2001)]
    return max(abs(polyval(coefficients, x) / fit.function(x) - 1) for x in grid)


def main() -> None:
    """Print every table, highest power first, with its approximation error, and the powers of the eighths."""
    for fit in FITS:
        for kind, degree, digits in (("F32", fit.degree_f32, 10), ("F64", fit.degree_f64, 18)):
            coefficients = chebyfit(fit.function, [fit.low, fit.high], degree + 1)
            error = mp.nstr(_worst(fit, coefficients), 2)
            sys.stdout.write(f"/// {fit.meaning}; worst relative error {error} before rounding.\n")
            sys.stdout.write(f"pub const {fit.name}_{kind}: [{kind.lower()}; {degree + 1}] = [\n")
            for c in coefficients:
                sys.stdout.write(f"    {mp.nstr(c, digits, min_fixed=-1, max_fixed=1)},\n")
            sys.stdout.write("];\n")
    for kind, digits in (("F32", 10), ("F64", 18)):
        powers = ", ".join(mp.nstr(mpf(2) ** (mpf(j) / 8), digits) for j in range(8))
        sys.stdout.write(f"/// 2^(j/8).\npub const EIGHTHS_{kind}: [{kind.lower()}; 8] = [{powers}];\n")


if __name__ == "__main__":
    main()
