"""The columns of a comparison: their names, and their NumPy definitions over one block of rows."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kullback._core import reference, registry
from kullback._core.arrays import as_float64
from kullback._core.lazy import lazy
from kullback._core.metrics import parse
from kullback._core.reference import Pair
from kullback._core.types import Array
from kullback._core.validation import Problem, as_index, unknown_name

Ids = npt.NDArray[np.int64]

TOKEN_IDS = ("top1_p", "top1_q")
TOP_PROBS = ("top1_prob_p", "top1_prob_q")
OF_TARGETS = ("log_prob_p", "log_prob_q", "delta_prob", "rank_p", "rank_q")
_DIVERGENCES = ("kl", "reverse_kl", "js", "jeffreys", "total_variation", "squared_hellinger")
_ENTROPIES = ("entropy_p", "entropy_q")
_DEFAULTS = (*_DIVERGENCES, *_ENTROPIES, "cross_entropy", *TOKEN_IDS, *TOP_PROBS)
_INTEGERS = (*TOKEN_IDS, "rank_p", "rank_q")
_OVERLAP = re.compile(r"overlap_([1-9][0-9]{0,8})")


def chosen(metrics: Sequence[str] | None, top_k: Iterable[int], has_targets: bool) -> list[str]:
    """List the columns of a call, each once: those asked for, or the default ones."""
    if metrics is None:
        overlaps = [f"overlap_{as_index(k, 'top_k', 1, 10**9 - 1)}" for k in top_k]
        return list(dict.fromkeys([*_DEFAULTS, *overlaps, *(OF_TARGETS if has_targets else ())]))
    if isinstance(metrics, str):
        raise TypeError(f"metrics must be a sequence of column names, got the string {metrics!r}")
    known = [*registry.divergence_names(), *_ENTROPIES, *TOKEN_IDS, *TOP_PROBS, *OF_TARGETS]
    for name in metrics:
        if _is_divergence(name):
            parse(name)
        elif name not in known and not _OVERLAP.fullmatch(str(name)):
            raise unknown_name("metrics", name, [*known, "overlap_<k>"])
        if name in OF_TARGETS and not has_targets:
            raise ValueError(f"the column {name!r} needs targets, got targets=None")
    return list(dict.fromkeys(metrics))


def dtype_of(name: str) -> type[np.int64] | type[np.float64]:
    """Return the dtype of a column."""
    return np.int64 if name in _INTEGERS else np.float64


def native(problem: Problem, names: list[str], ids: Ids | None, module: Any) -> dict[str, npt.NDArray[Any]]:
    """Compute the columns natively, in one read."""
    full = {name: _full(name) for name in names}
    values: dict[str, npt.NDArray[Any]] = module.compare(
        problem.p,
        problem.q,
        problem.kind_p,
        problem.kind_q,
        list(full.values()),
        ids,
        problem.temperature,
        problem.threads,
    )
    return {name: values[text] for name, text in full.items()}


def _is_divergence(name: object) -> bool:
    """Tell names of the registry, with or without a parameter, from other columns."""
    return registry.is_divergence(str(name).partition(":")[0])


def _full(name: str) -> str:
    """Write a column as the native module reads it."""
    return parse(name).text if _is_divergence(name) else name


def evaluate(problem: Problem, names: list[str], ids: Ids | None) -> dict[str, npt.NDArray[Any]]:
    """Compute the columns with NumPy, block by block."""
    out = {name: np.empty(problem.n_rows, dtype_of(name)) for name in names}
    for rows in reference.row_blocks(problem):
        with np.errstate(all="ignore"):
            block = Block(problem, rows, None if ids is None else ids[rows])
            for name, column in out.items():
                missing = -1 if name in _INTEGERS else np.nan
                column[rows] = np.where(block.pair.defined[:, 0], block.column(name), missing)
    return out


class Block:
    """A range of rows, with what several columns share."""

    def __init__(self, problem: Problem, rows: slice, ids: Ids | None) -> None:
        self.pair: Pair = reference.load(problem, rows)
        self._problem, self._rows = problem, rows
        self._ids = np.empty(0, np.int64) if ids is None else ids

    def column(self, name: str) -> npt.NDArray[Any]:
        """Evaluate one column."""
        if _is_divergence(name):
            return parse(name).body(self.pair)
        if name == "delta_prob":
            return self._at_ids(self.pair.difference())
        if overlap := _OVERLAP.fullmatch(name):
            k = min(int(overlap[1]), self._problem.width)
            return np.asarray((in_top(self._p, k) & in_top(self._q, k)).sum(axis=-1) / k)
        what, side = name[:-2], name[-1]
        numbers, rows = (self._p, self.pair.p) if side == "p" else (self._q, self.pair.q)
        if what == "entropy":
            return np.asarray(rows.entropy())
        if what == "top1":
            return np.asarray(np.argmax(numbers, axis=-1))
        if what == "top1_prob":
            return np.asarray(1.0 / (1.0 + rows.rest[:, 0]))
        if what == "log_prob":
            return -(self._at_ids(rows.depth) + np.log1p(rows.rest[:, 0]))
        return self._rank(numbers)

    @lazy
    def _p(self) -> Array:
        """The numbers of p as given: temperature and normalisation do not reorder them."""
        return as_float64(reference.take(self._problem.p, self._rows))

    @lazy
    def _q(self) -> Array:
        assert self._problem.q is not None
        return as_float64(reference.take(self._problem.q, self._rows))

    def _at_ids(self, values: Array) -> Array:
        return np.take_along_axis(values, self._ids[:, np.newaxis], axis=-1)[:, 0]

    def _rank(self, numbers: Array) -> Ids:
        mine = self._at_ids(numbers)[:, np.newaxis]
        earlier = np.arange(numbers.shape[-1]) < self._ids[:, np.newaxis]
        return np.asarray(1 + ((numbers > mine) | ((numbers == mine) & earlier)).sum(axis=-1))


def in_top(numbers: Array, k: int) -> npt.NDArray[np.bool_]:
    """Flag the k largest numbers of each row, equal ones by smaller index first."""
    threshold = np.partition(numbers, -k, axis=-1)[:, -k, np.newaxis]
    above, equal = numbers > threshold, numbers == threshold
    missing = k - above.sum(axis=-1, keepdims=True)
    return np.asarray(above | (equal & (np.cumsum(equal, axis=-1) <= missing)))
