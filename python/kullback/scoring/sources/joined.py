"""Several files as one source: their rows one after another.

Only a few of them are open at a time. Every file is looked at once at the beginning; if one that is opened again has
other rows then, it was changed during the run, which is an error.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..fingerprints import fingerprint_folder
from .base import RowBuffers, Source
from .mapped_rows import Stretches

__all__ = ["JoinedSource"]

_MOST_OPEN = 4


class JoinedSource:
    """Rows of several files.

    Parameters
    ----------
    name : str
        What messages call the whole.
    files : sequence of Path
        In the order of their rows.
    open_file : callable
        Opens one of them.

    Raises
    ------
    InputError
        If a file is bad, does not fit the first, or is truncated and not the last.
    """

    kind: str
    dtype: np.dtype[Any]
    memory_per_row: int
    held_bytes: int

    def __init__(self, name: str, files: Sequence[Path], open_file: Callable[[Path], Source]) -> None:
        self.name = name
        self._files = files
        self._open_file = open_file
        # The next block is read in another thread while this one is asked about the last.
        self._lock = threading.Lock()
        self._open: dict[int, Source] = {}
        self._users: Counter[int] = Counter()
        self._has_groups: list[bool] = []
        lengths: list[int] = []
        self._group_starts = [0]
        warnings: list[str] = []
        self._has_targets = True
        for number, file in enumerate(files):
            with closing(open_file(file)) as source:
                if not lengths:
                    self._take_over(source)
                self._check(source, last=number == len(files) - 1)
                lengths.append(source.n_rows)
                missing = source.announced_rows - source.n_rows
                warnings += source.warnings
                groups = source.groups(source.n_rows - 1, source.n_rows)
                self._has_groups.append(groups is not None)
                self._group_starts.append(self._group_starts[-1] + (1 if groups is None else int(groups[-1]) + 1))
                self._has_targets = self._has_targets and source.targets(0, 0) is not None
                self.memory_per_row = max(self.memory_per_row, source.memory_per_row + self._copy_bytes)
                self.held_bytes = max(self.held_bytes, source.held_bytes)
        self._stretches = Stretches(lengths)
        self.n_rows = self._stretches.n_rows
        self.announced_rows = self.n_rows + missing
        self.warnings = tuple(warnings[:8]) + ((f"{name}: {len(warnings) - 8} more warnings",) if warnings[8:] else ())
        self._buffers = RowBuffers(self.dtype)

    def _take_over(self, source: Source) -> None:
        self.format = source.format
        self.kind = source.kind
        self.dtype = source.dtype
        self.vocab_size = source.vocab_size
        self.row_bytes = source.row_bytes
        self._copy_bytes = self.vocab_size * self.dtype.itemsize
        self.memory_per_row = source.memory_per_row + self._copy_bytes
        self.held_bytes = source.held_bytes

    def _check(self, source: Source, last: bool) -> None:
        for what in ("kind", "dtype", "vocab_size"):
            mine, theirs = getattr(self, what), getattr(source, what)
            if mine != theirs:
                raise InputError(f"{source.name} has {what} {theirs} but the first file of {self.name} has {mine}")
        if source.n_rows < source.announced_rows and not last:
            raise InputError(
                f"{source.name} is truncated: it has {source.n_rows} of {source.announced_rows} rows, and {self.name} "
                "goes on after it"
            )

    @contextmanager
    def _using(self, number: int) -> Iterator[Source]:
        """Give a file's source, opened if need be, and keep it open meanwhile."""
        with self._lock:
            source = self._open.get(number)
            self._users[number] += 1
        try:
            if source is None:
                source = self._open_again(number)
            yield source
        finally:
            with self._lock:
                self._users[number] -= 1

    def _open_again(self, number: int) -> Source:
        source = self._open_file(self._files[number])
        start = self._stretches.ends[number - 1] if number else 0
        found = (source.n_rows, source.vocab_size, source.dtype, source.kind)
        if found != (self._stretches.ends[number] - start, self.vocab_size, self.dtype, self.kind):
            source.close()
            raise InputError(f"{source.name} was changed while it was read")
        with self._lock:
            idle = [old for old in self._open if not self._users[old]]
            for old in idle[: max(len(self._open) + 1 - _MOST_OPEN, 0)]:
                self._open.pop(old).close()
            if number in self._open:  # another thread was quicker
                source.close()
            return self._open.setdefault(number, source)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows `start` to `stop`, copied only if they are from several files."""
        pieces = list(self._stretches.pieces(start, stop))
        if len(pieces) == 1:
            number, first, last = pieces[0]
            with self._using(number) as source:
                return source.read(first, last)
        rows = self._buffers.take(stop - start, self.vocab_size)
        filled = 0
        for number, first, last in pieces:
            with self._using(number) as source:
                rows[filled : filled + last - first] = source.read(first, last)
                source.release(first, last)
            filled += last - first
        return rows

    def check_whole(self) -> None:
        """Raise an InputError if a file that is open was cut."""
        with self._lock:  # under which no other thread closes one
            for source in self._open.values():
                source.check_whole()

    def release(self, start: int, stop: int) -> None:
        """Drop the pages of rows that are done with."""
        for number, first, last in self._stretches.pieces(start, stop):
            if number in self._open:
                with self._using(number) as source:
                    source.release(first, last)

    def targets(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the token that followed each row, if every file knows."""
        if not self._has_targets:
            return None
        found = [np.empty(0, np.int64)]
        for number, first, last in self._stretches.pieces(start, stop):
            with self._using(number) as source:
                targets = source.targets(first, last)
            found += [] if targets is None else [targets]
        return np.concatenate(found)

    def groups(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the group of each row: those of each file, which is one group if it knows none."""
        found = [np.empty(0, np.int64)]
        for number, first, last in self._stretches.pieces(start, stop):
            groups = None
            if self._has_groups[number]:
                with self._using(number) as source:
                    groups = source.groups(first, last)
            found.append((np.zeros(last - first, np.int64) if groups is None else groups) + self._group_starts[number])
        return np.concatenate(found)

    def describe(self) -> dict[str, Any]:
        """Return format, number of files and sizes."""
        return {
            "format": self.format,
            "files": len(self._files),
            "dtype": str(self.dtype),
            "rows": self.n_rows,
            "announced_rows": self.announced_rows,
            "vocab_size": self.vocab_size,
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return number, size and digest of the files, and what is taken of each."""
        with closing(self._open_file(self._files[0])) as first:
            member = first.fingerprint().get("member")
        return {**fingerprint_folder({file.name: file for file in self._files}), "member": member}

    def close(self) -> None:
        """Close the files that are open."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()
