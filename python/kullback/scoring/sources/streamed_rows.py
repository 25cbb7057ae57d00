"""Rows that can only be decoded piece by piece: compressed members, row groups, chunks.

Pieces are decoded in order, and what a block leaves of a piece is held for the next block, so that nothing is decoded
twice. A block that does not continue where the last one ended (a run that is continued) starts a new stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .base import RowBuffers
from .numbers import NumberType

__all__ = ["PIECE_BYTES", "Piece", "StreamedRows"]

# Decoded at a time where the format leaves the choice.
PIECE_BYTES = 4 << 20

# Number of the first row, and the rows as they are stored.
Piece = tuple[int, NDArray[Any]]


class StreamedRows:
    """The base of sources whose rows come as a stream of pieces.

    Parameters
    ----------
    name : str
        What messages call the source.
    kind : str
        What the numbers are, as `Source.kind`.
    numbers : NumberType
        How the pieces' numbers are stored.
    n_rows, vocab_size : int
        Rows and columns.
    piece_bytes : int
        Bytes of the largest piece with all that is needed to decode it.
    """

    format = "stream"

    def __init__(
        self, name: str, kind: str, numbers: NumberType, n_rows: int, vocab_size: int, piece_bytes: int
    ) -> None:
        self.name = name
        self.kind = kind
        self.numbers = numbers
        self.dtype = numbers.dtype
        self.n_rows = self.announced_rows = n_rows
        self.vocab_size = vocab_size
        self.row_bytes = vocab_size * numbers.stored.itemsize
        self.memory_per_row = vocab_size * self.dtype.itemsize
        self.held_bytes = piece_bytes
        self.warnings: tuple[str, ...] = ()
        self._buffers = RowBuffers(self.dtype)
        self._pieces: Iterator[Piece] = iter(())
        self._piece: Piece = (0, np.empty((0, vocab_size), numbers.stored))
        self._next_row = -1

    def _stream(self, row: int) -> Iterator[Piece]:
        """Yield pieces in order without gaps, from the one with `row` on."""
        raise NotImplementedError

    def _copy(self, rows: NDArray[Any], first_row: int, out: NDArray[Any]) -> None:
        """Convert rows of a piece, the first of which is row `first_row`."""
        self.numbers.copy(rows, out)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows `start` to `stop`, decoded."""
        out = self._buffers.take(stop - start, self.vocab_size)
        try:
            if start != self._next_row:
                self._pieces = self._stream(start)
                self._piece = (start, self._piece[1][:0])
            row = start
            while row < stop:
                first, rows = self._piece
                here = rows[row - first : stop - first]
                if not len(here):
                    # Let go of the old piece before the next is decoded.
                    self._piece = (row, rows[:0].copy())
                    del rows, here
                    self._piece = self._next_piece(row)
                    continue
                self._copy(here, row, out[row - start : row - start + len(here)])
                row += len(here)
        except BaseException:
            self._next_row = -1
            raise
        self._next_row = stop
        return out

    def _next_piece(self, row: int) -> Piece:
        piece = next(self._pieces, None)
        if piece is None or not piece[0] <= row < piece[0] + len(piece[1]):
            raise InputError(f"{self.name} ends at row {row} although it announces {self.announced_rows} rows")
        return piece

    def check_whole(self) -> None:
        """Do nothing: decoded rows are in buffers of their own."""

    def release(self, start: int, stop: int) -> None:
        """Do nothing: decoded rows are in buffers that are used again."""

    def targets(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return None: an array of logits does not know its text."""

    def groups(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return None; a format that knows groups says so itself."""

    def close(self) -> None:
        """Let go of the stream."""
        self._pieces = iter(())


def in_pieces(
    read: Callable[[int], bytes], first: int, last: int, vocab_size: int, dtype: np.dtype[Any]
) -> Iterator[Piece]:
    """Yield rows `first` to `last` of a stream of bytes, which stands at `first`, in pieces of a few MiB.

    Raises
    ------
    EOFError
        If the stream ends too early.
    """
    row_bytes = vocab_size * dtype.itemsize
    step = max(PIECE_BYTES // row_bytes, 1)
    for start in range(first, last, step):
        n_rows = min(step, last - start)
        content = read(n_rows * row_bytes)
        if len(content) < n_rows * row_bytes:
            raise EOFError
        yield start, np.frombuffer(content, dtype).reshape(n_rows, vocab_size)
