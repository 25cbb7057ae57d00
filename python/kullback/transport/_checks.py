"""Points, weights and options of a transport problem, checked; each message names argument, expectation and input."""

import math
import numbers
from typing import Any

import numpy as np
import numpy.typing as npt

from kullback._core.arrays import as_array, as_float32
from kullback._core.types import Array, ArrayLike

#: Weights whose largest exponent is further from 0 are rescaled, so that products of sums stay finite and normal.
_EXPONENT = 300

Points = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def points(value: ArrayLike, argument: str) -> Points:
    """Read finite points as C-contiguous float32 or float64."""
    array = as_array(value, argument)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{argument} must hold at least one point, got shape {array.shape}")
    wide = array if array.dtype == np.float64 else as_float32(array)
    finite = np.isfinite(wide)
    if not finite.all():
        raise ValueError(f"{argument} must hold finite numbers, got {_first(wide, ~finite)}")
    return np.ascontiguousarray(wide)


def cloud(value: ArrayLike, argument: str) -> Points:
    """Read finite points in space: one a row."""
    array = points(value, argument)
    if array.ndim != 2 or array.shape[0] == 0:
        raise ValueError(f"{argument} must hold one point a row, shape (n, d), got shape {array.shape}")
    return array


def same_dimension(x: Points, y: Points, names: str = "x and y") -> None:
    """Check that two clouds lie in one space."""
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"{names} must have points of one dimension, got {x.shape[-1]} and {y.shape[-1]}")


def one_dtype(x: Points, y: Points) -> tuple[Points, Points]:
    """Widen whichever of two is narrower; exact."""
    dtype = np.result_type(x, y)
    return x.astype(dtype, copy=False), y.astype(dtype, copy=False)


def weights(value: ArrayLike | None, argument: str, width: int) -> Array | None:
    """Read non-negative weights whose last axis has ``width`` entries; None for one row of equal ones.

    Rows are scaled by powers of two where that is needed to multiply sums of them.
    """
    if value is None:
        return None
    array = np.ascontiguousarray(_wide(as_array(value, argument)))
    if array.ndim == 0 or array.shape[-1] != width:
        raise ValueError(f"{argument} must hold one weight for each of {width} points, got shape {array.shape}")
    wrong = ~((array >= 0.0) & np.isfinite(array))
    if wrong.any():
        raise ValueError(f"{argument} must hold finite weights that are not negative, got {_first(array, wrong)}")
    largest = array.max(axis=-1, keepdims=True, initial=0.0)
    if (largest == 0.0).any():
        row = "" if array.ndim == 1 else f" in row {_index(largest[..., 0] == 0.0)}"
        raise ValueError(f"{argument} must have mass, got no weight greater than 0{row}")
    if array.ndim == 1 and (array == array[0]).all():
        return None
    exponent = np.frexp(largest)[1]
    return np.ldexp(array, -exponent) if (np.abs(exponent) > _EXPONENT).any() else array


def masses(value: ArrayLike | None, argument: str, count: int) -> Array:
    """Read one non-negative weight for each of ``count`` points; None is uniform, of mass 1."""
    if value is None:
        return np.full(count, 1.0 / count)
    array = np.ascontiguousarray(_wide(as_array(value, argument)))
    if array.shape != (count,):
        raise ValueError(f"{argument} must hold one weight for each of {count} points, got shape {array.shape}")
    wrong = ~((array >= 0.0) & np.isfinite(array))
    if wrong.any():
        raise ValueError(f"{argument} must hold finite weights that are not negative, got {_first(array, wrong)}")
    mass = float(array.sum())
    if not 0.0 < mass < math.inf:
        raise ValueError(f"{argument} must have a finite mass greater than 0, got {mass:.4g}")
    return array


def exponent(p: Any, *, infinite: bool) -> float:
    """Read the order p >= 1 of a distance."""
    if isinstance(p, bool | np.bool_) or not isinstance(p, numbers.Real):
        raise TypeError(f"p must be a number, got {p!r}")
    order = float(p)
    if not order >= 1.0 or (math.isinf(order) and not infinite):
        raise ValueError(f"p must be at least 1{'' if infinite else ' and finite'}, got {p!r}")
    return order


def _wide(array: npt.NDArray[Any]) -> Array:
    return (array if array.dtype == np.float64 else as_float32(array)).astype(np.float64, copy=False)


def _first(array: npt.NDArray[Any], wrong: npt.NDArray[np.bool_]) -> str:
    """Name the first entry of a mask: its value and where it stands."""
    flat = int(np.argmax(wrong))
    return f"{array.ravel()[flat]} at index {_index(wrong)}"


def _index(mask: npt.NDArray[np.bool_]) -> Any:
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))
    return index[0] if len(index) == 1 else index
