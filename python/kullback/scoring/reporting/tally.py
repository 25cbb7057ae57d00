"""What the charts need from the rows, gathered in one pass over them: counts and sums in bins, never the rows.

Every row is in every chart; nothing is sampled. What has no place on an axis (zero on a logarithmic one, infinities,
NaN) is counted beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .gather import Run
from .rows import Rows

__all__ = ["Density", "LogHistogram", "Profile", "Tally", "Worst", "tally"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Runs up to this size are drawn row by row; above, points would hide each other and cost more than a picture of them.
_MOST_POINTS = 2000


class LogHistogram:
    """Counts of values by their logarithm, ten bins a decade, and what is not positive and finite beside it.

    Values beyond the outermost edges, 1e-20 and 1e6, are counted in the outermost bins.
    """

    LOWEST, HIGHEST, PER_DECADE = -20, 6, 10

    def __init__(self) -> None:
        self.counts: Counts = np.zeros((self.HIGHEST - self.LOWEST) * self.PER_DECADE, np.int64)
        self.n_zero = self.n_negative = self.n_infinite = self.n_nan = 0

    def add(self, values: Floats) -> None:
        """Count values."""
        positive = values[(values > 0) & np.isfinite(values)]
        places = np.floor((np.log10(positive) - self.LOWEST) * self.PER_DECADE).astype(np.int64)
        self.counts += np.bincount(np.clip(places, 0, self.counts.size - 1), minlength=self.counts.size)
        self.n_zero += int((values == 0).sum())
        self.n_negative += int(((values < 0) & np.isfinite(values)).sum())
        self.n_infinite += int(np.isinf(values).sum())
        self.n_nan += int(np.isnan(values).sum())

    @property
    def edges(self) -> Floats:
        """Edges of the bins."""
        return np.logspace(self.LOWEST, self.HIGHEST, self.counts.size + 1)


class Profile:
    """Mean of a column along the position of a row in its group, in at most 48 bins of equal width.

    How long the groups are is not known beforehand: when a position lies beyond the last bin, neighbours are merged.
    """

    BINS = 48

    def __init__(self) -> None:
        self.width = 1
        self._sums = np.zeros((3, self.BINS))  # of finite rows: number, values, squares
        self._row = 0
        self._start = 0  # of the group in hand
        self._group: int | None = None
        self.n_groups = 0

    def add(self, values: Floats, groups: NDArray[np.int64] | None) -> None:
        """Add the next rows; without groups the position is the row's number."""
        rows = np.arange(self._row, self._row + values.size)
        self._row += values.size
        if values.size == 0:
            return
        positions = rows if groups is None else rows - self._starts(rows, np.asarray(groups))
        while positions.max() // self.width >= self.BINS:
            self._sums = np.pad(self._sums.reshape(3, -1, 2).sum(axis=2), ((0, 0), (0, self.BINS // 2)))
            self.width *= 2
        finite = np.isfinite(values)
        kept, places = values[finite], positions[finite] // self.width
        for row, weights in enumerate((None, kept, kept * kept)):
            self._sums[row] += np.bincount(places, weights=weights, minlength=self.BINS)

    def _starts(self, rows: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first row of each row's group."""
        new = np.empty(rows.size, bool)
        new[0] = self._group is None or int(groups[0]) != self._group
        new[1:] = groups[1:] != groups[:-1]
        starts = np.maximum.accumulate(np.where(new, rows, self._start))
        self._group, self._start = int(groups[-1]), int(starts[-1])
        self.n_groups += int(new.sum())
        return starts

    def points(self) -> tuple[Floats, Floats, Floats]:
        """Return middle position, mean and standard error of the bins that have rows."""
        n, total, squares = self._sums[0], self._sums[1], self._sums[2]
        used = n > 0
        n = n[used]
        means = total[used] / n
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = np.sqrt(np.maximum(squares[used] / n - means**2, 0) / (n - 1))
        middles = np.flatnonzero(used).astype(np.float64) * self.width + (self.width - 1) / 2
        return middles, means, errors


class Density:
    """Probability of the target by the reference (0 to 1) against its change (-limit to limit), counted in a grid."""

    ACROSS, UP = 120, 91

    def __init__(self, limit: float, keep_points: bool) -> None:
        self.limit = limit
        self.counts: Counts = np.zeros((self.UP, self.ACROSS), np.int64)
        self._pieces: list[Floats] | None = [] if keep_points else None
        self.n_unknown = 0

    def add(self, log_probs: Floats, changes: Floats) -> None:
        """Count rows."""
        known = np.isfinite(changes) & ~np.isnan(log_probs)
        self.n_unknown += int((~known).sum())
        p, changes = np.exp(log_probs[known]), changes[known]
        across = np.clip((p * self.ACROSS).astype(np.int64), 0, self.ACROSS - 1)
        up = np.clip(((changes / self.limit + 1) / 2 * self.UP).astype(np.int64), 0, self.UP - 1)
        cells = np.bincount(up * self.ACROSS + across, minlength=self.counts.size)
        self.counts += cells.reshape(self.counts.shape)
        if self._pieces is not None:
            self._pieces.append(np.stack([p, changes]))

    @property
    def points(self) -> Floats | None:
        """Rows one by one, (2, n), if there are few."""
        return None if self._pieces is None else np.concatenate([np.zeros((2, 0)), *self._pieces], axis=1)


class Worst:
    """The rows with the largest values, infinite ones first and earlier ones before equal later ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._row = 0
        self.values: Floats = np.zeros(0)
        self.rows: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, values: Floats) -> None:
        """Look at the next rows."""
        candidates = ~np.isnan(values)
        if self.rows.size == self._most:
            candidates &= values > self.values[-1]
        found = np.flatnonzero(candidates)
        merged = np.concatenate([self.values, values[found]])
        rows = np.concatenate([self.rows, found + self._row])
        order = np.argsort(-merged, kind="stable")[: self._most]
        self.values, self.rows = merged[order], rows[order]
        self._row += values.size


@dataclass(frozen=True)
class Tally:
    """What was gathered of one candidate."""

    histogram: LogHistogram
    profile: Profile
    density: Density | None
    worst: Worst


def tally(run: Run, rows: Rows, n_worst: int) -> dict[str, Tally]:
    """Read the rows of every candidate once.

    Parameters
    ----------
    run : Run
        The run.
    rows : Rows
        Its parts.
    n_worst : int
        Rows to name for each candidate.

    Returns
    -------
    dict of str to Tally
        By candidate.
    """
    limit = _change_limit(run)
    keep_points = run.n_rows * len(run.candidates) <= _MOST_POINTS
    found = {}
    for name in run.candidates:
        density = None if limit is None else Density(limit, keep_points)
        item = Tally(LogHistogram(), Profile(), density, Worst(n_worst))
        for values, groups, target in _columns(run, rows, name, density is not None):
            item.histogram.add(values)
            item.profile.add(values, groups)
            item.worst.add(values)
            if density is not None and target is not None:
                density.add(*target)
        found[name] = item
    return found


def _columns(
    run: Run, rows: Rows, name: str, targets: bool
) -> Iterator[tuple[Floats, NDArray[np.int64] | None, tuple[Floats, Floats] | None]]:
    names = [run.metric, "group", *(("log_prob_p", "delta_prob") if targets else ())]
    for n, batch in rows.batches(name, names):
        values = [
            None if (column := batch[item]) is None else column.astype(np.float64) for item in names if item != "group"
        ]
        target = None
        if targets and values[1] is not None and values[2] is not None:
            target = values[1], values[2]
        yield np.full(n, np.nan) if values[0] is None else values[0], batch["group"], target


def _change_limit(run: Run) -> float | None:
    """Return the largest change of a target's probability over all candidates; None without targets."""
    if not {"log_prob_p", "delta_prob"} <= set(run.columns):
        return None
    largest = 0.0
    for scored in run.candidates.values():
        changes = scored.distribution("delta_prob")
        if changes is None:
            return None
        ends = np.abs([changes.minimum, changes.maximum])
        largest = max(largest, *(float(end) for end in ends if np.isfinite(end)), 0.0)
    return min(largest or 1e-9, 1.0)
