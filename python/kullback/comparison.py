"""Many metrics of the same rows from one read of the data."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kullback._core import backend, columns, validation
from kullback._core.types import ArrayLike, Kind, NanPolicy

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from kullback.scoring.summary import Summary

__all__ = ["Comparison", "compare"]


class Comparison(Mapping[str, npt.NDArray[Any]]):
    """The columns of :func:`compare`: a read-only mapping from column name to array.

    Attributes
    ----------
    shape : tuple of int
        Leading shape of the rows, which is the shape of every column.
    n_rows : int
        Number of rows.
    """

    def __init__(self, values: Mapping[str, npt.NDArray[Any]], shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._values = {name: np.asarray(column).reshape(shape) for name, column in values.items()}

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Return one column; an unknown name is an error that lists the known ones."""
        if name not in self._values:
            raise KeyError(str(validation.unknown_name("column", name, self._values)))
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the columns."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._values)

    def __repr__(self) -> str:
        """Show mean, median and largest value of each column."""
        title = f"Comparison of {self.n_rows} row{'s' * (self.n_rows != 1)}"
        lines = [f"{title:<24}{'mean':>12}{'median':>12}{'max':>12}"]
        for name, column in self.items():
            known = column[~np.isnan(column)] if column.dtype.kind == "f" else column[column >= 0]
            if name in columns.TOKEN_IDS or not known.size:
                lines.append(f"{name:<24}{'-':>12}{'-':>12}{'-':>12}")
            else:
                figures = (float(np.mean(known)), float(np.median(known)), float(np.max(known)))
                lines.append(f"{name:<24}" + "".join(f"{figure:>12.4g}" for figure in figures))
        return "\n".join(lines)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._values)

    def summary(self, groups: npt.ArrayLike | None = None) -> "Summary":
        """Summarise the columns: means with errors, percentiles, perplexities, agreement.

        Parameters
        ----------
        groups : array_like of int, optional
            Chunk or document of each row, of the leading shape; errors are then also given by bootstrap over groups.

        Returns
        -------
        Summary
            See :class:`kullback.scoring.summary.Summary`.
        """
        from kullback.scoring.summary import summarise

        members = None if groups is None else np.broadcast_to(np.asarray(groups), self.shape).ravel()
        return summarise(self._flat(), members)

    def to_arrow(self) -> "pyarrow.Table":
        """Return the columns as a ``pyarrow.Table``, one line a row in C order; needs pyarrow."""
        try:
            import pyarrow
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_arrow needs pyarrow: pip install pyarrow") from error
        return pyarrow.table(self._flat())

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the columns as a ``pandas.DataFrame``, one line a row in C order; needs pandas."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_pandas needs pandas: pip install pandas") from error
        return pandas.DataFrame(self._flat())

    def _flat(self) -> dict[str, npt.NDArray[Any]]:
        return {name: column.ravel() for name, column in self._values.items()}


def compare(
    p: ArrayLike,
    q: ArrayLike,
    /,
    *,
    input: Kind | tuple[Kind, Kind] = "logits",
    metrics: Sequence[str] | None = None,
    targets: ArrayLike | None = None,
    top_k: Iterable[int] = (1, 5, 10),
    temperature: float = 1.0,
    vocab_size: int | None = None,
    nan_policy: NanPolicy = "propagate",
    axis: int = -1,
    threads: int | None = None,
) -> Comparison:
    """Compute many metrics of each row in one read of the data.

    A row in which p or q has a NaN, a +inf or no mass is NaN in every floating-point column and -1 in every integer
    one. Zeros and infinities are otherwise those of the functions of the same names. Ties are resolved towards the
    smaller token id throughout: in the first maximum, in the top k and in the rank.

    Parameters
    ----------
    p, q : array_like
        Rows of the reference and of the candidate, shape (..., V), as for :func:`kl_divergence`.
    input : {"probs", "weights", "log_probs", "logits"} or a pair of them, default "logits"
        What the numbers are.
    metrics : sequence of str, optional
        The columns wanted, in order: names of :func:`divergence_names`, with a parameter as in ``"renyi:order=2"`` or
        ``"skew_kl:alpha=0.2"`` (``alpha`` and ``renyi`` need theirs), ``entropy_p``, ``entropy_q``, ``top1_p``,
        ``top1_q`` (token ids), ``top1_prob_p``, ``top1_prob_q`` (their probabilities, each on its own side),
        ``overlap_<k>`` (fraction of p's top k found in q's top k) and, with `targets`,
        ``log_prob_p``, ``log_prob_q``, ``delta_prob`` (= q - p), ``rank_p``, ``rank_q`` (1 for the first maximum).
        The default is the common divergences, the entropies, the top 1, an overlap for each `top_k` and, with
        `targets`, the columns that need them.
    targets : array_like of int, optional
        A token id for each row, of the leading shape.
    top_k : iterable of int, default (1, 5, 10)
        The overlaps among the default columns.
    temperature, vocab_size, nan_policy, axis, threads
        As for :func:`kl_divergence`.

    Returns
    -------
    Comparison
        A mapping from column name to array of the broadcast leading shape.

    Raises
    ------
    ValueError
        If shapes, options or column names do not fit, or a row is not a distribution of the stated kind.
    TypeError
        If an input does not hold real numbers in CPU memory, or `targets` are not integers.

    Examples
    --------
    >>> import kullback as kb
    >>> p = [[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]]
    >>> q = [[2.1, 1.0, 0.0], [0.0, 3.0, 0.0]]
    >>> result = kb.compare(p, q, targets=[0, 2], top_k=(1,))
    >>> result["overlap_1"]
    array([1., 0.])
    >>> result["rank_q"]
    array([1, 3])
    >>> [round(float(value), 4) for value in result["kl"]]
    [0.0011, 2.5925]
    """
    problem = validation.two_sided(
        p,
        q,
        axis=axis,
        input=input,
        temperature=temperature,
        vocab_size=vocab_size,
        nan_policy=nan_policy,
        threads=threads,
    )
    ids = None if targets is None else validation.targets_of(targets, problem)
    names = columns.chosen(metrics, top_k, ids is not None)
    values = {name: np.empty(0, columns.dtype_of(name)) for name in names}
    if problem.n_rows:
        native = functools.partial(columns.native, problem, names, ids)
        values = backend.run(problem, native, functools.partial(columns.evaluate, problem, names, ids))
    for column in values.values():
        problem.check_defined(np.isnan(column) if column.dtype.kind == "f" else column < 0)
    return Comparison(values, problem.leading)
