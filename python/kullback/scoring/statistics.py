"""Estimates with standard errors, by the formulas that llama.cpp prints and by bootstrap over groups.

For n values with mean f the standard error is ``sqrt((mean of squares - f^2) / (n - 1))``, computed from centred
values. It takes rows as independent, which the rows of one chunk are not; `Bootstrap` therefore resamples whole
groups. Everything here is float64, in a fixed order, and free of BLAS, so that a result does not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HALF_WIDTH",
    "PERCENTILES",
    "Bootstrap",
    "Distribution",
    "Estimate",
    "describe",
    "mean_of",
    "percentile",
    "standard_error",
    "with_replicates",
]

Floats = NDArray[np.float64]

# Half of a 95 % interval, in standard errors, where there are no groups to resample.
HALF_WIDTH = 1.959963984540054

PERCENTILES = (0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True)
class Estimate:
    """A statistic over rows.

    Attributes
    ----------
    value : float
        Over the rows in which it is finite.
    standard_error : float
        With rows taken as independent; NaN for a single row.
    over_all : float
        The same with infinite rows included (rows with NaN never are).
    n_rows : int
        Rows in `value`.
    group_standard_error, low, high : float, optional
        Standard error and 95 % interval from the bootstrap over groups.
    """

    value: float
    standard_error: float
    over_all: float
    n_rows: int
    group_standard_error: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Distribution:
    """How one column is distributed over rows.

    Attributes
    ----------
    mean : Estimate
        Mean over finite rows.
    n_finite, n_infinite, n_nan : int
        Rows of each sort.
    minimum, maximum, median : float
        Over all rows but NaN, infinite ones included.
    percentiles : dict of str to float
        ``"0.1"`` to ``"99.9"``, over all rows but NaN, linear between neighbours.
    """

    mean: Estimate
    n_finite: int
    n_infinite: int
    n_nan: int
    minimum: float
    maximum: float
    median: float
    percentiles: dict[str, float]


def standard_error(values: Floats) -> float:
    """Return the standard error of the mean; NaN for fewer than two values."""
    n = values.size
    if n < 2:
        return float("nan")
    return float(np.sqrt(np.mean(np.square(values - values.mean())) / (n - 1)))


def covariance_of_means(a: Floats, b: Floats) -> float:
    """Return the covariance of two paired means; NaN for fewer than two pairs."""
    n = a.size
    if n < 2:
        return float("nan")
    return float(np.mean((a - a.mean()) * (b - b.mean())) / (n - 1))


def percentile(ordered: Floats, fraction: float) -> float:
    """Return the value at `fraction` of sorted values, linear between neighbours; infinite neighbours are allowed."""
    if ordered.size == 0:
        return float("nan")
    position = fraction * (ordered.size - 1)
    index = int(position)
    lower = float(ordered[index])
    share = position - index
    if share == 0.0 or index + 1 == ordered.size:
        return lower
    upper = float(ordered[index + 1])
    return lower if lower == upper or np.isinf(lower) else lower + share * (upper - lower)


def mean_of(values: Floats) -> Estimate:
    """Return the mean of values with its standard error."""
    known = values[~np.isnan(values)]
    finite = values[np.isfinite(values)]
    with np.errstate(invalid="ignore"):  # +inf and -inf in one column have no mean
        return Estimate(
            value=float(finite.mean()) if finite.size else float("nan"),
            standard_error=standard_error(finite),
            over_all=float(known.mean()) if known.size else float("nan"),
            n_rows=int(finite.size),
        )


def describe(values: Floats) -> Distribution:
    """Return the distribution of a column."""
    known = np.sort(values[~np.isnan(values)])
    finite = values[np.isfinite(values)]
    return Distribution(
        mean=mean_of(values),
        n_finite=int(finite.size),
        n_infinite=int(known.size - finite.size),
        n_nan=int(values.size - known.size),
        minimum=percentile(known, 0.0),
        maximum=percentile(known, 1.0),
        median=percentile(known, 0.5),
        percentiles={f"{percent:g}": percentile(known, percent / 100) for percent in PERCENTILES},
    )


class Bootstrap:
    """Block bootstrap over groups: each replicate draws as many groups as there are, with replacement.

    Every statistic sees the same draws. A statistic is a function of means over rows, and the mean over a replicate's
    rows is a ratio of sums over its groups, so only sums per group are kept.

    Parameters
    ----------
    groups : ndarray
        Group of each row; equal numbers belong together.
    n_replicates : int
        Number of replicates wanted. With more than 8,192 groups fewer are drawn (200 at least, `n_replicates` tells),
        for the work grows with their product and the distribution is close to normal by then.
    seed : int
        Seed of the draws.
    """

    _DRAWS_AT_ONCE = 1 << 20
    _DRAWS = 1 << 24
    _FEWEST = 200

    def __init__(self, groups: NDArray[np.int64], n_replicates: int, seed: int) -> None:
        names, self._codes = np.unique(groups, return_inverse=True)
        self.n_groups = int(names.size)
        affordable = max(self._DRAWS // max(self.n_groups, 1), self._FEWEST)
        self.n_replicates = min(n_replicates, affordable)
        self._seed = seed

    def _sums(self, values: Floats, rows: NDArray[np.bool_]) -> Floats:
        return np.bincount(self._codes[rows], weights=values, minlength=self.n_groups).astype(np.float64, copy=False)

    def _replicate_sums(self, sums: Floats) -> Floats:
        """Return the (replicates, statistics) sums over drawn groups of (groups, statistics) sums."""
        generator = np.random.default_rng(self._seed)
        step = max(self._DRAWS_AT_ONCE // self.n_groups, 1)
        blocks = []
        for start in range(0, self.n_replicates, step):
            drawn = generator.integers(self.n_groups, size=(min(step, self.n_replicates - start), self.n_groups))
            blocks.append(np.stack([column[drawn].sum(axis=1) for column in sums.T], axis=1))
        return np.concatenate(blocks)

    def replicates(
        self, columns: Sequence[Floats], rows: NDArray[np.bool_], statistic: Callable[..., Floats]
    ) -> Floats:
        """Return the finite replicates of a statistic in ascending order; none for fewer than two groups or no rows.

        Parameters
        ----------
        columns : sequence of ndarray
            Finite values of the selected rows, whose means `statistic` takes.
        rows : ndarray of bool
            Which rows those are.
        statistic : callable
            From means (arrays over replicates, one per column) to the statistic.
        """
        if self.n_groups < 2 or not rows.any() or self.n_replicates < 2:
            return np.empty(0)
        counts = self._sums(np.ones(int(rows.sum())), rows)
        sums = np.stack([counts, *(self._sums(column, rows) for column in columns)], axis=1)
        drawn = self._replicate_sums(sums)
        drawn = drawn[drawn[:, 0] > 0]
        with np.errstate(all="ignore"):
            found = statistic(*(drawn[:, 1:].T / drawn[:, 0]))
        return np.sort(found[np.isfinite(found)])

    def apply(
        self, estimate: Estimate, columns: Sequence[Floats], rows: NDArray[np.bool_], statistic: Callable[..., Floats]
    ) -> Estimate:
        """Return an estimate with its errors over groups added, from the `replicates` of its statistic."""
        return with_replicates(estimate, self.replicates(columns, rows, statistic))


def with_replicates(estimate: Estimate, replicates: Floats) -> Estimate:
    """Return an estimate with the errors that its bootstrap replicates, in ascending order, give; as it is for none."""
    if replicates.size < 2:
        return estimate
    return replace(
        estimate,
        group_standard_error=float(replicates.std(ddof=1)),
        low=percentile(replicates, 0.025),
        high=percentile(replicates, 0.975),
    )
