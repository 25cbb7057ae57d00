"""Entropic transport between clouds of points, whose costs are computed on the way and never stored."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kullback._core import transport as options
from kullback._core.transport import Found, Method, Progress
from kullback._core.types import Array, ArrayLike
from kullback._core.validation import as_index
from kullback.entropic import ConvergenceWarning, SinkhornResult, watching
from kullback.transport._clouds import Clouds, CostName, clouds

__all__ = ["PointsResult", "sinkhorn_points"]


class _Coupling:
    """The plan of a problem whose costs are computed."""

    def __init__(self, problem: Clouds, f: Array, g: Array) -> None:
        self.problem, self.f, self.g = problem, f, g

    def plan(self) -> npt.NDArray[Any]:
        plan = self.problem.plan(self.f, self.g)
        return plan if self.problem.wide else plan.astype(np.float32)

    def apply(self, vectors: Array, transposed: bool) -> Array:
        return self.problem.apply(self.f, self.g, vectors, transposed)


class PointsResult(SinkhornResult):
    """A solution of entropic transport between clouds: a :class:`SinkhornResult` with gradients of the points.

    Attributes
    ----------
    grad_x, grad_y : ndarray of float64
        Gradients of `value` with respect to the points, of their shapes, by the envelope theorem: the plan times the
        gradient of the cost. As exact as the solution; nothing of the size of the plan is stored. Where two points
        meet, that of ``euclidean`` takes 0 and that of ``manhattan`` sign(0) = 0.

    Examples
    --------
    >>> from kullback.transport import sinkhorn_points
    >>> result = sinkhorn_points([[0.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [1.0, 2.0]], epsilon=0.01)
    >>> result.grad_x.round(6) + 0.0
    array([[ 0., -2.],
           [ 0., -2.]])
    """

    def __init__(self, found: Found, problem: Clouds) -> None:
        self._problem, self._inner = problem, (found.f, found.g)
        coupling = _Coupling(problem, *self._inner)
        super().__init__(found, problem.a, problem.b, problem.epsilon, problem.reach, coupling)
        #: As the value, but of the semi-dual: its error is the square of that of the marginals.
        self._dual = _weighted(problem.a, found.f) + _weighted(problem.b, found.g)
        shifts = problem.shifts
        if shifts is not None and problem.offset is not None:
            square = float(problem.offset @ problem.offset)
            self.f, self.g = found.f + shifts[0], found.g + shifts[1]
            self.value += square * self.mass
            self.transport_cost += square * self.mass
            self._dual += square * self.mass

    @property
    def grad_x(self) -> Array:
        """Gradient of `value` with respect to the points x."""
        return self._problem.slope(*self._inner)

    @property
    def grad_y(self) -> Array:
        """Gradient of `value` with respect to the points y."""
        return self._problem.turned().slope(*self._inner[::-1])


def sinkhorn_points(
    x: ArrayLike,
    y: ArrayLike,
    *,
    a: ArrayLike | None = None,
    b: ArrayLike | None = None,
    cost: CostName = "sqeuclidean",
    epsilon: float,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    method: Method = "auto",
    reach: float | Sequence[float | None] | None = None,
    init: SinkhornResult | tuple[ArrayLike, ArrayLike] | None = None,
    threads: int | None = None,
    progress: bool | Progress = False,
) -> PointsResult:
    r"""Solve entropic optimal transport between two clouds of points.

    The problem of :func:`kullback.sinkhorn` with :math:`C_{ij}` the cost of going from :math:`x_i` to :math:`y_j`,
    computed row by row where it is needed: memory is that of the points, the potentials and a few rows. (A problem of
    up to four million pairs keeps its kernel between sweeps, at most 32 MB, which is faster.) Coordinates are
    subtracted, never expanded into squares and products, so that near points keep the digits of their cost; a
    translation of one cloud is taken out of the squared cost exactly.

    Parameters
    ----------
    x, y : array_like
        Points, shape (n, d) and (m, d).
    a, b : array_like, optional
        Weights of the points, of one total mass unless `reach` lets them differ; the default is uniform, of mass 1.
    cost : {"sqeuclidean", "euclidean", "cosine", "manhattan"}, default "sqeuclidean"
        :math:`|x - y|^2` (no half), :math:`|x - y|`, :math:`1 - \cos(x, y)`, or :math:`\sum_c |x_c - y_c|`.
    epsilon : float
        Regularisation, in the units of the cost.
    tol, max_iter, method, reach, init, threads, progress
        As for :func:`kullback.sinkhorn`. Beyond four million pairs ``accelerated`` takes the place of ``newton``.

    Returns
    -------
    PointsResult
        What :func:`kullback.sinkhorn` returns, and the gradients ``grad_x`` and ``grad_y``.

    Raises
    ------
    ValueError
        If shapes or options do not fit, a coordinate is not finite, a weight is negative, masses differ, or, for the
        cosine, a point lies at the origin.
    TypeError
        If an input does not hold real numbers in CPU memory.

    Examples
    --------
    >>> import numpy as np
    >>> from kullback.transport import sinkhorn_points
    >>> x = np.array([[0.0], [1.0], [3.0]])
    >>> result = sinkhorn_points(x, x + 5.0, epsilon=0.01)
    >>> round(result.transport_cost, 4), result.converged
    (25.0, True)
    """
    problem = clouds(
        x,
        y,
        a,
        b,
        cost=cost,
        epsilon=options.as_positive(epsilon, "epsilon"),
        reach=options.as_reach(reach),
        threads=options.as_threads(threads),
    )
    start = options.as_init(init, len(problem.x), len(problem.y))
    if start is not None and problem.shifts is not None:
        start = np.ascontiguousarray(start - problem.shifts[1])
    with watching(progress, "sinkhorn_points") as watch:
        return solve(problem, options.as_positive(tol, "tol"), max_iter, method, start, "sinkhorn_points", watch)


def solve(
    problem: Clouds,
    tol: float,
    max_iter: int,
    method: str,
    init: Array | None,
    name: str,
    watch: Progress | None = None,
    level: int = 3,
) -> PointsResult:
    """Solve a checked problem, and warn if the result is not converged."""
    count = as_index(max_iter, "max_iter", 1, 2**53)
    result = PointsResult(problem.solve(tol, count, options.as_method(method), init, watch), problem)
    warn(result, name, level + 1)
    return result


def solve_mirror(problem: Clouds, tol: float, max_iter: int, name: str) -> PointsResult:
    """Solve a cloud against itself."""
    result = PointsResult(problem.solve_mirror(tol, as_index(max_iter, "max_iter", 1, 2**53)), problem)
    warn(result, name, 4)
    return result


def warn(result: SinkhornResult, name: str, level: int) -> None:
    """Say once that a result is not converged."""
    if not result.converged:
        warnings.warn(
            f"{name} stopped after {result.n_iter} sweeps with a marginal error of {result.marginal_error:.2g}, above "
            f"the tolerance of {result.tol:.2g}: raise max_iter or epsilon",
            ConvergenceWarning,
            stacklevel=level,
        )


def _weighted(weights: Array, potential: Array) -> float:
    """Sum of weight times potential over the points with weight."""
    held = weights > 0.0
    return float(weights[held] @ potential[held])
