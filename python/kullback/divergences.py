r"""The divergences: each function below is the definition that the native kernels are tested against.

A definition works on normalised rows (:class:`~kullback._core.reference.Pair`): ``pair.total(g)`` is
:math:`\sum_i p_i\, g(t_i)` with t = ln q - ln p, the generator g given for t <= 0 and, if it is not symmetric, its
mirror image :math:`e^s g(-s)` beside it. The decorator makes it the public function, which validates, picks the backend
and takes the common options.

To add a divergence, add one function here and one row to ``src/divergences.rs``.
"""

import numpy as np

from kullback._core.extended import LN2
from kullback._core.reference import Pair, Rows, phi, phi_mirrored, psi2
from kullback._core.registry import pair_definition, row_definition
from kullback._core.types import Array

__all__ = [
    "cross_entropy",
    "entropy",
    "hellinger_distance",
    "jeffreys_divergence",
    "js_distance",
    "js_divergence",
    "kl_divergence",
    "squared_hellinger",
    "total_variation",
]


@pair_definition("kl")
def kl_divergence(pair: Pair) -> Array:
    r"""Kullback-Leibler divergence KL(p || q), in nats.

    .. math:: \sum_i p_i \ln\frac{p_i}{q_i} = \sum_i p_i\,(e^{t_i} - 1 - t_i), \quad t_i = \ln q_i - \ln p_i

    A term is 0 where p = 0, and +inf where p > 0 and q = 0. The second form is the one evaluated: none of its terms is
    negative, so it keeps its digits however close p and q are.

    References
    ----------
    S. Kullback and R. A. Leibler, "On information and sufficiency", Ann. Math. Statist. 22 (1951).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.kl_divergence([0.5, 0.5], [0.25, 0.75])), 6)
    0.143841
    >>> kb.kl_divergence([[0.5, 0.5], [1.0, 0.0]], [0.0, 1.0])
    array([inf, inf])
    >>> float(kb.kl_divergence([2.0, 1.0, 0.0], [12.0, 11.0, 10.0], input="logits"))
    0.0
    """
    return pair.total(phi, phi_mirrored)


@pair_definition("reverse_kl")
def _reverse_kl(pair: Pair) -> Array:
    """KL(q || p): `kl_divergence` with its arguments exchanged."""
    return pair.total(phi_mirrored, phi)


@pair_definition("js", symmetric=True, bound=LN2)
def js_divergence(pair: Pair) -> Array:
    r"""Jensen-Shannon divergence, in nats: between 0 and ln 2.

    .. math:: \tfrac12 \mathrm{KL}(p \| m) + \tfrac12 \mathrm{KL}(q \| m), \quad m = \tfrac12 (p + q)

    A term is 0 where p = q = 0, :math:`\tfrac12 p \ln 2` where q = 0, and :math:`\tfrac12 q \ln 2` where p = 0; it is
    never infinite. This is the divergence; its square root is `js_distance`.

    References
    ----------
    J. Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37 (1991).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.js_divergence([1.0, 0.0], [0.0, 1.0])), 6)
    0.693147
    >>> round(float(kb.js_divergence([0.5, 0.5], [0.25, 0.75])), 6)
    0.033822
    """
    return np.minimum(pair.total(lambda s: (0.25 + 0.25 * np.exp(s)) * psi2(s)), LN2)


@pair_definition("js_distance", symmetric=True, bound=LN2**0.5, is_metric=True)
def js_distance(pair: Pair) -> Array:
    r"""Jensen-Shannon distance :math:`\sqrt{\mathrm{JS}(p, q)}`: a metric between 0 and :math:`\sqrt{\ln 2}`.

    Zeros are as in `js_divergence`, of which this is the square root.

    References
    ----------
    D. M. Endres and J. E. Schindelin, "A new metric for probability distributions", IEEE Trans. Inf. Theory 49 (2003).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.js_distance([1.0, 0.0], [0.0, 1.0])), 6)
    0.832555
    """
    return np.sqrt(js_divergence.definition.body(pair))


@pair_definition("jeffreys", symmetric=True)
def jeffreys_divergence(pair: Pair) -> Array:
    r"""Jeffreys divergence KL(p || q) + KL(q || p), in nats; also known as the population stability index.

    .. math:: \sum_i (q_i - p_i) \ln\frac{q_i}{p_i}

    A term is 0 where p = q = 0, and +inf where only one of them is 0.

    References
    ----------
    H. Jeffreys, "An invariant form for the prior probability in estimation problems", Proc. R. Soc. A 186 (1946).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.jeffreys_divergence([0.5, 0.5], [0.25, 0.75])), 6)
    0.274653
    """
    return pair.total(lambda s: s * np.expm1(s))


@pair_definition("total_variation", symmetric=True, bound=1.0, is_metric=True)
def total_variation(pair: Pair) -> Array:
    r"""Total variation distance: the largest difference in the probability of any event, between 0 and 1.

    .. math:: \tfrac12 \sum_i |p_i - q_i|

    A term is always finite: :math:`\tfrac12 p` where q = 0, :math:`\tfrac12 q` where p = 0.

    References
    ----------
    A. L. Gibbs and F. E. Su, "On choosing and bounding probability metrics", Int. Stat. Rev. 70 (2002).

    Examples
    --------
    >>> import kullback as kb
    >>> float(kb.total_variation([0.5, 0.5], [0.25, 0.75]))
    0.25
    """
    return np.minimum(pair.total(lambda s: -0.5 * np.expm1(s)), 1.0)


@pair_definition("squared_hellinger", symmetric=True, bound=1.0)
def squared_hellinger(pair: Pair) -> Array:
    r"""Squared Hellinger distance, between 0 and 1.

    .. math:: \tfrac12 \sum_i (\sqrt{p_i} - \sqrt{q_i})^2 = 1 - \sum_i \sqrt{p_i q_i}

    A term is always finite: :math:`\tfrac12 p` where q = 0, :math:`\tfrac12 q` where p = 0. The first form is the one
    evaluated, since the second loses its digits where p and q are close.

    References
    ----------
    A. L. Gibbs and F. E. Su, "On choosing and bounding probability metrics", Int. Stat. Rev. 70 (2002).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.squared_hellinger([0.5, 0.5], [0.25, 0.75])), 6)
    0.034074
    """
    return np.minimum(pair.total(lambda s: 0.5 * np.expm1(0.5 * s) ** 2), 1.0)


@pair_definition("hellinger", symmetric=True, bound=1.0, is_metric=True)
def hellinger_distance(pair: Pair) -> Array:
    r"""Hellinger distance: the square root of `squared_hellinger`, a metric between 0 and 1.

    .. math:: \Bigl(\tfrac12 \sum_i (\sqrt{p_i} - \sqrt{q_i})^2\Bigr)^{1/2}

    Zeros are as in `squared_hellinger`.

    References
    ----------
    A. L. Gibbs and F. E. Su, "On choosing and bounding probability metrics", Int. Stat. Rev. 70 (2002).

    Examples
    --------
    >>> import kullback as kb
    >>> float(kb.hellinger_distance([1.0, 0.0], [0.0, 1.0]))
    1.0
    """
    return np.sqrt(squared_hellinger.definition.body(pair))


@pair_definition("cross_entropy", zero_iff_equal=False)
def cross_entropy(pair: Pair) -> Array:
    r"""Cross entropy H(p, q) = H(p) + KL(p || q), in nats.

    .. math:: -\sum_i p_i \ln q_i

    A term is 0 where p = 0, and +inf where p > 0 and q = 0.

    References
    ----------
    T. M. Cover and J. A. Thomas, *Elements of Information Theory*, 2nd ed., Wiley (2006).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.cross_entropy([0.5, 0.5], [0.25, 0.75])), 6)
    0.836988
    """
    return pair.p.entropy() + kl_divergence.definition.body(pair)


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
