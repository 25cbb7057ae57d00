"""Rows that lie in a mapped file as they are: in one stretch, or in several of them one after another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fingerprints import fingerprint
from .base import RowBuffers
from .mapping import MappedFile
from .numbers import NumberType

__all__ = ["MappedRows", "Stretches"]


class Stretches:
    """Rows numbered through several stretches.

    Parameters
    ----------
    lengths : sequence of int
        Rows of each stretch.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.ends = list(accumulate(lengths))
        self.n_rows = self.ends[-1] if self.ends else 0

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield (stretch, first row in it, last row in it) for rows `start` to `stop`."""
        while start < stop:
            number = bisect_right(self.ends, start)
            before = self.ends[number - 1] if number else 0
            last = min(stop, self.ends[number])
            yield number, start - before, last - before
            start = last

    def numbers(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the number of the stretch that each row lies in."""
        return np.searchsorted(self.ends, np.arange(start, stop), side="right").astype(np.int64)


class MappedRows:
    """A source, and the base of sources, whose rows are contiguous in a mapped file.

    Parameters
    ----------
    file : MappedFile
        The mapped file.
    name : str
        What messages call the source.
    kind : str
        What the numbers are, as `Source.kind`.
    numbers : NumberType
        How they are stored.
    vocab_size : int
        Columns.
    stretches : sequence of (int, int)
        Byte offset and number of rows of each stretch, all known to lie within the file.
    """

    format = "raw"
    held_bytes = 0

    def __init__(
        self,
        file: MappedFile,
        name: str,
        kind: str,
        numbers: NumberType,
        vocab_size: int,
        stretches: Sequence[tuple[int, int]],
    ) -> None:
        self._file = file
        self.name = name
        self.kind = kind
        self.numbers = numbers
        self.dtype = numbers.dtype
        self.vocab_size = vocab_size
        self.row_bytes = vocab_size * numbers.stored.itemsize
        self._offsets = [offset for offset, _ in stretches]
        self._stretches = Stretches([n_rows for _, n_rows in stretches])
        self.n_rows = self.announced_rows = self._stretches.n_rows
        self.warnings: tuple[str, ...] = ()
        self._rows_per_group = 0
        alignment = numbers.stored.alignment
        self._converts = numbers.converts or any(offset % alignment for offset in self._offsets)
        self._copies = self._converts or len(stretches) > 1
        self._buffers = RowBuffers(self.dtype)
        self.memory_per_row = self.row_bytes + (vocab_size * self.dtype.itemsize if self._copies else 0)

    def _ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the byte ranges of rows `start` to `stop`."""
        for stretch, first, last in self._stretches.pieces(start, stop):
            offset = self._offsets[stretch]
            yield offset + first * self.row_bytes, offset + last * self.row_bytes

    def _view(self, first: int, last: int) -> NDArray[Any]:
        self._file.check_whole()
        self._file.will_need(last, last + (last - first))
        self._file.populate(first, last)
        n_rows = (last - first) // self.row_bytes
        return self._file.view(first, n_rows * self.vocab_size, self.numbers.stored).reshape(n_rows, self.vocab_size)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows `start` to `stop`, a view of the file unless they have to be converted or joined."""
        ranges = list(self._ranges(start, stop))
        if not self._converts and len(ranges) == 1:
            return self._view(*ranges[0])
        rows = self._buffers.take(stop - start, self.vocab_size)
        filled = 0
        for first, last in ranges:
            view = self._view(first, last)
            self.numbers.copy(view, rows[filled : filled + len(view)])
            filled += len(view)
        return rows

    def check_whole(self) -> None:
        """Raise an InputError if the file was cut."""
        self._file.check_whole()

    def release(self, start: int, stop: int) -> None:
        """Drop the pages of rows that are done with."""
        for first, last in self._ranges(start, stop):
            self._file.release(first, last)

    def targets(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return None: an array of logits does not know its text."""

    def groups(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the index on the first of three or more axes, or the stretch if there are several, or None."""
        if self._rows_per_group:
            return np.arange(start, stop, dtype=np.int64) // self._rows_per_group
        return self._stretches.numbers(start, stop) if len(self._offsets) > 1 else None

    def describe(self) -> dict[str, Any]:
        """Return format, dtype and sizes."""
        return {
            "format": self.format,
            "file_bytes": self._file.size,
            "dtype": self.numbers.name,
            "rows": self.n_rows,
            "announced_rows": self.announced_rows,
            "vocab_size": self.vocab_size,
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return size and digest of the file."""
        return fingerprint(self._file.path)

    def close(self) -> None:
        """Unmap the file."""
        self._file.close()
