"""The tables of a report as captions, heads and cells of text; the template only lays them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..statistics import Distribution, Estimate
from .gather import Run, Scored
from .intervals import interval
from .terms import metric_symbol, unit
from .words import count, factor, number, percent, points, visible

__all__ = ["Cell", "Table", "bucket_table", "candidate_table", "change_table", "paired_table", "percentile_table",
           "threshold_table"]  # fmt: skip

_SHOWN_PERCENTILES = ("1", "10", "25", "50", "75", "90", "99", "99.9")


@dataclass(frozen=True)
class Cell:
    """A cell: its text, what stands smaller below it, and whether it is ``good`` or ``bad``."""

    text: str
    below: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose rows begin with their own head."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]] = field(default_factory=list)


def candidate_table(run: Run) -> Table:
    """Every candidate with its intervals, the nearest first, and the noise floor below."""
    items = run.nearest_first() + ([run.noise_floor] if run.noise_floor is not None else [])
    symbol = metric_symbol(run.metric)
    above = any(scored.above for scored in items)
    columns = [f"mean {symbol}{_unit(run.metric)}", "median", "99 %", "largest"]
    named = {"same_top": "same top token", "perplexity_ratio": "perplexity ratio", "rms_delta_prob": "RMS Δp"}
    named = {name: head for name, head in named.items() if any(scored.estimate(name) for scored in items)}
    odd = any(_odd(scored, run.metric) != (0, 0) for scored in items)
    heads = ["candidate", *columns, *(["against noise"] if above else []), *named.values()]
    heads += ["infinite", "undefined"] if odd else []
    rows = []
    for scored in items:
        column = scored.distribution(run.metric)
        cells = [Cell(visible(scored.name)), _estimate(scored.estimate(run.metric), number)]
        if column is None:
            cells += [Cell("–")] * 3
        else:
            cells += [Cell(number(x)) for x in (column.median, column.percentiles.get("99"), column.maximum)]
        cells += [_against_noise(scored)] if above else []
        cells += [_named(scored, name) for name in named]
        if odd:
            cells += [Cell(count(n), tone="bad" if n else "") for n in _odd(scored, run.metric)]
        rows.append(cells)
    return Table("Candidates, the nearest first; 95 % intervals below the values", heads, rows)


def _odd(scored: Scored, metric: str) -> tuple[int, int]:
    """Return how many rows are infinite, and how many undefined."""
    column = scored.distribution(metric)
    return (0, 0) if column is None else (column.n_infinite, column.n_nan)


def _unit(metric: str) -> str:
    return f" ({unit(metric).strip()})" if unit(metric) else ""


def _estimate(estimate: Estimate | None, write: Callable[[float], str]) -> Cell:
    if estimate is None:
        return Cell("–")
    ends = interval(estimate)
    if ends is None:
        return Cell(write(estimate.value))
    low, high = write(ends[0]), write(ends[1])
    return Cell(
        write(estimate.value), f"{low.removesuffix(' %')} to {high}" if high.endswith(" %") else f"{low} to {high}"
    )


def _named(scored: Scored, name: str) -> Cell:
    estimate = scored.estimate(name)
    if name != "perplexity_ratio" or estimate is None:
        return _estimate(estimate, percent)
    like = estimate.value
    return _estimate(estimate, lambda value: factor(value, like=like))


def _against_noise(scored: Scored) -> Cell:
    if scored.above is None:
        return Cell("–")
    word = "above" if scored.above.above else "within"
    return Cell(f"{number(scored.above.ratio)} times", word, tone="" if scored.above.above else "good")


def percentile_table(run: Run) -> Table | None:
    """Percentiles of the divergence."""
    return _percentiles(run, run.metric, f"Percentiles of {metric_symbol(run.metric)}{_unit(run.metric)}", number)


def change_table(run: Run) -> Table | None:
    """Percentiles of the change of the target's probability."""
    return _percentiles(run, "delta_prob", "Percentiles of Δp, in percentage points", points)


def _percentiles(run: Run, name: str, caption: str, write: Callable[[float | None], str]) -> Table | None:
    found = [(scored, column) for scored in run.nearest_first() if (column := scored.distribution(name)) is not None]
    if not found:
        return None
    heads = ["candidate", "least", *(f"{p} %" if p != "50" else "median" for p in _SHOWN_PERCENTILES), "largest"]
    rows = []
    for scored, column in found:
        values = [column.minimum, *(column.percentiles.get(p) for p in _SHOWN_PERCENTILES), column.maximum]
        rows.append([Cell(visible(scored.name)), *(Cell(write(value)) for value in values)])
    return Table(caption, heads, rows)


def bucket_table(run: Run, kind: str, what: str) -> Table | None:
    """Rows and mean of every bucket, a column per candidate."""
    found = [scored for scored in run.nearest_first() if scored.buckets.get(kind)]
    if not found:
        return None
    labels = list(dict.fromkeys(bucket.label for scored in found for bucket in scored.buckets[kind]))
    by_label = [{bucket.label: bucket for bucket in scored.buckets[kind]} for scored in found]
    rows = []
    for label in labels:
        n_rows = next(buckets[label].n_rows for buckets in by_label if label in buckets)
        cells = [Cell(visible(label)), Cell(count(n_rows))]
        for buckets in by_label:
            statistic = buckets[label].statistics.get(run.metric) if label in buckets else None
            estimate = statistic.mean if isinstance(statistic, Distribution) else statistic
            cells.append(_estimate(estimate, number))
        rows.append(cells)
    caption = f"Mean {metric_symbol(run.metric)}{_unit(run.metric)} by {what}"
    return Table(caption, [what, "rows", *(visible(scored.name) for scored in found)], rows)


def paired_table(run: Run) -> Table | None:
    """Candidates against each other, row by row."""
    if not run.paired:
        return None
    rows = []
    for pair in run.paired:
        better = "cannot be told apart" if pair.better is None else visible(pair.better)
        rows.append(
            [
                Cell(f"{visible(pair.b)} − {visible(pair.a)}"),
                Cell("ln perplexity" if pair.metric == "log_perplexity" else metric_symbol(pair.metric)),
                _estimate(pair.difference, number),
                Cell(better, tone="" if pair.better is None else "good"),
                Cell(percent(pair.confidence) if pair.confidence <= 1 else number(pair.confidence)),
            ]
        )
    return Table("Mean difference over the same rows", ["pair", "of", "difference", "better", "confidence"], rows)


def threshold_table(run: Run) -> Table | None:
    """Conditions under which a candidate fails."""
    if not run.thresholds:
        return None
    rows = [
        [
            Cell(visible(item.expression)),
            Cell(visible(item.candidate)),
            Cell(number(item.value)),
            Cell("✗ failed" if item.failed else "✓ passed", tone="bad" if item.failed else "good"),
        ]
        for item in run.thresholds
    ]
    return Table("Thresholds", ["fails if", "candidate", "value", "outcome"], rows)
