"""Two columns of the same rows: which is lower, by how much, and how sure that is.

Rows are paired: a text that is hard for one model is hard for the other, and what they share leaves the difference.
Its error is that of the mean of the rows' differences, often many times smaller than the errors of the two means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .statistics import HALF_WIDTH, Bootstrap, Estimate, Floats, mean_of, with_replicates

__all__ = ["Difference", "FloorComparison", "compare_pairs", "compare_with_floor"]


@dataclass(frozen=True)
class Difference:
    """How one candidate differs from another in the mean over rows.

    Attributes
    ----------
    a, b : str
        The candidates.
    metric : str
        ``"kl"``, or ``"log_perplexity"``, the mean of -ln of the target's probability.
    difference : Estimate
        Mean of `b` minus mean of `a`, over the rows in which both are finite.
    better : str or None
        The one with the lower mean, if the 95 % interval of the difference leaves out 0 and it has not more infinite
        rows than the other.
    confidence : float
        The probability that the sign of the difference is right: the share of bootstrap replicates over groups with
        that sign, or by the normal law if there are no groups.
    n_infinite_a, n_infinite_b : int
        Rows that are infinite, and left out.
    """

    a: str
    b: str
    metric: str
    difference: Estimate
    better: str | None
    confidence: float
    n_infinite_a: int
    n_infinite_b: int


@dataclass(frozen=True)
class FloorComparison:
    """How a candidate's mean stands to the noise floor's.

    Attributes
    ----------
    metric : str
        The column compared.
    ratio : float
        Mean of the candidate over mean of the floor, over the rows in which both are finite.
    difference : Estimate
        Mean of the candidate minus mean of the floor.
    above : bool
        Whether the 95 % interval of the difference lies above 0.
    """

    metric: str
    ratio: float
    difference: Estimate
    above: bool


def _difference(a: Floats, b: Floats, bootstrap: Bootstrap | None) -> tuple[Estimate, float, float, float]:
    """Return mean b - mean a, the bounds of its 95 % interval, and the probability that its sign is right."""
    with np.errstate(invalid="ignore"):
        rowwise = b - a
        estimate = mean_of(rowwise)
    rows = np.isfinite(rowwise)
    replicates = np.empty(0)
    if bootstrap is not None:
        replicates = bootstrap.replicates([rowwise[rows]], rows, lambda mean: mean)
    estimate = with_replicates(estimate, replicates)
    value, error = estimate.value, estimate.standard_error
    if estimate.low is not None and estimate.high is not None:
        same_sign = np.count_nonzero(np.sign(replicates) == np.sign(value)) + 0.5 * np.count_nonzero(replicates == 0)
        # A value of 0 has no sign to be right about.
        confidence = 0.5 if value == 0 else float(same_sign / replicates.size)
        return estimate, estimate.low, estimate.high, confidence
    if math.isnan(error):
        return estimate, math.nan, math.nan, math.nan
    if error == 0:
        return estimate, value, value, 1.0 if value else 0.5
    half = HALF_WIDTH * error
    return estimate, value - half, value + half, 0.5 * (1.0 + math.erf(abs(value) / error / math.sqrt(2)))


def _compare(a: str, b: str, metric: str, columns: tuple[Floats, Floats], bootstrap: Bootstrap | None) -> Difference:
    difference, low, high, confidence = _difference(*columns, bootstrap)
    n_infinite = [int(np.isinf(column).sum()) for column in columns]
    better = None
    if high < 0 and n_infinite[1] <= n_infinite[0]:
        better = b
    elif low > 0 and n_infinite[0] <= n_infinite[1]:
        better = a
    return Difference(a, b, metric, difference, better, confidence, *n_infinite)


def compare_pairs(
    candidates: Mapping[str, Mapping[str, NDArray[Any]]], bootstrap: Bootstrap | None = None
) -> tuple[Difference, ...]:
    """Compare every candidate with every later one, by KL and, where targets are known, by log-perplexity.

    Parameters
    ----------
    candidates : mapping of str to mapping of str to ndarray
        By candidate, its columns; two of them are taken at a time.
    bootstrap : Bootstrap, optional
        Over the groups of the rows.

    Returns
    -------
    tuple of Difference
        Pair by pair.
    """
    names = list(candidates)
    found: dict[tuple[str, str, str], Difference] = {}
    for metric, column, sign in (("kl", "kl", 1.0), ("log_perplexity", "log_prob_q", -1.0)):
        for number, a in enumerate(names[:-1]):
            of_a = candidates[a].get(column)
            for b in names[number + 1 :]:
                of_b = None if of_a is None else candidates[b].get(column)
                if of_a is not None and of_b is not None:
                    columns = (sign * of_a.reshape(-1), sign * of_b.reshape(-1))
                    found[a, b, metric] = _compare(a, b, metric, columns, bootstrap)
    order = ((a, b, metric) for a, b in combinations(names, 2) for metric in ("kl", "log_perplexity"))
    return tuple(found[key] for key in order if key in found)


def compare_with_floor(candidate: Floats, floor: Floats, bootstrap: Bootstrap | None = None) -> FloorComparison:
    """Compare a candidate's column of KL with that of the noise floor.

    Parameters
    ----------
    candidate, floor : ndarray
        KL of each row.
    bootstrap : Bootstrap, optional
        Over the groups of the rows.
    """
    difference, low, _, _ = _difference(floor, candidate, bootstrap)
    rows = np.isfinite(candidate) & np.isfinite(floor)
    above, below = (float(column[rows].mean()) if rows.any() else math.nan for column in (candidate, floor))
    ratio = above / below if below else (math.inf if above > 0 else math.nan)
    return FloorComparison("kl", ratio, difference, bool(low > 0))
