"""Rows divided among buckets: by how sure the reference was, and by the class of the token.

A mean over all rows hides where a candidate differs. Most tokens are nearly certain and hardly move; the few that the
reference itself doubts, or numbers, or the marks that steer a chat, may move a lot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .statistics import Distribution, Estimate, Floats
from .token_classes import CLASSES

__all__ = ["TOP1_PROB_EDGES", "Bucket", "by_class", "by_top1_prob"]

# Finer towards 1, where most tokens are.
TOP1_PROB_EDGES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Bucket:
    """Statistics of some of the rows.

    Attributes
    ----------
    low, high : float, optional
        The top-1 probabilities of the reference in it, `low` included, `high` not, except for 1.
    name : str, optional
        Or the class of its tokens.
    n_rows : int
        Rows.
    same_top : Estimate, optional
        Share of them in which both sides have the same top token.
    statistics : dict of str to Distribution
        Their divergences.
    """

    n_rows: int
    low: float | None = None
    high: float | None = None
    name: str | None = None
    same_top: Estimate | None = None
    statistics: dict[str, Distribution] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What a table calls it."""
        return f"{self.low:g} to {self.high:g}" if self.name is None else self.name.replace("_", " ")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are there."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def by_top1_prob(probabilities: Floats) -> Iterator[tuple[dict[str, float], NDArray[np.bool_]]]:
    """Yield the bounds of each bucket and which rows are in it; rows with NaN are in none."""
    for low, high in pairwise(TOP1_PROB_EDGES):
        # Stored log-probabilities may come out a little above 1.
        yield {"low": low, "high": high}, (probabilities >= low) & (probabilities < (np.inf if high == 1.0 else high))


def by_class(codes: NDArray[np.int8]) -> Iterator[tuple[dict[str, str], NDArray[np.bool_]]]:
    """Yield the name of each class that occurs and which rows are in it; rows with -1 are in none."""
    for code, name in enumerate(CLASSES):
        rows = codes == code
        if rows.any():
            yield {"name": name}, rows
