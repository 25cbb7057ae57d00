"""Statistics against their definitions: by hand for a few rows, by NumPy for many, by repetition for the bootstrap."""

import json
import math

import numpy as np
import pytest

import kullback as kb
from kullback.scoring import Summary, summarise
from kullback.scoring.statistics import percentile


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    p, q = -rng.gamma(2, 1.5, 500), None
    q = p + rng.normal(-0.02, 0.1, 500)
    top = rng.integers(0, 50, 500)
    return {
        "kl": rng.exponential(0.01, 500),
        "top1_p": top,
        "top1_q": np.where(rng.random(500) < 0.1, top + 1, top),
        "log_prob_p": p,
        "log_prob_q": q,
        "delta_prob": np.exp(q) - np.exp(p),
        "rank_p": rng.integers(1, 100, 500),
    }


def test_three_rows_by_hand():
    summary = summarise(
        {
            "kl": np.array([1.0, 2.0, 6.0]),
            "log_prob_p": -np.array([1.0, 2.0, 3.0]),
            "log_prob_q": -np.array([1.0, 3.0, 5.0]),
            "delta_prob": np.array([0.1, -0.2, 0.2]),
            "top1_p": np.array([1, 2, 3]),
            "top1_q": np.array([1, 2, 4]),
        }
    )
    kl = summary["kl"]
    assert kl.mean.value == 3
    # sqrt((41/3 - 9) / 2)
    assert kl.mean.standard_error == pytest.approx(math.sqrt((41 / 3 - 9) / 2))
    assert (kl.minimum, kl.median, kl.maximum) == (1, 2, 6)
    assert kl.percentiles["90"] == pytest.approx(2 + 0.8 * 4)
    # Variances of the means: a 2/3/2 = 1/3, b 8/3/2 = 4/3, covariance 4/3/2 = 2/3.
    assert summary["perplexity_p"].value == pytest.approx(math.exp(2))
    assert summary["perplexity_p"].standard_error == pytest.approx(math.exp(2) * math.sqrt(1 / 3))
    assert summary["perplexity_q"].value == pytest.approx(math.exp(3))
    assert summary["log_perplexity_ratio"].value == pytest.approx(1)
    assert summary["log_perplexity_ratio"].standard_error == pytest.approx(math.sqrt(1 / 3 + 4 / 3 - 4 / 3))
    assert summary["perplexity_ratio"].value == pytest.approx(math.e)
    assert summary["perplexity_ratio"].standard_error == pytest.approx(math.e * math.sqrt(1 / 3))
    difference = math.sqrt(math.exp(4) / 3 + math.exp(6) * 4 / 3 - 2 * math.exp(5) * 2 / 3)
    assert summary["perplexity_difference"].value == pytest.approx(math.exp(3) - math.exp(2))
    assert summary["perplexity_difference"].standard_error == pytest.approx(difference)
    assert summary["log_perplexity_correlation"].value == pytest.approx(1)
    # Squares 0.01, 0.04, 0.04: mean 0.03, variance of the mean (0.0033/3 - 0.0009)/2.
    assert summary["rms_delta_prob"].value == pytest.approx(math.sqrt(0.03))
    error = math.sqrt((0.0033 / 3 - 0.0009) / 2) / (2 * math.sqrt(0.03))
    assert summary["rms_delta_prob"].standard_error == pytest.approx(error)
    assert summary["same_top"].value == pytest.approx(2 / 3)
    assert summary["same_top"].standard_error == pytest.approx(math.sqrt(2 / 9 / 2))
    assert summary.n_groups is None
    assert kl.mean.low is None


def test_many_rows_against_numpy(columns):
    summary = summarise(columns)
    assert summary.n_rows == 500
    assert set(summary) == {
        *("perplexity_p", "perplexity_q", "log_perplexity_ratio", "perplexity_ratio", "perplexity_difference"),
        *("log_perplexity_correlation", "same_top", "rms_delta_prob"),
        *("kl", "log_prob_p", "log_prob_q", "delta_prob", "rank_p"),
    }
    for name in ("kl", "delta_prob", "rank_p"):
        values = columns[name].astype(float)
        found = summary[name]
        assert found.mean.value == pytest.approx(values.mean(), rel=1e-14)
        assert found.mean.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(500), rel=1e-12)
        for percent, value in found.percentiles.items():
            assert value == pytest.approx(np.percentile(values, float(percent)), rel=1e-12)
        assert found.median == pytest.approx(np.median(values))
    a, b = -columns["log_prob_p"], -columns["log_prob_q"]
    assert summary["log_perplexity_correlation"].value == pytest.approx(np.corrcoef(a, b)[0, 1], rel=1e-12)
    paired = (b - a).std(ddof=1) / math.sqrt(500)
    assert summary["log_perplexity_ratio"].standard_error == pytest.approx(paired, rel=1e-10)


def test_bootstrap_over_single_rows_agrees_with_the_formulas(columns):
    summary = summarise(columns, np.arange(500), n_bootstrap=4000)
    for name in ("perplexity_p", "log_perplexity_ratio", "perplexity_ratio", "rms_delta_prob", "same_top"):
        found = summary[name]
        assert found.group_standard_error == pytest.approx(found.standard_error, rel=0.1)
        assert found.low < found.value < found.high
        assert found.high - found.low == pytest.approx(3.92 * found.standard_error, rel=0.12)
    assert summary["kl"].mean.group_standard_error == pytest.approx(summary["kl"].mean.standard_error, rel=0.1)
    correlation = summary["log_perplexity_correlation"]
    assert correlation.low < correlation.value < correlation.high


def test_bootstrap_sees_that_rows_of_a_group_agree():
    values = np.repeat(np.random.default_rng(0).normal(size=50), 20)
    groups = np.repeat(np.arange(50) * 7 - 3, 20)
    mean = summarise({"kl": values}, groups)["kl"].mean
    expected = values[::20].std(ddof=1) / math.sqrt(50)
    assert mean.group_standard_error == pytest.approx(expected, rel=0.1)
    assert mean.standard_error < expected / 3
    order = np.random.default_rng(1).permutation(1000)
    shuffled = summarise({"kl": values[order]}, groups[order])["kl"].mean
    assert shuffled.group_standard_error == pytest.approx(mean.group_standard_error, rel=1e-9)


def test_bootstrap_against_plain_resampling(columns):
    """The sums over groups must give what resampling the rows themselves gives."""
    rng = np.random.default_rng(5)
    groups = np.sort(rng.integers(0, 25, 500))
    draws = np.random.default_rng(0).integers(25, size=(300, 25))
    means = [np.concatenate([columns["kl"][groups == g] for g in drawn]).mean() for drawn in draws]
    found = summarise(columns, groups, n_bootstrap=300, seed=0)["kl"].mean
    assert found.group_standard_error == pytest.approx(np.std(means, ddof=1), rel=1e-10)
    assert found.low == pytest.approx(np.percentile(means, 2.5), rel=1e-10)


def test_deterministic_and_seeded(columns):
    groups = np.arange(500) // 10
    first, again = (summarise(columns, groups).to_dict() for _ in range(2))
    assert first == again
    assert summarise(columns, groups, seed=1).to_dict() != first


def test_fewer_replicates_for_very_many_groups():
    values = np.random.default_rng(0).normal(size=100_000)
    summary = summarise({"kl": values}, np.arange(100_000))
    assert summary.n_bootstrap == 200
    assert summary["kl"].mean.group_standard_error == pytest.approx(1 / math.sqrt(100_000), rel=0.2)


def test_infinite_and_undefined_rows(columns):
    spoiled = {name: values.copy() for name, values in columns.items()}
    spoiled["kl"][:2] = np.inf
    spoiled["kl"][2] = np.nan
    spoiled["log_prob_q"][0] = -np.inf
    spoiled["log_prob_q"][2] = np.nan
    spoiled["top1_q"][2] = -1
    spoiled["rank_p"][2] = -1
    summary = summarise(spoiled, np.arange(500) // 10)
    kl = summary["kl"]
    assert (kl.n_finite, kl.n_infinite, kl.n_nan) == (497, 2, 1)
    assert kl.mean.value == pytest.approx(columns["kl"][3:].mean())
    assert kl.mean.over_all == kl.maximum == math.inf
    assert math.isfinite(kl.mean.group_standard_error)
    perplexity = summary["perplexity_q"]
    kept = np.delete(np.arange(500), [0, 2])
    assert perplexity.n_rows == 498
    assert perplexity.value == pytest.approx(math.exp(-columns["log_prob_q"][kept].mean()))
    assert summary["perplexity_p"].n_rows == 498  # the rows are paired
    assert perplexity.over_all == math.inf
    assert summary["same_top"].n_rows == summary["rank_p"].n_finite == 499
    assert "infinite KL" in str(summary)


def test_hopeless_columns_do_not_raise():
    for value in (math.nan, math.inf, -math.inf):
        names = ("kl", "log_prob_p", "log_prob_q", "delta_prob")
        summary = summarise({name: np.full(4, value) for name in names}, np.array([0, 0, 1, 1]))
        json.dumps(summary.to_dict(), allow_nan=False)
        assert str(summary)
    one = summarise(
        {name: np.array([-0.5]) for name in ("kl", "log_prob_p", "log_prob_q", "delta_prob")}, np.array([3])
    )
    assert one["kl"].mean.value == -0.5
    assert math.isnan(one["kl"].mean.standard_error)
    assert one["perplexity_p"].value == pytest.approx(math.exp(0.5))
    assert summarise({"kl": np.empty(0)})["kl"].n_finite == 0


def test_percentiles_between_infinities():
    inf = math.inf
    assert percentile(np.array([1.0, inf]), 0.5) == inf
    assert percentile(np.array([1.0, inf]), 0.0) == 1
    assert percentile(np.array([inf, inf]), 0.5) == inf
    assert percentile(np.array([-inf, 1.0]), 0.5) == -inf
    assert math.isnan(percentile(np.array([]), 0.5))


def test_errors():
    with pytest.raises(ValueError, match="at least one column"):
        summarise({})
    with pytest.raises(ValueError, match="expected 3, got 2"):
        summarise({"kl": np.zeros(3)}, np.zeros(2))


def test_json_and_text(columns):
    summary = summarise(columns, np.arange(500) // 10)
    assert isinstance(summary, Summary)
    decoded = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert decoded["n_groups"] == 50
    assert decoded["statistics"]["kl"]["mean"]["value"] == summary["kl"].mean.value
    assert decoded["statistics"]["log_perplexity_correlation"]["standard_error"] == "NaN"
    text = str(summary)
    for expected in ("PPL candidate", "KL(reference ‖ candidate)", "95 % over groups", "same top token", "median"):
        assert expected in text


def test_summary_of_a_comparison():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(4, 5, 30))
    comparison = kb.compare(p, p + rng.normal(0, 0.1, p.shape), targets=rng.integers(0, 30, (4, 5)))
    summary = comparison.summary(groups=np.arange(4)[:, np.newaxis])
    assert (summary.n_rows, summary.n_groups) == (20, 4)
    assert summary["kl"].mean.value == pytest.approx(comparison["kl"].mean())
