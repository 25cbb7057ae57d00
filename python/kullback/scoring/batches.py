"""One Arrow batch of rows in, one of columns out: what engines that already hold distributions in tables call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..comparison import compare
from .arrow_numbers import as_arrow, as_numpy
from .errors import InputError, UsageError
from .options import normalise_metrics
from .sources.arrow import as_rows, list_values, list_width, row_type

if TYPE_CHECKING:
    import pyarrow as pa

    from .._core.types import Kind, NanPolicy

__all__ = ["score_batch"]

_KEYS = ("row", "group", "target")


def score_batch(
    batch: pa.RecordBatch | pa.Table,
    /,
    *,
    p: str = "p",
    q: str = "q",
    row: str | None = None,
    group: str | None = None,
    target: str | None = None,
    metrics: str | Sequence[str] | None = None,
    input: Kind | tuple[Kind, Kind] = "logits",
    temperature: float = 1.0,
    vocab_size: int | None = None,
    nan_policy: NanPolicy = "propagate",
    threads: int = 1,
) -> pa.RecordBatch:
    """Compare two columns of distributions of an Arrow batch, row by row.

    It keeps no state and changes nothing, so that engines that deal batches out to processes can call it: Spark in
    ``mapInArrow``, Ray Data in ``map_batches``, Dask, Daft. The numbers are those of :func:`kullback.compare`.

    Parameters
    ----------
    batch : pyarrow.RecordBatch or pyarrow.Table
        n rows. Numbers are read where they lie; a table's chunks are compared one after another.
    p, q : str, default "p" and "q"
        Columns of the reference and of the candidate: FixedSizeList of float64, float32 or float16 (integers too with
        ``input="weights"``), or List whose lists all have one length, as Spark makes them.
    row, group : str, optional
        Columns of any type that are handed through, as ``row`` and ``group``; by default those of these names, if the
        batch has them.
    target : str, optional
        Column of integers: the token that followed each row. By default the column ``target``, if there is one.
    metrics : sequence of str, optional
        Columns wanted, as for :func:`kullback.compare`, also separated by commas in one string; all by default.
    input, temperature, vocab_size, nan_policy
        As for :func:`kullback.compare`.
    threads : int, default 1
        Threads of the native backend; the engine around it runs a batch on every processor.

    Returns
    -------
    pyarrow.RecordBatch
        n rows: ``row``, ``group`` and ``target`` as far as they are there, then the columns of the comparison. An empty
        batch gives an empty one of the same schema.

    Raises
    ------
    InputError
        If a column is missing, has a null or lists of different lengths, or its rows are not what `input` says (a
        ValueError).
    UsageError
        If an option is wrong (a ValueError).
    TypeError
        If a column or `batch` is of another type.

    Examples
    --------
    >>> import kullback as kb
    >>> import pyarrow as pa
    >>> logits = pa.list_(pa.float32(), 3)  # a FixedSizeList of three
    >>> batch = pa.record_batch(
    ...     {
    ...         "row": pa.array([7, 8]),
    ...         "p": pa.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]], logits),
    ...         "q": pa.array([[2.1, 1.0, 0.0], [0.0, 3.0, 0.0]], logits),
    ...     }
    ... )
    >>> result = kb.score_batch(batch, metrics=["kl", "top1_q"])
    >>> result.schema.names
    ['row', 'kl', 'top1_q']
    >>> result["row"].to_pylist(), result["top1_q"].to_pylist()
    ([7, 8], [0, 1])
    >>> [round(value, 4) for value in result["kl"].to_pylist()]
    [0.0011, 2.5925]
    """
    try:
        import pyarrow as pa
    except ModuleNotFoundError as error:
        message = "score_batch needs the package pyarrow; install it with: pip install 'kullback[score]'"
        raise ModuleNotFoundError(message, name=error.name) from None
    if not isinstance(batch, pa.RecordBatch | pa.Table):
        raise TypeError(f"batch must be a pyarrow.RecordBatch or pyarrow.Table, got {type(batch).__name__}")
    keys = _key_columns(batch, dict(zip(_KEYS, (row, group, target), strict=True)))
    columns = {side: _column_index(batch, name, side) for side, name in (("p", p), ("q", q))}
    names = normalise_metrics(metrics)
    if names is not None and not names:
        raise UsageError("metrics must name at least one column")
    # Whatever else `input` is, compare will refuse it.
    kinds = input if isinstance(input, tuple | list) and len(input) == 2 else (input, input)

    pieces = [batch] if isinstance(batch, pa.RecordBatch) else [piece for piece in batch.to_batches() if len(piece)]
    start, found = 0, []
    for piece in pieces or [pa.RecordBatch.from_pylist([], batch.schema)]:
        values = [
            _rows(piece.column(index), kind, f"column {batch.schema.field(index).name!r}", start, vocab_size)
            for index, kind in zip(columns.values(), kinds, strict=True)
        ]
        targets = _targets(piece.column(keys["target"]), start) if "target" in keys else None
        try:
            comparison = compare(
                *values,
                input=input,
                metrics=None if names is None else list(names),
                targets=targets,
                temperature=temperature,
                vocab_size=vocab_size,
                nan_policy=nan_policy,
                threads=threads,
            )
        except ValueError as error:
            where = f" (rows counted from row {start} on)" if start else ""
            raise InputError(f"{error}{where}") from None
        arrays = {key: piece.column(index) for key, index in keys.items()}
        arrays |= {name: as_arrow(comparison[name]) for name in comparison}
        found.append(pa.RecordBatch.from_pydict(arrays))
        start += len(piece)
    return found[0] if len(found) == 1 else pa.concat_batches(found)


def _listed(batch: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in batch.schema) or "none"


def _column_index(batch: Any, name: str, argument: str) -> int:
    """Return where a column is, or say what there is instead."""
    found: list[int] = batch.schema.get_all_field_indices(name)
    if len(found) != 1:
        count = "no column" if not found else f"{len(found)} columns"
        raise InputError(f"batch has {count} {name!r} for {argument}; its columns are {_listed(batch)}")
    return found[0]


def _key_columns(batch: Any, wanted: dict[str, str | None]) -> dict[str, int]:
    """Return where the key columns are: those asked for, and of the others those that are there."""
    return {
        key: _column_index(batch, name or key, key)
        for key, name in wanted.items()
        if name is not None or key in batch.schema.names
    }


def _rows(column: Any, kind: Any, name: str, start: int, vocab_size: int | None) -> NDArray[Any]:
    """Return the lists of a column as rows, not copied."""
    import pyarrow as pa

    storage = getattr(column.type, "storage_type", column.type)
    is_list = pa.types.is_list(storage) or pa.types.is_large_list(storage) or pa.types.is_fixed_size_list(storage)
    if not is_list or not (pa.types.is_floating(storage.value_type) or pa.types.is_integer(storage.value_type)):
        raise TypeError(f"{name} holds {column.type}; expected a FixedSizeList of float64, float32 or float16")
    numbers, width = row_type(storage, kind, name)
    if width is None:  # of an empty batch nothing is known, and nothing is looked at
        width = list_width(column, name) if len(column) else vocab_size or 1
    if not len(column):
        return np.empty((0, width), numbers.stored)
    return as_rows(list_values(column, width, start, name), width)


def _targets(column: Any, start: int) -> NDArray[Any]:
    """Return the target tokens."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type):
        raise TypeError(f"the target column holds {column.type}; expected integer token ids")
    if column.null_count:
        raise InputError(
            f"the target column has a null among rows {start} to {start + len(column)}; expected token ids"
        )
    return as_numpy(column)
