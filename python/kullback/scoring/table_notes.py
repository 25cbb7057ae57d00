"""What stands below the table: how candidates stand to the noise floor and to each other, and what conditions say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .paired import Difference, FloorComparison
from .statistics import Estimate
from .table import interval, number

if TYPE_CHECKING:
    from .result import ScoreResult

__all__ = ["notes"]

_METRICS = {"kl": "KL", "log_perplexity": "ln PPL"}


def notes(result: ScoreResult) -> list[str]:
    """Return paragraphs of plain text, none for a single candidate alone."""
    floor = [_above_floor(name, found) for name, found in result.above_noise_floor.items()]
    pairs = [_pair(difference) for difference in result.paired]
    titled = [
        ("Against the noise floor", floor),
        ("Differences between candidates, rows paired", pairs),
        ("Conditions", [str(outcome) for outcome in result.outcomes]),
    ]
    return ["\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in titled if lines]


def _estimate(estimate: Estimate) -> str:
    """Write a difference with its sign, and the interval over groups or else the standard error."""
    sign = "+" if estimate.value > 0 else ""
    text = f"{sign}{number('', estimate.value)}"
    if bounds := interval("", estimate):
        return f"{text} (95 % {bounds})"
    return f"{text} ± {number('', estimate.standard_error, like=estimate.value)}"


def _above_floor(name: str, found: FloorComparison) -> str:
    verdict = "above it" if found.above else "not above it"
    ratio = "∞" if math.isinf(found.ratio) else f"{found.ratio:.3g}"
    return f"{name}: mean KL is {ratio} times the floor's, {_estimate(found.difference)}: {verdict}"


def _pair(found: Difference) -> str:
    text = f"{found.b} - {found.a}: {_METRICS[found.metric]} {_estimate(found.difference)}"
    if math.isnan(found.confidence):
        return text
    confidence = "> 99.9 %" if found.confidence > 0.999 else f"{100 * found.confidence:.1f} %"
    verdict = "no clear difference" if found.better is None else f"{found.better} is better"
    return f"{text}: {verdict} (confidence {confidence})"
