"""Conditions on statistics under which a run counts as failed: ``kl.mean > 0.01``, for gates in automation.

    STATISTIC[.FIELD] OP NUMBER

STATISTIC is a name of the summary and FIELD one of its numbers, the value or mean by default. Nothing is evaluated but
one comparison of two numbers. A statistic that is NaN fails whatever the condition: a gate must not let pass what
could not be measured.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from .errors import UsageError
from .statistics import PERCENTILES, Distribution, Estimate
from .summary import Summary

__all__ = ["Outcome", "Threshold", "check_names", "parse_thresholds"]

_OPERATORS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_EXPRESSION = re.compile(r"\s*(\S+?)\s*(>=|<=|==|!=|>|<)\s*(\S+)\s*")

_OF_ESTIMATE = ("value", "standard_error", "over_all", "n_rows")
_OF_GROUPS = ("group_standard_error", "low", "high")
_OF_DISTRIBUTION = (
    *("mean", "standard_error", "over_all", "n_finite", "n_infinite", "n_nan", "minimum", "maximum", "median"),
    *(f"p{percent:g}" for percent in PERCENTILES),
)


@dataclass(frozen=True)
class Threshold:
    """One condition.

    Attributes
    ----------
    expression : str
        As the user wrote it, without needless space.
    left : str
        The statistic, and the field behind a dot.
    operator : str
        How they are compared.
    number : float
        With what.
    """

    expression: str
    left: str
    operator: str
    number: float

    def split(self, names: Iterable[str]) -> tuple[str, str] | None:
        """Return statistic and field, or None if there is no such statistic; its name may hold dots itself."""
        for name in sorted(names, key=len, reverse=True):
            if self.left == name:
                return name, ""
            if self.left.startswith(f"{name}.") and (field := self.left[len(name) + 1 :]):
                return name, field
        return None

    def outcome(self, candidate: str, summary: Summary) -> Outcome:
        """Compare a candidate's statistic with the number."""
        found = self.split(summary)
        value = math.nan if found is None else _value(summary[found[0]], found[1])
        failed = math.isnan(value) or bool(_OPERATORS[self.operator](value, self.number))
        return Outcome(self.expression, candidate, value, failed)

    def left_out(self, candidate: str, summary: Summary) -> str | None:
        """Return a sentence if the number rests on some rows only, as others are infinite or NaN."""
        found = self.split(summary)
        item = None if found is None else summary[found[0]]
        if found is None or not isinstance(item, Distribution) or found[1] not in ("", "mean", *_OF_GROUPS):
            return None
        if not item.n_infinite + item.n_nan:
            return None
        return (
            f"{candidate}: {self.expression} leaves out {item.n_infinite} rows that are infinite and {item.n_nan} that "
            f"are NaN; {found[0]}.n_infinite and {found[0]}.n_nan can be limited too"
        )


@dataclass(frozen=True)
class Outcome:
    """What a condition came to.

    Attributes
    ----------
    expression : str
        The condition.
    candidate : str
        Whose statistic.
    value : float
        The statistic.
    failed : bool
        Whether the condition is met, or the statistic is NaN.
    """

    expression: str
    candidate: str
    value: float
    failed: bool

    def __str__(self) -> str:
        """Return a sentence."""
        if math.isnan(self.value):
            return f"{self.candidate}: {self.expression} cannot be told, the statistic is NaN"
        return f"{self.candidate}: {self.expression} is {'met' if self.failed else 'not met'} ({self.value:.6g})"


def parse_thresholds(expressions: str | Sequence[str] | None) -> tuple[Threshold, ...]:
    """Read conditions, without looking at whether the statistics exist.

    Raises
    ------
    UsageError
        If one is not of the form ``STATISTIC[.FIELD] OP NUMBER``.
    """
    if expressions is None:
        return ()
    found = []
    for text in [expressions] if isinstance(expressions, str) else expressions:
        match = _EXPRESSION.fullmatch(text) if isinstance(text, str) else None
        try:
            number = float(match[3]) if match else math.nan
        except ValueError:
            number = math.nan
        if match is None or math.isnan(number):
            raise UsageError(
                f"fail_if must be STATISTIC[.FIELD] OP NUMBER, as in 'kl.mean > 0.01', with one of the operators "
                f"{', '.join(_OPERATORS)}; got {text!r}"
            )
        found.append(Threshold(f"{match[1]} {match[2]} {match[3]}", match[1], match[2], number))
    return tuple(dict.fromkeys(found))


def check_names(thresholds: Iterable[Threshold], known: Mapping[str, bool], *, has_groups: bool) -> None:
    """Refuse conditions on statistics that a run will not have.

    Parameters
    ----------
    thresholds : iterable of Threshold
        The conditions.
    known : mapping of str to bool
        Names of statistics, and whether each is a whole distribution.
    has_groups : bool
        Whether there are intervals over groups.

    Raises
    ------
    UsageError
        Listing the names there are.
    """
    for threshold in thresholds:
        found = threshold.split(known)
        if found is None:
            raise UsageError(
                f"fail_if: {threshold.expression!r} names no statistic of this run; expected one of "
                f"{', '.join(known)}{_suggestion(threshold.left.partition('.')[0], known)}"
            )
        name, field = found
        fields = _OF_DISTRIBUTION if known[name] else _OF_ESTIMATE
        if field in _OF_GROUPS and not has_groups:
            raise UsageError(f"fail_if: {threshold.expression!r} needs groups; give group_size (--group-size N)")
        if field and field not in (*fields, *_OF_GROUPS):
            raise UsageError(
                f"fail_if: {threshold.expression!r} names no field of {name}; expected one of "
                f"{', '.join((*fields, *_OF_GROUPS))}{_suggestion(field, fields)}"
            )


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), 1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _value(item: Distribution | Estimate, field: str) -> float:
    """Return a number of a statistic; NaN where there is none, such as an interval over a single group."""
    if isinstance(item, Distribution):
        if field.startswith("p") and field[1:] in item.percentiles:
            return item.percentiles[field[1:]]
        if field and field != "mean" and hasattr(item, field):
            return float(getattr(item, field))
        item, field = item.mean, "value" if field == "mean" else field
    number = getattr(item, field or "value", None)
    return math.nan if number is None else float(number)
