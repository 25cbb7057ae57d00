"""How candidates stand and how their rows are spread: means, distributions, changes of the target's probability.

Logarithmic axes show ratios: from 0.001 to 0.01 is as far as from 0.1 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..statistics import Distribution
from .figures import CANDIDATE, INK, MUTED, RASTER, Chart, draw, label, new_figure, panels
from .gather import Run, Scored
from .intervals import interval
from .scales import few_ticks, in_unit, log_ticks, plain_number, value_axis
from .tally import Tally
from .terms import metric_symbol
from .words import number, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["changes", "distributions", "means"]


def means(run: Run, shown: Sequence[Scored]) -> Chart | None:
    """Mean and interval of every candidate, with the noise floor."""
    found = [(scored, mean) for scored in shown if (mean := scored.estimate(run.metric)) and math.isfinite(mean.value)]
    if not found:
        return None
    symbol = metric_symbol(run.metric)
    floor = None if run.noise_floor is None else run.noise_floor.estimate(run.metric)
    values = [mean.value for _, mean in found] + ([floor.value] if floor and math.isfinite(floor.value) else [])
    log = min(values) > 0 and max(values) / min(values) > 5

    def paint(width: int) -> Figure:
        figure = new_figure(width, 54 + 30 * len(found))
        axes = figure.add_subplot()
        for place, (_, mean) in enumerate(found):
            ends = interval(mean)
            if ends is not None:
                low = max(ends[0], mean.value / 1e3) if log else ends[0]
                axes.plot(
                    [low, ends[1]], [place, place], color=CANDIDATE, linewidth=3, solid_capstyle="butt", alpha=0.55
                )
            axes.plot([mean.value], [place], marker="o", markersize=7, color=CANDIDATE)
            axes.annotate(
                number(mean.value),
                (mean.value, place),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=11,
            )
        if floor is not None and math.isfinite(floor.value):
            axes.axvline(floor.value, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
            axes.annotate(
                "noise floor", (floor.value, -0.7), xytext=(5, 0), textcoords="offset points", fontsize=11, va="center"
            )
        axes.set_ylim(len(found) - 0.5, -0.95)
        axes.set_yticks(range(len(found)), [label(scored.name, 26 if width > 500 else 14) for scored, _ in found])
        axes.grid(visible=False, axis="y")
        value_axis(axes, log, values, width)
        axes.set_xlabel(f"mean {symbol}{in_unit(run.metric)}, with 95 % interval")
        return figure

    text = f"Mean {symbol} by candidate: " + "; ".join(f"{visible(s.name)} {number(mean.value)}" for s, mean in found)
    return draw("means", text, paint)


def distributions(run: Run, shown: Sequence[Scored], tallies: Mapping[str, Tally]) -> Chart | None:
    """One strip per candidate: how its rows are spread over a logarithmic axis, and what has no place on one."""
    histograms = [tallies[scored.name].histogram for scored in shown]
    used = np.flatnonzero(sum(histogram.counts for histogram in histograms))
    if used.size == 0:
        return None
    edges = histograms[0].edges
    per_decade = histograms[0].PER_DECADE
    # Whole decades, from the hundredth row of the nearest candidate: what is below is put together in the first bin.
    last = int(-(-(used[-1] + 1) // per_decade) * per_decade)
    first = min(_low_decade(histogram.counts, per_decade) for histogram in histograms if histogram.counts.any())
    symbol = metric_symbol(run.metric)

    def paint(width: int) -> Figure:
        figure = new_figure(width, 62 + 54 * len(shown))
        axes = figure.add_subplot()
        for place, (scored, histogram) in enumerate(zip(shown, histograms, strict=True)):
            counts = histogram.counts[first:last].astype(np.float64)
            counts[0] += histogram.counts[:first].sum()
            _strip(axes, place, edges[first : last + 1], counts, scored.distribution(run.metric))
            beside = _beside(scored.n_rows, histogram)
            if beside:
                axes.annotate(
                    beside,
                    (0.995, place - 0.8),
                    xycoords=("axes fraction", "data"),
                    ha="right",
                    va="center",
                    fontsize=10.5,
                )
        axes.set_xscale("log")
        axes.set_xlim(edges[first], edges[last])
        axes.minorticks_off()
        log_ticks(axes.xaxis, edges[first], edges[last], 13 if width > 500 else 5)
        axes.set_ylim(len(shown) - 0.75, -1.05)
        axes.set_yticks(
            [place - 0.3 for place in range(len(shown))],
            [label(scored.name, 26 if width > 500 else 14) for scored in shown],
        )
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{symbol} of a row{in_unit(run.metric)}, log scale")
        _key(figure)
        return figure

    medians = "; ".join(
        f"{visible(scored.name)} median {number(column.median)}, 99 % {number(column.percentiles.get('99'))}"
        for scored in shown
        if (column := scored.distribution(run.metric)) is not None
    )
    return draw("distribution", f"Distribution of {symbol} over rows on a log axis: {medians}", paint)


def _low_decade(counts: Any, per_decade: int) -> int:
    """Return the first bin of the decade above which 99 of 100 rows lie."""
    place = int(np.searchsorted(np.cumsum(counts), max(0.01 * counts.sum(), 1)))
    return place // per_decade * per_decade


def _strip(axes: Axes, place: int, edges: Any, counts: Any, column: Distribution | None) -> None:
    """Draw a histogram upwards from a base line, with median, mean and 99 % on it."""
    height = 0.72 * counts / counts.max() if counts.max() > 0 else counts
    axes.stairs(place - height, edges, baseline=place, fill=True, color=CANDIDATE, alpha=0.28, linewidth=0)
    axes.stairs(place - height, edges, baseline=place, color=CANDIDATE, linewidth=1.2)
    if column is None:
        return
    for value, marker, size in (
        (column.median, "|", 13),
        (column.mean.value, "o", 6),
        (column.percentiles.get("99"), "D", 5),
    ):
        if value is not None and math.isfinite(value) and value > 0:
            axes.plot([value], [place - 0.1], marker=marker, markersize=size, markeredgewidth=1.6, color=INK, zorder=5)


def _key(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    marks = (("|", 11, "median"), ("o", 6, "mean"), ("D", 5, "99 %"))
    lines = [
        Line2D([], [], linestyle="", marker=marker, markersize=size, markeredgewidth=1.6, color=INK, label=text)
        for marker, size, text in marks
    ]
    figure.legend(handles=lines, loc="outside upper left", ncols=3, handletextpad=0.3, columnspacing=1.4)


def _beside(n_rows: int, histogram: Any) -> str:
    """Say what has no place on a logarithmic axis."""
    found = []
    for n, what in (
        (histogram.n_zero, "exactly 0"),
        (histogram.n_negative, "below 0"),
        (histogram.n_infinite, "infinite"),
        (histogram.n_nan, "undefined"),
    ):
        if n:
            found.append(f"{n:,} {what}")
    return f"{', '.join(found)} of {n_rows:,}" if found else ""


def changes(run: Run, shown: Sequence[Scored], tallies: Mapping[str, Tally]) -> Chart | None:
    """A panel per candidate: what became of the probability of the token that followed."""
    found = [(scored, density) for scored in shown if (density := tallies[scored.name].density) is not None]
    if not found:
        return None
    limit = found[0][1].limit

    def paint(width: int) -> Figure:
        figure, places = panels(width, len(found), 215 if width > 500 or len(found) <= 3 else 170)
        for axes, (scored, density) in zip(places, found, strict=True):
            points = density.points
            if points is None:
                axes.imshow(_picture(density.counts), extent=(0, 1, -limit, limit), origin="lower", aspect="auto",
                            interpolation="nearest", zorder=2)  # fmt: skip
            else:
                axes.plot(
                    *points, linestyle="", marker="o", markersize=2.6, markeredgewidth=0, color=CANDIDATE, alpha=0.5
                )
            axes.axhline(0, color=MUTED, linewidth=0.8)
            axes.set_title(label(scored.name, 24 if width > 500 else 16))
            axes.set_xlim(0, 1)
            axes.set_ylim(-1.05 * limit, 1.05 * limit)
            axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            axes.yaxis.set_major_locator(few_ticks(5))
            axes.yaxis.set_major_formatter(plain_number)
        figure.supxlabel("probability of the target by the reference", fontsize=12)
        figure.supylabel("change, Δp", fontsize=12)
        return figure

    rms = [
        f"{visible(scored.name)} {number(e.value)}" for scored, _ in found if (e := scored.estimate("rms_delta_prob"))
    ]
    text = "Change of the target's probability against its probability by the reference; RMS Δp: " + "; ".join(rms)
    return draw("changes", text, paint)


def _picture(counts: Any) -> Any:
    """Return counts as opacity, by their logarithm: one row is to be seen, and a million not to blot out the rest."""
    image = np.empty((*counts.shape, 4), np.float32)
    image[..., :3] = RASTER
    top = math.log1p(counts.max())
    image[..., 3] = np.where(counts > 0, 0.35 + 0.65 * np.log1p(counts) / (top or 1), 0)
    return image
