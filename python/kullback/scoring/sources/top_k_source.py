"""Rows that list only their most probable tokens, as a source of scoring: its rows are records of ids and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..fingerprints import fingerprint, fingerprint_folder
from .location import Location
from .top_k import is_json_lines, list_columns, read_lists

__all__ = ["TopKSource", "holds_top_k"]


def holds_top_k(location: Location) -> bool:
    """Tell whether a place holds lists of top tokens: JSON lines, or Parquet with a column of ids and one of floats."""
    if location.is_url or location.member is not None:
        return False
    if location.path.is_dir() and not any(location.path.glob("*.jsonl")) and not any(location.path.glob("*.parquet")):
        return False
    path = (location.files() or [location.path])[0]
    return path.suffixes[-2:] != [".index", ".json"] and (is_json_lines(path) or list_columns(path))


class TopKSource:
    """Top tokens of each row, held in memory as a whole.

    `read` returns records of ``ids`` (-1 where a row lists fewer) and ``log_probs``. If a line of JSON holds several
    rows, as a prompt does, each line is a group.

    Parameters
    ----------
    location : Location
        The file, or several.

    Raises
    ------
    InputError
        If the place is bad.
    """

    format = "top-k"
    kind = "log_probs"
    warnings: tuple[str, ...] = ()

    def __init__(self, location: Location) -> None:
        self.name = location.text
        self._files = location.files() or [location.path]
        lists = read_lists(location)
        largest = int(lists.ids.max(initial=-1))
        if largest > np.iinfo(np.int32).max:
            raise InputError(f"{self.name} has the token id {largest}; expected less than 2**31")
        self.vocab_size = largest + 1  # at least; the files do not say
        self.k = lists.width
        self.dtype = np.dtype([("ids", np.int32, (self.k,)), ("log_probs", np.float64, (self.k,))])
        # As they are: one long row would make all others long.
        self._lists = lists
        self._lines = lists.lines if np.any(lists.lines[1:] == lists.lines[:-1]) else None
        self.n_rows = self.announced_rows = len(lists.lengths)
        self.row_bytes = self.memory_per_row = self.dtype.itemsize
        self.held_bytes = sum(array.nbytes for array in lists)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the records of some rows."""
        rows = np.empty(stop - start, self.dtype)
        self._lists.part(start, stop).fill(rows["ids"], rows["log_probs"])
        return rows

    def check_whole(self) -> None:
        """Do nothing: the rows are in memory."""

    def release(self, start: int, stop: int) -> None:
        """Do nothing: the rows stay in memory."""

    def targets(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return None: which token followed is not in the lists."""
        return None

    def groups(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the line of each row, if lines hold several."""
        return None if self._lines is None else self._lines[start:stop]

    def describe(self) -> dict[str, Any]:
        """Return format and sizes."""
        return {
            "format": self.format,
            "files": len(self._files),
            "rows": self.n_rows,
            "announced_rows": self.announced_rows,
            "tokens_listed": self.k,
            "largest_id": self.vocab_size - 1,
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return size and digest of the files."""
        if len(self._files) == 1:
            return fingerprint(self._files[0])
        return fingerprint_folder({file.name: file for file in self._files})

    def close(self) -> None:
        """Do nothing: no file is open."""
