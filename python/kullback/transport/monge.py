"""How far a map is from being an optimal one."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kullback._core import transport as options
from kullback._core.types import Array, ArrayLike
from kullback.transport._clouds import Clouds, CostName, clouds, distances
from kullback.transport.points import solve

__all__ = ["monge_gap"]

#: Costs that are worked out at a time.
_TILE = 1 << 20


def monge_gap(
    x: ArrayLike,
    tx: ArrayLike,
    *,
    epsilon: float | None = None,
    cost: CostName = "sqeuclidean",
    tol: float = 1e-6,
    max_iter: int = 10_000,
    threads: int | None = None,
) -> float:
    r"""Monge gap of a map T: what it costs beyond the best way to the same images.

    .. math:: \frac1n \sum_i c(x_i, T x_i) - \min_P \bigl(\langle C, P \rangle - \varepsilon H(P)\bigr), \qquad
              H(P) = -\sum P \ln P

    with the minimum over plans between the points and their images, uniform on both sides. It is at least
    :math:`\varepsilon \ln n`, and at most :math:`2 \varepsilon \ln n` above the gap without regularisation, which is 0
    where T moves the points at the least total cost.

    Parameters
    ----------
    x, tx : array_like
        Points and their images, shape (n, d).
    epsilon : float, optional
        Regularisation; the default is 0.05 standard deviations of the costs between all points and images.
    cost : {"sqeuclidean", "euclidean", "cosine", "manhattan"}, default "sqeuclidean"
        As for :func:`sinkhorn_points`.
    tol, max_iter, threads
        As for :func:`kullback.sinkhorn`.

    Returns
    -------
    float
        The gap, in the units of the cost.

    Raises
    ------
    ValueError
        If the shapes differ, or as :func:`sinkhorn_points`; also if all costs are equal and no epsilon is given.
    TypeError
        As :func:`sinkhorn_points`.

    References
    ----------
    T. Uscidda and M. Cuturi, "The Monge gap", ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from kullback.transport import monge_gap
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> round(monge_gap(x, 2 * x, epsilon=1e-3), 4)  # keeps the order: optimal
    0.0011
    >>> round(monge_gap(x, 2 * x[::-1], epsilon=1e-3), 4)
    5.3344
    """
    chosen = 1.0 if epsilon is None else options.as_positive(epsilon, "epsilon")
    problem = clouds(
        x, tx, None, None, cost=cost, epsilon=chosen, threads=options.as_threads(threads), names=("x", "tx")
    )
    count = len(problem.x)
    if len(problem.y) != count:
        raise ValueError(f"tx must hold one image for each of {count} points, got {len(problem.y)}")
    if epsilon is None:
        spread = _deviation(problem)
        if spread == 0.0:
            raise ValueError("epsilon must be given where all points are at one cost from all images")
        problem = replace(problem, epsilon=0.05 * spread)
    result = solve(problem, options.as_positive(tol, "tol"), max_iter, "auto", None, "monge_gap")
    own = _own_costs(problem)
    return float(own.mean() - (result._dual - 2.0 * problem.epsilon * math.log(count)))


def _own_costs(problem: Clouds) -> Array:
    """Cost from each point to its own image."""
    apart = problem.x - problem.y if problem.offset is None else problem.x - problem.y + problem.offset
    if problem.distance == "manhattan":
        return np.asarray(problem.scale * np.abs(apart).sum(axis=1))
    square = np.square(apart).sum(axis=1)
    return np.asarray(problem.scale * (np.sqrt(square) if problem.distance == "euclidean" else square))


def _deviation(problem: Clouds) -> float:
    """Standard deviation of the costs between all points and images, tile by tile."""
    x = problem.x if problem.offset is None else problem.x + problem.offset
    rows = max(_TILE // len(problem.y), 1)

    def total(term: Callable[[Array], Array]) -> float:
        tiles = (x[start : start + rows] for start in range(0, len(x), rows))
        return math.fsum(
            float(term(distances(tile, problem.y, problem.distance, problem.scale)).sum()) for tile in tiles
        )

    count = len(x) * len(problem.y)
    mean = total(lambda cost: cost) / count
    return math.sqrt(total(lambda cost: np.square(cost - mean)) / count)
