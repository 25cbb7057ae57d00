"""How the rows are cut: into parts, which are the unit of resuming, and into blocks, which are the unit of memory.

The boundaries of parts depend on the inputs only, so that a run may be resumed with other memory or threads and still
give the same files. The size of blocks depends on the memory allowed; as rows are scored one by one, it changes no
digit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .errors import InputError
from .inputs import Inputs
from .sources import IN_FLIGHT, TopKSource

__all__ = ["Missing", "Part", "Plan", "make_plan"]

# A part is what may be lost when a run is killed: a fraction of a second of native work, a few seconds of NumPy.
_PART_BYTES = 512 << 20
_PART_ROWS = 1 << 16

# Larger blocks than this bring no speed.
_BLOCK_BYTES = 96 << 20

# What a process takes before it has read a row, and what allocators keep: 80 to 105 MiB with NumPy and pyarrow, 95 to
# 120 with zarr; the more where the libraries were installed a moment ago, as Linux then maps them in larger pieces.
_BASE_BYTES = 144 << 20

# Where that leaves nothing, rows in flight get this share all the same: smaller blocks would only be slow.
_LEAST_SHARE = 8


@dataclass(frozen=True)
class Part:
    """Rows `start` to `stop`, which become one file per candidate."""

    number: int
    start: int
    stop: int


# A part, and the candidates whose columns for it are still to be made.
Missing = tuple[Part, tuple[str, ...]]


@dataclass(frozen=True)
class Plan:
    """Part boundaries and block size of a run."""

    n_rows: int
    rows_per_part: int
    rows_per_block: int

    def parts(self) -> list[Part]:
        """Return the parts in order."""
        starts = range(0, self.n_rows, self.rows_per_part)
        return [
            Part(number, start, min(start + self.rows_per_part, self.n_rows)) for number, start in enumerate(starts)
        ]

    def blocks(self, part: Part) -> Iterator[tuple[int, int]]:
        """Yield start and stop row of each block of a part."""
        for start in range(part.start, part.stop, self.rows_per_block):
            yield start, min(start + self.rows_per_block, part.stop)


def make_plan(inputs: Inputs, memory: int) -> Plan:
    """Cut the rows of the inputs.

    Parameters
    ----------
    inputs : Inputs
        The opened files.
    memory : int
        Bytes that the process is meant to stay within.

    Returns
    -------
    Plan
        With at least one row per block, however little memory there is.

    Raises
    ------
    InputError
        If a file can only be decoded in pieces that are larger than the memory.
    """
    lists = [source for source in inputs.sources if isinstance(source, TopKSource)]
    # Lists are much shorter than the vocabulary.
    row_bytes = 4 * inputs.vocab_size if len(lists) < len(inputs.sources) else max(s.row_bytes for s in lists)
    rows_per_part = min(max(_PART_BYTES // row_bytes, 1), _PART_ROWS)
    # Neither backend's temporaries grow with the block.
    in_flight = IN_FLIGHT * sum(source.memory_per_row for source in inputs.sources)
    held = sum(source.held_bytes for source in inputs.sources)
    if held > memory:
        largest = max(inputs.sources, key=lambda source: source.held_bytes)
        raise InputError(
            f"{largest.name} is stored in pieces that take {largest.held_bytes} bytes to decode, more than the memory "
            f"allowed ({memory} bytes in all); raise memory (--memory), or write the file again in smaller pieces"
        )
    allowed = min(max(memory - held - _BASE_BYTES, (memory - held) // _LEAST_SHARE), IN_FLIGHT * _BLOCK_BYTES)
    return Plan(inputs.n_rows, rows_per_part, min(max(allowed // in_flight, 1), rows_per_part))
