"""Transport between distributions on the line, where sorting is the solution."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from kullback._core import backend
from kullback._core.types import Array, ArrayLike, Values
from kullback._core.validation import as_index, unknown_name
from kullback.transport import _checks, _merge

__all__ = ["MonotonePlan", "QuantileGap", "dominance_violation", "emd_1d", "quantile_gap", "wasserstein_1d"]

Violation = Callable[[Array], npt.ArrayLike]


@dataclass(frozen=True, eq=False)
class MonotonePlan:
    """The result of :func:`emd_1d`.

    Attributes
    ----------
    i, j : ndarray of int64
        Indices in x and in y of each piece of the plan, in rising order of the points.
    mass : ndarray of float64
        Its mass, greater than 0; the masses sum to 1.
    cost : float
        Sum of mass times |x_i - y_j|^p.
    shape : tuple of int
        Numbers of points of x and y.
    """

    i: npt.NDArray[np.int64]
    j: npt.NDArray[np.int64]
    mass: Array
    cost: float
    shape: tuple[int, int]

    def toarray(self) -> Array:
        """Return the plan as a dense matrix."""
        plan = np.zeros(self.shape)
        np.add.at(plan, (self.i, self.j), self.mass)
        return plan


class QuantileGap(NamedTuple):
    """The result of :func:`quantile_gap`: a step function of the level t, from t = 0 to 1."""

    gap: Array
    mass: Array


def wasserstein_1d(
    x: ArrayLike,
    y: ArrayLike,
    *,
    a: ArrayLike | None = None,
    b: ArrayLike | None = None,
    p: float = 1,
    axis: int = -1,
) -> Values:
    r"""Wasserstein distance of order p between points on the line.

    .. math:: W_p = \Bigl(\int_0^1 |F_x^{-1}(t) - F_y^{-1}(t)|^p\,dt\Bigr)^{1/p}, \qquad
              W_\infty = \max_t |F_x^{-1}(t) - F_y^{-1}(t)|

    with the quantile functions of the two weighted samples. It is the distance, not its p-th power. Exact: both sides
    are sorted and walked through together. A point of weight 0 takes no part, and neither the order of the points nor
    the number of threads changes a bit of the result.

    Parameters
    ----------
    x, y : array_like
        Points, shape (..., n) and (..., m); leading axes broadcast. float64, float32, float16, bfloat16 or integers.
    a, b : array_like, optional
        Weights of the points, shape (n,) or any that broadcasts to that of x (of y): not negative, normalised to sum
        to 1. The default is equal weights.
    p : float, default 1
        Order, from 1 to infinity.
    axis : int, default -1
        Axis of each input that holds the points.

    Returns
    -------
    ndarray of float64, or numpy.float64
        One distance for each pair of rows, in the unit of the points.

    Raises
    ------
    ValueError
        If shapes do not fit, a point is not finite, a weight is negative or not finite, a row has no mass, or p < 1.
    TypeError
        If an input does not hold real numbers in CPU memory.

    References
    ----------
    F. Santambrogio, Optimal Transport for Applied Mathematicians (2015), section 2.1.

    Examples
    --------
    >>> from kullback.transport import wasserstein_1d
    >>> wasserstein_1d([0, 1, 3], [5, 6, 8])
    np.float64(5.0)
    >>> wasserstein_1d([0, 1], [0, 1], a=[3, 1], b=[1, 1], p=2)
    np.float64(0.5)
    """
    order = _checks.exponent(p, infinite=True)
    of_x, of_y = _rows(x, "x", axis), _rows(y, "y", axis)
    weights_a, weights_b = (
        _checks.weights(_last(value, name, axis), name, rows.shape[-1])
        for value, name, rows in ((a, "a", of_x), (b, "b", of_y))
    )
    of_x, of_y = _checks.one_dtype(of_x, of_y)
    leading = _leading(x=of_x, y=of_y, a=weights_a, b=weights_b)
    n_rows = math.prod(leading)
    rows_x, rows_y = (_flat(rows, leading) for rows in (of_x, of_y))
    rows_a, rows_b = (
        None if weights is None else weights if weights.ndim == 1 else _flat(weights, leading)
        for weights in (weights_a, weights_b)
    )
    module = backend.active()
    if module is not None and n_rows:
        values: Array = module.wasserstein_1d(rows_x, rows_y, rows_a, rows_b, order)
    else:
        values = np.array(
            [_distance(rows_x[row], rows_y[row], _row(rows_a, row), _row(rows_b, row), order) for row in range(n_rows)]
        )
    return values.reshape(leading)[()]


def emd_1d(
    x: ArrayLike, y: ArrayLike, *, a: ArrayLike | None = None, b: ArrayLike | None = None, p: float = 1
) -> MonotonePlan:
    r"""Optimal plan between points on the line, for the cost :math:`|x - y|^p`.

    The plan that keeps the order, which is optimal for every p >= 1: at most n + m - 1 pieces of mass, each from one
    point of x to one of y. Of equal points the first is served first. Exact: no mass is lost or made.

    Parameters
    ----------
    x, y : array_like
        Points, shape (n,) and (m,).
    a, b : array_like, optional
        Their weights, not negative, normalised to sum to 1; the default is equal weights.
    p : float, default 1
        Power of the distance, finite and at least 1.

    Returns
    -------
    MonotonePlan
        With ``i``, ``j``, ``mass``, ``cost`` (the sum of mass times :math:`|x_i - y_j|^p`) and ``toarray()``.

    Raises
    ------
    ValueError, TypeError
        As :func:`wasserstein_1d`.

    Examples
    --------
    >>> from kullback.transport import emd_1d
    >>> plan = emd_1d([3.0, 0.0], [1.0, 2.0, 4.0], p=2)
    >>> plan.i, plan.j
    (array([1, 1, 0, 0]), array([0, 1, 1, 2]))
    >>> (6 * plan.mass).round(9), round(plan.cost, 9)
    (array([2., 1., 1., 2.]), 1.5)
    """
    power = _checks.exponent(p, infinite=False)
    of_x, of_y, i, j, mass = _plan(x, y, a, b)
    with np.errstate(over="ignore"):
        cost = float(np.sum(mass * np.abs(of_x[i] - of_y[j]) ** power))
    return MonotonePlan(i, j, mass, cost, (of_x.size, of_y.size))


def quantile_gap(x: ArrayLike, y: ArrayLike, *, a: ArrayLike | None = None, b: ArrayLike | None = None) -> QuantileGap:
    r"""Difference of two quantile functions, :math:`F_x^{-1}(t) - F_y^{-1}(t)`, as a step function of t.

    x dominates y in the first order where no gap is negative. Any integral of a function of the gap is a sum: the
    p-th power of :func:`wasserstein_1d` is ``(mass * abs(gap) ** p).sum()``.

    Parameters
    ----------
    x, y : array_like
        Points, shape (n,) and (m,).
    a, b : array_like, optional
        Their weights, not negative, normalised to sum to 1; the default is equal weights.

    Returns
    -------
    QuantileGap
        ``gap`` of each step, and its ``mass`` (the width in t); the masses sum to 1.

    Raises
    ------
    ValueError, TypeError
        As :func:`wasserstein_1d`.

    Examples
    --------
    >>> from kullback.transport import quantile_gap
    >>> quantile_gap([3.0, 1.0], [0.0, 4.0])
    QuantileGap(gap=array([ 1., -1.]), mass=array([0.5, 0.5]))
    """
    of_x, of_y, i, j, mass = _plan(x, y, a, b)
    return QuantileGap(of_x[i] - of_y[j], mass)


def dominance_violation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    h: Literal["zero_one", "squared_hinge", "logistic", "least_squares"] | Violation = "squared_hinge",
    beta: float = 0.01,
    a: ArrayLike | None = None,
    b: ArrayLike | None = None,
) -> float:
    r"""Penalty for x not dominating y in the first order: :math:`\int_0^1 h(F_x^{-1}(t) - F_y^{-1}(t))\,dt`.

    For a convex h it is the least cost of transport with the cost h(x - y). With equal numbers of points it is the mean
    of h over the differences of the sorted points.

    Parameters
    ----------
    x, y : array_like
        Points, shape (n,) and (m,): x is to be the larger one.
    h : {"zero_one", "squared_hinge", "logistic", "least_squares"} or callable, default "squared_hinge"
        Penalty of a gap u: 1 where u < 0; max(beta - u, 0)^2; ln(1 + e^(-beta u)); (beta - u)^2; or a vectorised
        function of u.
    beta : float, default 0.01
        Margin, or slope of the logistic penalty.
    a, b : array_like, optional
        Weights of the points, not negative, normalised to sum to 1; the default is equal weights.

    Returns
    -------
    float
        The penalty.

    Raises
    ------
    ValueError, TypeError
        As :func:`wasserstein_1d`; also for an unknown h or a beta that is not finite.

    References
    ----------
    I. Melnyk et al., "Distributional preference alignment of LLMs via optimal transport", arXiv 2406.05882 (2024).

    Examples
    --------
    >>> from kullback.transport import dominance_violation
    >>> dominance_violation([3.0, 1.0], [0.0, 4.0], h="zero_one")
    0.5
    """
    if isinstance(beta, bool) or not isinstance(beta, int | float | np.floating | np.integer):
        raise TypeError(f"beta must be a number, got {beta!r}")
    if not np.isfinite(beta):
        raise ValueError(f"beta must be finite, got {beta!r}")
    penalty: Violation
    if callable(h):
        penalty = h
    elif h in _VIOLATIONS:
        known, scale = _VIOLATIONS[h], float(beta)
        penalty = lambda gap: known(gap, scale)  # noqa: E731
    else:
        raise unknown_name("h", h, _VIOLATIONS)
    gap, mass = quantile_gap(x, y, a=a, b=b)
    return float(np.sum(mass * np.asarray(penalty(gap), np.float64)))


_VIOLATIONS: dict[str, Callable[[Array, float], Array]] = {
    "zero_one": lambda gap, beta: (gap < 0.0).astype(np.float64),
    "squared_hinge": lambda gap, beta: np.square(np.maximum(beta - gap, 0.0)),
    "logistic": lambda gap, beta: np.logaddexp(0.0, -beta * gap),
    "least_squares": lambda gap, beta: np.square(beta - gap),
}


def _plan(
    x: ArrayLike, y: ArrayLike, a: ArrayLike | None, b: ArrayLike | None
) -> tuple[Array, Array, npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
    """Check one problem and solve it: points in float64, indices, masses."""
    of_x, of_y = _flat_points(x, "x"), _flat_points(y, "y")
    weights_a, weights_b = _checks.weights(a, "a", of_x.size), _checks.weights(b, "b", of_y.size)
    for name, weights in (("a", weights_a), ("b", weights_b)):
        if weights is not None and weights.ndim != 1:
            raise ValueError(f"{name} must be one-dimensional, got shape {weights.shape}")
    of_x, of_y = _checks.one_dtype(of_x, of_y)
    module = backend.active()
    if module is not None:
        i, j, mass = module.monotone_plan(of_x, of_y, weights_a, weights_b)
    else:
        order_x, order_y = np.argsort(of_x, kind="stable"), np.argsort(of_y, kind="stable")
        sorted_a, sorted_b = (
            None if weights is None else weights[order]
            for weights, order in ((weights_a, order_x), (weights_b, order_y))
        )
        pieces = _merge.pieces(sorted_a, sorted_b, of_x.size, of_y.size)
        i, j, mass = order_x[pieces.x], order_y[pieces.y], pieces.mass
    return of_x.astype(np.float64), of_y.astype(np.float64), i, j, mass


def _distance(x: Array, y: Array, a: Array | None, b: Array | None, p: float) -> float:
    """W_p of one pair of rows: the definition."""
    order_x, order_y = (
        np.argsort(points) if weights is None else np.lexsort((weights, points)) for points, weights in ((x, a), (y, b))
    )
    pieces = _merge.pieces(None if a is None else a[order_x], None if b is None else b[order_y], x.size, y.size)
    sorted_x, sorted_y = x[order_x].astype(np.float64), y[order_y].astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        gap = np.abs(sorted_x[pieces.x] - sorted_y[pieces.y])
        largest = float(gap.max())
        if p == math.inf or largest in (0.0, math.inf):
            return largest
        if p == 1.0:
            return float(np.sum(pieces.mass * gap))
        return largest * math.pow(float(np.sum(pieces.mass * (gap / largest) ** p)), 1.0 / p)


def _rows(value: ArrayLike, argument: str, axis: int) -> _checks.Points:
    return _checks.points(_last(value, argument, axis), argument)


def _flat_points(value: ArrayLike, argument: str) -> _checks.Points:
    flat = _checks.points(value, argument)
    if flat.ndim != 1:
        raise ValueError(f"{argument} must be one-dimensional, got shape {flat.shape}")
    return flat


def _last(value: Any, argument: str, axis: int) -> Any:
    """Move the points to the last axis."""
    if value is None or (type(axis) is int and axis == -1):
        return value
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.ndim < 2:
        as_index(axis, "axis", -1, 0)
        return array
    return np.moveaxis(array, as_index(axis, "axis", -array.ndim, array.ndim - 1, f" for {argument}"), -1)


def _leading(**arrays: Any) -> tuple[int, ...]:
    """Shape that the leading axes broadcast to."""
    shapes = {name: array.shape[:-1] for name, array in arrays.items() if array is not None}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{shape} of {name}" for name, shape in shapes.items())
        raise ValueError(f"leading shapes must broadcast, got {listed}") from None


def _flat(array: npt.NDArray[Any], leading: tuple[int, ...]) -> npt.NDArray[Any]:
    """One row after the other; copied only if rows are repeated."""
    width = array.shape[-1]
    return np.ascontiguousarray(np.broadcast_to(array, (*leading, width))).reshape(-1, width)


def _row(weights: Array | None, row: int) -> Array | None:
    return weights if weights is None or weights.ndim == 1 else weights[row]
