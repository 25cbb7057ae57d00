r"""Sums of powers :math:`\sum_i p_i^\alpha q_i^{1-\alpha}`: alpha divergences and Rényi divergences.

With A >= 1/2 the larger of alpha and 1 - alpha, B = 1 - A the other, and *first* the side that A belongs to, a term of
:math:`D = (\sum_i p_i^\alpha q_i^{1-\alpha} - 1) / (\alpha (\alpha - 1))` is, for t = \|ln q/p\|,

- first (phi(-t) - phi(-B t)/B)/A = (W (1 - e^(-\|B\| t))/\|B\| - first z)/A where first is the larger,
- first (phi(t) - phi(B t)/B)/A = (other z - W (1 - e^(-\|B\| t))/\|B\|)/A where the other is,

with z = 1 - e^-t and W one of p, q and the power itself. None is negative; the forms on the left are evaluated where t
and B t are small. The power is one exponential of a sum of logarithms, so that p^2/q counts where p^2 underflows.
"""

import math

import numpy as np

from kullback._core.reference import Pair, phi, phi_mirrored, phi_over_half_square
from kullback._core.types import Array

#: Where B is smaller the divergence is its limit to the last digit, and 1/B might overflow.
_TINY = 1e-60
#: Orders beyond which the Renyi divergence is its limit.
_HUGE = 1e290


def alpha_value(pair: Pair, alpha: float) -> Array:
    """(sum p^alpha q^(1 - alpha) - 1)/(alpha (alpha - 1)), with its limits at 0 and 1."""
    if abs(1.0 - alpha) < _TINY:
        return pair.total(phi, phi_mirrored)
    if abs(alpha) < _TINY:
        return pair.total(phi_mirrored, phi)
    return _sums(pair, alpha)[0]


def renyi_value(pair: Pair, order: float) -> Array:
    """ln(sum p^order q^(1 - order))/(order - 1), with its limits at 0, 1 and infinity."""
    if order > _HUGE:
        return np.asarray(np.maximum(-pair.t, 0.0).max(axis=-1))
    if order < _TINY:
        outside = np.where(np.isposinf(pair.t), pair.q.probs, 0.0).sum(axis=-1)
        inside = np.where(np.isposinf(pair.t), 0.0, pair.q.probs).sum(axis=-1)
        return np.asarray(0.0 - np.where(outside < 0.5, np.log1p(-np.minimum(outside, 0.5)), np.log(inside)))
    if abs(1.0 - order) < _TINY:
        return pair.total(phi, phi_mirrored)
    divergence, plain = _sums(pair, order)
    rest = order - 1.0
    gain = order * divergence * rest
    # ln(1 + gain)/rest, the quotient of two small numbers near order 1.
    slope = np.where(gain == 0.0, 1.0, np.log1p(gain) / gain)
    near = (gain > -0.75) & (gain < math.inf)
    ordinary = (plain > 1e-250) & (plain < math.inf)
    far = np.log(plain) / rest if np.all(near | ordinary) else log_power_sum(pair, order, 1.0 - order) / rest
    return np.where(near, order * divergence * slope, far)


def log_power_sum(pair: Pair, a: float, b: float) -> Array:
    """Ln sum p^a q^b whatever its size, relative to the largest term."""
    powers = _log_power(pair, a, b)
    top = powers.max(axis=-1)
    shift = np.where(np.isfinite(top), top, 0.0)[:, np.newaxis]
    return np.asarray(np.where(np.isfinite(top), shift[:, 0] + np.log(np.exp(powers - shift).sum(axis=-1)), top))


def _sums(pair: Pair, alpha: float) -> tuple[Array, Array]:
    """Return D and the sum of the powers."""
    q_first = alpha < 0.5
    large, small = (1.0 - alpha, alpha) if q_first else (alpha, 1.0 - alpha)
    t, size = -pair.below, abs(small)
    first_larger = pair.t > 0.0 if q_first else pair.t <= 0.0
    smaller = pair.larger * np.exp(pair.below)
    plain = np.exp(_log_power(pair, alpha, 1.0 - alpha))

    limit = 0.5 / max(1.0, size)
    signed = np.minimum(t, limit) * np.where(first_larger, -1.0, 1.0)
    series = phi_over_half_square(signed) - small * phi_over_half_square(small * signed)
    near = 0.5 * np.where(first_larger, pair.larger, smaller) * signed * signed * series

    fraction = -np.expm1(-size * t) / size
    gap = -pair.larger * np.expm1(pair.below)
    down, up = (plain, smaller) if small < 0.0 else (pair.larger, plain)
    far = np.where(first_larger, down * fraction - gap, gap - up * fraction)
    terms = np.where(t < limit, near, far) / large
    return np.asarray(terms.sum(axis=-1)), np.asarray(plain.sum(axis=-1))


def _log_power(pair: Pair, a: float, b: float) -> Array:
    """Ln p^a q^b of each column; neither a nor b is 0."""
    return (a + b) * pair.log_larger + np.where(pair.t > 0.0, a, b) * pair.below
