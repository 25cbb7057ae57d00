"""What a run tells its caller: how far it is, and what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .inputs import Inputs
from .paired import Difference, FloorComparison
from .plan import Missing
from .summary import Summary
from .thresholds import Outcome

__all__ = ["Progress", "ProgressCounter", "ScoreResult"]


@dataclass(frozen=True)
class Progress:
    """How far a run is; rows and bytes are counted over all files that still have to be read.

    Attributes
    ----------
    rows, total_rows : int
        Rows compared so far and in all, each candidate counted.
    bytes, total_bytes : int
        Bytes of input behind them.
    """

    rows: int
    total_rows: int
    bytes: int
    total_bytes: int


class ProgressCounter:
    """Adds up what has been compared and reports it.

    Parameters
    ----------
    inputs : Inputs
        The opened files, for the size of their rows.
    missing : sequence of (Part, tuple of str)
        All that is going to be compared.
    report : callable, optional
        Called with a `Progress` at the start and after every addition.
    """

    def __init__(
        self, inputs: Inputs, missing: Sequence[Missing], report: Callable[[Progress], None] | None = None
    ) -> None:
        self._inputs = inputs
        self._report = report or (lambda _: None)
        self._rows = self._bytes = self._total_rows = self._total_bytes = 0
        for part, names in missing:
            rows, n_bytes = self._size(part.stop - part.start, names)
            self._total_rows += rows
            self._total_bytes += n_bytes
        self.add(0, ())

    def _size(self, n_rows: int, names: Sequence[str]) -> tuple[int, int]:
        row_bytes = self._inputs.reference.row_bytes + sum(self._inputs.compared[name].row_bytes for name in names)
        return n_rows * len(names), n_rows * row_bytes

    def add(self, n_rows: int, names: Sequence[str]) -> None:
        """Count rows that have been compared for these candidates."""
        rows, n_bytes = self._size(n_rows, names)
        self._rows += rows
        self._bytes += n_bytes
        self._report(Progress(self._rows, self._total_rows, self._bytes, self._total_bytes))


@dataclass(frozen=True)
class ScoreResult(Mapping[str, Summary]):
    """Summaries by candidate, and where the rest is.

    Attributes
    ----------
    directory : Path
        The output directory.
    summaries : dict of str to Summary
        By candidate, in the order given.
    warnings : tuple of str
        What the user has to know about the inputs.
    parts_kept, parts_written : int
        Parts of an earlier, unfinished run, and parts of this one.
    noise_floor : Summary, optional
        Of the reference's second run.
    above_noise_floor : dict of str to FloorComparison
        How each candidate stands to it.
    paired : tuple of Difference
        How every two candidates differ.
    outcomes : tuple of Outcome
        What the conditions of `fail_if` came to.
    """

    directory: Path
    summaries: dict[str, Summary]
    warnings: tuple[str, ...]
    parts_kept: int
    parts_written: int
    noise_floor: Summary | None = None
    above_noise_floor: dict[str, FloorComparison] = field(default_factory=dict)
    paired: tuple[Difference, ...] = ()
    outcomes: tuple[Outcome, ...] = ()

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The conditions of `fail_if` that are met, or cannot be told; empty if the run passes."""
        return tuple(outcome for outcome in self.outcomes if outcome.failed)

    def __getitem__(self, name: str) -> Summary:
        """Return the summary of a candidate."""
        return self.summaries[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the candidates' names."""
        return iter(self.summaries)

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.summaries)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``summary.json``."""
        return json.loads((self.directory / "summary.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        """Return the summaries side by side and what follows from them, as plain text."""
        from .table import plain_text
        from .table_notes import notes

        return "\n\n".join([plain_text(self.summaries, self.noise_floor), *notes(self)])
