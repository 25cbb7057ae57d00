"""Rows of a Parquet column of lists of numbers, decoded a few MiB at a time.

Each row group is read by itself and in small batches, so that memory holds a batch and the pages it comes from. What
the footer announces is only believed as far as the pages bear it out: a group that ends early is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import InputError
from ..fingerprints import fingerprint
from .arrow import as_rows, choose_column, list_values, list_width, refuse, row_type
from .mapped_rows import Stretches
from .mapping import MappedFile
from .streamed_rows import PIECE_BYTES, Piece, StreamedRows

__all__ = ["PARQUET_MAGIC", "ParquetSource"]

PARQUET_MAGIC = b"PAR1"

_FOOTER_LIMIT = 64 << 20
_BUFFER_BYTES = 1 << 20
# Pages have about this size, compressed and decoded both in memory; writers may make them larger.
_PAGE_BYTES = 8 << 20


class ParquetSource(StreamedRows):
    """Rows of a Parquet file.

    Parameters
    ----------
    file : MappedFile
        The file; only its size and path are used.
    kind : str
        What the numbers are, as `Source.kind`.
    member : str, optional
        Name of the column; the only one of lists of numbers by default.

    Raises
    ------
    InputError
        If the file is broken, or no column holds rows.
    """

    format = "parquet"

    def __init__(self, file: MappedFile, kind: str, member: str | None = None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = file.path
        self._size = file.size
        name = str(file.path) if member is None else f"{file.path}::{member}"
        footer = int.from_bytes(file.bytes(file.size - 8, file.size - 4), "little")
        if file.bytes(file.size - 4, file.size) != PARQUET_MAGIC or footer + 12 > file.size:
            raise InputError(f"{name} is truncated or damaged: it does not end as a Parquet file does")
        if footer > _FOOTER_LIMIT:
            raise InputError(f"{name} has a footer of {footer} bytes; expected {_FOOTER_LIMIT} at most")
        file.close()
        try:
            self._file = pq.ParquetFile(
                self._path,
                memory_map=False,
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
            )
        except (pa.ArrowException, OSError, ValueError) as error:
            refuse(name, error)
        try:
            self._open(kind, member, name)
        except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
            self._file.close()
            refuse(name, error)
        except BaseException:
            self._file.close()
            raise

    def _open(self, kind: str, member: str | None, name: str) -> None:
        self.name = name
        schema = self._file.schema_arrow
        self._column = schema.field(choose_column(schema, self._path, member)).name
        numbers, width = row_type(schema.field(self._column).type, kind, name)
        metadata = self._file.metadata
        lengths = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        if any(length < 0 for length in lengths) or sum(lengths) != metadata.num_rows:
            raise InputError(f"{name} has a broken footer: its row groups do not add up to {metadata.num_rows} rows")
        if not metadata.num_rows:
            raise InputError(f"{name} holds no row to score")
        # Empty groups have no row to look for.
        self._groups = [group for group, length in enumerate(lengths) if length]
        self._stretches = Stretches([length for length in lengths if length])
        width = self._first_width() if width is None else width
        if width < 1:
            raise InputError(f"{name} has rows of {width} columns; expected at least one")
        row_bytes = width * numbers.stored.itemsize
        self._batch = min(max(PIECE_BYTES // row_bytes, 1), max(lengths))
        held = 3 * self._batch * row_bytes + 2 * min(_PAGE_BYTES, max(lengths) * row_bytes)
        super().__init__(name, kind, numbers, metadata.num_rows, width, held)

    def _first_width(self) -> int:
        for batch in self._file.iter_batches(batch_size=1, row_groups=self._groups[:1], columns=[self._column]):
            return list_width(batch.column(0), self.name)
        raise InputError(f"{self.name} announces rows but holds none")

    def _stream(self, row: int) -> Iterator[Piece]:
        import pyarrow as pa

        first_group = next(self._stretches.pieces(row, row + 1))[0]
        try:
            for index in range(first_group, len(self._groups)):
                start = self._stretches.ends[index - 1] if index else 0
                batches = self._file.iter_batches(
                    batch_size=self._batch, row_groups=[self._groups[index]], columns=[self._column], use_threads=False
                )
                for batch in batches:
                    if start + batch.num_rows > row:
                        column: Any = batch.column(0)
                        yield start, as_rows(list_values(column, self.vocab_size, start, self.name), self.vocab_size)
                    start += batch.num_rows
        except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
            refuse(self.name, error)

    def describe(self) -> dict[str, Any]:
        """Return format, column, dtype and sizes."""
        return {
            "format": self.format,
            "file_bytes": self._size,
            "column": self._column,
            "dtype": self.numbers.name,
            "row_groups": len(self._groups),
            "rows": self.n_rows,
            "announced_rows": self.announced_rows,
            "vocab_size": self.vocab_size,
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return size and digest of the file, and the column."""
        return {**fingerprint(self._path), "member": self._column}

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._file.close()
