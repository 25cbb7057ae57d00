r"""The divergences: each function below is the definition that the native kernels are tested against.

A definition works on normalised rows (:class:`~kullback._core.reference.Pair`): ``pair.total(g)`` is
:math:`\sum_i p_i\, g(t_i)` with t = ln q - ln p, the generator g given for t <= 0 and, if it is not symmetric, its
mirror image :math:`e^s g(-s)` beside it. The decorator makes it the public function, which validates, picks the backend
and takes the common options. To add a divergence, add one function here and one row to ``src/divergences.rs``.
"""

import numpy as np

from kullback._core.extended import LN2
from kullback._core.mixtures import half_js_value, js_value, skew_value
from kullback._core.parameters import ALPHA, ORDER, SKEW, WEIGHT
from kullback._core.powers import alpha_value, log_power_sum, renyi_value
from kullback._core.reference import Pair, phi, phi_mirrored
from kullback._core.registry import pair_definition
from kullback._core.types import Array
from kullback.entropies import entropy, renyi_entropy, tsallis_entropy
from kullback.families import f_divergence, js_divergence_many

__all__ = [
    "acceptance_rate",
    "alpha_divergence",
    "bhattacharyya_distance",
    "cauchy_schwarz_divergence",
    "chi2_divergence",
    "cross_entropy",
    "entropy",
    "f_divergence",
    "fisher_rao_distance",
    "hellinger_distance",
    "jeffreys_divergence",
    "js_distance",
    "js_divergence",
    "js_divergence_many",
    "kl_divergence",
    "neyman_chi2_divergence",
    "renyi_divergence",
    "renyi_entropy",
    "skew_kl_divergence",
    "squared_hellinger",
    "total_variation",
    "triangular_discrimination",
    "tsallis_entropy",
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


@pair_definition("js", WEIGHT, symmetric=True, bound=LN2)
def js_divergence(pair: Pair, weight: float) -> Array:
    r"""Jensen-Shannon divergence, in nats: between 0 and ln 2.

    .. math:: w\, \mathrm{KL}(p \| m) + (1 - w)\, \mathrm{KL}(q \| m), \quad m = w\, p + (1 - w)\, q

    A term is 0 where p = q = 0, :math:`-w\, p \ln w` where q = 0, and :math:`-(1 - w)\, q \ln (1 - w)` where p = 0; it
    is never infinite. This is the divergence; for w = 1/2 its square root is `js_distance`.

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
    return half_js_value(pair) if weight == 0.5 else js_value(pair, weight)


@pair_definition("js_distance", symmetric=True, bound=LN2**0.5, is_metric=True)
def js_distance(pair: Pair) -> Array:
    r"""Jensen-Shannon distance :math:`\sqrt{\mathrm{JS}(p, q)}`: a metric between 0 and :math:`\sqrt{\ln 2}`.

    Zeros are as in `js_divergence` of weight 1/2, of which this is the square root.

    References
    ----------
    D. M. Endres and J. E. Schindelin, "A new metric for probability distributions", IEEE Trans. Inf. Theory 49 (2003).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.js_distance([1.0, 0.0], [0.0, 1.0])), 6)
    0.832555
    """
    return np.sqrt(half_js_value(pair))


@pair_definition("skew_kl", SKEW)
def skew_kl_divergence(pair: Pair, alpha: float) -> Array:
    r"""Skew divergence: KL from p to a mixture with it, in nats. Between 0 and -ln alpha.

    .. math:: \mathrm{KL}(p \| m), \quad m = \alpha\, p + (1 - \alpha)\, q

    A term is 0 where p = 0, and :math:`-p \ln \alpha` where q = 0: infinite only for alpha = 0, the KL divergence.

    References
    ----------
    L. Lee, "On the effectiveness of the skew divergence for statistical language analysis", AISTATS (2001).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.skew_kl_divergence([1.0, 0.0], [0.0, 1.0], alpha=0.5)), 6)
    0.693147
    """
    return skew_value(pair, alpha)


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


@pair_definition("chi2")
def chi2_divergence(pair: Pair) -> Array:
    r"""Pearson's chi-squared divergence.

    .. math:: \sum_i \frac{(p_i - q_i)^2}{q_i}

    A term is 0 where p = q = 0, q where p = 0, and +inf where p > 0 and q = 0.

    References
    ----------
    K. Pearson, "On the criterion that a given system of deviations ...", Phil. Mag. 50 (1900).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.chi2_divergence([0.5, 0.5], [0.25, 0.75])), 6)
    0.333333
    """
    return 2.0 * alpha_value(pair, 2.0)


@pair_definition("neyman_chi2")
def neyman_chi2_divergence(pair: Pair) -> Array:
    r"""Neyman's chi-squared divergence: `chi2_divergence` with its arguments exchanged.

    .. math:: \sum_i \frac{(p_i - q_i)^2}{p_i}

    A term is 0 where p = q = 0, p where q = 0, and +inf where q > 0 and p = 0.

    References
    ----------
    J. Neyman, "Contribution to the theory of the chi-square test", Proc. Berkeley Symp. (1949).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.neyman_chi2_divergence([0.5, 0.5], [0.25, 0.75])), 6)
    0.25
    """
    return 2.0 * alpha_value(pair, -1.0)


@pair_definition("triangular_discrimination", symmetric=True, bound=2.0)
def triangular_discrimination(pair: Pair) -> Array:
    r"""Triangular discrimination, between 0 and 2.

    .. math:: \sum_i \frac{(p_i - q_i)^2}{p_i + q_i}

    A term is 0 where p = q = 0; it is p where q = 0, and q where p = 0.

    References
    ----------
    F. Topsøe, "Some inequalities for information divergence", IEEE Trans. Inf. Theory 46 (2000).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.triangular_discrimination([0.5, 0.5], [0.25, 0.75])), 6)
    0.133333
    """
    return np.minimum(pair.total(lambda s: np.expm1(s) ** 2 / (1.0 + np.exp(s))), 2.0)


@pair_definition("alpha", ALPHA)
def alpha_divergence(pair: Pair, alpha: float) -> Array:
    r"""Alpha divergence, which at 1 is KL(p || q), at 0 KL(q || p), and near them close to both.

    .. math:: \frac{\sum_i p_i^\alpha q_i^{1 - \alpha} - 1}{\alpha (\alpha - 1)}

    It is finite for 0 < alpha < 1. For alpha >= 1 it is +inf if p > 0 where q = 0, for alpha <= 0 if q > 0 where p = 0.
    Half of `chi2_divergence` is that at 2, half of `neyman_chi2_divergence` at -1, 4 `squared_hellinger` at 1/2.

    References
    ----------
    A. Cichocki and S. Amari, "Families of alpha- beta- and gamma-divergences", Entropy 12 (2010).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.alpha_divergence([0.5, 0.5], [0.25, 0.75], alpha=2)), 6)
    0.166667
    >>> round(float(kb.alpha_divergence([0.5, 0.5], [0.25, 0.75], alpha=1)), 6)
    0.143841
    """
    return alpha_value(pair, alpha)


@pair_definition("renyi", ORDER)
def renyi_divergence(pair: Pair, order: float) -> Array:
    r"""Rényi divergence, in nats: it grows with its order, from 0 to infinity.

    .. math:: \frac{1}{\alpha - 1} \ln \sum_i p_i^\alpha q_i^{1 - \alpha}

    The limits are :math:`-\ln \sum_{p_i > 0} q_i` at order 0, KL(p || q) at 1, and :math:`\ln \max_i p_i / q_i` at
    infinity. From order 1 on it is +inf if p > 0 where q = 0; below 1, and above 0, only if p and q share no column.

    References
    ----------
    T. van Erven and P. Harremoës, "Rényi divergence and Kullback-Leibler divergence", IEEE Trans. IT 60 (2014).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.renyi_divergence([0.5, 0.5], [0.25, 0.75], order=2)), 6)
    0.287682
    >>> round(float(kb.renyi_divergence([0.5, 0.5], [0.25, 0.75], order=float("inf"))), 6)
    0.693147
    """
    return renyi_value(pair, order)


@pair_definition("bhattacharyya", symmetric=True)
def bhattacharyya_distance(pair: Pair) -> Array:
    r"""Bhattacharyya distance: half the Rényi divergence of order 1/2, in nats.

    .. math:: -\ln \sum_i \sqrt{p_i q_i}

    It is +inf if p and q share no column. The sum is taken from the Hellinger distance where p and q are close.

    References
    ----------
    A. Bhattacharyya, "On a measure of divergence between two statistical populations", Bull. Calcutta M. S. 35 (1943).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.bhattacharyya_distance([0.5, 0.5], [0.25, 0.75])), 6)
    0.034668
    """
    return 0.5 * renyi_value(pair, 0.5)


@pair_definition("cauchy_schwarz", symmetric=True, monotone=False)
def cauchy_schwarz_divergence(pair: Pair) -> Array:
    r"""Cauchy-Schwarz divergence: how far p and q are from parallel, in nats.

    .. math:: -\ln \frac{(\sum_i p_i q_i)^2}{\sum_i p_i^2 \sum_i q_i^2} =
              -\ln\Bigl(1 - \frac{\sum_i (p_i - \lambda q_i)^2}{\sum_i p_i^2}\Bigr), \quad
              \lambda = \frac{\sum_i p_i q_i}{\sum_i q_i^2}

    It is +inf if p and q share no column. The second form is evaluated where p and q are close.

    References
    ----------
    R. Jenssen et al., "The Cauchy-Schwarz divergence and Parzen windowing", J. Franklin Inst. 343 (2006).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.cauchy_schwarz_divergence([0.5, 0.5], [0.25, 0.75])), 6)
    0.223144
    """
    p, q, gap = pair.p.probs, pair.q.probs, -pair.difference()
    pp, qq, pq = ((a * b).sum(axis=-1) for a, b in ((p, p), (q, q), (p, q)))
    excess = (gap * q).sum(axis=-1) / qq  # lambda - 1
    sine = np.minimum(((gap - excess[:, np.newaxis] * q) ** 2).sum(axis=-1) / pp, 0.75)
    log_pq = np.log(pq) if np.all(pq > 1e-250) else log_power_sum(pair, 1.0, 1.0)
    far = np.log(pp) + np.log(qq) - 2.0 * log_pq
    return np.asarray(np.where(sine < 0.5, 0.0 - np.log1p(-sine), far))


@pair_definition("fisher_rao", symmetric=True, bound=np.pi, is_metric=True)
def fisher_rao_distance(pair: Pair) -> Array:
    r"""Fisher-Rao distance: the length of the shortest path between p and q, a metric between 0 and pi.

    .. math:: 2 \arccos \sum_i \sqrt{p_i q_i} = 4 \arcsin \frac{H}{\sqrt 2}

    Here H is `hellinger_distance`, whose rules for zeros hold. The second form is the one evaluated.

    References
    ----------
    C. R. Rao, "Information and accuracy attainable in the estimation of parameters", Bull. Calcutta M. S. 37 (1945).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.fisher_rao_distance([1.0, 0.0], [0.0, 1.0])), 6)
    3.141593
    """
    return 4.0 * np.arcsin(np.sqrt(0.5 * squared_hellinger.definition.body(pair)))


@pair_definition("acceptance_rate", symmetric=True, bound=1.0, zero_iff_equal=False, monotone=False)
def acceptance_rate(pair: Pair) -> Array:
    r"""Acceptance rate of speculative decoding: the probability that a token drawn from q passes for one of p.

    .. math:: \sum_i \min(p_i, q_i)

    It is 1 less the total variation, but keeps its digits where p and q share little; 0 if they share no column.

    References
    ----------
    Y. Leviathan, M. Kalman and Y. Matias, "Fast inference from transformers via speculative decoding", ICML (2023).

    Examples
    --------
    >>> import kullback as kb
    >>> float(kb.acceptance_rate([0.5, 0.5], [0.25, 0.75]))
    0.75
    """
    return np.minimum(pair.total(np.exp), 1.0)


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
