"""Means of distributions in the geometry of transport."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kullback._core import backend
from kullback._core import transport as options
from kullback._core.arrays import as_array, as_float64
from kullback._core.types import Array, ArrayLike
from kullback._core.validation import as_index
from kullback.entropic import ConvergenceWarning
from kullback.transport import _checks
from kullback.transport._clouds import clouds, log_sum_exp

__all__ = ["Barycenter", "FreeBarycenter", "barycenter", "free_support_barycenter"]


@dataclass(frozen=True, eq=False)
class Barycenter:
    """The result of :func:`barycenter`.

    Attributes
    ----------
    weights : ndarray of float64, shape (m,)
        The barycenter: non-negative, of sum 1.
    f, g : ndarray of float64, shape (k, n) and (k, m)
        Potentials of the plan from each histogram to the barycenter, ``P = exp((f + g - cost) / epsilon)``; f is -inf
        where a histogram is 0.
    converged : bool
        Whether the error is within the tolerance.
    n_iter : int
        Iterations.
    marginal_error : float
        Weighted mean over the histograms of the L1 distance between the column sums of their plan and the barycenter;
        where debiased, plus that distance of the barycenter's plan to itself.
    error_history : ndarray of float64
        The error after each iteration.
    """

    weights: Array
    f: Array
    g: Array
    converged: bool
    n_iter: int
    marginal_error: float
    error_history: Array


@dataclass(frozen=True, eq=False)
class FreeBarycenter:
    """The result of :func:`free_support_barycenter`.

    Attributes
    ----------
    points : ndarray of float64, shape (m, d)
        The points of the barycenter.
    weights : ndarray of float64, shape (m,)
        Their weights, of sum 1.
    value : float
        Weighted mean over the clouds of the entropic value of transport to the points, before the last move.
    converged : bool
        Whether the last move was within the tolerance.
    n_iter : int
        Moves.
    move_history : ndarray of float64
        Root mean square of each move, over the spread of all clouds.
    """

    points: Array
    weights: Array
    value: float
    converged: bool
    n_iter: int
    move_history: Array


def barycenter(
    histograms: ArrayLike,
    cost: ArrayLike,
    *,
    epsilon: float,
    weights: ArrayLike | None = None,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    debiased: bool = False,
    threads: int | None = None,
) -> Barycenter:
    r"""Entropic Wasserstein barycenter of histograms, on a fixed support.

    .. math:: \operatorname{argmin}_b \sum_k \lambda_k \min_{P_k} \langle C, P_k \rangle - \varepsilon H(P_k),
              \qquad P_k 1 = p_k,\; P_k^T 1 = b,

    with :math:`H(P) = -\sum P \ln P`, by iterated Bregman projections on the potentials: every sum of exponentials is
    taken with its largest term apart, so that no epsilon is too small. The entropy blurs the barycenter: that of single
    points is, for the squared cost, a normal law of variance epsilon/2 around their mean. `debiased` minimises
    :math:`\sum_k \lambda_k S(p_k, b)` instead, S the Sinkhorn divergence, which takes the blur away: the barycenter of
    normal laws of one variance has that variance.

    Parameters
    ----------
    histograms : array_like, shape (k, n)
        Histograms, not negative, each normalised to sum to 1.
    cost : array_like, shape (n, m)
        Finite costs from the support of the histograms to that of the barycenter.
    epsilon : float
        Regularisation, in the units of the costs.
    weights : array_like, shape (k,), optional
        Weight of each histogram, normalised to sum to 1; the default is equal weights.
    tol : float, default 1e-6
        Largest mean L1 error of the column sums.
    max_iter : int, default 10000
        Most iterations.
    debiased : bool, default False
        Minimise Sinkhorn divergences: needs one support for all, so a square and symmetric `cost`.
    threads : int, optional
        Threads; results do not depend on it.

    Returns
    -------
    Barycenter
        With ``weights``, the potentials, and what was measured.

    Raises
    ------
    ValueError
        If shapes or options do not fit, a histogram is negative or without mass, a cost is not finite, or `debiased` is
        asked for with a cost that is not symmetric.
    TypeError
        If an input does not hold real numbers in CPU memory.

    References
    ----------
    J.-D. Benamou et al., "Iterative Bregman projections for regularized transportation problems", SIAM J. Sci. Comput.
    37 (2015). H. Janati et al., "Debiased Sinkhorn barycenters", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from kullback.transport import barycenter
    >>> x = np.arange(5.0)
    >>> cost = (x[:, None] - x) ** 2
    >>> result = barycenter([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]], cost, epsilon=0.1)
    >>> result.weights.round(3)
    array([0., 0., 1., 0., 0.])
    """
    rows = _checks.points(histograms, "histograms").astype(np.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"histograms must have one histogram a row, shape (k, n), got shape {rows.shape}")
    if (rows < 0.0).any():
        raise ValueError(f"histograms must not be negative, got {rows.min()}")
    mass = rows.sum(axis=1, keepdims=True)
    if not (mass > 0.0).all() or not np.isfinite(mass).all():
        raise ValueError(f"histograms must have a finite mass greater than 0, got {mass.min():.4g}")
    costs = _cost(cost, rows.shape[1])
    if debiased and not (costs.shape[0] == costs.shape[1] and (costs == costs.T).all()):
        raise ValueError(
            f"cost must be symmetric where debiased is asked for, got one of shape {costs.shape} that is not"
        )
    shares = _checks.masses(weights, "weights", len(rows))
    scale, target = options.as_positive(epsilon, "epsilon"), options.as_positive(tol, "tol")
    count, workers = as_index(max_iter, "max_iter", 1, 2**53), options.as_threads(threads)
    with np.errstate(divide="ignore", under="ignore"):
        result = _project(rows / mass, costs, shares / shares.sum(), scale, target, count, debiased, workers)
    if not result.converged:
        warnings.warn(
            f"barycenter stopped after {result.n_iter} iterations with an error of {result.marginal_error:.2g}, above "
            f"the tolerance of {target:.2g}: raise max_iter or epsilon",
            ConvergenceWarning,
            stacklevel=2,
        )
    return result


def free_support_barycenter(
    supports: Sequence[ArrayLike],
    init: ArrayLike,
    *,
    epsilon: float,
    masses: Sequence[ArrayLike | None] | None = None,
    b: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    tol: float = 1e-4,
    max_iter: int = 100,
    threads: int | None = None,
) -> FreeBarycenter:
    r"""Barycenter of clouds of points whose own points move, for the squared Euclidean cost.

    Each move takes every point to the mean of where the entropic plans send it,
    :math:`y_j \leftarrow \sum_k \lambda_k \frac1{b_j} \sum_i (P_k)_{ij} x^k_i`. Nothing of the size of a plan is
    stored. The mean over a plan that epsilon spreads pulls points together: choose epsilon well below the squared
    distance between neighbours for sharp results.

    Parameters
    ----------
    supports : sequence of array_like, shapes (n_k, d)
        The clouds.
    init : array_like, shape (m, d)
        Points to start from.
    epsilon : float
        Regularisation, in the units of the squared distance.
    masses : sequence of array_like or None, optional
        Weights of the points of each cloud, each normalised to sum to 1; None is uniform.
    b : array_like, shape (m,), optional
        Weights of the points of the barycenter, greater than 0, normalised to sum to 1; the default is uniform.
    weights : array_like, optional
        Weight of each cloud, normalised to sum to 1; the default is equal weights.
    tol : float, default 1e-4
        Largest root mean square of a move, over that of the distance of all points of the clouds from their mean.
    max_iter : int, default 100
        Most moves.
    threads : int, optional
        Threads; results do not depend on it.

    Returns
    -------
    FreeBarycenter
        With ``points``, ``weights``, ``value`` and what was measured.

    Raises
    ------
    ValueError, TypeError
        As :func:`sinkhorn_points`; also if there is no cloud.

    References
    ----------
    M. Cuturi and A. Doucet, "Fast computation of Wasserstein barycenters", ICML 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from kullback.transport import free_support_barycenter
    >>> left, right = np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 0.0], [2.0, 1.0]])
    >>> result = free_support_barycenter([left, right], [[1.0, 0.2], [0.7, 0.9]], epsilon=0.01)
    >>> result.points.round(3) + 0.0
    array([[1., 0.],
           [1., 1.]])
    """
    if len(supports) == 0:
        raise ValueError("supports must hold at least one cloud, got none")
    parts = list(masses) if masses is not None else [None] * len(supports)
    if len(parts) != len(supports):
        raise ValueError(f"masses must hold weights for each of {len(supports)} clouds, got {len(parts)}")
    shares = _checks.masses(weights, "weights", len(supports))
    shares = shares / shares.sum()
    points = _checks.cloud(init, "init").astype(np.float64)
    own = _checks.masses(b, "b", len(points))
    if not (own > 0.0).all():
        raise ValueError(f"b must be greater than 0 at every point, got {own.min()} at index {int(np.argmin(own))}")
    own = own / own.sum()
    scale, limit = options.as_positive(epsilon, "epsilon"), options.as_positive(tol, "tol")
    most, workers = as_index(max_iter, "max_iter", 1, 2**53), options.as_threads(threads)
    spread = _spread([_checks.cloud(cloud, f"supports[{k}]").astype(np.float64) for k, cloud in enumerate(supports)])
    starts: list[Array | None] = [None] * len(supports)
    moves: list[float] = []
    converged, value = False, 0.0
    while len(moves) < most and not converged:
        target, value = np.zeros_like(points), 0.0
        for k, cloud in enumerate(supports):
            problem = clouds(
                cloud,
                points,
                parts[k],
                own,
                cost="sqeuclidean",
                epsilon=scale,
                threads=workers,
                unit=True,
                names=(f"supports[{k}]", "init"),
            )
            found = problem.solve(1e-6, 10_000, "auto", starts[k])
            starts[k] = np.ascontiguousarray(found.g)
            sums = problem.apply(found.f, found.g, np.ascontiguousarray(problem.x.T), True).T
            centre = (problem.a @ _checks.cloud(cloud, "supports").astype(np.float64)) / problem.a.sum()
            # The plan's own column sums, which are b to the tolerance, cancel with it where all mass goes one way.
            columns = problem.apply(found.f, found.g, np.ones((1, len(problem.x))), True)[0]
            target += shares[k] * (centre + sums / columns[:, np.newaxis])
            offset = 0.0 if problem.offset is None else float(problem.offset @ problem.offset)
            value += float(shares[k]) * (found.value + offset)
        moves.append(float(np.sqrt(own @ np.square(target - points).sum(axis=1)) / spread))
        points, converged = target, moves[-1] <= limit
    if not converged:
        warnings.warn(
            f"free_support_barycenter stopped after {len(moves)} moves, the last of {moves[-1]:.2g} of the spread, "
            f"above the tolerance of {limit:.2g}: raise max_iter or tol",
            ConvergenceWarning,
            stacklevel=2,
        )
    return FreeBarycenter(points, own, value, converged, len(moves), np.array(moves))


def _cost(cost: ArrayLike, n: int) -> Array:
    costs = np.ascontiguousarray(as_float64(as_array(cost, "cost")))
    if costs.ndim != 2 or costs.shape[0] != n or costs.shape[1] == 0:
        raise ValueError(f"cost must have one row for each of {n} entries of a histogram, got shape {costs.shape}")
    if not np.isfinite(costs).all():
        raise ValueError("cost must hold finite numbers, got NaN or infinity")
    return costs


def _spread(supports: list[Array]) -> float:
    """Root mean square distance of all points from their mean; 1 if they are all one."""
    together = np.concatenate(supports)
    return float(np.sqrt(np.square(together - together.mean(axis=0)).sum(axis=1).mean())) or 1.0


def _project(
    histograms: Array, cost: Array, shares: Array, epsilon: float, tol: float, most: int, debiased: bool, threads: int
) -> Barycenter:
    """Iterate Bregman projections; see :func:`barycenter`."""
    turned = np.ascontiguousarray(cost.T)
    log_rows = np.log(histograms)
    g = np.zeros((len(histograms), cost.shape[1]))
    # Scaling of the plan of the barycenter to itself, which is diag(own)·K·diag(own); 1 where blur is accepted.
    own = np.zeros((1, cost.shape[1]))
    history: list[float] = []
    while True:
        rows = log_rows + _soft_minima(cost, g, epsilon, threads)
        columns = -_soft_minima(turned, rows, epsilon, threads)
        log_mean = shares @ columns + own[0]
        error = float(shares @ np.abs(np.exp(g + columns) - np.exp(log_mean)).sum(axis=1))
        if debiased:
            sums = own - _soft_minima(cost, own, epsilon, threads)
            error += float(np.abs(np.exp(sums) - np.exp(log_mean)).sum())
            own = own + 0.5 * (log_mean - sums)
        history.append(error)
        done = error <= tol
        if done or len(history) == most:
            break
        g = log_mean - columns
    mean = np.exp(log_mean)
    return Barycenter(
        mean / mean.sum(), epsilon * rows, epsilon * g, done, len(history), history[-1], np.array(history)
    )


def _soft_minima(cost: Array, h: Array, epsilon: float, threads: int) -> Array:
    """Minus the log-sum-exp over j of h_kj - cost_ij / epsilon, for every k and i."""
    module: Any = backend.active()
    if module is None:
        return -np.stack([log_sum_exp(row - cost / epsilon) for row in h])
    return np.asarray(module.soft_minima(cost, np.ascontiguousarray(h), epsilon, threads))
