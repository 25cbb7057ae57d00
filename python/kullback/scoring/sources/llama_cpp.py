"""Rows of llama.cpp's base-logits files and of the forks that `llama_layout` knows.

A code q of a row stands for the log-probability ``scale * q + min_log_prob``; in ``_logits2`` files it stands for
``scale * (q - 1) + min_log_prob``, and 0 for an exact -inf. Decoded rows do not sum to one: tokens more than 16 nats
below the best one (24 for ik_llama.cpp, same magic) were lifted to that floor by the writer. They are therefore
handed on as logits, which normalises them again; the tool's own rule, which does not, is in `llama_rule`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fingerprints import fingerprint
from .base import RowBuffers
from .llama_layout import parse_layout
from .mapping import MappedFile

__all__ = ["LlamaSource"]

_CODE = np.dtype("<u2")


class LlamaSource:
    """Rows of a llama.cpp file, decoded to float32.

    Parameters
    ----------
    file : MappedFile
        The mapped file, whose magic has been recognised.

    Raises
    ------
    InputError
        If the header is broken or not even one row is there.
    """

    format = "llama.cpp"
    kind = "logits"
    dtype: np.dtype[Any] = np.dtype(np.float32)
    held_bytes = 0

    def __init__(self, file: MappedFile) -> None:
        self._file = file
        self.name = str(file.path)
        self.layout = layout = parse_layout(file.bytes(0, 64), file.size, file.path)
        self.vocab_size = layout.vocab_size
        self.row_bytes = layout.row_bytes
        self.memory_per_row = self.row_bytes + 4 * self.vocab_size
        self.announced_rows = layout.n_rows
        self.n_rows = min(layout.n_rows, (file.size - layout.rows_offset) // layout.row_bytes)
        self._tokens = file.view(layout.tokens_offset, layout.n_tokens, np.dtype("<i4"))
        self._buffers = RowBuffers(self.dtype)
        self.warnings: tuple[str, ...] = ()
        if self.n_rows < self.announced_rows:
            self.warnings = (
                f"{self.name} is truncated: {self.n_rows} whole rows ({self.n_rows // layout.rows_per_chunk} whole "
                f"chunks) of the {layout.n_rows} rows ({layout.n_chunks} chunks) that its header announces are scored",
            )
        elif file.size > layout.file_bytes:
            self.warnings = (f"{self.name} has {file.size - layout.file_bytes} bytes after its last row, ignored",)

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Tokens of the whole text, as stored."""
        return self._tokens

    def _range(self, start: int, stop: int) -> tuple[int, int]:
        first = self.layout.rows_offset
        return first + start * self.row_bytes, first + stop * self.row_bytes

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the log-probabilities of rows `start` to `stop` as stored, that is not normalised."""
        first, last = self._range(start, stop)
        self._file.check_whole()
        self._file.will_need(last, last + (last - first))
        self._file.populate(first, last)
        rows = self._file.view(first, (stop - start) * self.layout.row_codes, _CODE)
        rows = rows.reshape(stop - start, self.layout.row_codes)
        floats = rows[:, :4].copy().view("<f4")
        codes = rows[:, 4 : 4 + self.vocab_size]
        decoded = self._buffers.take(stop - start, self.vocab_size)
        scale, floor = floats[:, 0], floats[:, 1]
        with np.errstate(invalid="ignore", over="ignore"):  # a damaged row becomes NaN, and is counted as such
            for row in range(stop - start):  # row by row, so that the passes below run in the processor's cache
                out = decoded[row]
                np.copyto(out, codes[row])
                if self.layout.variant == "_logits2":
                    out -= 1
                    out *= scale[row]
                    out += floor[row]
                    out[codes[row] == 0] = -np.inf
                else:
                    out *= scale[row]
                    out += floor[row]
        return decoded

    def check_whole(self) -> None:
        """Do nothing: decoded rows are in buffers of their own."""

    def release(self, start: int, stop: int) -> None:
        """Drop the pages of rows that are done with."""
        self._file.release(*self._range(start, stop))

    def targets(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the token that followed each row."""
        self._file.check_whole()
        chunk, position = np.divmod(np.arange(start, stop, dtype=np.int64), self.layout.rows_per_chunk)
        index = chunk * self.layout.chunk_stride + self.layout.first_target + position
        return np.asarray(self._tokens[index], np.int64)

    def groups(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the chunk of each row."""
        return np.arange(start, stop, dtype=np.int64) // self.layout.rows_per_chunk

    def describe(self) -> dict[str, Any]:
        """Return variant, context, chunks, vocabulary and sizes."""
        layout = self.layout
        return {
            "format": self.format,
            "variant": layout.variant,
            "file_bytes": self._file.size,
            "complete_file_bytes": layout.file_bytes,
            "n_ctx": layout.n_ctx,
            "chunks": layout.n_chunks,
            "chunk_stride": layout.chunk_stride,
            "rows_per_chunk": layout.rows_per_chunk,
            "tokens": layout.n_tokens,
            "rows": self.n_rows,
            "announced_rows": self.announced_rows,
            "vocab_size": self.vocab_size,
            "row_bytes": self.row_bytes,
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return size and digest of the file."""
        return fingerprint(self._file.path)

    def close(self) -> None:
        """Unmap the file."""
        del self._tokens
        self._file.close()
