"""What a benchmark was asked to do, and the sizes that fit into the memory it may use."""

from __future__ import annotations

import os
from dataclasses import dataclass

import kullback as kb

from ..scoring.errors import UsageError
from ..scoring.options import parse_memory

__all__ = ["DTYPES", "KINDS", "Plan", "Settings"]

DTYPES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
"""Types of the rows, with their bytes a number."""
KINDS = ("logits", "log_probs", "probs", "weights")
ROWS_TOGETHER = ("entropy", "compare")
"""What is timed beside the names of the registry."""

_VOCABULARY, _ROWS, _SECONDS = 128_256, 256, 10.0
_QUICK_VOCABULARY, _QUICK_ROWS, _QUICK_SECONDS = 5_003, 6, 0.2
_DEFAULT_MEMORY = 1 << 30
_DISTINCT_NUMBERS, _DISTINCT_ROWS = 1 << 22, 4096
_PEER_NUMBERS = 1 << 23
_PEER_ARRAYS = 8  # copies and temporaries of the hungriest call
_CHECK_BYTES = 24  # float64 temporaries for each distinct number while rows are drawn and checked
_MAX_THREADS = 1024


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Parameters
    ----------
    rows : int, optional
        Rows of each side; by default 256, or fewer if `memory` says so (more of short rows: as many numbers).
    vocab_size : int, optional
        Columns; 128,256 by default.
    threads : int, optional
        Threads of the kernels; by default those that kullback uses.
    dtype : {"float32", "float64", "float16", "bfloat16"}
        Type of the rows.
    kind : {"logits", "log_probs", "probs", "weights"}
        What the numbers are.
    names : tuple of str, optional
        Names of the registry, ``"entropy"`` and ``"compare"``; all by default.
    noise : float
        Standard deviation of the difference between the logits of both sides.
    seconds : float, optional
        Time to spend on measuring the kernels, and again on the other libraries; three rounds are the least.
    memory : int or str, optional
        Bytes that all arrays together may take; by default 1 GiB, or half of the machine's memory.
    peers : bool
        Whether to measure the other libraries that are installed.
    quick : bool
        Tiny sizes: a test that everything runs, not a measurement.

    Raises
    ------
    UsageError
        If a value is out of range or two of them contradict each other.
    """

    rows: int | None = None
    vocab_size: int | None = None
    threads: int | None = None
    dtype: str = "float32"
    kind: str = "logits"
    names: tuple[str, ...] | None = None
    noise: float = 0.3
    seconds: float | None = None
    memory: int | str | None = None
    peers: bool = True
    quick: bool = False

    def __post_init__(self) -> None:
        for name, value, most in (
            ("rows", self.rows, None),
            ("vocab_size", self.vocab_size, None),
            ("threads", self.threads, _MAX_THREADS),
        ):
            if value is not None and (value < 1 or (most is not None and value > most)):
                raise UsageError(f"{name} must be {'at least 1' if most is None else f'from 1 to {most}'}; got {value}")
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype must be one of {', '.join(DTYPES)}; got {self.dtype!r}")
        if self.kind not in KINDS:
            raise UsageError(f"input must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if self.dtype == "float16" and self.kind == "probs":
            raise UsageError("float16 cannot hold small probabilities; use weights, logits or bfloat16")
        if not 1e-6 <= self.noise <= 10:
            raise UsageError(f"noise must be from 1e-6 to 10; got {self.noise}")
        if self.seconds is not None and not 0 < self.seconds <= 3600:
            raise UsageError(f"seconds must be above 0 and at most 3600; got {self.seconds}")
        if unknown := [name for name in self.names or () if name not in known_names()]:
            raise UsageError(f"names must be among {', '.join(known_names())}; got {', '.join(unknown)}")
        if self.names is not None and not self.names:
            raise UsageError("names must name at least one kernel")

    def plan(self) -> Plan:
        """Fix the sizes.

        Raises
        ------
        UsageError
            If the rows asked for, or a single one, need more than `memory`.
        """
        columns = self.vocab_size or (_QUICK_VOCABULARY if self.quick else _VOCABULARY)
        budget = _default_memory() if self.memory is None else parse_memory(self.memory)
        usual = _QUICK_ROWS if self.quick else max(1, _ROWS * _VOCABULARY // columns)
        rows = self.rows or _fitting(usual, columns, budget, self)
        need = _bytes_needed(rows, columns, self)
        if need > budget:
            needed, given = -(-need >> 20), budget >> 20
            raise UsageError(
                f"{rows:,} rows of {columns:,} columns need {needed:,} MiB, and memory is {given:,} MiB; "
                "fewer rows, a smaller vocab_size or more memory would do"
            )
        return Plan(
            rows=rows,
            columns=columns,
            distinct=_distinct(rows, columns),
            peer_rows=_peer_rows(rows, columns) if self.peers else 0,
            threads=self.threads or int(kb.info()["threads"]),
            dtype=self.dtype,
            kind=self.kind,
            names=tuple(dict.fromkeys(self.names or known_names())),
            noise=self.noise,
            seconds=self.seconds or (_QUICK_SECONDS if self.quick else _SECONDS),
            bytes_needed=need,
            quick=self.quick,
        )


@dataclass(frozen=True)
class Plan:
    """Sizes that are fixed.

    Parameters
    ----------
    rows, columns : int
        Shape of either side.
    distinct : int
        Rows that are drawn; they repeat, so that drawing and checking take less time than measuring.
    peer_rows : int
        The first so many rows go to the other libraries, which are slower; 0 leaves these out.
    threads, dtype, kind, names, noise, seconds, quick
        As in :class:`Settings`.
    bytes_needed : int
        What all arrays take together.
    """

    rows: int
    columns: int
    distinct: int
    peer_rows: int
    threads: int
    dtype: str
    kind: str
    names: tuple[str, ...]
    noise: float
    seconds: float
    bytes_needed: int
    quick: bool = False

    @classmethod
    def of(cls, rows: int, columns: int, **options: object) -> Plan:
        """Return the plan of a shape, whatever memory it takes; options are those of :class:`Settings`."""
        return Settings(rows=rows, vocab_size=columns, memory=1 << 50, **options).plan()  # type: ignore[arg-type]

    @property
    def pairs(self) -> int:
        """Numbers of either side."""
        return self.rows * self.columns

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return DTYPES[self.dtype]


def known_names() -> list[str]:
    """Return everything that can be timed, by name."""
    return [*kb.divergence_names(), *ROWS_TOGETHER]


def _distinct(rows: int, columns: int) -> int:
    return min(rows, _DISTINCT_ROWS, max(1, _DISTINCT_NUMBERS // columns))


def _peer_rows(rows: int, columns: int) -> int:
    return min(rows, max(1, _PEER_NUMBERS // columns))


def _bytes_needed(rows: int, columns: int, settings: Settings) -> int:
    itemsize = DTYPES[settings.dtype]
    inputs = 2 * itemsize * rows * columns
    # Reading is timed on the rows themselves, if they are float32, or else on as many bytes of float32.
    reading = 0 if settings.dtype == "float32" else inputs
    peers = _PEER_ARRAYS * max(itemsize, 4) * _peer_rows(rows, columns) * columns if settings.peers else 0
    # Checking is over before the other libraries run.
    return inputs + max(reading + _CHECK_BYTES * _distinct(rows, columns) * columns, reading + peers)


def _fitting(most: int, columns: int, budget: int, settings: Settings) -> int:
    """Return the largest number of rows, up to `most`, that fits; at least 1."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _bytes_needed(middle, columns, settings) <= budget else (low, middle - 1)
    return low


def _default_memory() -> int:
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not every system tells
        return _DEFAULT_MEMORY
    return min(_DEFAULT_MEMORY, physical // 2)
