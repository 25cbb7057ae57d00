"""What the engine asks of a file format: rows of numbers, by number, and a few facts about them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["IN_FLIGHT", "RowBuffers", "Source"]

# Blocks of a source in memory at a time: one is read while two are compared.
IN_FLIGHT = 3


class Source(Protocol):
    """Rows of one file, read in order and in blocks.

    Attributes
    ----------
    name : str
        What messages and summaries call it: the file, the URL, or ``FILE::name`` for a part of one.
    format : str
        Name of the format, for instance ``"npy"`` or ``"llama.cpp"``.
    kind : str
        What the numbers are: ``"logits"``, ``"log_probs"``, ``"probs"`` or ``"weights"``.
    dtype : dtype
        Type of the arrays that `read` returns.
    n_rows : int
        Whole rows in the file; fewer than `announced_rows` when the file is truncated.
    announced_rows : int
        Rows that the header promises.
    vocab_size : int
        Columns.
    row_bytes : int
        Bytes of a row in the file.
    memory_per_row : int
        Bytes of memory that a row occupies while its block is in flight (mapped and decoded).
    held_bytes : int
        Bytes of memory that are occupied whatever the size of the block: a chunk that can only be decoded whole.
    warnings : tuple of str
        One sentence per peculiarity that the user has to know.
    """

    name: str
    format: str
    kind: str
    dtype: np.dtype[Any]
    n_rows: int
    announced_rows: int
    vocab_size: int
    row_bytes: int
    memory_per_row: int
    held_bytes: int
    warnings: tuple[str, ...]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows `start` to `stop`; the array is valid until `IN_FLIGHT` more calls."""
        ...

    def check_whole(self) -> None:
        """Raise an InputError if rows that were read can no longer be looked at, as the file behind them was cut."""
        ...

    def release(self, start: int, stop: int) -> None:
        """Give back the memory of rows that are done with."""
        ...

    def targets(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the token that followed each row, or None if the format does not know."""
        ...

    def groups(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the chunk or document of each row, or None if the format does not know."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the facts that ``kullback inspect`` prints, ready for JSON."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells whether the content is still the same, ready for JSON."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class RowBuffers:
    """Arrays used in turn, as many as there are blocks in flight."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._arrays: list[NDArray[Any]] = []

    def take(self, n_rows: int, n_columns: int) -> NDArray[Any]:
        """Return an uninitialised (n_rows, n_columns) array that reuses memory where it can."""
        size = n_rows * n_columns
        array = self._arrays.pop(0) if len(self._arrays) == IN_FLIGHT else np.empty(0, self._dtype)
        if array.size < size:
            array = np.empty(size, self._dtype)
        self._arrays.append(array)
        return array[:size].reshape(n_rows, n_columns)
