"""NumPy's ``.npy`` files: one C-ordered array of shape (..., rows, vocabulary), read through a memory mapping.

The header is not trusted. It is parsed as a literal (never unpickled), its sizes are multiplied as Python integers
and held against the size of the file before anything is mapped or allocated.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ..errors import InputError
from .base import RowBuffers
from .mapping import MappedFile

__all__ = ["MAGIC", "NpySource", "read_token_ids"]

MAGIC = b"\x93NUMPY"
_HEADER_LIMIT = 1 << 16


def _parse_header(file: MappedFile) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, Fortran order, dtype and offset of the data."""
    path = file.path
    stream = io.BytesIO(file.bytes(0, _HEADER_LIMIT))
    try:
        version = npy_format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = npy_format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = npy_format.read_array_header_2_0(stream)
        else:
            raise InputError(f"{path} has .npy format version {version[0]}.{version[1]}; expected 1.0 or 2.0")
    except InputError:
        raise
    except Exception as error:  # whatever a hostile literal makes NumPy's parser raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} has a broken .npy header: {reason}") from None
    if any(size < 0 for size in shape):
        raise InputError(f"{path} has a broken .npy header: negative size in shape {shape}")
    if math.prod(shape) * dtype.itemsize > np.iinfo(np.int64).max:
        raise InputError(f"{path} announces shape {shape}, whose size overflows 64 bits")
    return shape, fortran, dtype, stream.tell()


def _is_bfloat16(dtype: np.dtype[Any]) -> bool:
    # ml_dtypes arrays are saved by np.save as two-byte void: .npy has no name for bfloat16.
    return dtype.kind == "V" and dtype.names is None and dtype.subdtype is None and dtype.itemsize == 2


class NpySource:
    """Rows of a ``.npy`` file; leading axes are flattened, the first of three or more becomes the group.

    Parameters
    ----------
    file : MappedFile
        The mapped file.
    kind : str
        What the numbers are, as `Source.kind`.

    Raises
    ------
    InputError
        If the header is broken or lies, the array is empty, has fewer than two axes, is in Fortran order, or does not
        hold real numbers.
    """

    format = "npy"

    def __init__(self, file: MappedFile, kind: str) -> None:
        self._file = file
        self.path: Path = file.path
        self.kind = kind
        self.shape, fortran, self.stored_dtype, self._offset = _parse_header(file)
        self._check_dtype()
        if len(self.shape) < 2:
            raise InputError(f"{self.path} has shape {self.shape}; expected at least two axes, (rows, vocabulary)")
        if math.prod(self.shape) == 0:
            raise InputError(f"{self.path} has shape {self.shape}: there is no row to score")
        if fortran and self.shape[-1] > 1 and math.prod(self.shape[:-1]) > 1:
            raise InputError(
                f"{self.path} is in Fortran order, where a row is scattered over the whole file; "
                "save it again with numpy.ascontiguousarray"
            )
        self.vocab_size = self.shape[-1]
        self.row_bytes = self.vocab_size * self.stored_dtype.itemsize
        self.announced_rows = math.prod(self.shape[:-1])
        self._rows_per_group = math.prod(self.shape[1:-1]) if len(self.shape) > 2 else 0
        self._check_length()
        misaligned = self._offset % self.stored_dtype.alignment != 0
        self._converts = misaligned or self.dtype != self.stored_dtype
        self._buffers = RowBuffers(self.dtype)
        self.memory_per_row = self.row_bytes + (self.vocab_size * self.dtype.itemsize if self._converts else 0)

    def _check_dtype(self) -> None:
        self.dtype: np.dtype[Any]
        stored = self.stored_dtype
        if stored.hasobject:
            raise InputError(f"{self.path} holds pickled Python objects, which are never loaded; expected numbers")
        if _is_bfloat16(stored):
            self.dtype = np.dtype(np.float32)
        elif stored.kind == "f" and stored.itemsize in (2, 4, 8):
            self.dtype = stored.newbyteorder("=")
        elif stored.kind in "iu" and self.kind == "weights":
            self.dtype = np.dtype(np.float64)
        elif stored.kind in "iu":
            raise InputError(
                f"{self.path} holds integers ({stored.name}), which can only be counts; use input kind 'weights'"
            )
        else:
            raise InputError(f"{self.path} holds {stored.name}; expected float64, float32, float16 or bfloat16")

    def _check_length(self) -> None:
        available = self._file.size - self._offset
        self.n_rows = min(self.announced_rows, available // self.row_bytes)
        if self.n_rows == 0:
            raise InputError(
                f"{self.path} announces shape {self.shape} but holds {max(available, 0)} bytes of data, "
                f"less than one row of {self.row_bytes} bytes"
            )
        self.warnings: tuple[str, ...] = ()
        if self.n_rows < self.announced_rows:
            self.warnings = (
                f"{self.path} is truncated: {self.n_rows} whole rows of the {self.announced_rows} that its header "
                "announces are scored",
            )
        elif available > self.announced_rows * self.row_bytes:
            extra = available - self.announced_rows * self.row_bytes
            self.warnings = (f"{self.path} has {extra} bytes after its array, which are ignored",)

    def _range(self, start: int, stop: int) -> tuple[int, int]:
        return self._offset + start * self.row_bytes, self._offset + stop * self.row_bytes

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows `start` to `stop`, a view of the file unless they have to be converted."""
        first, last = self._range(start, stop)
        self._file.will_need(last, last + (last - first))
        self._file.populate(first, last)
        rows = self._file.view(first, (stop - start) * self.vocab_size, self.stored_dtype)
        rows = rows.reshape(stop - start, self.vocab_size)
        if not self._converts:
            return rows
        converted = self._buffers.take(*rows.shape)
        if _is_bfloat16(self.stored_dtype):
            np.left_shift(rows.view("<u2"), 16, out=converted.view(np.uint32), dtype=np.uint32)
        else:
            np.copyto(converted, rows)
        return converted

    def release(self, start: int, stop: int) -> None:
        """Drop the pages of rows that are done with."""
        self._file.release(*self._range(start, stop))

    def targets(self, start: int, stop: int) -> None:
        """Return None: an array of logits does not know its text."""

    def groups(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the index on the first axis if the array has three axes or more."""
        if not self._rows_per_group:
            return None
        return np.arange(start, stop, dtype=np.int64) // self._rows_per_group

    def describe(self) -> dict[str, Any]:
        """Return format, shape, dtype and sizes."""
        return {
            "format": self.format,
            "file_bytes": self._file.size,
            "shape": list(self.shape),
            "dtype": "bfloat16" if _is_bfloat16(self.stored_dtype) else self.stored_dtype.name,
            "rows": self.n_rows,
            "announced_rows": self.announced_rows,
            "vocab_size": self.vocab_size,
        }

    def close(self) -> None:
        """Unmap the file."""
        self._file.close()


def read_token_ids(path: Path) -> NDArray[np.int64]:
    """Read a ``.npy`` file of token ids, of any shape, as one flat array.

    Raises
    ------
    InputError
        If the file is not a whole ``.npy`` array of integers.
    """
    file = MappedFile(path)
    try:
        if not file.bytes(0, len(MAGIC)) == MAGIC:
            raise InputError(f"{path} is not a .npy file; expected token ids saved with numpy.save")
        shape, fortran, dtype, offset = _parse_header(file)
        if dtype.kind not in "iu":
            raise InputError(f"{path} holds {dtype.name}; expected integer token ids")
        count = math.prod(shape)
        if file.size - offset < count * dtype.itemsize:
            raise InputError(f"{path} is truncated: shape {shape} needs {count * dtype.itemsize} bytes of data")
        ids = file.view(offset, count, dtype)
        if dtype.kind == "u" and count and int(ids.max()) > np.iinfo(np.int64).max:
            raise InputError(f"{path} holds a token id above the largest 64-bit integer")
        return ids.astype(np.int64).reshape(shape, order="F" if fortran else "C").reshape(-1)
    finally:
        file.close()
