r"""Gradients of divergences with respect to the logits of one side, and the values that have a parameter.

With h = dD/db for the second distribution b of a pair (a, b), the gradient with respect to the logits of b is
:math:`b_i (h_i - \sum_j b_j h_j)`. A *force* is b h, divided by the larger of a and b so that only e^s with s <= 0 is
evaluated, and with the constant of h (which the mean takes away) chosen so that h = 0 where a = b. Then close rows lose
nothing: a force is a multiple of ln b - ln a to first order, never a difference of numbers near 1.

A force gets s = -\|ln b - ln a\| and returns both of its branches: where b is the larger, and where a is.
"""

import math
from collections.abc import Callable

import numpy as np

from kullback._core.reference import Pair, phi, phi_mirrored
from kullback._core.types import Array

Force = Callable[[Array], tuple[Array, Array]]


def kl(s: Array) -> tuple[Array, Array]:
    """KL(a || b): h = 1 - a/b, so that b h = b - a."""
    z = -np.expm1(s)
    return z, -z


def reverse_kl(s: Array) -> tuple[Array, Array]:
    """KL(b || a): h = ln b/a."""
    return -s, _times_power(s, s)


def jeffreys(s: Array) -> tuple[Array, Array]:
    """The sum of both directions."""
    (up, down), (up_reverse, down_reverse) = kl(s), reverse_kl(s)
    return up + up_reverse, down + down_reverse


def total_variation(s: Array) -> tuple[Array, Array]:
    """Take h = sign(b - a)/2; 0, a subgradient, where a = b."""
    half = np.where(s < 0.0, 0.5, 0.0)
    return half, -half * np.exp(s)


def squared_hellinger(s: Array) -> tuple[Array, Array]:
    """Take h = (1 - sqrt(a/b))/2."""
    half = 0.5 * np.expm1(0.5 * s)
    return -half, half * np.exp(0.5 * s)


def js(weight: float) -> Force:
    """Weighted JS: h = (1 - weight) ln b/m with m = weight a + (1 - weight) b."""

    def force(s: Array) -> tuple[Array, Array]:
        up, down = log_mixture(s, 1.0 - weight)
        return -(1.0 - weight) * up, -(1.0 - weight) * _times_power(s, down)

    return force


def skew_kl(alpha: float) -> Force:
    """KL(a || m) with m = alpha a + (1 - alpha) b: h = (1 - alpha) (1 - a/m)."""

    def force(s: Array) -> tuple[Array, Array]:
        if alpha == 0.0:
            return kl(s)
        z, power, factor = -np.expm1(s), np.exp(s), (1.0 - alpha) ** 2
        up = factor * z / (alpha * power + (1.0 - alpha))
        return up, -factor * power * z / (alpha + (1.0 - alpha) * power)

    return force


def skew_kl_first(alpha: float) -> Force:
    """KL(b || m) with m = alpha b + (1 - alpha) a: h = ln b/m + alpha (1 - b/m)."""

    def force(s: Array) -> tuple[Array, Array]:
        if alpha == 0.0:
            return reverse_kl(s)
        z, power = -np.expm1(s), np.exp(s)
        up, down = log_mixture(s, alpha)
        up = -up - alpha * (1.0 - alpha) * z / (alpha + (1.0 - alpha) * power)
        return up, power * alpha * (1.0 - alpha) * z / (alpha * power + (1.0 - alpha)) - _times_power(s, down)

    return force


def alpha_divergence(alpha: float) -> Force:
    """Take h = (1 - (a/b)^alpha)/alpha, ln b/a at alpha = 0."""

    def force(s: Array) -> tuple[Array, Array]:
        if alpha in (0.0, 1.0):
            return kl(s) if alpha == 1.0 else reverse_kl(s)
        up = -np.expm1(alpha * s) / alpha
        down = -np.exp((1.0 - alpha) * s) * up if alpha > 0.0 else -np.exp(s) * np.expm1(-alpha * s) / alpha
        return up, down

    return force


def log_mixture(s: Array, share: float) -> tuple[Array, Array]:
    """Return ln m/b with m = share b + (1 - share) a, where b is the larger and where a is."""
    rest = 1.0 - share
    near = np.log1p(rest * np.expm1(-np.maximum(s, -1.0)))
    far = -s + np.log1p(share * np.expm1(s))
    return np.log1p(rest * np.expm1(s)), np.where(s > -1.0, near, far)


def weighted(pair: Pair, force: Force) -> Array:
    """Return b h, given a pair whose p is a and whose q is b."""
    up, down = force(pair.below)
    terms = np.where(pair.t > 0.0, up, np.where(pair.t < 0.0, down, 0.0))
    # What is infinite stays so even where the probability beside it has underflowed.
    return np.asarray(np.multiply(pair.larger, terms, out=terms, where=np.isfinite(terms)))


def mirrored(pair: Pair) -> Pair:
    """Exchange the sides."""
    return Pair(pair.q, pair.p, -pair.t)


def kl_to_mixture(pair: Pair, share: float) -> Array:
    """KL(p || share p + (1 - share) q)."""
    if share == 0.0:
        return pair.total(phi, phi_mirrored)

    def below(s: Array) -> Array:
        return phi(log_mixture(s, share)[0])

    def above(s: Array) -> Array:
        # e^s phi(v) for v = ln m/p >= 0, which is m/q e^-v phi(v).
        return (1.0 + share * np.expm1(s)) * phi_mirrored(-log_mixture(s, share)[1])

    return pair.total(below, above)


def js_value(pair: Pair, weight: float) -> Array:
    """Return weight KL(p || m) + (1 - weight) KL(q || m)."""
    if weight in (0.0, 1.0):
        return np.zeros(len(pair.t))
    of_p, of_q = kl_to_mixture(pair, weight), kl_to_mixture(mirrored(pair), 1.0 - weight)
    return weight * of_p + (1.0 - weight) * of_q


def alpha_value(pair: Pair, alpha: float) -> Array:
    """(sum p^alpha q^(1 - alpha) - 1)/(alpha (alpha - 1)), from the side on which its generator does not cancel."""
    if alpha < 0.5:
        return _alpha_value(mirrored(pair), 1.0 - alpha, alpha)
    return _alpha_value(pair, alpha, 1.0 - alpha)


def _alpha_value(pair: Pair, alpha: float, power: float) -> Array:
    """Take alpha >= 1/2, and 1 - alpha to its own last digits."""
    if power == 0.0:
        return pair.total(phi, phi_mirrored)

    def below(s: Array) -> Array:
        x = power * s  # positive, and possibly large, beyond alpha = 1
        other = phi(x) if power > 0.0 else np.where(s < 0.0, np.exp(x) * phi_mirrored(-x), 0.0)
        return (phi(s) - other / power) / alpha

    def above(s: Array) -> Array:
        x = power * s
        other = np.exp(s - x) * phi_mirrored(x) if power > 0.0 else _times_power(s, phi(-x))
        return (phi_mirrored(s) - other / power) / alpha

    # The infinite parts that meet at s = -inf leave these limits.
    alone_p, alone_q = (1.0 / power if power > 0.0 else math.inf), 1.0 / alpha
    return pair.total(
        lambda s: np.where(np.isneginf(s), alone_p, below(s)), lambda s: np.where(np.isneginf(s), alone_q, above(s))
    )


def _times_power(s: Array, factor: Array) -> Array:
    """e^s factor, 0 at s = -inf where the factor grows like s."""
    return np.where(s > -800.0, np.exp(s) * factor, 0.0)
