"""Summaries as tables, several candidates side by side: plain text for `str`, rich for the terminal.

`sections` decides what is shown and how numbers are written; the two renderers only lay it out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .statistics import PERCENTILES, Distribution, Estimate
from .summary import Summary

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["interval", "number", "plain_text", "rich_table", "sections"]

Row = tuple[str, list[str]]

_PERPLEXITY = {
    "perplexity_q": "PPL candidate",
    "perplexity_p": "PPL reference",
    "log_perplexity_correlation": "correlation of ln PPL",
    "log_perplexity_ratio": "ln(PPL ratio)",
    "perplexity_ratio": "PPL ratio, candidate / reference",
    "perplexity_difference": "PPL difference",
}
_AGREEMENT = {"same_top": "same top token", "rms_delta_prob": "RMS Δp"}
_MEANS = {
    "kl": "KL(reference ‖ candidate)",
    "reverse_kl": "KL(candidate ‖ reference)",
    "js": "Jensen-Shannon",
    "jeffreys": "Jeffreys",
    "total_variation": "total variation",
    "squared_hellinger": "squared Hellinger",
    "entropy_p": "entropy, reference",
    "entropy_q": "entropy, candidate",
    "cross_entropy": "cross-entropy",
    "top1_prob_p": "probability of the top token, reference",
    "top1_prob_q": "probability of the top token, candidate",
    "tail_mass_p": "mass outside the list, reference",
    "tail_mass_q": "mass outside the list, candidate",
    "kl_low": "KL(reference ‖ candidate), at least",
    "kl_high": "KL(reference ‖ candidate), at most",
    "delta_prob": "Δp",
    "rank_p": "rank of target, reference",
    "rank_q": "rank of target, candidate",
}
_PERCENT = {"log_perplexity_correlation", "same_top", "rms_delta_prob", "delta_prob"}
_SPREAD = ("kl", "delta_prob")
_BUCKETS = {"top1_prob_p": "Mean KL by the reference's top-1 probability", "token_class": "Mean KL by class of token"}
_HIDDEN = {"log_prob_p", "log_prob_q"}  # the perplexities say it


def _label(name: str) -> str:
    return f"top-{name.removeprefix('overlap_')} overlap" if name.startswith("overlap_") else name


def _is_percent(name: str) -> bool:
    return name in _PERCENT or name.startswith("overlap_")


def number(name: str, value: float, like: float | None = None) -> str:
    """Write a value, in the style that suits `like` (the value that an error belongs to)."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if _is_percent(name):
        return f"{100 * value:.3f} %"
    # Small divergences are the interesting ones: six decimals would show them as zero.
    size = abs(value if like is None else like)
    return f"{value:.6f}" if size == 0 or 1e-3 <= size < 1e6 else f"{value:.4e}"


def _estimate(name: str, estimate: Estimate) -> str:
    if not estimate.n_rows and math.isinf(estimate.over_all):
        return number(name, estimate.over_all)
    if math.isnan(estimate.standard_error) or math.isnan(estimate.value):
        return number(name, estimate.value)
    return f"{number(name, estimate.value)} ± {number(name, estimate.standard_error, like=estimate.value)}"


def interval(name: str, estimate: Estimate) -> str:
    """Write the interval over groups, if there is one."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{number(name, estimate.low)} … {number(name, estimate.high)}"


def _estimates(summaries: list[Summary], name: str) -> list[Estimate] | None:
    found = [summary.get(name) for summary in summaries]
    estimates = [item.mean if isinstance(item, Distribution) else item for item in found]
    return [item for item in estimates if item is not None] if all(estimates) else None


def _rows_of(summaries: list[Summary], labels: Mapping[str, str], intervals: bool) -> list[Row]:
    rows: list[Row] = []
    for name, label in labels.items():
        estimates = _estimates(summaries, name)
        if estimates is None:
            continue
        rows.append((label, [_estimate(name, estimate) for estimate in estimates]))
        if intervals and any(estimate.low is not None for estimate in estimates):
            rows.append(("  95 % over groups", [interval(name, estimate) for estimate in estimates]))
    return rows


def _spread(summaries: list[Summary], name: str) -> list[Row]:
    columns = [item for summary in summaries if isinstance(item := summary.get(name), Distribution)]
    if len(columns) < len(summaries):
        return []
    rows: list[Row] = [("maximum", [number(name, column.maximum) for column in columns])]
    for percent in reversed(PERCENTILES):
        label = "median" if percent == 50 else f"{percent:g} %"
        rows.append((label, [number(name, column.percentiles[f"{percent:g}"]) for column in columns]))
    rows.append(("minimum", [number(name, column.minimum) for column in columns]))
    return rows


def _bucket_rows(summaries: list[Summary], by: str) -> list[Row]:
    divided = [{bucket.label: bucket for bucket in summary.buckets.get(by, ())} for summary in summaries]
    rows: list[Row] = []
    for label in dict.fromkeys(label for buckets in divided for label in buckets):
        found = [buckets.get(label) for buckets in divided]
        n_rows = max(bucket.n_rows for bucket in found if bucket is not None)
        if n_rows and all(bucket is None or "kl" in bucket.statistics for bucket in found):
            cells = ["" if bucket is None else _estimate("kl", bucket.statistics["kl"].mean) for bucket in found]
            rows.append((f"{label} ({n_rows:,} rows)", cells))
    return rows


def _counts(summaries: list[Summary]) -> list[Row]:
    rows: list[Row] = [("rows", [f"{summary.n_rows:,}" for summary in summaries])]
    if any(summary.n_groups for summary in summaries):
        rows.append(("groups", [f"{summary.n_groups or 0:,}" for summary in summaries]))
    kl = [item for summary in summaries if isinstance(item := summary.get("kl"), Distribution)]
    if len(kl) == len(summaries):
        for label, counts in (("infinite KL", [c.n_infinite for c in kl]), ("undefined (NaN)", [c.n_nan for c in kl])):
            if any(counts):
                rows.append((f"rows with {label}, left out of means", [f"{count:,}" for count in counts]))
    return rows


def sections(summaries: Mapping[str, Summary]) -> list[tuple[str, list[Row]]]:
    """Return titled groups of rows, each a label with one cell per candidate.

    Parameters
    ----------
    summaries : mapping of str to Summary
        By candidate.

    Returns
    -------
    list of (str, list of (str, list of str))
        Empty groups are left out.
    """
    items = list(summaries.values())
    known = {*_PERPLEXITY, *_AGREEMENT, *_MEANS, *_HIDDEN}
    others = {name: _label(name) for summary in items for name in summary if name not in known}
    overlaps = {name: label for name, label in others.items() if name != label}
    means = {name: label for name, label in {**_MEANS, **others}.items() if name != "kl" and name not in overlaps}
    found = [
        ("Rows", _counts(items)),
        ("Perplexity", _rows_of(items, _PERPLEXITY, intervals=True)),
        ("Agreement", _rows_of(items, _AGREEMENT, intervals=True) + _rows_of(items, overlaps, intervals=False)),
        (
            "Mean over rows (nats)",
            _rows_of(items, {"kl": _MEANS["kl"]}, intervals=True) + _rows_of(items, means, intervals=False),
        ),
    ]
    found.extend((title, _bucket_rows(items, by)) for by, title in _BUCKETS.items())
    found.extend((f"Distribution of {_MEANS[name]}", _spread(items, name)) for name in _SPREAD)
    return [(title, rows) for title, rows in found if rows]


def _with_floor(summaries: Mapping[str, Summary], noise_floor: Summary | None) -> dict[str, Summary]:
    """Return the summaries by what heads their columns; no candidate's name has a space."""
    return dict(summaries) if noise_floor is None else {**summaries, "noise floor": noise_floor}


def plain_text(summaries: Summary | Mapping[str, Summary], noise_floor: Summary | None = None) -> str:
    """Return summaries as aligned plain text, the noise floor last; a single summary needs no name."""
    named = {"": summaries} if isinstance(summaries, Summary) else _with_floor(summaries, noise_floor)
    content = sections(named)
    width = max((len(label) for _, rows in content for label, _ in rows), default=0) + 2
    widths = [
        max(len(name), *(len(cells[index]) for _, rows in content for _, cells in rows)) + 2
        for index, name in enumerate(named)
    ]
    lines = []
    if any(named):
        names = zip(named, widths, strict=True)
        lines += [" " * (width + 2) + "".join(name.rjust(size) for name, size in names)]
    for title, rows in content:
        lines.append(title)
        for label, cells in rows:
            padded = zip(cells, widths, strict=True)
            lines.append(("  " + label.ljust(width) + "".join(cell.rjust(size) for cell, size in padded)).rstrip())
    return "\n".join(lines)


def rich_table(summaries: Mapping[str, Summary], noise_floor: Summary | None = None) -> RenderableType:
    """Return summaries as a rich table, the noise floor last."""
    from rich.table import Table
    from rich.text import Text

    summaries = _with_floor(summaries, noise_floor)
    table = Table(box=None, pad_edge=False, header_style="bold", caption=_caption(summaries), caption_justify="left")
    table.add_column("")
    for name in summaries:
        # Text, not str: a file name may hold what rich takes for markup.
        table.add_column(Text(name), justify="right", no_wrap=True)
    for title, rows in sections(summaries):
        table.add_row(Text(title, style="bold cyan"))
        for label, cells in rows:
            table.add_row(Text(f"  {label}"), *(Text(cell) for cell in cells))
    return table


def _caption(summaries: Mapping[str, Summary]) -> str:
    text = "± is the standard error with rows taken as independent"
    if any(summary.n_groups for summary in summaries.values()):
        text += "; rows of a group are not, so prefer the 95 % intervals, which resample whole groups"
    return text
