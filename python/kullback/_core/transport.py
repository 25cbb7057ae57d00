"""A call of :func:`kullback.sinkhorn` becomes a :class:`Transport`: arrays and numbers, every one checked.

Both backends receive the same problem and report what is wrong with its numbers as one and the same
:class:`ProblemError`, so their messages read alike.
"""

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from kullback._core.arrays import as_array, as_float32, as_float64
from kullback._core.types import Array, ArrayLike
from kullback._core.validation import MAX_THREADS, as_index, unknown_name

Method: TypeAlias = Literal["auto", "sinkhorn", "accelerated", "newton"]
Progress: TypeAlias = Callable[[int, float], object]

METHODS = ("auto", "sinkhorn", "accelerated", "newton")
DTYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float64))


class ProblemError(ValueError):
    """A problem that is none: ``(reason, argument, row, column, value)``, as the native module raises it."""


@dataclass(frozen=True, eq=False)
class Transport:
    """Weights, costs in C order, and options."""

    a: Array
    b: Array
    cost: npt.NDArray[Any]
    epsilon: float
    reach: tuple[float, float]
    tol: float
    max_iter: int
    method: Method
    init: Array | None
    threads: int

    @property
    def is_unbalanced(self) -> bool:
        """True if a marginal bends."""
        return any(math.isfinite(reach) for reach in self.reach)


@dataclass(frozen=True)
class Found:
    """Potentials and what was measured of them, from either backend."""

    f: Array
    g: Array
    error_history: Array
    value: float
    transport_cost: float
    mass: float
    marginal_error: float
    target: float
    n_iter: int
    converged: bool
    method: str


def transport(
    a: ArrayLike | None,
    b: ArrayLike | None,
    cost: ArrayLike,
    *,
    epsilon: Any,
    tol: Any,
    max_iter: Any,
    method: Any,
    reach: Any,
    init: Any,
    dtype: Any,
    threads: Any,
) -> Transport:
    """Check one problem."""
    costs = as_cost(as_array(cost, "cost"), dtype)
    if costs.ndim != 2:
        raise ValueError(f"cost must be a matrix, got shape {costs.shape}")
    rows, columns = costs.shape
    if not rows or not columns:
        raise ValueError(f"cost must have at least one row and one column, got shape {costs.shape}")
    return Transport(
        a=as_weights(a, "a", rows, costs.shape),
        b=as_weights(b, "b", columns, costs.shape),
        cost=costs,
        epsilon=as_positive(epsilon, "epsilon"),
        reach=as_reach(reach),
        tol=as_positive(tol, "tol"),
        max_iter=as_index(max_iter, "max_iter", 1, 2**53),
        method=as_method(method),
        init=as_init(init, rows, columns),
        threads=as_threads(threads),
    )


def as_cost(array: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    """Give costs one of the two dtypes of the kernels, in C order; nothing is copied that has both."""
    if dtype is None:
        wanted = DTYPES[1] if array.dtype == np.float64 else DTYPES[0]
    else:
        try:
            wanted = next(known for known in DTYPES if known == np.dtype(dtype))
        except (StopIteration, TypeError):
            raise ValueError(f"dtype must be float32 or float64, got {dtype!r}") from None
    widened = as_float64(array) if wanted == DTYPES[1] or array.dtype == np.float64 else as_float32(array)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(widened, wanted)


def as_weights(weights: ArrayLike | None, argument: str, length: int, shape: tuple[int, ...]) -> Array:
    """Check the length of weights; None is uniform. Their values are checked by the backends."""
    if weights is None:
        return np.full(length, 1.0 / length)
    array = as_float64(as_array(weights, argument))
    if array.shape != (length,):
        side = "row" if argument == "a" else "column"
        raise ValueError(
            f"{argument} must have one weight for each {side} of cost, {length} for shape {shape}, "
            f"got shape {array.shape}"
        )
    return np.ascontiguousarray(array)


def as_positive(value: Any, argument: str) -> float:
    """Check a finite positive number."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool | np.bool_):
        raise TypeError(f"{argument} must be a number, got {value!r}")
    number = float(value)
    if not 0.0 < number < math.inf:
        raise ValueError(f"{argument} must be finite and greater than 0, got {value!r}")
    return number


def as_reach(reach: Any) -> tuple[float, float]:
    """Check the reach of both marginals; infinite where a marginal holds exactly."""
    pair = reach if isinstance(reach, tuple | list) else (reach, reach)
    if len(pair) != 2:
        raise ValueError(f"reach must be a number or a pair of them, got {reach!r}")
    checked = []
    for value in pair:
        unbounded = value is None or (isinstance(value, numbers.Real) and value == math.inf)
        checked.append(math.inf if unbounded else as_positive(value, "reach"))
    return checked[0], checked[1]


def as_method(method: Any) -> Method:
    """Check the name of a method."""
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    known: Method = method
    return known


def as_threads(threads: Any) -> int:
    """Check a number of threads; 0 is the default."""
    return 0 if threads is None else as_index(threads, "threads", 1, MAX_THREADS)


def as_init(init: Any, rows: int, columns: int) -> Array | None:
    """Take the potential of the columns from a result or a pair of potentials."""
    if init is None:
        return None
    pair = (init.f, init.g) if hasattr(init, "f") and hasattr(init, "g") else init
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"init must be a result of sinkhorn or a pair of potentials (f, g), got {type(init).__name__}")
    potentials = [as_float64(as_array(value, "init")) for value in pair]
    for values, length, name in zip(potentials, (rows, columns), "fg", strict=True):
        if values.shape != (length,):
            raise ValueError(f"init must have a potential {name} of shape ({length},), got shape {values.shape}")
        if np.isnan(values).any() or (values == np.inf).any():
            raise ValueError(f"init must hold potentials that are finite or -inf, got NaN or +inf in {name}")
    return np.ascontiguousarray(potentials[1])


def worded(fields: Sequence[Any], problem: int | None = None) -> ValueError:
    """Word what is wrong with the numbers of a problem."""
    reason, argument, row, column, value = fields
    where = "" if problem is None else f" in problem {problem}"
    match reason:
        case "weight":
            text = f"{argument} must hold finite weights of at least 0, got {value:.4g} at index {row}{where}"
        case "mass":
            text = f"{argument} must have a finite total mass greater than 0, got {value:.4g}{where}"
        case "masses":
            text = (
                f"b must have the mass of a within 1e-6 of it, got {value:.4g} times that mass{where}; "
                "reach= lets masses differ"
            )
        case "not a cost":
            text = f"cost must hold numbers or +inf, got {value} at row {row}, column {column}{where}"
        case "closed row":
            text = f"cost must leave every row with mass a column to go to, got only +inf in row {row}{where}"
        case "closed column":
            text = f"cost must leave every column with mass a row to come from, got only +inf in column {column}{where}"
        case "epsilon small":
            text = (
                f"epsilon must be at least 1e-13 of the largest cost, below which float64 has no digits left, "
                f"got {value:.4g}{where}"
            )
        case "epsilon":
            text = f"epsilon must be finite and greater than 0, got {value:.4g}{where}"
        case _:
            text = f"{argument} is not valid: {reason} (row {row}, column {column}, value {value}){where}"
    return ValueError(text)
