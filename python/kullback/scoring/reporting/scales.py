"""Scales and ticks: powers of ten on logarithmic axes, plain numbers on others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .terms import unit
from .words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["few_ticks", "in_unit", "log_ticks", "plain_number", "value_axis"]


def log_ticks(axis: Any, low: float, high: float, most: int) -> None:
    """Put ticks at powers of ten on a logarithmic axis, at most so many, written as numbers."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / most))
    powers = [power for power in range(first, last + 1) if power % step == 0]
    if len(powers) < 2:
        return
    axis.set_ticks([10.0**power for power in powers], [_power(power) for power in powers])


def _power(power: int) -> str:
    if -3 <= power <= 3:
        return number(10.0**power).rstrip("0").rstrip(".") if power < 1 else str(10**power)
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def value_axis(axes: Axes, log: bool, values: Sequence[float], width: int) -> None:
    """Scale the axis of values, and put as many ticks on it as the width has room for."""
    if log:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        if math.log10(high / low) < 1.2:
            low, high = low / 2, high * 2
        axes.set_xlim(low, high)
        axes.minorticks_off()
        log_ticks(axes.xaxis, low, high, 10 if width > 500 else 4)
    elif min(values) >= 0:
        axes.set_xlim(0, axes.get_xlim()[1] if max(values) > 0 else 1)
        axes.xaxis.set_major_formatter(plain_number)
        axes.xaxis.set_major_locator(few_ticks(6 if width > 500 else 3))


def few_ticks(n: int) -> Any:
    """Return a locator of at most n intervals."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(n)


def plain_number(value: float, _: float) -> str:
    """Write a tick."""
    if value == 0:
        return "0"
    return number(value) if abs(value) < 1e-3 else f"{value:g}".replace("-", "−")


def in_unit(metric: str) -> str:
    """Return the unit of a divergence, as it stands behind the name of an axis."""
    return f" ({unit(metric).strip()})" if unit(metric) else ""
