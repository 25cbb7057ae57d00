"""Courses of the mean, along positions or over buckets: a few candidates together, many in a panel each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..statistics import Distribution, Estimate
from .figures import CANDIDATE, FAINT, LINES, MARKERS, SERIES, Chart, draw, label, new_figure, panels
from .gather import Bucket, Run, Scored
from .intervals import interval
from .scales import few_ticks, in_unit, log_ticks, plain_number, value_axis
from .tally import Tally
from .terms import metric_symbol
from .words import number, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_bucket", "profiles"]

# Beyond this, lines in one panel hide each other, and each candidate gets a panel of its own.
_MOST_TOGETHER = 5


def profiles(run: Run, shown: Sequence[Scored], tallies: Mapping[str, Tally]) -> Chart | None:
    """Mean along the position in the group, one line per candidate."""
    series = []
    for scored in shown:
        positions, values, errors = tallies[scored.name].profile.points()
        if positions.size > 1:
            series.append((scored.name, positions, values, errors))
    if not series:
        return None
    first = tallies[shown[0].name].profile
    grouped = first.n_groups > 1
    symbol = metric_symbol(run.metric)

    def paint(width: int) -> Figure:
        return _lines(
            width, series, "position in the group" if grouped else "row", f"mean {symbol}{in_unit(run.metric)}"
        )

    parts = [f"{visible(name)} from {number(float(v[0]))} to {number(float(v[-1]))}" for name, _, v, _ in series]
    return draw("position", f"Mean {symbol} from the first to the last position: " + "; ".join(parts), paint)


def _lines(width: int, series: Sequence[tuple[str, Any, Any, Any]], across: str, up: str) -> Figure:
    values = np.concatenate([item[2] for item in series])
    log = values.min() > 0 and values.max() / values.min() > 20
    together = len(series) <= _MOST_TOGETHER
    if together:
        figure = new_figure(width, 330 if width > 500 else 300)
        places = [figure.add_subplot()] * len(series)
    else:
        figure, places = panels(width, len(series), 150)
    for number_, (axes, (name, x, y, error)) in enumerate(zip(places, series, strict=True)):
        style = number_ if together else 0
        colour = SERIES[style] if together else CANDIDATE
        if not together:
            for _, other_x, other_y, _ in series:
                axes.plot(other_x, other_y, color=FAINT, linewidth=0.8)
            axes.set_title(label(name, 24 if width > 500 else 16))
        band = np.isfinite(error)
        low = np.maximum(y - error, y / 10) if log else y - error
        axes.fill_between(x[band], low[band], (y + error)[band], color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, y, color=colour, linewidth=1.8, linestyle=LINES[style], marker=MARKERS[style] if together else "",
                  markersize=4, markevery=max(1, len(x) // 12), label=label(name))  # fmt: skip
        if log:
            axes.set_yscale("log")
            axes.minorticks_off()
            log_ticks(axes.yaxis, *axes.get_ylim(), 6)
        else:
            axes.yaxis.set_major_formatter(plain_number)
        axes.xaxis.set_major_locator(few_ticks(6 if together and width > 500 else 3))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value == int(value) else "")
    if together:
        places[0].set_xlabel(across)
        places[0].set_ylabel(up)
        figure.legend(loc="outside upper left", ncols=len(series) if width > 500 else 2, handlelength=3)
    else:
        figure.supxlabel(across, fontsize=12)
        figure.supylabel(up, fontsize=12)
    return figure


def by_bucket(run: Run, shown: Sequence[Scored], kind: str, what: str) -> Chart | None:
    """Mean and interval in every bucket, buckets downwards, a mark per candidate."""
    found = [(scored, scored.buckets[kind]) for scored in shown if scored.buckets.get(kind)]
    if not found:
        return None
    labels = list(dict.fromkeys(bucket.label for _, buckets in found for bucket in buckets))
    series = [(scored.name, [_bucket_mean(run.metric, buckets, text) for text in labels]) for scored, buckets in found]
    values = [mean.value for _, items in series for mean in items if mean is not None and math.isfinite(mean.value)]
    if not values:
        return None
    log = min(values) > 0 and max(values) / min(values) > 5
    symbol = metric_symbol(run.metric)

    def paint(width: int) -> Figure:
        together = len(series) <= _MOST_TOGETHER
        each = 24 + 9 * len(series) if together else 26
        if together:
            figure = new_figure(width, 84 + each * len(labels))
            places = [figure.add_subplot()] * len(series)
        else:
            figure, places = panels(width, len(series), 56 + 20 * len(labels))
        for place, (axes, (name, items)) in enumerate(zip(places, series, strict=True)):
            style = place if together else 0
            shift = (place - (len(series) - 1) / 2) * 0.8 / len(series) if together else 0.0
            colour = SERIES[style] if together else CANDIDATE
            _marks(axes, items, shift, colour, MARKERS[style], log)
            axes.plot([], [], linestyle="", marker=MARKERS[style], color=colour, label=label(name))
            if not together:
                axes.set_title(label(name, 24 if width > 500 else 16))
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.set_yticks(range(len(labels)), [label(text, 18 if width > 500 else 12) for text in labels])
            axes.grid(visible=False, axis="y")
        value_axis(places[0], log, values, width if together else 340)
        title = f"mean {symbol}{in_unit(run.metric)}"
        if together:
            places[0].set_xlabel(title)
            figure.legend(loc="outside upper left", ncols=len(series) if width > 500 else 2, handletextpad=0.4)
        else:
            figure.supxlabel(title, fontsize=12)
        return figure

    text = f"Mean {symbol} by {what}, with 95 % intervals; the table below has the numbers"
    return draw(f"bucket-{kind.replace('_', '-')}", text, paint)


def _bucket_mean(metric: str, buckets: Sequence[Bucket], text: str) -> Estimate | None:
    found = next((bucket.statistics.get(metric) for bucket in buckets if bucket.label == text), None)
    return found.mean if isinstance(found, Distribution) else found


def _marks(axes: Axes, items: Sequence[Estimate | None], shift: float, colour: str, marker: str, log: bool) -> None:
    for place, mean in enumerate(items):
        if mean is None or not math.isfinite(mean.value) or (log and mean.value <= 0):
            continue
        ends = interval(mean)
        if ends is not None:
            low = max(ends[0], mean.value / 10) if log else ends[0]
            axes.plot([low, ends[1]], [place + shift] * 2, color=colour, linewidth=1.6, alpha=0.8)
        axes.plot([mean.value], [place + shift], linestyle="", marker=marker, markersize=6, color=colour)
