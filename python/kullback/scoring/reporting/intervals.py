"""The 95 % interval of an estimate, and what it rests on."""

from __future__ import annotations

import math

from ..statistics import Estimate

__all__ = ["has_groups", "interval"]

# Half the width of a 95 % interval of a normal distribution, in standard errors.
_NORMAL = 1.959964


def has_groups(estimate: Estimate) -> bool:
    """Tell whether the interval comes from resampling whole groups."""
    return estimate.low is not None and estimate.high is not None


def interval(estimate: Estimate) -> tuple[float, float] | None:
    """Return the interval over groups, or where there are none, the one with rows taken as independent."""
    if estimate.low is not None and estimate.high is not None:
        return estimate.low, estimate.high
    if not (math.isfinite(estimate.value) and math.isfinite(estimate.standard_error)):
        return None
    half = _NORMAL * estimate.standard_error
    return estimate.value - half, estimate.value + half
