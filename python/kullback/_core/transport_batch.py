"""Problems of a batch laid out one after the other, as the native module takes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kullback._core.arrays import as_array, as_float64
from kullback._core.transport import Transport, as_cost, as_init, as_method, as_positive, as_reach, as_threads
from kullback._core.types import Array
from kullback._core.validation import as_index


@dataclass(frozen=True, eq=False)
class Batch:
    """Flat arrays, and where each problem lies in them."""

    a: Array
    b: Array
    cost: npt.NDArray[Any]
    shapes: list[tuple[int, int]]
    #: Where the costs of each problem start: all at 0 if they share one matrix.
    starts: list[int]
    epsilon: list[float]
    init: Array | None
    #: True if all problems have one shape.
    stacked: bool
    options: dict[str, Any]

    def __len__(self) -> int:
        return len(self.shapes)

    def ends(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where the weights of each problem end."""
        rows, columns = np.array(self.shapes, np.int64).reshape(-1, 2).T
        return np.cumsum(rows), np.cumsum(columns)

    def problem(self, index: int, row: int, column: int) -> Transport:
        """One problem; `row` and `column` are where its weights start."""
        n, m = self.shapes[index]
        start = self.starts[index]
        init = None if self.init is None else self.init[column : column + m]
        cost = self.cost[start : start + n * m].reshape(n, m)
        a, b = self.a[row : row + n], self.b[column : column + m]
        return Transport(a, b, cost, self.epsilon[index], init=init, **self.options)


def batch(
    a: Any,
    b: Any,
    cost: Any,
    *,
    epsilon: Any,
    tol: Any,
    max_iter: Any,
    method: Any,
    reach: Any,
    init: Any,
    dtype: Any,
    threads: Any,
) -> Batch:
    """Check a batch."""
    flat, shapes, shared = _costs(cost, dtype)
    count = len(shapes)
    if shared:
        count = max((_length(value, name) for value, name in ((a, "a"), (b, "b"))), default=1)
        shapes = shapes * count
    sizes = [0, *(n * m for n, m in shapes)]
    starts = [0] * count if shared else np.cumsum(sizes)[:-1].tolist()
    options = {
        "reach": as_reach(reach),
        "tol": as_positive(tol, "tol"),
        "max_iter": as_index(max_iter, "max_iter", 1, 2**53),
        "method": as_method(method),
        "threads": as_threads(threads),
    }
    return Batch(
        a=_weights(a, "a", [n for n, _ in shapes]),
        b=_weights(b, "b", [m for _, m in shapes]),
        cost=flat,
        shapes=shapes,
        starts=starts,
        epsilon=_epsilons(epsilon, count),
        init=_inits(init, shapes),
        stacked=len(set(shapes)) == 1,
        options=options,
    )


def _is_ragged(value: Any) -> bool:
    """True for a list of arrays, each a problem's own; nested lists of numbers are an array."""
    return isinstance(value, list | tuple) and any(hasattr(entry, "shape") for entry in value)


def _costs(cost: Any, dtype: Any) -> tuple[npt.NDArray[Any], list[tuple[int, int]], bool]:
    """Return flat costs, the shape of each problem, and whether one matrix serves all."""
    if not _is_ragged(cost):
        costs = as_cost(as_array(cost, "cost"), dtype)
        if costs.ndim not in (2, 3):
            raise ValueError(f"cost must be a matrix, a stack of matrices or a list of them, got shape {costs.shape}")
        _check_size(costs.shape, "cost")
        rows, columns = costs.shape[-2:]
        shared = costs.ndim == 2
        return costs.reshape(-1), [(rows, columns)] * (1 if shared else len(costs)), shared
    matrices = []
    for index, entry in enumerate(cost):
        matrix = as_array(entry, f"cost[{index}]")
        if matrix.ndim != 2:
            raise ValueError(f"cost[{index}] must be a matrix, got shape {matrix.shape}")
        _check_size(matrix.shape, f"cost[{index}]")
        matrices.append(matrix)
    wide = dtype is None and any(matrix.dtype == np.float64 for matrix in matrices)
    converted = [as_cost(matrix, np.float64 if wide else dtype) for matrix in matrices]
    flat = np.concatenate([matrix.reshape(-1) for matrix in converted])
    return flat, [(len(matrix), matrix.shape[1]) for matrix in converted], False


def _check_size(shape: tuple[int, ...], argument: str) -> None:
    if not all(shape):
        raise ValueError(f"{argument} must have at least one problem, row and column, got shape {shape}")


def _length(weights: Any, argument: str) -> int:
    """How many problems the weights are for, if the costs do not say."""
    if weights is None:
        return 1
    if _is_ragged(weights):
        return len(weights)
    array = as_array(weights, argument)
    return len(array) if array.ndim == 2 else 1


def _weights(weights: Any, argument: str, lengths: list[int]) -> Array:
    """Flat weights: uniform, shared, a row for each problem, or an array for each."""
    if weights is None:
        sizes = np.array(lengths)
        return np.repeat(1.0 / sizes, sizes)
    if _is_ragged(weights):
        arrays = [as_float64(as_array(entry, f"{argument}[{index}]")) for index, entry in enumerate(weights)]
        if [array.shape for array in arrays] != [(length,) for length in lengths]:
            _misfit(argument, arrays, lengths)
        return np.concatenate(arrays)
    array = as_float64(as_array(weights, argument))
    count, length = len(lengths), lengths[0]
    if set(lengths) != {length} or array.shape not in ((length,), (count, length)):
        raise ValueError(
            f"{argument} must have shape ({length},) or ({count}, {length}), or be a list of one array a problem, "
            f"got shape {array.shape}"
        )
    return np.ascontiguousarray(np.broadcast_to(array, (count, length))).reshape(-1)


def _misfit(argument: str, arrays: Sequence[Array], lengths: list[int]) -> None:
    if len(arrays) != len(lengths):
        raise ValueError(f"{argument} must have one array for each of {len(lengths)} problems, got {len(arrays)}")
    for index, (array, length) in enumerate(zip(arrays, lengths, strict=True)):
        if array.shape != (length,):
            raise ValueError(f"{argument}[{index}] must have shape ({length},), got {array.shape}")


def _epsilons(epsilon: Any, count: int) -> list[float]:
    if np.ndim(epsilon) == 0:
        return [as_positive(epsilon, "epsilon")] * count
    values = as_float64(as_array(epsilon, "epsilon"))
    if values.shape != (count,):
        raise ValueError(f"epsilon must be a number or have shape ({count},), got shape {values.shape}")
    return [as_positive(value, "epsilon") for value in values.tolist()]


def _inits(init: Any, shapes: list[tuple[int, int]]) -> Array | None:
    if init is None:
        return None
    starts = list(zip(init.f, init.g, strict=True)) if hasattr(init, "f") else list(init)
    if len(starts) != len(shapes):
        raise ValueError(f"init must have one start for each of {len(shapes)} problems, got {len(starts)}")
    potentials = [as_init(start, *shape) for start, shape in zip(starts, shapes, strict=True)]
    return np.concatenate([np.zeros(m) if g is None else g for g, (_, m) in zip(potentials, shapes, strict=True)])
