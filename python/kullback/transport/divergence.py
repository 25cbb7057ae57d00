"""The Sinkhorn divergence: entropic transport without its bias."""

from dataclasses import dataclass

import numpy as np

from kullback._core import transport as options
from kullback._core.transport import Method
from kullback._core.types import Array, ArrayLike
from kullback.transport._clouds import CostName, clouds
from kullback.transport.points import PointsResult, solve, solve_mirror

__all__ = ["SinkhornDivergence", "sinkhorn_divergence"]


@dataclass(frozen=True, eq=False)
class SinkhornDivergence:
    """The result of :func:`sinkhorn_divergence`.

    Attributes
    ----------
    value : float
        The divergence, at least 0.
    xy, xx, yy : PointsResult
        The three solves, of weights that sum to 1.
    converged : bool
        Whether all three are converged.
    grad_x, grad_y : ndarray of float64
        Gradients of `value` with respect to the points.
    """

    value: float
    xy: PointsResult
    xx: PointsResult
    yy: PointsResult

    @property
    def converged(self) -> bool:
        """Whether all three solves are converged."""
        return self.xy.converged and self.xx.converged and self.yy.converged

    @property
    def grad_x(self) -> Array:
        """Gradient with respect to the points x."""
        # Of the self-term both sides move, each by half of what it counts.
        return self.xy.grad_x - 0.5 * (self.xx.grad_x + self.xx.grad_y)

    @property
    def grad_y(self) -> Array:
        """Gradient with respect to the points y."""
        return self.xy.grad_y - 0.5 * (self.yy.grad_x + self.yy.grad_y)


def sinkhorn_divergence(
    x: ArrayLike,
    y: ArrayLike,
    *,
    a: ArrayLike | None = None,
    b: ArrayLike | None = None,
    epsilon: float,
    cost: CostName = "sqeuclidean",
    tol: float = 1e-6,
    max_iter: int = 10_000,
    method: Method = "auto",
    threads: int | None = None,
) -> SinkhornDivergence:
    r"""Sinkhorn divergence between two clouds of points.

    .. math:: S_\varepsilon(x, y) = V(x, y) - \tfrac12 V(x, x) - \tfrac12 V(y, y)

    with V the value of :func:`sinkhorn_points`, entropy included. It is 0 for equal distributions and greater
    otherwise; between the transport cost (:math:`\varepsilon \to 0`) and, for the squared cost, the squared distance of
    the means (:math:`\varepsilon \to \infty`). A translation by t of a cloud is at :math:`|t|^2` from it, whatever
    epsilon is.

    Self-terms are solved by their symmetric fixed point, in half-iterations. All three values are those of the dual at
    the potentials found, whose error is the square of that of the marginals, and the squared cost is that of centred
    clouds: small divergences keep their digits.

    Parameters
    ----------
    x, y : array_like
        Points, shape (n, d) and (m, d).
    a, b : array_like, optional
        Weights of the points, not negative, normalised to sum to 1; the default is equal weights.
    epsilon : float
        Regularisation, in the units of the cost.
    cost : {"sqeuclidean", "euclidean", "cosine", "manhattan"}, default "sqeuclidean"
        As for :func:`sinkhorn_points`.
    tol, max_iter, method, threads
        As for :func:`kullback.sinkhorn`, of each of the three solves.

    Returns
    -------
    SinkhornDivergence
        With ``value``, the solves ``xy``, ``xx`` and ``yy``, and the gradients ``grad_x`` and ``grad_y``.

    Raises
    ------
    ValueError, TypeError
        As :func:`sinkhorn_points`.

    References
    ----------
    J. Feydy et al., "Interpolating between optimal transport and MMD using Sinkhorn divergences", AISTATS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from kullback.transport import sinkhorn_divergence
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(sinkhorn_divergence(x, x + [0.3, -0.2, 0.5], epsilon=0.1).value, 12)
    0.38
    >>> sinkhorn_divergence(x, x, epsilon=0.1).value
    0.0
    """
    tolerance = options.as_positive(tol, "tol")
    problem = clouds(
        x,
        y,
        a,
        b,
        cost=cost,
        epsilon=options.as_positive(epsilon, "epsilon"),
        threads=options.as_threads(threads),
        unit=True,
    )
    name = "sinkhorn_divergence"
    options.as_method(method)
    xx = solve_mirror(problem.mirror(), tolerance, max_iter, name)
    same = np.array_equal(problem.x, problem.y) and np.array_equal(problem.a, problem.b)
    yy = xx if same else solve_mirror(problem.turned().mirror(), tolerance, max_iter, name)
    start = np.where(np.isfinite(yy.g), yy.g, 0.0)
    xy = solve(problem, tolerance, max_iter, method, start, name)
    square = 0.0 if problem.offset is None else float(problem.offset @ problem.offset)
    excess = 0.0 if same else xy._dual - square - 0.5 * (xx._dual + yy._dual)
    return SinkhornDivergence(square + max(excess, 0.0), xy, xx, yy)
