"""What `kullback.LogitsWriter` and ``kullback pack`` write: a Zarr group of coded log-probabilities.

=========== ================== ==============================================================
array       shape, type        content
=========== ================== ==============================================================
``codes``   (rows, vocabulary) uint16: ``log p = maximum + step * (code - 65535)``, 0 is -inf
``scales``  (rows, 2) float32  maximum and step; NaN where a row has not been written
``targets`` (rows,) int64      the token that followed, if known
``groups``  (rows,) int64      the passage that a row belongs to, if known
=========== ================== ==============================================================

``scales`` is written last, so a row whose maximum is there is there as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..packing import decode_rows
from .location import Location
from .numbers import NumberType
from .streamed_rows import Piece, StreamedRows
from .zarr_arrays import ZarrRows, fingerprint_store

__all__ = ["PackedSource"]

_CODES = NumberType("uint16", np.dtype(np.uint16), np.dtype(np.float32))


class PackedSource(StreamedRows):
    """Rows of a packed group, decoded to float32 logits.

    Parameters
    ----------
    store : zarr store
        Opened for reading.
    location : Location
        For the messages.
    attributes : dict
        Those of the group.

    Raises
    ------
    InputError
        If the group is not what its attributes say, or holds no row.
    """

    format = "packed"

    def __init__(self, store: Any, location: Location, attributes: dict[str, Any]) -> None:
        name = location.place
        facts = attributes["kullback"]
        if not isinstance(facts, dict) or facts.get("version") != 1:
            raise InputError(f"{name} is a packed file of another version than 1; expected one of this library's")
        self.facts: dict[str, Any] = facts
        self._codes = self._array(store, "codes", location, np.uint16)
        self._scales = self._array(store, "scales", location, np.float32)
        if len(self._codes.shape) != 2 or self._scales.shape != (self._scales.shape[0], 2):
            raise InputError(f"{name} has codes of shape {self._codes.shape} and scales of shape {self._scales.shape}")
        n_rows = self._rows_written()
        keys = {key: self._array(store, key, location, np.int64) for key in ("targets", "groups") if facts.get(key)}
        n_rows = min([n_rows, *(rows.n_rows for rows in keys.values())])
        held = self._codes.memory + self._scales.memory
        super().__init__(name, "logits", _CODES, n_rows, self._codes.shape[1], held)
        self.row_bytes += 8
        self._keys = {key: self._read_keys(rows) for key, rows in keys.items()}
        if facts.get("complete") is not True:
            self.warnings = (f"{name} was not closed by its writer: the {n_rows} rows that are whole are scored",)

    def _array(self, store: Any, member: str, location: Location, dtype: Any) -> ZarrRows:
        rows = ZarrRows(store, member, location)
        if rows.array.dtype != dtype:
            raise InputError(f"{rows.name} holds {rows.array.dtype}; expected {np.dtype(dtype)}")
        return rows

    def _rows_written(self) -> int:
        n_rows = min(self._codes.n_rows, self._scales.n_rows)
        band = self._scales.band_of(n_rows - 1)
        start = self._scales.band_start(band)
        unwritten = np.isnan(self._scales.read_band(band)[: n_rows - start, 0])
        if unwritten.any():
            n_rows = start + int(unwritten.argmax())
        if not n_rows:
            raise InputError(f"{self._codes.name} holds no whole row yet")
        return n_rows

    def _read_keys(self, rows: ZarrRows) -> NDArray[np.int64]:
        return np.concatenate([band for _, band in rows.stream(0)])[: self.n_rows]

    def _stream(self, row: int) -> Iterator[Piece]:
        self._band_of_scales = (-1, np.empty((0, 2), np.float32))
        return self._codes.stream(row)

    def _copy(self, rows: NDArray[Any], first_row: int, out: NDArray[Any]) -> None:
        done = 0
        while done < len(rows):
            band = self._scales.band_of(first_row + done)
            if self._band_of_scales[0] != band:
                self._band_of_scales = (band, self._scales.read_band(band))
            first = first_row + done - self._scales.band_start(band)
            scales = self._band_of_scales[1][first : first + len(rows) - done]
            decode_rows(rows[done : done + len(scales)], scales, out[done : done + len(scales)])
            done += len(scales)

    def targets(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the token that followed each row, if the writer was told."""
        return self._keys["targets"][start:stop] if "targets" in self._keys else None

    def groups(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the group of each row, if the writer was told."""
        return self._keys["groups"][start:stop] if "groups" in self._keys else None

    def describe(self) -> dict[str, Any]:
        """Return sizes, and what the writer was told and measured."""
        told = {key: value for key, value in self.facts.items() if key not in ("decoding", "targets", "groups")}
        return {
            "format": self.format,
            "chunks": list(self._codes.array.chunks),
            "rows": self.n_rows,
            "announced_rows": self.announced_rows,
            "vocab_size": self.vocab_size,
            "has_targets": "targets" in self._keys,
            "has_groups": "groups" in self._keys,
            **told,
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return number, size and digest of the files of the store."""
        return fingerprint_store(self._codes.location)
