"""Entropies: functions of one distribution, with their NumPy definitions as in :mod:`kullback.divergences`."""

import math

import numpy as np

from kullback._core.parameters import ROW_ORDER
from kullback._core.reference import Rows
from kullback._core.registry import row_definition
from kullback._core.types import Array

__all__ = ["entropy", "renyi_entropy", "tsallis_entropy"]

#: Where |1 - order| is smaller the entropy is Shannon's to the last digit.
_TINY = 1e-60


@row_definition("entropy")
def entropy(rows: Rows) -> Array:
    r"""Shannon entropy, in nats: between 0 and ln V.

    .. math:: -\sum_i p_i \ln p_i = \ln(1 + B) + \sum_i p_i \ln\frac{p_{\max}}{p_i}, \quad
              B = \frac{1 - p_{\max}}{p_{\max}}

    A term is 0 where p = 0. The second form is the one evaluated, so that the entropy of an almost certain row keeps
    its digits.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", Bell Syst. Tech. J. 27 (1948).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.entropy([0.5, 0.25, 0.25])), 6)
    1.039721
    >>> float(kb.entropy([1, 0, 0], input="weights"))
    0.0
    """
    return rows.entropy()


@row_definition("renyi_entropy", ROW_ORDER)
def renyi_entropy(rows: Rows, order: float) -> Array:
    r"""Rényi entropy, in nats: between 0 and ln V; it falls as its order grows.

    .. math:: \frac{1}{1 - \alpha} \ln \sum_i p_i^\alpha

    The limits are the logarithm of the number of p > 0 at order 0, the Shannon entropy at 1, and
    :math:`-\ln \max_i p_i` at infinity. A term is 0 where p = 0. It is evaluated as Shannon's `entropy` is, relative to
    the largest probability, and so keeps its digits where it is almost 0 and where the order is almost 1.

    References
    ----------
    A. Rényi, "On measures of entropy and information", Proc. 4th Berkeley Symp. (1961).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.renyi_entropy([0.5, 0.25, 0.25], order=2)), 6)
    0.980829
    >>> round(float(kb.renyi_entropy([0.5, 0.25, 0.25], order=0)), 6)
    1.098612
    """
    distance = abs(1.0 - order)
    if distance < _TINY:
        return rows.entropy()
    rest, present = rows.rest[:, 0], np.isfinite(rows.depth)
    if order == math.inf:
        return np.asarray(np.log1p(rest))
    depth = np.where(present, rows.depth, 0.0)
    # Sum of e^-d (e^((1 - order) d) - 1)/(1 - order), no term of which is negative.
    terms = np.exp(-min(1.0, order) * depth) * np.expm1(-distance * depth) / -distance
    spread = np.where(present, terms, 0.0).sum(axis=-1) / (1.0 + rest)
    return np.asarray(np.log1p(rest) + _log1p_over(spread, 1.0 - order))


@row_definition("tsallis_entropy", ROW_ORDER)
def tsallis_entropy(rows: Rows, order: float) -> Array:
    r"""Tsallis entropy: Shannon's at order 1, the Gini impurity at 2.

    .. math:: \frac{1 - \sum_i p_i^\alpha}{\alpha - 1} = \frac{e^{(1 - \alpha) H_\alpha} - 1}{1 - \alpha}

    Here :math:`H_\alpha` is `renyi_entropy`, in nats, from which it is evaluated. At order 0 it is the number of p > 0
    less 1, at infinity 0. A term is 0 where p = 0.

    References
    ----------
    C. Tsallis, "Possible generalization of Boltzmann-Gibbs statistics", J. Stat. Phys. 52 (1988).

    Examples
    --------
    >>> import kullback as kb
    >>> float(kb.tsallis_entropy([0.5, 0.25, 0.25], order=2))
    0.625
    """
    renyi: Array = renyi_entropy.definition.body(rows, order)
    if order == math.inf:
        return np.zeros_like(renyi)
    exponent = (1.0 - order) * renyi
    return np.where(np.abs(exponent) < _TINY, renyi, np.expm1(exponent) / (1.0 - order or 1.0))


def _log1p_over(x: Array, factor: float) -> Array:
    """ln(1 + factor x)/factor, x where factor x is 0."""
    gain = factor * x
    return np.where(np.abs(gain) < _TINY, x, np.log1p(gain) / factor)
