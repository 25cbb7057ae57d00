"""The 95 % interval of an estimate, and what it rests on."""

from __future__ import annotations

import math

from ..statistics import HALF_WIDTH, Estimate

__all__ = ["interval"]


def interval(estimate: Estimate) -> tuple[float, float] | None:
    """Return the interval over groups, or where there are none, the one with rows taken as independent."""
    if estimate.low is not None and estimate.high is not None:
        return None if math.isnan(estimate.low + estimate.high) else (estimate.low, estimate.high)
    if not (math.isfinite(estimate.value) and math.isfinite(estimate.standard_error)):
        return None
    half = HALF_WIDTH * estimate.standard_error
    return estimate.value - half, estimate.value + half
