"""NumPy's ``.npy`` files: one C-ordered array of shape (..., rows, vocabulary), read through a memory mapping.

The header is not trusted. It is parsed as a literal (never unpickled), its sizes are multiplied as Python integers
and held against the size of the file before anything is mapped or allocated.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ..errors import InputError, reason_of
from .mapped_rows import MappedRows
from .mapping import MappedFile
from .numbers import NumberType, number_type

__all__ = ["HEADER_LIMIT", "MAGIC", "NpyHeader", "NpySource", "parse_header", "read_token_ids"]

MAGIC = b"\x93NUMPY"
HEADER_LIMIT = 1 << 16


@dataclass(frozen=True)
class NpyHeader:
    """Shape, order and type of an array, and the bytes before its data."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int

    def check_rows(self, kind: str, name: str) -> NumberType:
        """Return how the numbers are stored if this is an array of rows.

        Raises
        ------
        InputError
            If it is empty, has fewer than two axes, is in Fortran order, or does not hold real numbers.
        """
        numbers = number_type(self.dtype, kind, name)
        if len(self.shape) < 2:
            raise InputError(f"{name} has shape {self.shape}; expected at least two axes, (rows, vocabulary)")
        if math.prod(self.shape) == 0:
            raise InputError(f"{name} has shape {self.shape}: there is no row to score")
        if self.fortran and self.shape[-1] > 1 and math.prod(self.shape[:-1]) > 1:
            raise InputError(
                f"{name} is in Fortran order, where a row is scattered over the whole file; "
                "save it again with numpy.ascontiguousarray"
            )
        return numbers


def parse_header(head: bytes, name: object) -> NpyHeader:
    """Parse the header of an array from its first bytes.

    Raises
    ------
    InputError
        If the header is broken, of an unknown version, or announces a size that overflows.
    """
    stream = io.BytesIO(head)
    try:
        version = npy_format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = npy_format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = npy_format.read_array_header_2_0(stream)
        else:
            raise InputError(f"{name} has .npy format version {version[0]}.{version[1]}; expected 1.0 or 2.0")
    except InputError:
        raise
    except Exception as error:  # whatever a hostile literal makes NumPy's parser raise
        raise InputError(f"{name} has a broken .npy header: {reason_of(error)}") from None
    if any(size < 0 for size in shape):
        raise InputError(f"{name} has a broken .npy header: negative size in shape {shape}")
    if math.prod(shape) * dtype.itemsize > np.iinfo(np.int64).max:
        raise InputError(f"{name} announces shape {shape}, whose size overflows 64 bits")
    return NpyHeader(shape, fortran, dtype, stream.tell())


class NpySource(MappedRows):
    """Rows of a ``.npy`` file; leading axes are flattened, the first of three or more becomes the group.

    Parameters
    ----------
    file : MappedFile
        The mapped file.
    kind : str
        What the numbers are, as `Source.kind`.
    start, stop : int, optional
        Where in the file the array lies (an array stored in an archive); the whole file by default.
    name : str, optional
        What messages call it; the path by default.

    Raises
    ------
    InputError
        If the header is broken or lies, the array is empty, has fewer than two axes, is in Fortran order, or does not
        hold real numbers.
    """

    format = "npy"

    def __init__(
        self, file: MappedFile, kind: str, start: int = 0, stop: int | None = None, name: str | None = None
    ) -> None:
        name = str(file.path) if name is None else name
        stop = file.size if stop is None else stop
        header = parse_header(file.bytes(start, min(start + HEADER_LIMIT, stop)), name)
        numbers = header.check_rows(kind, name)
        announced = math.prod(header.shape[:-1])
        row_bytes = header.shape[-1] * numbers.stored.itemsize
        available = stop - start - header.offset
        n_rows = min(announced, available // row_bytes)
        if n_rows <= 0:
            raise InputError(
                f"{name} announces shape {header.shape} but holds {max(available, 0)} bytes of data, "
                f"less than one row of {row_bytes} bytes"
            )
        super().__init__(file, name, kind, numbers, header.shape[-1], [(start + header.offset, n_rows)])
        self.shape = header.shape
        self.announced_rows = announced
        self._rows_per_group = math.prod(header.shape[1:-1]) if len(header.shape) > 2 else 0
        if n_rows < announced:
            self.warnings = (
                f"{name} is truncated: {n_rows} whole rows of the {announced} that its header announces are scored",
            )
        elif available > announced * row_bytes:
            self.warnings = (
                f"{name} has {available - announced * row_bytes} bytes after its array, which are ignored",
            )

    def describe(self) -> dict[str, Any]:
        """Return format, shape, dtype and sizes."""
        facts = super().describe()
        return {
            "format": facts.pop("format"),
            "file_bytes": facts.pop("file_bytes"),
            "shape": list(self.shape),
            **facts,
        }


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
        header = parse_header(file.bytes(0, HEADER_LIMIT), path)
        if header.dtype.kind not in "iu":
            raise InputError(f"{path} holds {header.dtype.name}; expected integer token ids")
        count = math.prod(header.shape)
        if file.size - header.offset < count * header.dtype.itemsize:
            raise InputError(
                f"{path} is truncated: shape {header.shape} needs {count * header.dtype.itemsize} bytes of data"
            )
        ids = file.view(header.offset, count, header.dtype)
        if header.dtype.kind == "u" and count and int(ids.max()) > np.iinfo(np.int64).max:
            raise InputError(f"{path} holds a token id above the largest 64-bit integer")
        return ids.astype(np.int64).reshape(header.shape, order="F" if header.fortran else "C").reshape(-1)
    finally:
        file.close()
