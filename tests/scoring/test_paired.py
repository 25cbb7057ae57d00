"""Differences of paired columns: by hand, against resampling the rows themselves, and with rows that are infinite."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kullback.scoring.paired import compare_pairs, compare_with_floor
from kullback.scoring.statistics import Bootstrap


def kl(**columns):
    return {name: {"kl": np.asarray(values, np.float64)} for name, values in columns.items()}


def test_by_hand():
    (found,) = compare_pairs(kl(a=[1.0, 2.0, 3.0], b=[2.0, 4.0, 9.0]))
    # Differences 1, 2, 6: mean 3, squares about it 4 + 1 + 9, over 3 (3 - 1).
    assert (found.a, found.b, found.metric) == ("a", "b", "kl")
    assert found.difference.value == 3
    assert found.difference.standard_error == pytest.approx(math.sqrt(14 / 6))
    assert found.difference.low is None
    # 3 / 1.5275 = 1.9640 standard errors, just above 1.96.
    assert found.confidence == pytest.approx(NormalDist().cdf(3 / math.sqrt(14 / 6)), rel=1e-12)
    assert found.better == "a"
    (found,) = compare_pairs(kl(a=[1.0, 2.0, 3.0], b=[2.0, 4.0, 9.1]))
    assert found.better is None  # wider, and 0 is inside


def test_the_lower_one_is_better_whatever_the_order():
    rng = np.random.default_rng(0)
    low = rng.exponential(size=400)
    high = low + rng.normal(0.1, 0.2, 400)
    for groups in (None, np.arange(400) // 10):
        bootstrap = None if groups is None else Bootstrap(groups, 500, 0)
        (forward,) = compare_pairs(kl(low=low, high=high), bootstrap)
        (backward,) = compare_pairs(kl(high=high, low=low), bootstrap)
        assert forward.better == backward.better == "low"
        assert forward.difference.value == pytest.approx(-backward.difference.value) == pytest.approx(0.1, abs=0.03)
        assert forward.confidence == backward.confidence > 0.999


def test_bootstrap_against_plain_resampling():
    rng = np.random.default_rng(5)
    groups = np.sort(rng.integers(0, 25, 500))
    a = rng.exponential(size=500) + rng.exponential(size=25)[groups]
    b = a + rng.normal(-0.02, 0.3, 500) + rng.normal(0, 0.1, 25)[groups]
    rows = [np.flatnonzero(groups == group) for group in range(25)]
    draws = np.random.default_rng(0).integers(25, size=(300, 25))
    means = np.array([(b - a)[np.concatenate([rows[group] for group in drawn])].mean() for drawn in draws])
    (found,) = compare_pairs(kl(a=a, b=b), Bootstrap(groups, 300, 0))
    assert found.difference.group_standard_error == pytest.approx(means.std(ddof=1), rel=1e-10)
    assert found.difference.low == pytest.approx(np.percentile(means, 2.5), rel=1e-10)
    assert found.difference.high == pytest.approx(np.percentile(means, 97.5), rel=1e-10)
    assert found.confidence == np.mean(np.sign(means) == np.sign((b - a).mean()))
    assert 0.5 < found.confidence < 1


def test_pairing_takes_out_what_rows_share():
    rng = np.random.default_rng(0)
    shared = rng.exponential(10, 1000)
    (found,) = compare_pairs(kl(a=shared, b=shared + rng.normal(0.01, 0.01, 1000)))
    assert found.better == "a"
    assert found.difference.standard_error < shared.std() / math.sqrt(1000) / 500


def test_every_pair_and_both_metrics():
    rng = np.random.default_rng(0)
    columns = {name: {"kl": rng.random(9), "log_prob_q": -rng.random(9)} for name in "abc"}
    found = compare_pairs(columns)
    assert [(d.a + d.b, d.metric) for d in found] == [
        (pair, metric) for pair in ("ab", "ac", "bc") for metric in ("kl", "log_perplexity")
    ]
    expected = columns["a"]["log_prob_q"].mean() - columns["c"]["log_prob_q"].mean()
    assert found[3].difference.value == pytest.approx(expected)
    assert compare_pairs({"a": columns["a"]}) == ()
    assert compare_pairs({"a": {"js": np.ones(2)}, "b": {"js": np.ones(2)}}) == ()


def test_infinite_and_undefined_rows():
    a, b = np.full(20, 2.0), np.linspace(0.9, 1.1, 20)
    a[3], b[3] = np.inf, np.inf
    b[4] = np.nan
    (found,) = compare_pairs(kl(a=a, b=b))
    assert (found.difference.n_rows, found.n_infinite_a, found.n_infinite_b) == (18, 1, 1)
    assert found.better == "b"
    b[5] = np.inf
    (found,) = compare_pairs(kl(a=a, b=b))
    assert found.difference.value < 0
    assert found.difference.over_all == np.inf
    assert found.better is None  # lower where it is finite, but infinite more often


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1], [0, 0, 0, 0]])
def test_hopeless_columns(groups):
    bootstrap = None if groups is None else Bootstrap(np.array(groups), 50, 0)
    equal = kl(a=[1.0, 2.0, 3.0, 4.0], b=[1.0, 2.0, 3.0, 4.0])
    (found,) = compare_pairs(equal, bootstrap)
    assert (found.difference.value, found.better, found.confidence) == (0, None, 0.5)
    for value in (np.nan, np.inf):
        (found,) = compare_pairs(kl(a=np.ones(4), b=np.full(4, value)), bootstrap)
        assert found.better is None
        assert math.isnan(found.difference.value)
        assert math.isnan(found.confidence)
    (found,) = compare_pairs(kl(a=[1.0], b=[2.0]))
    assert found.better is None
    assert math.isnan(found.confidence)


def test_a_constant_difference_is_certain():
    for bootstrap in (None, Bootstrap(np.array([0, 1, 2]), 50, 0)):
        (found,) = compare_pairs(kl(a=[1.0, 2.0, 4.0], b=[1.5, 2.5, 4.5]), bootstrap)
        assert (found.better, found.confidence) == ("a", 1.0)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=12), st.lists(st.floats(0, 1e6), min_size=2, max_size=12))
def test_confidence_is_a_probability(a, b):
    n = min(len(a), len(b))
    for bootstrap in (None, Bootstrap(np.arange(n) // 2, 40, 0)):
        (found,) = compare_pairs(kl(a=a[:n], b=b[:n]), bootstrap)
        assert 0 <= found.confidence <= 1
        assert found.better is None or found.confidence > 0.9


def test_floor_by_hand():
    found = compare_with_floor(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert found.metric == "kl"
    assert found.ratio == 2
    assert found.difference.value == 2
    assert found.difference.standard_error == pytest.approx(math.sqrt(1 / 3))
    assert found.above  # 2 - 1.96 · 0.577 > 0
    assert not compare_with_floor(np.array([2.0, 4.0, -4.0]), np.array([1.0, 2.0, 3.0])).above


def test_floor_with_rows_left_out():
    candidate, floor = np.array([3.0, np.inf, 5.0, np.nan]), np.array([1.0, 1.0, 1.0, 1.0])
    assert compare_with_floor(candidate, floor).ratio == 4
    assert compare_with_floor(candidate, floor).difference.over_all == np.inf
    assert compare_with_floor(np.ones(3), np.zeros(3)).ratio == math.inf
    assert math.isnan(compare_with_floor(np.zeros(3), np.zeros(3)).ratio)
    assert not compare_with_floor(np.zeros(3), np.zeros(3)).above
    nothing = compare_with_floor(np.full(3, np.nan), np.ones(3))
    assert math.isnan(nothing.ratio)
    assert not nothing.above


def test_floor_over_groups():
    rng = np.random.default_rng(0)
    groups = np.arange(200) // 10
    floor = rng.exponential(size=200)
    candidate = floor + np.repeat(rng.normal(0.2, 1, 20), 10)
    # Rows of a group agree: taken one by one they would be certain.
    alone, grouped = (
        compare_with_floor(candidate, floor),
        compare_with_floor(candidate, floor, Bootstrap(groups, 500, 0)),
    )
    assert grouped.difference.group_standard_error > 2 * alone.difference.standard_error
    assert grouped.above is (grouped.difference.low > 0)
