"""The rows of a run, a batch at a time and only the columns asked for, so that memory does not grow with the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrow_numbers import as_numpy
from ..errors import InputError, reason_of
from ..output import part_path
from .gather import Run

__all__ = ["Batch", "Rows"]

_BATCH = 1 << 16

Batch = tuple[int, dict[str, NDArray[Any] | None]]


class Rows:
    """Parquet parts of a run.

    Parameters
    ----------
    run : Run
        Which parts there must be.

    Raises
    ------
    InputError
        If a part is missing, damaged, or does not have the rows it must have.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._n_parts = -(-run.n_rows // run.rows_per_part)
        for name in run.candidates:
            for number in range(self._n_parts):
                self._check(name, number)

    def _path(self, name: str, number: int) -> Path:
        return part_path(self._run.directory, name, number)

    def _check(self, name: str, number: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._path(name, number)
        advice = "the same kullback score command makes it again"
        if not path.is_file():
            raise InputError(f"{path} is missing; {advice}")
        try:
            metadata = pq.read_metadata(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path} is damaged ({reason_of(error)}); {advice}") from None
        per_part = self._run.rows_per_part
        expected = min(per_part, self._run.n_rows - number * per_part)
        if metadata.num_rows != expected:
            raise InputError(f"{path} has {metadata.num_rows:,} rows, not {expected:,}; {advice}")
        names = metadata.schema.to_arrow_schema().names
        missing = [column for column in ("group", "target", *self._run.columns) if column not in names]
        if missing:
            raise InputError(f"{path} has no column {missing[0]!r}; {advice}")

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[Batch]:
        """Yield number and columns of the next rows of a candidate; a column that is null (no targets) is None."""
        for number in range(self._n_parts):
            yield from self._part(self._path(name, number), columns)

    def _part(self, path: Path, columns: Sequence[str]) -> Iterator[Batch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH, columns=list(columns), use_threads=False):
                    yield batch.num_rows, {name: _array(batch.column(name)) for name in columns}
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{path} is damaged ({reason_of(error)}); the same kullback score command makes it again"
            ) from None

    def take(self, name: str, rows: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Return a few rows by number; None stands for what is unknown in them."""
        wanted = np.unique(np.asarray(rows, np.int64))
        wanted = wanted[(wanted >= 0) & (wanted < self._run.n_rows)]
        found: dict[int, dict[str, Any]] = {}
        for number in np.unique(wanted // self._run.rows_per_part).tolist():
            start = number * self._run.rows_per_part
            for n, batch in self._part(self._path(name, number), columns):
                for row in wanted[(wanted >= start) & (wanted < start + n)].tolist():
                    found[row] = {
                        column: None if values is None else values[row - start].item()
                        for column, values in batch.items()
                    }
                start += n
        return found


def _array(column: Any) -> NDArray[Any] | None:
    """Return a column as an array, or None if it says nothing in any row."""
    import pyarrow as pa

    if column.null_count:
        return None
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise InputError(f"a column of numbers was expected in the parts, not one of {column.type}")
    return as_numpy(column)
