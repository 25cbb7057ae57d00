"""Transport between clouds of points, seen along many directions."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kullback._core import backend
from kullback._core.types import Array, ArrayLike
from kullback._core.validation import as_index
from kullback.transport import _checks
from kullback.transport.line import wasserstein_1d

__all__ = ["sliced_wasserstein"]


def sliced_wasserstein(
    x: ArrayLike,
    y: ArrayLike,
    *,
    a: ArrayLike | None = None,
    b: ArrayLike | None = None,
    p: float = 2,
    n_projections: int = 50,
    seed: Any = None,
    directions: ArrayLike | None = None,
) -> np.float64:
    r"""Sliced Wasserstein distance between clouds of points.

    .. math:: SW_p = \Bigl(\frac1L \sum_{l=1}^L W_p^p(\langle x, \theta_l \rangle, \langle y, \theta_l \rangle)
              \Bigr)^{1/p}

    with directions :math:`\theta_l` drawn evenly from the unit sphere: an estimate of the mean over all directions,
    whose error falls as :math:`L^{-1/2}`. For p = infinity it is the largest :math:`W_\infty`. In one dimension it is
    :math:`W_p` itself. Memory beside the input is a few projections of the points for each thread.

    Parameters
    ----------
    x, y : array_like
        Points, shape (n, d) and (m, d).
    a, b : array_like, optional
        Their weights, shape (n,) and (m,): not negative, normalised to sum to 1. The default is equal weights.
    p : float, default 2
        Order, from 1 to infinity.
    n_projections : int, default 50
        Number of directions to draw.
    seed : int, numpy.random.Generator or anything that `numpy.random.default_rng` takes, optional
        What they are drawn from; one seed gives one result, on any number of threads.
    directions : array_like, optional
        Directions to use instead, shape (L, d), scaled to unit length.

    Returns
    -------
    numpy.float64
        The distance, in the unit of the points.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is not finite, a weight is negative, there is no mass, p < 1, or a direction has
        no length.
    TypeError
        If an input does not hold real numbers in CPU memory.

    References
    ----------
    N. Bonneel, J. Rabin, G. Peyré and H. Pfister, "Sliced and Radon Wasserstein barycenters of measures", J. Math.
    Imaging Vis. 51 (2015).

    Examples
    --------
    >>> from kullback.transport import sliced_wasserstein
    >>> x, y = [[0.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [1.0, 2.0]]
    >>> round(float(sliced_wasserstein(x, y, directions=[[0.0, 1.0], [1.0, 0.0]])), 6)
    1.414214
    >>> sliced_wasserstein(x, y, seed=0) == sliced_wasserstein(x, y, seed=0)
    np.True_
    """
    order = _checks.exponent(p, infinite=True)
    of_x, of_y = _checks.one_dtype(_checks.cloud(x, "x"), _checks.cloud(y, "y"))
    _checks.same_dimension(of_x, of_y)
    weights_a, weights_b = (_weights(value, name, len(rows)) for value, name, rows in ((a, "a", of_x), (b, "b", of_y)))
    dimension = of_x.shape[1]
    if directions is None:
        count = as_index(n_projections, "n_projections", 1, 2**31 - 1)
        lines = np.random.default_rng(seed).standard_normal((count, dimension))
    else:
        lines = _checks.cloud(directions, "directions").astype(np.float64)
        if lines.shape[1] != dimension:
            raise ValueError(f"directions must have {dimension} coordinates as the points, got shape {lines.shape}")
    lines = _unit(lines)
    each = _along(lines, of_x, of_y, weights_a, weights_b, order)
    largest = each.max()
    if not np.isfinite(largest):
        # Sums of coordinates near the largest number there is.
        scale = 2.0**-64
        each = _along(lines, of_x * np.float64(scale), of_y * np.float64(scale), weights_a, weights_b, order)
        with np.errstate(over="ignore"):
            each = each / scale
        largest = each.max()
    if order == np.inf or largest in (0.0, np.inf):
        return np.float64(largest)
    with np.errstate(under="ignore"):
        return np.float64(largest * np.mean((each / largest) ** order) ** (1.0 / order))


def _along(lines: Array, x: _checks.Points, y: _checks.Points, a: Array | None, b: Array | None, order: float) -> Array:
    """W_p of the projections on each line."""
    module = backend.active()
    if module is not None:
        return np.asarray(module.sliced_wasserstein(x, y, a, b, lines, order))
    with np.errstate(over="ignore", invalid="ignore"):
        along_x, along_y = lines @ x.astype(np.float64).T, lines @ y.astype(np.float64).T
    if not (np.isfinite(along_x).all() and np.isfinite(along_y).all()):
        return np.full(len(lines), np.inf)
    return np.asarray(wasserstein_1d(along_x, along_y, a=a, b=b, p=order))


def _weights(value: ArrayLike | None, argument: str, count: int) -> Array | None:
    weights = _checks.weights(value, argument, count)
    if weights is not None and weights.ndim != 1:
        raise ValueError(f"{argument} must be one-dimensional, got shape {weights.shape}")
    return weights


def _unit(lines: npt.NDArray[np.float64]) -> Array:
    """Scale rows to unit length, by way of their largest coordinate, so that no square overflows or vanishes."""
    largest = np.abs(lines).max(axis=1, keepdims=True)
    if not largest.all():
        raise ValueError(f"directions must have a length, got zeros in row {int(np.argmin(largest))}")
    scaled = lines / largest
    return np.ascontiguousarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True))
