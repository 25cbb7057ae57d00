"""The verdict: what the numbers say, in plain sentences, and no more than they bear out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..statistics import Estimate
from .gather import Paired, Run, Scored
from .intervals import interval
from .terms import metric_label, unit
from .words import count, factor, number, percent, plural, visible

__all__ = ["Finding", "Verdict", "give_verdict"]

# Candidates that get a sentence of their own; the table has all of them.
_MOST_SENTENCES = 5


@dataclass(frozen=True)
class Finding:
    """A sentence, whom it is about, and what it is: ``good``, ``bad``, ``note``, or ``plain``."""

    tone: str
    text: str
    who: str = ""

    def __str__(self) -> str:
        """Return it as plain text."""
        return f"{self.who}: {self.text}" if self.who else self.text


@dataclass(frozen=True)
class Verdict:
    """The headline, and the sentences under it."""

    headline: str
    findings: Sequence[Finding]

    def sentences(self) -> list[str]:
        """Return everything as plain text."""
        return [self.headline, *(str(finding) for finding in self.findings)]


def give_verdict(run: Run) -> Verdict:
    """Put a run into words: the nearest candidate first, then the others, thresholds, and what to beware of."""
    ranked = run.nearest_first()
    told = ranked if len(ranked) <= _MOST_SENTENCES else [*ranked[: _MOST_SENTENCES - 1], ranked[-1]]
    before = {scored.name: nearer for nearer, scored in itertools.pairwise(ranked)}
    findings = _thresholds(run) + [_candidate(run, scored, before.get(scored.name)) for scored in told]
    if len(told) < len(ranked):
        findings.append(Finding("plain", f"The table has the {len(ranked) - len(told)} candidates between these."))
    findings += _order(run, ranked)
    findings += _counts(ranked, run.metric)
    if run.n_rows == 1:
        findings.append(Finding("note", "One row has no interval, and says nothing about others."))
    elif run.n_groups is None or run.n_groups < 2:
        findings.append(
            Finding("note", "Without groups of rows the intervals take rows as independent, and are too narrow.")
        )
    findings += [Finding("note", visible(f"Warning of the run: {text}")) for text in run.summary.get("warnings") or ()]
    return Verdict(_headline(run, ranked), findings)


def _mean(scored: Scored, metric: str) -> float:
    mean = scored.estimate(metric)
    return math.nan if mean is None else mean.value


def _is_same(run: Run, scored: Scored) -> bool:
    """Tell whether a candidate did not move in any row."""
    column = scored.distribution(run.metric)
    return column is not None and column.n_finite == run.n_rows and column.minimum == column.maximum == 0


def _headline(run: Run, ranked: Sequence[Scored]) -> str:
    best, label = ranked[0], metric_label(run.metric)
    name, mean = visible(best.name), _mean(best, run.metric)
    if _is_same(run, best):
        others = [scored for scored in ranked if _is_same(run, scored)]
        if len(others) == len(ranked):
            which = f"{name} did not move" if len(ranked) == 1 else f"None of the {len(ranked)} candidates moved"
            return f"{which}: the {label} is exactly 0 in every row."
        if len(others) > 1:
            return f"{len(others)} of {len(ranked)} candidates did not move: their {label} is exactly 0 in every row."
        return f"{name} did not move: its {label} is exactly 0 in every row."
    if math.isnan(mean):
        return f"No row of any candidate has a finite {label}: there is no mean to compare."
    amount = f"{number(mean)}{unit(run.metric)}"
    if len(ranked) == 1:
        return f"{name} moved by a mean {label} of {amount}."
    doubt = "" if _is_decided(run, ranked) else ", though not clearly ahead of the next"
    return f"{name} stays nearest to the reference{doubt}: mean {label} {amount}."


def _within(estimate: Estimate | None, words: str = "95 % interval ") -> str:
    ends = None if estimate is None else interval(estimate)
    if ends is None:
        return ""
    return f" ({words}{number(ends[0])} to {number(ends[1])})"


def _candidate(run: Run, scored: Scored, nearer: Scored | None) -> Finding:
    """Say how far a candidate moved, and how many times as far as the next nearer one."""
    mean, label = scored.estimate(run.metric), metric_label(run.metric)
    pieces = []
    if mean is None or math.isnan(mean.value):
        pieces.append(f"no row with a finite {label}")
    else:
        base = math.nan if nearer is None else _mean(nearer, run.metric)
        more = f", {_times(mean.value / base)} as far as {visible(nearer.name)}" if nearer and base > 0 else ""
        pieces.append(f"mean {label} {number(mean.value)}{unit(run.metric)}{_within(mean)}{more}")
    same = scored.estimate("same_top")
    if same is not None and not math.isnan(same.value):
        pieces.append(f"the same top token in {percent(same.value)} of rows")
    perplexity = _perplexity(scored)
    if perplexity:
        pieces.append(perplexity)
    text = f"{'; '.join(pieces)}. {_above(run, scored)}".strip()
    return Finding(_tone(scored), text, visible(scored.name))


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times" if ratio < 10 else f"{ratio:,.0f} times" if ratio < 1e6 else f"{number(ratio)} times"


def _perplexity(scored: Scored) -> str:
    ratio, p, q = (scored.estimate(f"perplexity_{name}") for name in ("ratio", "p", "q"))
    if ratio is None or p is None or q is None or math.isnan(ratio.value):
        return ""
    ends = interval(ratio)
    moved = f"{number(p.value)} to {number(q.value)}"
    if ends is None:
        return f"perplexity from {moved}, a ratio of {factor(ratio.value)}"
    within = " to ".join(factor(end, like=ratio.value) for end in ends)
    if ratio.value == ends[0] == ends[1] == 1:
        return "perplexity unchanged"
    if {factor(ratio.value), *within.split(" to ")} == {"1.00000"}:
        return "perplexity unchanged to five decimals"
    if ends[0] <= 1 <= ends[1]:
        return f"perplexity not measurably changed, a ratio of {factor(ratio.value)} ({within})"
    return f"perplexity from {moved}, a ratio of {factor(ratio.value)} ({within})"


def _above(run: Run, scored: Scored) -> str:
    above = scored.above
    if above is None:
        return ""
    floor = "" if run.noise_floor is None else f" of {number(_mean(run.noise_floor, above.metric))}{unit(above.metric)}"
    if above.above:
        return f"That is above the noise floor{floor} ({_times(above.ratio)})."
    return f"That cannot be told from the noise floor{floor} ({_times(above.ratio)})."


def _tone(scored: Scored) -> str:
    return "plain" if scored.above is None or scored.above.above else "good"


def _pair(run: Run, a: str, b: str) -> Paired | None:
    for pair in run.paired:
        if pair.metric == run.metric and {pair.a, pair.b} == {a, b}:
            return pair
    return None


def _is_decided(run: Run, ranked: Sequence[Scored]) -> bool:
    """Tell whether the first is ahead of the second by the paired comparison, or else by intervals apart."""
    first, second = ranked[0], ranked[1]
    pair = _pair(run, first.name, second.name)
    if pair is not None:
        return pair.better == first.name
    means = [scored.estimate(run.metric) for scored in (first, second)]
    ends = [None if mean is None else interval(mean) for mean in means]
    if ends[0] is None or ends[1] is None:
        return False
    # An infinite row outweighs any mean over the others.
    return ends[0][1] < ends[1][0] or (_n_infinite(run, first) == 0 and _n_infinite(run, second) > 0)


def _n_infinite(run: Run, scored: Scored) -> int:
    column = scored.distribution(run.metric)
    return 0 if column is None else column.n_infinite


def _order(run: Run, ranked: Sequence[Scored]) -> list[Finding]:
    if len(ranked) < 2 or all(_is_same(run, scored) for scored in ranked) or math.isnan(_mean(ranked[0], run.metric)):
        return []
    first, second = (visible(scored.name) for scored in ranked[:2])
    pair = _pair(run, ranked[0].name, ranked[1].name)
    decided = _is_decided(run, ranked)
    if pair is not None:
        size = f"{number(abs(pair.difference.value))}{unit(run.metric)}"
        if decided:
            return [Finding("good", f"Row by row {first} is nearer than {second}: by {size} on average.")]
        return [Finding("note", f"Row by row {first} and {second} cannot be told apart: {size} between them.")]
    if decided:
        return []
    why = "their intervals overlap, and the run has no paired comparison"
    return [Finding("note", f"Whether {first} or {second} is nearer is open: {why}.")]


def _thresholds(run: Run) -> list[Finding]:
    if not run.thresholds:
        return []
    failed = [item for item in run.thresholds if item.failed]
    if not failed:
        return [Finding("good", f"Passed: {plural(len(run.thresholds), 'threshold')}.")]
    names = list(dict.fromkeys(visible(item.candidate) for item in failed))
    who = ", ".join(names[:_MOST_SENTENCES]) + (", …" if len(names) > _MOST_SENTENCES else "")
    return [Finding("bad", f"Failed: {len(failed)} of {plural(len(run.thresholds), 'threshold')}, by {who}.")]


def _counts(ranked: Sequence[Scored], metric: str) -> list[Finding]:
    findings: list[Finding] = []
    columns = [scored.distribution(metric) for scored in ranked]
    odd = [column for column in columns if column is not None and column.n_infinite + column.n_nan]
    if len(odd) > _MOST_SENTENCES:
        text = f"{len(odd)} candidates have infinite or undefined rows, which are in no mean; the table counts them."
        return [Finding("bad", text)]
    zero = "the candidate gives 0 to a token that the reference does not"
    why = zero if metric == "kl" else "one gives 0 to a token that the other does not"
    for scored, column in zip(ranked, columns, strict=True):
        pieces = []
        if column is not None and column.n_infinite:
            pieces.append(
                f"the {metric_label(metric)} is infinite in {_share(column.n_infinite, scored.n_rows)}: {why}"
            )
        if column is not None and column.n_nan:
            pieces.append(f"no distribution to compare (NaN) in {_share(column.n_nan, scored.n_rows)}")
        if pieces:
            findings.append(Finding("bad", f"{'; '.join(pieces)}. No mean includes them.", visible(scored.name)))
    return findings


def _share(n: int, n_rows: int) -> str:
    return f"{count(n)} of {plural(n_rows, 'row')} ({percent(n / n_rows)})"
