"""Conditions: their grammar, the names they may use, and that nothing unmeasured passes."""

import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kullback.scoring import UsageError, summarise
from kullback.scoring.statistics import PERCENTILES
from kullback.scoring.summary import statistic_names
from kullback.scoring.thresholds import check_names, parse_thresholds

COLUMNS = {
    "kl": np.array([1.0, 2.0, 6.0]),
    "renyi:order=0.5": np.array([0.5, 0.5, 0.5]),
    "log_prob_p": -np.array([1.0, 2.0, 3.0]),
    "log_prob_q": -np.array([1.0, 3.0, 5.0]),
    "delta_prob": np.array([0.1, -0.2, 0.2]),
    "top1_p": np.array([1, 2, 3]),
    "top1_q": np.array([1, 2, 4]),
}


def outcome(expression, groups=None):
    (threshold,) = parse_thresholds(expression)
    check_names([threshold], statistic_names(COLUMNS), has_groups=groups is not None)
    return threshold.outcome("q", summarise(COLUMNS, groups))


@pytest.mark.parametrize(
    ("expression", "value", "failed"),
    [
        ("kl > 2.9", 3, True),
        ("kl.mean > 2.9", 3, True),
        ("kl.mean>3", 3, False),
        ("kl.mean >= 3", 3, True),
        ("kl.mean < 3", 3, False),
        ("kl.mean <= 3e0", 3, True),
        ("kl.mean == 3", 3, True),
        ("kl.mean != 3", 3, False),
        ("  kl.median   >1", 2, True),
        ("kl.minimum < .5", 1, False),
        ("kl.maximum > 5", 6, True),
        ("kl.p90 > 5", 5.2, True),
        ("kl.p99.9 > 6", 5.992, False),
        ("kl.n_infinite > 0", 0, False),
        ("kl.n_finite != 3", 3, False),
        ("kl.standard_error > 1.5", math.sqrt(14 / 6), True),
        ("kl.over_all > inf", 3, False),
        ("same_top < 0.98", 2 / 3, True),
        ("same_top.n_rows < 3", 3, False),
        ("perplexity_ratio.value > -1", math.e, True),
        ("log_perplexity_ratio > 1.1", 1, False),
        ("renyi:order=0.5 > 0.4", 0.5, True),
        ("renyi:order=0.5.p50 > 0.6", 0.5, False),
    ],
)
def test_conditions(expression, value, failed):
    found = outcome(expression)
    assert found.value == pytest.approx(value)
    assert found.failed is failed
    assert found.candidate == "q"
    assert found.expression == " ".join(found.expression.split())


def test_intervals_over_groups():
    groups = np.array([0, 1, 2])
    estimate = summarise(COLUMNS, groups)["kl"].mean
    assert outcome("kl.low > 0", groups).value == estimate.low
    assert outcome("kl.high > 0", groups).value == estimate.high
    assert outcome("kl.group_standard_error > 0", groups).value == estimate.group_standard_error
    with pytest.raises(UsageError, match="needs groups"):
        outcome("kl.high > 0")
    # One group has no interval, and what cannot be told does not pass.
    assert outcome("kl.high > 100", np.zeros(3, int)).failed


@pytest.mark.parametrize("column", ["kl", "log_prob_q", "top1_q"])
@pytest.mark.parametrize("sign", ["<", ">", "==", "!=", "<=", ">="])
def test_nan_never_passes(column, sign):
    spoiled = {name: values.copy() for name, values in COLUMNS.items()}
    spoiled[column] = np.full(3, -1) if column == "top1_q" else np.full(3, np.nan)
    name = {"kl": "kl.mean", "log_prob_q": "perplexity_ratio", "top1_q": "same_top"}[column]
    (threshold,) = parse_thresholds(f"{name} {sign} 0.5")
    found = threshold.outcome("q", summarise(spoiled))
    assert math.isnan(found.value)
    assert found.failed
    assert "NaN" in str(found)


def test_rows_that_are_left_out_are_told():
    columns = {"kl": np.array([0.0, np.inf, np.nan, np.inf])}
    summary = summarise(columns)
    mean, count, largest = parse_thresholds(["kl.mean > 1", "kl.n_infinite > 0", "kl.maximum > 1"])
    assert not mean.outcome("q", summary).failed
    assert "leaves out 2 rows that are infinite and 1 that are NaN" in mean.left_out("q", summary)
    assert count.outcome("q", summary).failed
    assert largest.outcome("q", summary).failed
    assert count.left_out("q", summary) is largest.left_out("q", summary) is None
    assert mean.left_out("q", summarise({"kl": np.ones(3)})) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "kl",
            "kl.mean",
            "kl >",
            "> 1",
            "kl => 1",
            "kl > x",
            "kl > nan",
            "kl >> 1",
            "kl > 1 2",
            "kl > 1; import os",
        ),
        *("1 > kl", "kl.mean > 1 and kl.mean < 2", "__import__('os') > 1 1", 3, None),
    ],
)
def test_what_is_no_condition(text):
    with pytest.raises(UsageError, match="fail_if"):
        check_names(parse_thresholds([text]), statistic_names(COLUMNS), has_groups=True)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    with suppress(UsageError):
        check_names(parse_thresholds(text), statistic_names(COLUMNS), has_groups=True)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("kll.mean > 1", ["'kll.mean > 1'", "same_top, rms_delta_prob, kl", "did you mean 'kl'"]),
        ("kl.men > 1", ["names no field of kl", "p99.9", "did you mean 'mean'"]),
        ("kl.p42 > 1", ["names no field of kl"]),
        ("kl. > 1", ["names no statistic", "'kl. > 1'"]),
        ("same_top.p99 < 1", ["names no field of same_top", "value, standard_error"]),
        ("top1_p > 1", ["names no statistic"]),
        ("kl.percentiles > 1", ["names no field of kl"]),
        ("kl.__class__ > 1", ["names no field of kl"]),
    ],
)
def test_unknown_names_are_answered_with_the_known(expression, expected):
    with pytest.raises(UsageError) as caught:
        outcome(expression)
    for text in expected:
        assert text in str(caught.value)


def test_names_are_those_of_the_summary():
    """Every name and field that is accepted gives a number, and every statistic has its name accepted."""
    groups = np.array([0, 1, 2])
    summary = summarise(COLUMNS, groups)
    known = statistic_names(COLUMNS)
    assert list(known) == list(summary)
    for name, is_distribution in known.items():
        fields = ["mean", "n_nan", *(f"p{percent:g}" for percent in PERCENTILES)] if is_distribution else ["value"]
        for field in [*fields, "over_all", "low"]:
            expression = f"{name}.{field} > 1"
            if name != "log_perplexity_correlation" or field != "low":
                assert not math.isnan(outcome(expression, groups).value), expression


def test_repeated_conditions_count_once():
    assert len(parse_thresholds(["kl > 1", "kl>1", "kl > 2"])) == 2
    assert parse_thresholds(None) == ()
