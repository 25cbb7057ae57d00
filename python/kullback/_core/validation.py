"""A call becomes a :class:`Problem`: two broadcast arrays with rows last, and every option checked.

Each message says which argument is wrong, what was expected and what was given. Both backends receive the same problem
and report bad rows the same way (:class:`RowError`), so their errors read alike.
"""

import difflib
import math
import numbers
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from kullback._core.arrays import as_array
from kullback._core.types import ArrayLike, Kind, Options

KINDS: tuple[Kind, ...] = ("probs", "weights", "log_probs", "logits")
MAX_THREADS = 1024
#: How far the mass of a row of "probs" or "log_probs" may be from 1 (its logarithm from 0).
NORMALISATION_TOLERANCE = 1e-2


class RowError(ValueError):
    """A row that is not a distribution: ``(reason, argument, row, column, value)``, as the native module raises it."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows to compare: ``p`` and ``q`` have one shape with the row on the last axis; ``q`` is None for entropies."""

    p: npt.NDArray[Any]
    q: npt.NDArray[Any] | None
    kind_p: Kind
    kind_q: Kind
    temperature: float
    raise_nan: bool
    threads: int

    @property
    def leading(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.p.shape[:-1]

    @property
    def n_rows(self) -> int:
        """Number of rows, broadcast ones included."""
        return math.prod(self.leading)

    @property
    def width(self) -> int:
        """Length of a row."""
        return int(self.p.shape[-1])

    def row_error(self, reason: str, argument: str, row: int, column: int, value: float) -> ValueError:
        """Word the error of one row."""
        where = self.row_name(row)
        kind = self.kind_p if argument == "p" else self.kind_q
        if reason == "negative":
            noun = "probabilities" if kind == "probs" else "weights"
            return ValueError(f"{argument} must not hold negative {noun}, got {value:.4g} in {where}, column {column}")
        if kind == "probs":
            return ValueError(
                f"{argument} must hold probabilities that sum to 1 within {NORMALISATION_TOLERANCE}, got a sum of "
                f'{value:.4g} in {where}; input="weights" takes numbers of any sum'
            )
        return ValueError(
            f"{argument} must hold log-probabilities whose log-sum-exp is 0 within {NORMALISATION_TOLERANCE}, got "
            f'{value:.4g} in {where}; input="logits" takes numbers of any log-sum-exp'
        )

    def check_defined(self, undefined: npt.NDArray[np.bool_]) -> None:
        """Honour ``nan_policy="raise"``; ``undefined`` has one flag a row."""
        if self.raise_nan and undefined.any():
            where = self.row_name(int(np.argmax(undefined)))
            sides = "p" if self.q is None else "p or q"
            raise ValueError(f"the result is NaN for {where}: {sides} holds a NaN, an infinity or no mass there")

    def row_name(self, row: int) -> str:
        """Name a flat row index the way the caller would index it."""
        if not self.leading:
            return "the row"
        index = tuple(int(i) for i in np.unravel_index(row, self.leading))
        return f"row {index[0] if len(index) == 1 else index}"


def one_sided(p: ArrayLike, **options: Unpack[Options]) -> Problem:
    """Check a call with one distribution."""
    kind = options.get("input", "probs")
    if not isinstance(kind, str):
        raise ValueError(f"input must be one of {_listed(KINDS)}, got {kind!r}")
    rows = _rows_last(as_array(p, "p"), "p", options.get("axis", -1))
    width = _vocab_size(options.get("vocab_size"), rows.shape[-1])
    return _problem(rows[..., :width], None, _kinds(kind), options)


def two_sided(p: ArrayLike, q: ArrayLike, **options: Unpack[Options]) -> Problem:
    """Check a call with two distributions and broadcast them."""
    kinds = _kinds(options.get("input", "probs"))
    axis, vocab_size = options.get("axis", -1), options.get("vocab_size")
    rows_p, rows_q = (_rows_last(as_array(value, name), name, axis) for value, name in ((p, "p"), (q, "q")))
    lengths = rows_p.shape[-1], rows_q.shape[-1]
    width = _vocab_size(vocab_size, min(lengths))
    if vocab_size is None and lengths[0] != lengths[1]:
        raise _lengths_differ(*lengths)
    return _problem(*_broadcast(rows_p[..., :width], rows_q[..., :width]), kinds, options)


@dataclass(frozen=True, eq=False)
class Crossed(Problem):
    """Every row of ``p``, shape (N, V), against every row of ``q``, shape (M, V)."""

    is_one: bool
    """Whether q is p."""

    def row_name(self, row: int) -> str:
        """Name a row of either matrix."""
        return f"row {row}"

    def check_rows(self, undefined_p: npt.NDArray[np.intp], undefined_q: npt.NDArray[np.intp]) -> None:
        """Honour ``nan_policy="raise"``, given the rows that are no distributions."""
        for argument, rows in (("p", undefined_p), ("q", undefined_q)):
            if self.raise_nan and len(rows):
                where = f"row {rows[0]} of {argument}"
                raise ValueError(f"the result is NaN for {where}: it holds a NaN, an infinity or no mass")


def crossed(p: ArrayLike, q: ArrayLike | None, **options: Unpack[Options]) -> Crossed:
    """Check a call with two matrices whose rows all meet; None stands for p again."""
    kinds = _kinds(options.get("input", "probs"))
    is_one = (q is None or q is p) and kinds[0] == kinds[1]
    rows_p = _matrix(p, "p")
    rows_q = rows_p if q is None or q is p else _matrix(q, "q")
    if options.get("vocab_size") is None and rows_p.shape[1] != rows_q.shape[1]:
        raise _lengths_differ(rows_p.shape[1], rows_q.shape[1])
    width = _vocab_size(options.get("vocab_size"), min(rows_p.shape[1], rows_q.shape[1]))
    checked = _problem(rows_p[:, :width], rows_q[:, :width], kinds, options)
    return Crossed(**vars(checked), is_one=is_one)


def targets_of(targets: ArrayLike, problem: Problem) -> npt.NDArray[np.int64]:
    """Check token ids against a problem; one id a row, flat."""
    ids = np.asarray(targets)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"targets must hold integer token ids, got dtype {ids.dtype}")
    try:
        ids = np.broadcast_to(ids, problem.leading)
    except ValueError:
        raise ValueError(f"targets must have the leading shape {problem.leading}, got {ids.shape}") from None
    outside = (ids < 0) | (ids >= problem.width)
    if outside.any():
        row = int(np.argmax(outside.ravel()))
        raise ValueError(
            f"targets must be between 0 and {problem.width - 1}, got {ids.ravel()[row]} for {problem.row_name(row)}"
        )
    return ids.astype(np.int64).ravel()


def unknown_name(what: str, name: object, known: Iterable[str]) -> ValueError:
    """Word the error of a name that is not in a list, with the nearest one that is."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"{what} must be one of {', '.join(names)}, got {name!r}{hint}")


def as_index(value: Any, argument: str, low: int, high: int, note: str = "") -> int:
    """Check an integer option and its range."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise TypeError(f"{argument} must be an integer, got {value!r}")
    if not low <= number <= high:
        raise ValueError(f"{argument} must be between {low} and {high}{note}, got {value!r}")
    return number


def _problem(p: npt.NDArray[Any], q: npt.NDArray[Any] | None, kinds: tuple[Kind, Kind], options: Options) -> Problem:
    temperature = _temperature(options.get("temperature", 1.0))
    if temperature != 1.0 and not any(kind in ("logits", "log_probs") for kind in kinds):
        raise ValueError(f"temperature divides logits and log_probs, got {temperature} with input={kinds[0]!r}")
    policy = options.get("nan_policy", "propagate")
    if policy not in ("propagate", "raise"):
        raise ValueError(f'nan_policy must be "propagate" or "raise", got {policy!r}')
    threads = options.get("threads")
    threads = 0 if threads is None else as_index(threads, "threads", 1, MAX_THREADS)
    return Problem(p, q, *kinds, temperature, policy == "raise", threads)


def _rows_last(array: npt.NDArray[Any], argument: str, axis: int) -> npt.NDArray[Any]:
    """Move the rows to the last axis."""
    if array.ndim == 0:
        raise ValueError(f"{argument} must have at least one dimension, got a scalar")
    rows = array
    if type(axis) is not int or axis != -1:
        note = f" for {argument} with {array.ndim} dimension{'s' if array.ndim > 1 else ''}"
        rows = np.moveaxis(array, as_index(axis, "axis", -array.ndim, array.ndim - 1, note), -1)
    if rows.shape[-1] == 0:
        raise ValueError(f"{argument} must have rows of at least one column, got shape {array.shape}")
    return rows


def _matrix(value: ArrayLike, argument: str) -> npt.NDArray[Any]:
    """Read an array with one distribution a row and no other axis."""
    array = as_array(value, argument)
    if array.ndim != 2:
        raise ValueError(f"{argument} must be a matrix with one distribution a row, got shape {array.shape}")
    return _rows_last(array, argument, -1)


def _lengths_differ(p: int, q: int) -> ValueError:
    return ValueError(
        f"p and q must have rows of one length, got {p} and {q}; "
        "if one vocabulary is padded, vocab_size= uses the first so many columns of both"
    )


def _broadcast(p: npt.NDArray[Any], q: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Give rows of one length one shape; nothing is copied."""
    if p.shape == q.shape:
        return p, q
    try:
        leading = np.broadcast_shapes(p.shape[:-1], q.shape[:-1])
    except ValueError:
        raise ValueError(
            f"p and q must have leading shapes that broadcast, got {p.shape[:-1]} and {q.shape[:-1]}"
        ) from None
    shape = (*leading, p.shape[-1])
    return np.broadcast_to(p, shape), np.broadcast_to(q, shape)


def _vocab_size(vocab_size: int | None, shortest: int) -> int:
    return shortest if vocab_size is None else as_index(vocab_size, "vocab_size", 1, shortest, " (the shorter row)")


def _kinds(kinds: Any) -> tuple[Kind, Kind]:
    pair: Any = (kinds, kinds) if isinstance(kinds, str) else kinds
    if not isinstance(pair, tuple | list) or len(pair) != 2 or any(kind not in KINDS for kind in pair):
        raise ValueError(f"input must be one of {_listed(KINDS)} or a pair of them, got {kinds!r}")
    return pair[0], pair[1]


def _temperature(value: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"temperature must be a number, got {value!r}")
    try:
        temperature = float(value)
    except OverflowError:
        temperature = math.inf
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be finite and greater than 0, got {value!r}")
    return temperature


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
