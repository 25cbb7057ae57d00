r"""Divergences from a mixture: m = a first + (1 - a) other.

With g = \|m - first\| = (1 - a) \|p - q\|, the logarithm of m/first comes from g where the two are close, and a term of
KL(first || m) is first phi(ln m/first), which is never negative.
"""

import numpy as np
import numpy.typing as npt

from kullback._core.extended import LN2
from kullback._core.reference import Pair, phi, phi_mirrored, psi2
from kullback._core.types import Array


def skew_value(pair: Pair, alpha: float) -> Array:
    """KL(p || alpha p + (1 - alpha) q)."""
    if alpha == 0.0:
        return pair.total(phi, phi_mirrored)
    return np.asarray((pair.larger * _to_mixture(pair, pair.t <= 0.0, alpha, 1.0 - alpha)).sum(axis=-1))


def half_js_value(pair: Pair) -> Array:
    """JS of weight 1/2, through an even function of ln q/p."""
    return np.minimum(pair.total(lambda s: (0.25 + 0.25 * np.exp(s)) * psi2(s)), LN2)


def js_value(pair: Pair, weight: float) -> Array:
    """Return weight KL(p || m) + (1 - weight) KL(q || m), m = weight p + (1 - weight) q."""
    rest = 1.0 - weight
    if 0.0 in (weight, rest):
        return np.zeros(len(pair.t))
    of_p = _to_mixture(pair, pair.t <= 0.0, weight, rest)
    of_q = _to_mixture(pair, pair.t > 0.0, rest, weight)
    return np.asarray((pair.larger * (weight * of_p + rest * of_q)).sum(axis=-1))


def _to_mixture(pair: Pair, first_larger: npt.NDArray[np.bool_], share: float, rest: float) -> Array:
    """Terms of KL(first || share first + rest other), relative to the larger of p and q."""
    if rest == 0.0:
        return np.zeros_like(pair.t)
    power = np.exp(pair.below)
    first = np.where(first_larger, 1.0, power)
    mixed = np.where(first_larger, share + rest * power, share * power + rest)
    gap = -rest * np.expm1(pair.below)
    top, bottom = np.where(first_larger, first, mixed), np.where(first_larger, mixed, first)
    close = np.minimum(gap / top, 0.5)
    minus_log = np.where(gap < 0.5 * top, np.log1p(-close), np.log(bottom / top))
    return np.where(first_larger, phi(minus_log), mixed * phi_mirrored(minus_log))
