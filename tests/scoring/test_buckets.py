"""Buckets of rows: by hand, against the statistics of the rows picked out, and the rows that are in none."""

import json

import numpy as np
import pytest

import kullback as kb
from kullback.scoring import read_token_texts, summarise
from kullback.scoring.buckets import TOP1_PROB_EDGES


def test_bounds_by_hand():
    probabilities = np.array([0.0, 0.2499, 0.25, 0.5, 0.98, 0.99, 1.0, 1.0000001, np.nan])
    kl = np.array([1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, np.nan])
    buckets = summarise({"kl": kl, "top1_prob_p": probabilities}).buckets["top1_prob_p"]
    assert [(bucket.low, bucket.high) for bucket in buckets] == [
        *((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.9), (0.9, 0.95), (0.95, 0.99), (0.99, 1.0))
    ]
    assert [bucket.n_rows for bucket in buckets] == [2, 1, 1, 0, 0, 1, 3]
    means = [bucket.statistics["kl"].mean.value for bucket in buckets]
    np.testing.assert_array_equal(means, [2, 5, 7, np.nan, np.nan, 9, 13])
    assert buckets[0].statistics["kl"].mean.standard_error == 1  # sqrt((1 + 1) / 2 / (2 - 1))
    assert (buckets[6].statistics["kl"].minimum, buckets[6].statistics["kl"].maximum) == (11, 15)


def test_each_bucket_is_a_summary_of_its_rows():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(300, 40)) * rng.uniform(0.5, 12, (300, 1))
    compared = kb.compare(p, p + rng.normal(size=p.shape))
    columns = {name: compared[name] for name in compared}
    columns["kl"][::50] = np.inf
    groups = np.arange(300) // 10
    whole = summarise(columns, groups)
    edges = [*TOP1_PROB_EDGES[:-1], np.inf]
    for number, bucket in enumerate(whole.buckets["top1_prob_p"]):
        rows = (columns["top1_prob_p"] >= edges[number]) & (columns["top1_prob_p"] < edges[number + 1])
        assert bucket.n_rows == rows.sum() > 0
        alone = summarise({name: values[rows] for name, values in columns.items()})
        divergences = ("kl", "reverse_kl", "js", "jeffreys", "total_variation", "squared_hellinger")
        assert tuple(bucket.statistics) == divergences
        for name in divergences:
            found, expected = bucket.statistics[name], alone[name]
            assert found.percentiles == expected.percentiles
            assert (found.n_finite, found.n_infinite) == (expected.n_finite, expected.n_infinite)
            assert found.mean.value == expected.mean.value
            assert found.mean.standard_error == expected.mean.standard_error
            assert found.mean.low <= found.mean.value <= found.mean.high
        assert bucket.same_top.value == alone["same_top"].value


def test_bootstrap_within_a_bucket_against_plain_resampling():
    rng = np.random.default_rng(0)
    groups, kl = np.arange(400) // 20, rng.exponential(size=400)
    probabilities = rng.uniform(0.3, 0.7, 400)
    bucket = summarise({"kl": kl, "top1_prob_p": probabilities}, groups, n_bootstrap=300).buckets["top1_prob_p"][1]
    inside = probabilities < 0.5
    means = []
    for drawn in np.random.default_rng(0).integers(20, size=(300, 20)):
        rows = np.concatenate([np.flatnonzero((groups == group) & inside) for group in drawn])
        means.append(kl[rows].mean())
    assert bucket.statistics["kl"].mean.group_standard_error == pytest.approx(np.std(means, ddof=1), rel=1e-10)
    assert bucket.statistics["kl"].mean.high == pytest.approx(np.percentile(means, 97.5), rel=1e-10)


def test_classes_by_hand(tmp_path):
    (tmp_path / "texts.json").write_text(json.dumps([" the", " 7", "7", "ing"]))
    texts = read_token_texts(tmp_path / "texts.json")
    columns = {
        "kl": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        "top1_p": np.array([0, 1, 2, 3, 9, -1]),
        "top1_q": np.array([0, 1, 3, 3, 9, -1]),
    }
    buckets = summarise(columns, token_texts=texts).buckets
    found = {bucket.name: (bucket.n_rows, bucket.statistics["kl"].mean.value) for bucket in buckets["token_class"]}
    # Id 9 is beyond the texts, and -1 is a row without a token.
    assert found == {"word_start": (1, 1), "word_continuation": (1, 4), "number": (2, 2.5), "unknown": (1, 5)}
    assert [bucket.same_top.value for bucket in buckets["token_class"]] == [1, 1, 0.5, 1]
    columns["target"] = np.array([3, 3, 3, 3, 0, 0])
    found = summarise(columns, token_texts=texts).buckets["token_class"]
    assert [(bucket.name, bucket.n_rows) for bucket in found] == [("word_start", 2), ("word_continuation", 4)]


def test_as_json_and_as_text(tmp_path):
    (tmp_path / "texts.txt").write_text("Ġthe\nĊ\n")
    columns = {"kl": np.array([0.5, 0.25]), "top1_p": np.array([0, 1]), "top1_prob_p": np.array([0.6, 0.1])}
    summary = summarise(columns, np.array([0, 1]), token_texts=read_token_texts(tmp_path / "texts.txt"))
    found = json.loads(json.dumps(summary.to_dict(), allow_nan=False))["buckets"]
    assert set(found) == {"top1_prob_p", "token_class"}
    assert set(found["top1_prob_p"][0]) == {"low", "high", "n_rows", "statistics"}
    assert set(found["token_class"][0]) == {"name", "n_rows", "statistics"}
    assert found["token_class"][1]["name"] == "newline"
    assert found["token_class"][1]["statistics"]["kl"].keys() == summary.to_dict()["statistics"]["kl"].keys()
    assert found["top1_prob_p"][1] == {**found["top1_prob_p"][1], "low": 0.25, "high": 0.5, "n_rows": 0}
    text = str(summary)
    for expected in ("0.5 to 0.75 (1 rows)", "word start (1 rows)", "newline (1 rows)"):
        assert expected in text
    assert "0.25 to 0.5 (" not in text


def test_texts_need_tokens(tmp_path):
    (tmp_path / "texts.txt").write_text("a")
    with pytest.raises(ValueError, match="token_texts needs the column target or top1_p"):
        summarise({"kl": np.ones(3)}, token_texts=read_token_texts(tmp_path / "texts.txt"))


def test_without_the_column_there_are_none():
    assert summarise({"kl": np.ones(3)}).buckets == {}
    assert "buckets" not in summarise({"kl": np.ones(3)}).to_dict()
