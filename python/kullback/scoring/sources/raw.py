"""Files of bare numbers, whose type and shape the user states (``--dtype``, ``--shape``, ``--offset``)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .mapped_rows import MappedRows
from .mapping import MappedFile
from .numbers import number_type_by_name

__all__ = ["RawLayout", "RawSource"]


@dataclass(frozen=True)
class RawLayout:
    """What a file of bare numbers holds.

    Attributes
    ----------
    dtype : str
        ``"float64"``, ``"float32"``, ``"float16"`` or ``"bfloat16"``, little-endian; or a NumPy name such as ``">f4"``.
    shape : tuple of int
        (…, rows, vocabulary), the first axis of which may be -1: as many as there are; or (vocabulary,) alone.
    offset : int
        Bytes before the first number.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int = 0


class RawSource(MappedRows):
    """Rows of a file of bare numbers.

    Parameters
    ----------
    file : MappedFile
        The mapped file.
    kind : str
        What the numbers are, as `Source.kind`.
    layout : RawLayout
        What the file holds.

    Raises
    ------
    InputError
        If not even one row is there.
    """

    def __init__(self, file: MappedFile, kind: str, layout: RawLayout) -> None:
        name = str(file.path)
        numbers = number_type_by_name(layout.dtype, kind, name)
        shape = layout.shape if len(layout.shape) > 1 else (-1, *layout.shape)
        row_bytes = shape[-1] * numbers.stored.itemsize
        available = max(file.size - layout.offset, 0) // row_bytes
        per_item = math.prod(shape[1:-1])
        announced = available // per_item * per_item if shape[0] == -1 else math.prod(shape[:-1])
        n_rows = min(announced, available)
        if n_rows == 0:
            raise InputError(
                f"{name} holds {max(file.size - layout.offset, 0)} bytes after the offset {layout.offset}, less than "
                f"one row of {row_bytes} bytes"
            )
        super().__init__(file, name, kind, numbers, shape[-1], [(layout.offset, n_rows)])
        self.announced_rows = announced
        self.shape = (announced // per_item, *shape[1:])
        self._layout = layout
        self._rows_per_group = per_item if len(shape) > 2 else 0
        rest = file.size - layout.offset - n_rows * row_bytes
        if n_rows < announced:
            self.warnings = (f"{name} is truncated: {n_rows} whole rows of the {announced} that the shape states",)
        elif rest:
            self.warnings = (f"{name} has {rest} bytes after its last row, which are ignored",)

    def describe(self) -> dict[str, Any]:
        """Return format, shape, dtype and sizes."""
        return {**super().describe(), "shape": list(self.shape), "offset": self._layout.offset}

    def fingerprint(self) -> dict[str, Any]:
        """Return size and digest of the file, and how it is read."""
        return {
            **super().fingerprint(),
            "dtype": self.numbers.name,
            "shape": list(self.shape),
            "offset": self._layout.offset,
        }
