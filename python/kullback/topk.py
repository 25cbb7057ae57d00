"""Rows that keep only their most probable tokens: records of them, and divergences between them."""

import functools
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kullback._core import backend, tails, validation
from kullback._core.arrays import as_array, as_float32, as_float64
from kullback._core.types import Array, ArrayLike, Kind, NanPolicy
from kullback._core.validation import NORMALISATION_TOLERANCE, Problem
from kullback.comparison import Comparison

__all__ = ["TopK", "compare_topk"]

_RULES = ("bucket", "renormalize", "bounds")
_MOST_TOKENS = 2**31 - 1
# Numbers checked at a time: their temporaries stay small.
_BLOCK = 1 << 20


class TopK:
    r"""The most probable tokens of each row, and how probable they are: what log-probability caches and servers store.

    The mass outside the list is :math:`1 - \sum_i e^{\ell_i}`, as accurate as the listed numbers are, unless `log_tail`
    gives it. A list that reaches a mass of 1 has no tail, and is normalised; so is one that holds every token.

    Parameters
    ----------
    ids : array_like of int
        Token ids, shape (..., k), in any order, none twice in a row; -1 fills up a row that lists fewer. Kept as int32.
    log_probs : array_like
        Their log-probabilities, of the same shape; -inf beside an id of -1. float32 and float64 are kept as they are.
    vocab_size : int
        Number of tokens there are.
    log_tail : array_like, optional
        Logarithm of the mass outside the list, of the leading shape, where it is known by itself.

    Attributes
    ----------
    ids, log_probs, vocab_size, log_tail
        As given, as arrays.

    Raises
    ------
    ValueError
        If shapes do not fit, an id is outside the vocabulary or stands twice in a row, a log-probability is above 0, or
        a row has more mass than 1 (by 0.01), or less although nothing is left out. NaN passes: its row has no value.
    TypeError
        If `ids` are not integers or `log_probs` not real numbers in CPU memory.

    Examples
    --------
    >>> import kullback as kb
    >>> kb.TopK([[5, 2], [7, -1]], [[-0.5, -1.5], [-0.25, float("-inf")]], 10)
    TopK(2 rows of 2 among 10 tokens, float64, mean tail mass 0.1958)
    """

    def __init__(
        self, ids: npt.ArrayLike, log_probs: ArrayLike, vocab_size: int, *, log_tail: ArrayLike | None = None
    ) -> None:
        self.vocab_size = validation.as_index(vocab_size, "vocab_size", 1, _MOST_TOKENS)
        numbers = np.asarray(ids)
        if numbers.dtype.kind not in "iu":
            raise TypeError(f"ids must hold integer token ids, got dtype {numbers.dtype}")
        logs = as_array(log_probs, "log_probs")
        logs = logs if logs.dtype in (np.float32, np.float64) else as_float32(logs)
        if numbers.shape != logs.shape or not numbers.ndim or not numbers.shape[-1]:
            raise ValueError(
                "ids and log_probs must have one shape (..., k) with k at least 1, "
                f"got {numbers.shape} and {logs.shape}"
            )
        outside = (
            (numbers < -1) | (numbers >= self.vocab_size) if numbers.dtype.kind == "i" else (numbers >= self.vocab_size)
        )
        if outside.any():
            row, at = _first(outside)
            raise ValueError(
                f"ids must be between 0 and {self.vocab_size - 1}, or -1 for none, got {numbers[at]} in {row}"
            )
        self.ids = np.ascontiguousarray(numbers, np.int32)
        self.log_probs = np.ascontiguousarray(logs)
        self.log_tail = None if log_tail is None else self._checked_tail(log_tail)
        flat_ids, flat_logs = self.ids.reshape(-1, self.k), self.log_probs.reshape(-1, self.k)
        step = max(1, _BLOCK // self.k)
        for start in range(0, self.n_rows, step):
            self._check(flat_ids[start : start + step], flat_logs[start : start + step], start)

    @classmethod
    def from_logits(
        cls,
        rows: ArrayLike,
        k: int,
        *,
        input: Kind = "logits",
        axis: int = -1,
        temperature: float = 1.0,
        vocab_size: int | None = None,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
    ) -> "TopK":
        """Keep the `k` most probable tokens of full rows.

        Log-probabilities and `log_tail` are float64 and keep their digits however certain a row is. Of equal tokens the
        smaller id comes first. A row with a NaN, a +inf or no mass holds the ids 0, 1, ... with NaN.

        Parameters
        ----------
        rows : array_like
            Full rows, shape (..., V), as for :func:`kl_divergence`.
        k : int
            Tokens to keep of each row.
        input : {"probs", "weights", "log_probs", "logits"}, default "logits"
            What the numbers are.
        axis, temperature, vocab_size, nan_policy, threads
            As for :func:`kl_divergence`.

        Returns
        -------
        TopK
            With `log_tail`, largest log-probability first.

        Examples
        --------
        >>> import kullback as kb
        >>> kept = kb.TopK.from_logits([0.0, 3.0, 1.0], 2)
        >>> kept.ids, kept.log_probs.round(4)
        (array([1, 2], dtype=int32), array([-0.1698, -2.1698]))
        """
        problem = validation.one_sided(
            rows,
            input=input,
            axis=axis,
            temperature=temperature,
            vocab_size=vocab_size,
            nan_policy=nan_policy,
            threads=threads,
        )
        k = validation.as_index(k, "k", 1, problem.width, " (the length of a row)")
        found: Array = np.empty((0, 2 * k + 1))
        if problem.n_rows:
            native = functools.partial(_native_top_k, problem, k)
            found = backend.run(problem, native, functools.partial(tails.top_k, problem, k))
        undefined = np.isnan(found[:, -1])
        problem.check_defined(undefined)
        made = cls.__new__(cls)
        made.vocab_size = problem.width
        ids = np.where(undefined[:, np.newaxis], np.arange(k), np.nan_to_num(found[:, :k]))
        made.ids = ids.astype(np.int32).reshape(*problem.leading, k)
        made.log_probs = np.ascontiguousarray(found[:, k : 2 * k]).reshape(made.ids.shape)
        made.log_tail = np.ascontiguousarray(found[:, -1]).reshape(problem.leading)
        return made

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading shape of the rows."""
        return self.ids.shape[:-1]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return math.prod(self.shape)

    @property
    def k(self) -> int:
        """Most tokens that a row lists."""
        return int(self.ids.shape[-1])

    @property
    def tail_mass(self) -> Any:
        """Mass outside the list of each row, of the leading shape: float64, NaN for a row that has a NaN."""
        masses = np.empty(self.n_rows)
        logs = self.log_probs.reshape(-1, self.k)
        step = max(1, _BLOCK // self.k)
        for start in range(0, self.n_rows, step):
            rows = slice(start, start + step)
            (slack, outside), complete = _one_less(logs[rows]), self._complete(rows)
            masses[rows] = np.where(complete | (slack <= tails.FLOOR * outside), 0.0 * slack, slack)
            if self.log_tail is not None:
                given = np.exp(self.log_tail.reshape(-1)[rows])
                masses[rows] = np.where(complete, masses[rows], given / (1.0 + (given - slack)))
        return masses.reshape(self.shape)[()]

    def __len__(self) -> int:
        """Return the number of rows along the first axis."""
        if not self.shape:
            raise TypeError("a TopK of a single row has no length")
        return self.shape[0]

    def __getitem__(self, index: Any) -> "TopK":
        """Select rows; the index is one of the leading shape, as for an array."""
        if not self.shape:
            raise IndexError("a TopK of a single row cannot be indexed")
        rows = np.arange(self.n_rows).reshape(self.shape)[index]
        made = type(self).__new__(type(self))
        made.vocab_size = self.vocab_size
        made.ids, made.log_probs = self.ids.reshape(-1, self.k)[rows], self.log_probs.reshape(-1, self.k)[rows]
        made.log_tail = None if self.log_tail is None else np.asarray(self.log_tail.reshape(-1)[rows])
        return made

    def __repr__(self) -> str:
        """Show shape, type and the mean of the tail masses."""
        rows = "1 row" if not self.shape else f"{' x '.join(map(str, self.shape))} row{'s' * (self.n_rows != 1)}"
        masses = np.asarray(self.tail_mass)
        known = masses[~np.isnan(masses)]
        mean = f", mean tail mass {known.mean():.4g}" if known.size else ""
        return f"TopK({rows} of {self.k} among {self.vocab_size} tokens, {self.log_probs.dtype}{mean})"

    def _complete(self, rows: slice) -> npt.NDArray[np.bool_]:
        return np.asarray(np.count_nonzero(self.ids.reshape(-1, self.k)[rows] >= 0, axis=-1) == self.vocab_size)

    def _checked_tail(self, log_tail: ArrayLike) -> Array:
        given = np.asarray(as_float64(as_array(log_tail, "log_tail")), order="C")
        if given.shape != self.shape:
            raise ValueError(f"log_tail must have the leading shape {self.shape}, got {given.shape}")
        return given

    def _check(self, ids: npt.NDArray[np.int32], logs: npt.NDArray[Any], start: int) -> None:
        """Check some rows, the first of which is row `start`."""
        ordered = np.sort(ids, axis=-1)
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        if twice.any():
            row, column = np.argwhere(twice)[0]
            raise ValueError(
                f"ids must not repeat in a row, got {ordered[row, column]} twice in {self._name(start + row)}"
            )
        padded = (ids < 0) & (logs != -np.inf)
        if padded.any():
            row, column = np.argwhere(padded)[0]
            where = f"{self._name(start + row)}, column {column}"
            raise ValueError(f"log_probs must be -inf beside an id of -1, got {logs[row, column]:.4g} in {where}")
        positive = logs > NORMALISATION_TOLERANCE
        if positive.any():
            row, column = np.argwhere(positive)[0]
            where = f"{self._name(start + row)}, column {column}"
            raise ValueError(f"log_probs must not be above 0, got {logs[row, column]:.4g} in {where}")
        mass = 1.0 - _one_less(logs)[0]
        full = self._complete(slice(start, start + len(ids)))
        if self.log_tail is not None:
            mass = mass + np.where(full, 0.0, np.exp(self.log_tail.reshape(-1)[start : start + len(ids)]))
            full = np.ones(len(ids), bool)
        # Negated, so that NaN passes.
        wrong = (mass > 1.0 + NORMALISATION_TOLERANCE) | (full & (mass < 1.0 - NORMALISATION_TOLERANCE))
        if wrong.any():
            row = int(np.argmax(wrong))
            what = "at most 1" if not full[row] else "1" if self.log_tail is None else "1 together with log_tail"
            raise ValueError(
                f"log_probs must have a mass of {what} within {NORMALISATION_TOLERANCE}, got {mass[row]:.4g} in "
                f"{self._name(start + row)}"
            )

    def _name(self, row: int) -> str:
        return _row_name(self.shape, row)


def compare_topk(
    p: TopK | ArrayLike,
    q: TopK | ArrayLike,
    /,
    *,
    tail: Literal["bucket", "renormalize", "bounds"] = "bucket",
    sorted_tail: bool = False,
    input: Kind = "logits",
    nan_policy: NanPolicy = "propagate",
    threads: int | None = None,
) -> Comparison:
    r"""Compare rows of which only the most probable tokens are known.

    An id that one side does not list has an unknown probability there, a part of that side's tail. `tail` says what
    becomes of it:

    - ``"bucket"``: the ids that both sides list, and everything else as one outcome more. Merging outcomes never
      raises a divergence, so this is a lower bound of the value of the full rows, and never negative.
    - ``"renormalize"``: the lists are taken as whole distributions; an id that a list does not hold has probability 0
      there, so KL(p || q) is +inf if p lists an id that q does not.
    - ``"bounds"``: the lowest and the highest value that any completion of the tails allows. Both are attained.
      KL(p || q) is unbounded (+inf) unless q is known wherever p may have mass.

    Parameters
    ----------
    p, q : TopK or array_like
        Reference and candidate. One of them may be full rows, shape (..., V); they are then known everywhere, or, to
        ``"renormalize"``, at the ids of the list. Leading shapes broadcast.
    tail : {"bucket", "renormalize", "bounds"}, default "bucket"
        What becomes of the mass outside the lists.
    sorted_tail : bool, default False
        For ``"bounds"``: that the lists are the true top k, so that no unseen token is more probable than the least
        listed one. It is the default not to assume it: lists of sampled or chosen ids are no top k.
    input : {"probs", "weights", "log_probs", "logits"}, default "logits"
        What the numbers of full rows are.
    nan_policy : {"propagate", "raise"}, default "propagate"
        Whether a row without a value is NaN in the result or an error.
    threads : int, optional
        Number of threads of this call; the default is that of :func:`kullback.set_num_threads`.

    Returns
    -------
    Comparison
        ``kl``, ``reverse_kl``, ``js`` and ``total_variation``, in nats, or with ``"bounds"`` ``kl_low``, ``kl_high``
        and so on, of the broadcast leading shape. A row is NaN where a side has a NaN, a +inf or no mass.

    Raises
    ------
    ValueError
        If vocabularies, shapes or options do not fit, full rows are not distributions of the stated kind, or a tail
        does not fit below the least listed probability with `sorted_tail`.
    TypeError
        If neither side is a :class:`TopK`, or full rows do not hold real numbers in CPU memory.

    Examples
    --------
    >>> import kullback as kb, numpy as np
    >>> p = kb.TopK([0, 1], np.log([0.5, 0.25]), 8)
    >>> q = kb.TopK([0, 2], np.log([0.25, 0.5]), 8)
    >>> round(float(kb.compare_topk(p, q)["kl"]), 6)
    0.143841
    >>> bounds = kb.compare_topk(p, q, tail="bounds")
    >>> print(bounds["js_low"].round(4), bounds["js_high"].round(4))
    0.0425 0.4545
    """
    if tail not in _RULES:
        raise validation.unknown_name("tail", tail, _RULES)
    if not isinstance(sorted_tail, bool | np.bool_):
        raise TypeError(f"sorted_tail must be True or False, got {sorted_tail!r}")
    if sorted_tail and tail != "bounds":
        raise ValueError(f'sorted_tail narrows tail="bounds", got tail={tail!r}')
    problem, lists = _problem(p, q, input, nan_policy, threads)
    rule = "sorted_bounds" if sorted_tail else tail
    for argument, side in zip("pq", lists, strict=True):
        if sorted_tail and side is not None:
            _check_sorted(side, argument)
    broadcast = [None if side is None else _broadcast(side, problem.leading) for side in lists]
    vocab_size = next(side.vocab_size for side in lists if side is not None)
    width = 8 if tail == "bounds" else 4
    values: Array = np.empty((0, width))
    if problem.n_rows:
        native = functools.partial(_native, problem, broadcast, vocab_size, rule)
        values = backend.run(
            problem, native, functools.partial(tails.evaluate_rows, problem, broadcast, vocab_size, rule)
        )
    problem.check_defined(np.isnan(values[:, 0]))
    suffixes = ("_low", "_high") if tail == "bounds" else ("",)
    columns = {
        f"{name}{suffix}": values[:, column + 4 * half]
        for column, name in enumerate(tails.NAMES)
        for half, suffix in enumerate(suffixes)
    }
    return Comparison(columns, problem.leading)


def _problem(
    p: Any, q: Any, kind: Kind, nan_policy: NanPolicy, threads: int | None
) -> tuple[Problem, list[TopK | None]]:
    """Check both sides; the problem holds full rows, or the log-probabilities of lists, with one leading shape."""
    lists = [side if isinstance(side, TopK) else None for side in (p, q)]
    sizes = {argument: side.vocab_size for argument, side in zip("pq", lists, strict=True) if side is not None}
    if not sizes:
        raise TypeError("p or q must be a TopK, got two arrays: compare takes full rows on both sides")
    vocab_size = next(iter(sizes.values()))
    arrays = []
    for argument, value, side in zip("pq", (p, q), lists, strict=True):
        if side is not None:
            if side.vocab_size != vocab_size:
                raise ValueError(f"p and q must have one vocab_size, got {vocab_size} and {side.vocab_size}")
            arrays.append(side.log_probs)
            continue
        rows = as_array(value, argument)
        if not rows.ndim or rows.shape[-1] != vocab_size:
            raise ValueError(
                f"{argument} must have rows of the vocab_size {vocab_size} of the other side, got shape {rows.shape}"
            )
        arrays.append(rows)
    options = validation.one_sided(np.ones(1), input=kind, nan_policy=nan_policy, threads=threads)
    try:
        leading = np.broadcast_shapes(arrays[0].shape[:-1], arrays[1].shape[:-1])
    except ValueError:
        shapes = f"{arrays[0].shape[:-1]} and {arrays[1].shape[:-1]}"
        raise ValueError(f"p and q must have leading shapes that broadcast, got {shapes}") from None
    of_p, of_q = (np.broadcast_to(array, (*leading, array.shape[-1])) for array in arrays)
    problem = Problem(of_p, of_q, kind, kind, 1.0, options.raise_nan, options.threads)
    return problem, lists


def _check_sorted(side: TopK, argument: str) -> None:
    """Fail if a tail does not fit below the least listed probability, so that the list cannot be the top k."""
    ids, logs = side.ids.reshape(-1, side.k), side.log_probs.reshape(-1, side.k)
    least = np.exp(np.min(logs, axis=-1, where=ids >= 0, initial=np.inf).astype(np.float64))
    room = (side.vocab_size - np.count_nonzero(ids >= 0, axis=-1)) * np.where(np.isinf(least), np.inf, least)
    tail = np.asarray(side.tail_mass).reshape(-1)
    # What the rounding of stored log-probabilities leaves of a tail is no objection.
    wrong = tail > (1.0 + NORMALISATION_TOLERANCE) * np.nan_to_num(room, nan=np.inf) + 1e-6
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"sorted_tail: the unseen tokens of {argument} must fit below its least listed probability, got a tail of "
            f"{tail[row]:.4g} where {room[row]:.4g} fits in {_row_name(side.shape, row)}"
        )


def _broadcast(side: TopK, leading: tuple[int, ...]) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any], Array | None]:
    """Return ids, log-probabilities and tails as matrices of one row a pair."""
    rows = math.prod(leading)
    ids = np.ascontiguousarray(np.broadcast_to(side.ids, (*leading, side.k))).reshape(rows, side.k)
    logs = np.ascontiguousarray(np.broadcast_to(side.log_probs, (*leading, side.k))).reshape(rows, side.k)
    if side.log_tail is None:
        return ids, logs, None
    return ids, logs, np.ascontiguousarray(np.broadcast_to(side.log_tail, leading)).reshape(rows)


def _native(problem: Problem, lists: list[Any], vocab_size: int, rule: str, module: Any) -> Array:
    sides = []
    for side, array in zip(lists, (problem.p, problem.q), strict=True):
        ids, logs, log_tail = (None, array, None) if side is None else side
        sides += [logs, ids, log_tail, problem.kind_p if side is None else "logits"]
    values: Array = module.compare_topk(*sides, vocab_size, rule, problem.threads)
    return values


def _native_top_k(problem: Problem, k: int, module: Any) -> Array:
    found: Array = module.top_k(problem.p, k, problem.kind_p, problem.temperature, problem.threads)
    return found


def _one_less(logs: npt.NDArray[Any]) -> tuple[Array, Array]:
    """Return 1 less the mass of each row and 1 less its largest; only what lies outside the largest is rounded."""
    top = np.argmax(logs, axis=-1)[:, np.newaxis]
    wide = logs.astype(np.float64)
    first = -np.expm1(np.take_along_axis(wide, top, axis=-1))[:, 0]
    np.put_along_axis(wide, top, -np.inf, axis=-1)
    return first - np.exp(wide).sum(axis=-1), first


def _first(flags: npt.NDArray[np.bool_]) -> tuple[str, tuple[int, ...]]:
    """Name the row of the first flag, and return its index."""
    at = tuple(int(i) for i in np.argwhere(flags)[0])
    leading = flags.shape[:-1]
    return _row_name(leading, int(np.ravel_multi_index(at[:-1], leading)) if leading else 0), at


def _row_name(leading: tuple[int, ...], row: int) -> str:
    index = tuple(int(i) for i in np.unravel_index(row, leading)) if leading else ()
    return "the row" if not index else f"row {index[0] if len(index) == 1 else index}"
