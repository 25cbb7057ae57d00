"""The monotone plan in exact arithmetic: the definition that the native one is held against."""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kullback._core.types import Array


class Pieces(NamedTuple):
    """Ranks in x and y and the mass of each piece of the plan, in rising order; the masses sum to 1."""

    x: npt.NDArray[np.int64]
    y: npt.NDArray[np.int64]
    mass: Array


def pieces(a: Array | None, b: Array | None, n: int, m: int) -> Pieces:
    """Cut two sorted sides into the pieces that move together; pieces without mass are left out.

    Every weight is a whole number of some power of two, so that sums and comparisons are exact; each mass is rounded
    once.
    """
    if a is None and b is None and n == m:
        ranks = np.arange(n)
        return Pieces(ranks, ranks, np.full(n, 1.0 / n))
    levels_x, levels_y = _levels(a, n), _levels(b, m)
    total_x, total_y = levels_x[-1], levels_y[-1]
    i = j = reached = 0
    ranks_x, ranks_y, mass = [], [], []
    while i < n and j < m:
        level_x, level_y = levels_x[i] * total_y, levels_y[j] * total_x
        level = min(level_x, level_y)
        if level > reached:
            ranks_x.append(i)
            ranks_y.append(j)
            mass.append((level - reached) / (total_x * total_y))
        reached = level
        i += level_x == level
        j += level_y == level
    return Pieces(np.array(ranks_x), np.array(ranks_y), np.array(mass))


def _levels(weights: Array | None, n: int) -> list[int]:
    """Cumulative weights as whole numbers of one unit."""
    if weights is None:
        return list(range(1, n + 1))
    mantissa, exponent = np.frexp(weights)
    whole = (mantissa * 2.0**53).astype(np.int64).tolist()
    shift = np.where(mantissa > 0.0, exponent - exponent[mantissa > 0.0].min(), 0).tolist()
    return list(itertools.accumulate(number << by for number, by in zip(whole, shift, strict=True)))
