"""Error-free sums, differences and products of float64 arrays, and a logarithm to twice the precision.

A pair ``(high, low)`` stands for ``high + low`` with ``|low|`` at most half an ulp of ``high``. The reference needs
them where it subtracts numbers that agree in almost every digit: what is left after the subtraction is the answer.
"""

import functools
from decimal import Context, Decimal

import numpy as np

from kullback._core.types import Array

LN2 = float(np.log(2.0))
_LN2_LOW = 2.3190468138462996e-17
_SPLITTER = 134217729.0  # 2**27 + 1 cuts a 53-bit significand in two halves
_TABLE_BITS = 7


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return ``a + b`` rounded, and its rounding error exactly (Knuth)."""
    high = a + b
    back = high - a
    return high, (a - (high - back)) + (b - back)


def two_diff(a: Array, b: Array) -> tuple[Array, Array]:
    """Return ``a - b`` rounded, and its rounding error exactly; the error of an infinite difference is 0."""
    high, low = two_sum(a, -b)
    return high, np.where(np.isfinite(high), low, 0.0)


def two_prod(a: Array, b: Array) -> tuple[Array, Array]:
    """Return ``a * b`` rounded, and its rounding error exactly while nothing underflows (Dekker)."""
    high = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    return high, ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low


def log(x: Array) -> tuple[Array, Array]:
    """Return ln x of non-negative numbers as a pair whose absolute error is below 1e-25 (1 + |ln x|).

    x = 2^k m, and a table gives a short r near 1/m, so that f = r m - 1 is small and exact as a pair:
    ln x = k ln 2 - ln r + ln(1 + f), the last by its series, in pairs up to the cube.
    """
    mantissa, exponent = np.frexp(x)
    zero = mantissa == 0.0
    mantissa = np.where(zero, 0.5, mantissa)
    inverse, log_high, log_low = _table()
    cell = (mantissa * 2.0 ** (_TABLE_BITS + 1)).astype(np.intp) - 2**_TABLE_BITS
    near_one, f_low = two_prod(mantissa, inverse[cell])
    f, f_low = two_sum(near_one - 1.0, f_low)

    square, square_low = two_prod(f, f)
    square_low = square_low + 2.0 * f * f_low
    cube, cube_low = two_prod(square, f)
    cube_low = cube_low + square_low * f + square * f_low
    third, third_low = _third(cube, cube_low)
    tail = np.zeros_like(f)
    for n in range(11, 3, -1):
        tail = tail * f + (1.0 if n % 2 else -1.0) / n
    tail *= square * square

    scale, scale_low = two_prod(exponent.astype(np.float64), np.full_like(f, LN2))
    high, low = scale, scale_low + exponent * _LN2_LOW + f_low - 0.5 * square_low + third_low + tail
    for term in (log_high[cell], f, -0.5 * square, third):
        high, error = two_sum(high, term)
        low = low + error
    high, low = two_sum(high, low + log_low[cell])
    return np.where(zero, -np.inf, high), np.where(zero, 0.0, low)


def _split(a: Array) -> tuple[Array, Array]:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def _third(high: Array, low: Array) -> tuple[Array, Array]:
    quotient = high / 3.0
    back, back_low = two_prod(quotient, np.full_like(quotient, 3.0))
    return quotient, ((high - back) - back_low + low) / 3.0


@functools.cache
def _table() -> tuple[Array, Array, Array]:
    """Short reciprocals of the cell centres of [1/2, 1), and minus their logarithms as pairs."""
    cells = 2**_TABLE_BITS
    inverse = np.round(2.0**12 / (0.5 + (np.arange(cells) + 0.5) / (2 * cells))) / 2.0**12
    context = Context(prec=50)
    logs = [context.minus(Decimal(float(value)).ln(context)) for value in inverse]
    high = np.array([float(value) for value in logs])
    low = np.array([float(context.subtract(value, Decimal(float(h)))) for value, h in zip(logs, high, strict=True)])
    return inverse, high, low
