"""What a report is made of: numbers and text as written, rows as counted, sentences as decided."""

import itertools
import json
import math
import unicodedata

import numpy as np
import pytest
import report_runs
from hypothesis import given
from hypothesis import strategies as st

from kullback.scoring.reporting import words
from kullback.scoring.reporting.gather import gather
from kullback.scoring.reporting.tally import Density, LogHistogram, Profile, Worst
from kullback.scoring.reporting.verdict import give_verdict

FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.sampled_from([0.0, 1.0, math.inf, math.nan])


def cut(values, places):
    """Cut a list at some places."""
    edges = sorted({0, len(values), *(place for place in places if place < len(values))})
    return [values[start:stop] for start, stop in itertools.pairwise(edges)]


# --- numbers and text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (0.001, "0.00100"),
        (0.0009994, "9.99e-4"),
        (0.0009996, "0.00100"),
        (12.345, "12.3"),
        (121.9, "122"),
        (123456.0, "123,456"),
        (1.5e6, "1.50e6"),
        (1.12e-11, "1.12e-11"),
        (-0.25, "−0.250"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_numbers_by_hand(value, text):
    assert words.number(value) == text


@given(st.floats(1e-300, 1e300))
def test_a_number_keeps_three_digits(value):
    assert float(words.number(value).replace(",", "")) == pytest.approx(value, rel=5.1e-3)


def test_shares_ratios_and_changes_by_hand():
    assert [words.percent(x) for x in (1.0, 0.99999, 0.9785, 1e-6, 0.0, math.nan)] == [
        *("100 %", "> 99.99 %", "97.85 %", "< 0.01 %", "0 %", "–"),
    ]
    assert [words.factor(x) for x in (1.0, 1.0044, 1.2334, 1.00000018, 2000.0, math.inf, math.nan)] == [
        *("1.000", "1.0044", "1.233", "1.00000", "2,000", "∞", "–"),
    ]
    assert words.factor(0.99871, like=1.0044) == "0.9987"
    assert words.factor(0.99871, like=math.nan) == "0.999"
    assert [words.points(x) for x in (0.0, 0.1234, -0.5, 1e-9, math.nan)] == ["0", "+12.34", "−50.00", "+0.00", "–"]


def test_what_cannot_be_seen_is_made_visible():
    assert words.visible("a\x00b\x1b\x7f\n\t\u00a0") == "a␀b␛␡⏎⇥⍽"
    assert words.visible("\u202e\u200b\ud800\ue000") == "⟨U+202E⟩⟨U+200B⟩⟨U+D800⟩⟨U+E000⟩"
    assert words.visible(" naïve 猫 <b>&") == " naïve 猫 <b>&"


@given(st.text(alphabet=st.characters(codec=None)))
def test_no_text_has_an_effect(text):
    shown = words.visible(text)
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    shown.encode()
    assert words.visible(shown) == shown


def test_long_names_lose_their_middle():
    assert words.shorten("abcdefghij", 10) == "abcdefghij"
    assert words.shorten("abcdefghijk", 10) == "abcde…hijk"


# --- rows -------------------------------------------------------------------------------------------------------------


@given(st.lists(FLOATS, max_size=60))
def test_every_row_is_counted_once(values):
    histogram = LogHistogram()
    histogram.add(np.array(values, np.float64))
    beside = histogram.n_zero + histogram.n_negative + histogram.n_infinite + histogram.n_nan
    assert histogram.counts.sum() + beside == len(values)
    assert histogram.n_nan == sum(map(math.isnan, values))


def test_bins_by_hand():
    histogram = LogHistogram()
    histogram.add(np.array([1.5, 1.6, 0.0015, 1e-30, 1e30]))
    edges, used = histogram.edges, np.flatnonzero(histogram.counts)
    assert histogram.counts[used].tolist() == [1, 1, 1, 1, 1]
    assert used[0] == 0
    assert used[-1] == histogram.counts.size - 1
    for place, value in zip(used[1:-1], (0.0015, 1.5, 1.6), strict=True):
        assert edges[place] <= value < edges[place + 1]


@given(st.lists(FLOATS, max_size=40), st.integers(1, 6), st.lists(st.integers(0, 40), max_size=4))
def test_the_worst_rows_are_those_of_a_stable_sort(values, most, places):
    worst = Worst(most)
    for piece in cut(values, places):
        worst.add(np.array(piece, np.float64))
    order = sorted((row for row in range(len(values)) if not math.isnan(values[row])), key=lambda row: -values[row])
    assert worst.rows.tolist() == order[:most]


@given(
    st.lists(st.integers(1, 130), min_size=1, max_size=5),
    st.lists(st.integers(0, 650), max_size=5),
    st.booleans(),
)
def test_profiles_are_means_by_position(lengths, places, grouped):
    groups = np.repeat(np.arange(len(lengths)) % 3 + 5, lengths)
    values = np.random.default_rng(0).exponential(size=groups.size)
    values[::17] = np.inf
    profile = Profile()
    for piece in cut(list(range(groups.size)), places):
        profile.add(values[piece], groups[piece] if grouped else None)
    positions = np.concatenate([np.arange(length) for length in lengths]) if grouped else np.arange(groups.size)
    bins = positions // profile.width
    assert bins.max() < Profile.BINS
    assert profile.width == 1 or positions.max() // (profile.width // 2) >= Profile.BINS
    finite = np.isfinite(values)
    middles, means, errors = profile.points()
    expected = [values[finite & (bins == place)] for place in range(Profile.BINS)]
    expected = [piece for piece in expected if piece.size]
    np.testing.assert_allclose(means, [piece.mean() for piece in expected], rtol=1e-12)
    known = [place for place, piece in enumerate(expected) if piece.size > 1]
    assert np.isnan(errors).tolist() == [place not in known for place in range(len(expected))]
    np.testing.assert_allclose(
        errors[known], [expected[place].std(ddof=1) / math.sqrt(expected[place].size) for place in known], rtol=1e-6
    )
    assert (middles - (profile.width - 1) / 2).tolist() == [
        place * profile.width for place in range(Profile.BINS) if (finite & (bins == place)).any()
    ]


def test_changes_fall_into_their_cells():
    density = Density(0.5, keep_points=True)
    density.add(np.log([0.25, 0.25, 1.0, 0.5]), np.array([0.5, -0.5, 0.0, np.nan]))
    density.add(np.array([-np.inf, np.nan]), np.array([0.1, 0.1]))
    up, across = np.nonzero(density.counts)
    middle = density.UP // 2
    expected = {(density.UP - 1, 30), (0, 30), (middle, density.ACROSS - 1), (int(0.6 * density.UP), 0)}
    assert set(zip(up.tolist(), across.tolist(), strict=True)) == expected
    assert (density.n_unknown, density.counts.sum(), density.points.shape) == (2, 4, (2, 4))


# --- sentences --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def close_run(tmp_path_factory):
    """Return the folder of a run of two candidates that are nearly alike."""
    return report_runs.make(tmp_path_factory.mktemp("close"), [0.1, 0.106])


def verdict(out, tmp_path, change):
    """Return the verdict on a run whose summary was changed, and holds nothing but what the change adds."""
    summary = json.loads((out / "summary.json").read_text())
    for name in ("paired", "noise_floor", "thresholds"):
        summary.pop(name, None)
    change(summary)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "manifest.json").write_text((out / "manifest.json").read_text())
    return give_verdict(gather(tmp_path))


def paired(better):
    difference = report_runs.estimate(0.001, -0.001, 0.003)
    entry = {"a": "q0", "b": "q1", "metric": "kl", "difference": difference, "better": better, "confidence": 0.95}
    return lambda summary: summary.update(paired=[entry])


def test_an_order_that_is_not_borne_out_is_not_claimed(close_run, tmp_path):
    found = verdict(close_run, tmp_path, lambda summary: None)
    assert "though not clearly ahead of the next" in found.headline
    assert any("is open: their intervals overlap" in text for text in found.sentences())
    found = verdict(close_run, tmp_path, paired(None))
    assert "though not clearly" in found.headline
    assert "Row by row q0 and q1 cannot be told apart: 0.00100 nats between them." in found.sentences()


def test_a_paired_comparison_decides_what_intervals_leave_open(close_run, tmp_path):
    found = verdict(close_run, tmp_path, paired("q0"))
    assert found.headline.startswith("q0 stays nearest to the reference: ")
    assert "Row by row q0 is nearer than q1: by 0.00100 nats on average." in found.sentences()


def test_a_candidate_with_infinite_rows_is_not_the_nearest(close_run, tmp_path):
    def change(summary):
        column = summary["candidates"]["q0"]["statistics"]["kl"]
        column["mean"] |= {"value": 1e-9, "over_all": "Infinity"}
        column |= {"n_infinite": 1, "maximum": "Infinity"}

    found = verdict(close_run, tmp_path, change)
    assert found.headline.startswith("q1 stays nearest to the reference: ")


def test_thresholds_all_passed(close_run, tmp_path):
    entry = {"expression": "kl.mean > 1", "candidate": "q0", "value": 0.01, "failed": False}
    found = verdict(close_run, tmp_path, lambda summary: summary.update(thresholds=[entry, entry]))
    assert found.findings[0].tone == "good"
    assert str(found.findings[0]) == "Passed: 2 thresholds."


def test_warnings_and_missing_groups_are_told(close_run, tmp_path):
    def change(summary):
        summary["warnings"] = ["q.npy is truncated\x07"]
        for candidate in summary["candidates"].values():
            candidate["n_groups"] = None

    sentences = verdict(close_run, tmp_path, change).sentences()
    assert "Warning of the run: q.npy is truncated␇" in sentences
    assert "Without groups of rows the intervals take rows as independent, and are too narrow." in sentences
