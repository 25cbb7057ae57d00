"""compare(): its columns against the single functions and against brute force, and the record it returns."""

import itertools
import math
import re
import sys

import numpy as np
import pyarrow as pa
import pytest
from helpers import DTYPES, KINDS, METRICS, assert_close, evaluate, random_rows, tolerance

import kullback as kb

SINGLE = ("kl", "reverse_kl", "js", "jeffreys", "total_variation", "squared_hellinger", "cross_entropy")
DEFAULT = [
    *SINGLE[:6],
    "entropy_p",
    "entropy_q",
    "cross_entropy",
    "top1_p",
    "top1_q",
    "top1_prob_p",
    "top1_prob_q",
    "overlap_1",
    "overlap_5",
    "overlap_10",
]
WITH_TARGETS = ["log_prob_p", "log_prob_q", "delta_prob", "rank_p", "rank_q"]
OTHERS = [*(name for name in METRICS if name not in DEFAULT), "js:weight=0.25", "skew_kl:alpha=0.9", "renyi:order=inf"]
INTEGERS = ("top1_p", "top1_q", "rank_p", "rank_q")


def top(row, k):
    """The k largest columns, equal ones by smaller index first."""
    return set(np.lexsort((np.arange(row.size), -row))[:k].tolist())


@pytest.mark.parametrize(
    "dtypes", [("float64", "float64"), ("float32", "float32"), ("bfloat16", "float64")], ids="-".join
)
@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, repeat=2)), ids="-".join)
def test_columns_are_the_single_functions(backend, kinds, dtypes, rng):
    p, q = (random_rows(rng, (2, 5, 60), kind, DTYPES[dtype]) for kind, dtype in zip(kinds, dtypes, strict=True))
    result = kb.compare(p, q, input=kinds, metrics=[*DEFAULT, *OTHERS])
    rtol = tolerance(backend, p, q)
    assert set(METRICS) <= {*SINGLE, *OTHERS}
    for name in (*SINGLE, *OTHERS):
        assert_close(result[name], evaluate(name, p, q, input=kinds), rtol, name)
    assert_close(result["entropy_p"], kb.entropy(p, input=kinds[0]), tolerance(backend, p))
    assert_close(result["entropy_q"], kb.entropy(q, input=kinds[1]), tolerance(backend, q))


@pytest.mark.parametrize("dtype", DTYPES)
def test_order_by_brute_force(backend, dtype, rng):
    # Few distinct values, so that nearly everything is tied.
    p, q = (rng.integers(0, 5, (40, 33)).astype(DTYPES[dtype]) for _ in range(2))
    p[rng.random(p.shape) < 0.2] = -np.inf
    p[:, 5] = 1.0
    targets = rng.integers(0, 33, 40)
    sizes = (1, 2, 5, 10, 33, 50)
    result = kb.compare(p, q, targets=targets, top_k=sizes)
    p, q = p.astype(np.float64), q.astype(np.float64)
    for row, target in enumerate(targets):
        assert result["top1_p"][row] == np.argmax(p[row])
        assert result["top1_q"][row] == np.argmax(q[row])
        for k in sizes:
            shared = len(top(p[row], k) & top(q[row], k))
            assert result[f"overlap_{k}"][row] == pytest.approx(shared / min(k, 33), rel=1e-15)
        for side, numbers in (("p", p[row]), ("q", q[row])):
            rank = 1 + np.sum(numbers > numbers[target]) + np.sum(numbers[:target] == numbers[target])
            assert result[f"rank_{side}"][row] == rank
    np.testing.assert_array_equal(result["rank_p"] == 1, result["top1_p"] == targets)


@pytest.mark.parametrize("width", [1, 2, 63, 64, 65, 5000])
@pytest.mark.parametrize("kind", ["weights", "logits"])
def test_order_at_every_width(backend, kind, width, rng):
    p, q = (random_rows(rng, (7, width), kind, np.float32) for _ in range(2))
    q[:3] = p[:3]
    targets = rng.integers(0, width, 7)
    result = kb.compare(p, q, input=kind, targets=targets, top_k=(1, 3, 40))
    np.testing.assert_array_equal(result["top1_q"], np.argmax(q, axis=-1))
    for k in (1, 3, 40):
        shared = [len(top(a, k) & top(b, k)) / min(k, width) for a, b in zip(p, q, strict=True)]
        np.testing.assert_allclose(result[f"overlap_{k}"], shared, rtol=1e-15)
    mine = np.take_along_axis(p, targets[:, None], axis=-1)
    np.testing.assert_array_equal(result["rank_p"], 1 + (p > mine).sum(axis=-1))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_target_columns(backend, kind, dtype, rng):
    p, q = (random_rows(rng, (20, 50), kind, DTYPES[dtype]) for _ in range(2))
    targets = rng.integers(0, 50, 20)
    result = kb.compare(p, q, input=kind, targets=targets, metrics=WITH_TARGETS)
    assert list(result) == WITH_TARGETS
    logs = {}
    for side, rows in (("p", p), ("q", q)):
        numbers = rows.astype(np.float64)
        numbers = numbers if kind in ("logits", "log_probs") else np.log(numbers)
        normalised = numbers - np.logaddexp.reduce(numbers, axis=-1, keepdims=True)
        logs[side] = np.take_along_axis(normalised, targets[:, None], axis=-1)[:, 0]
        assert_close(result[f"log_prob_{side}"], logs[side], tolerance(backend, p))
    np.testing.assert_allclose(
        result["delta_prob"], np.exp(logs["q"]) - np.exp(logs["p"]), rtol=tolerance(backend, p), atol=2e-8
    )


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, repeat=2)), ids="-".join)
def test_probability_of_the_top_token(backend, kinds, dtype, rng):
    p, q = (random_rows(rng, (20, 50), kind, DTYPES[dtype]) for kind in kinds)
    alone = kb.compare(p, q, input=kinds, metrics=["top1_prob_q", "top1_prob_p"])
    result = kb.compare(p, q, input=kinds)
    for side, rows, kind in (("p", p, kinds[0]), ("q", q, kinds[1])):
        numbers = rows.astype(np.float64)
        weights = np.exp(numbers) if kind in ("logits", "log_probs") else numbers
        expected = weights.max(axis=-1) / weights.sum(axis=-1)
        assert_close(result[f"top1_prob_{side}"], expected, tolerance(backend, rows))
        assert_close(alone[f"top1_prob_{side}"], expected, tolerance(backend, rows))


def test_probability_of_the_top_token_by_hand(backend):
    logits = np.log([[1.0, 2.0, 1.0], [1.0, 1.0, 0.25]])
    result = kb.compare(logits, [[0.0, -np.inf, 0.0], [800.0, 0.0, 0.0]])
    np.testing.assert_allclose(result["top1_prob_p"], [0.5, 4 / 9], rtol=1e-12)
    np.testing.assert_allclose(result["top1_prob_q"], [0.5, 1.0], rtol=1e-12)
    assert np.isnan(kb.compare([0.0, np.nan], [0.0, 0.0])["top1_prob_q"])


def test_log_prob_of_an_impossible_target_is_minus_infinity(backend):
    result = kb.compare([0.0, -np.inf, 1.0], [0.0, 0.0, 0.0], targets=1)
    assert result["log_prob_p"] == -np.inf
    assert result["log_prob_q"] == pytest.approx(-math.log(3))
    assert result["delta_prob"] == pytest.approx(1 / 3)
    assert (result["rank_p"], result["rank_q"]) == (3, 2)


def test_log_prob_of_an_almost_certain_target_keeps_its_digits(backend):
    result = kb.compare([30.0, 0.0], [20.0, 0.0], targets=0)
    assert result["log_prob_p"] == pytest.approx(-math.log1p(math.exp(-30.0)), rel=1e-6)
    assert result["delta_prob"] == pytest.approx(-math.exp(-20.0), rel=1e-3)


@pytest.mark.parametrize("metrics", [None, ["log_prob_p", "log_prob_q"]])
@pytest.mark.parametrize("height", [8.0, 16.0, 24.0])
def test_log_prob_of_an_almost_certain_target_among_many_keeps_its_digits(backend, height, metrics, rng):
    p, q = (rng.normal(size=(2, 3, 5_000))).astype(np.float32)
    p[:, 17], q[:, 4_000] = height, height
    targets = np.array([17, 4_000, 17])
    result = kb.compare(p, q, targets=targets, metrics=metrics)
    for side, rows in (("p", p), ("q", q)):
        gaps = np.delete(rows.astype(np.longdouble), 17 if side == "p" else 4_000, axis=-1) - np.longdouble(height)
        certain = targets == (17 if side == "p" else 4_000)
        expected = -np.log1p(np.exp(gaps).sum(axis=-1)).astype(np.float64)
        np.testing.assert_allclose(result[f"log_prob_{side}"][certain], expected[certain], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["p", "q"])
def test_rows_that_are_not_distributions(backend, side, bad, rng):
    p, q = (random_rows(rng, (3, 40), "logits", np.float32) for _ in range(2))
    clean = kb.compare(p, q, targets=[1, 2, 3])
    (p if side == "p" else q)[1, 7] = bad
    result = kb.compare(p, q, targets=[1, 2, 3])
    for name, column in result.items():
        if name in INTEGERS:
            assert column[1] == -1, name
        else:
            assert np.isnan(column[1]), name
        np.testing.assert_array_equal(column[[0, 2]], clean[name][[0, 2]], err_msg=name)
    for metrics in (None, ["kl"], ["top1_p"], ["overlap_3"]):
        with pytest.raises(ValueError, match="the result is NaN for row 1: p or q holds"):
            kb.compare(p, q, metrics=metrics, nan_policy="raise")


def test_parity_of_every_column(native, rng):
    for kind, dtype in itertools.product(KINDS, DTYPES):
        p, q = (random_rows(rng, (6, 90), kind, DTYPES[dtype]) for _ in range(2))
        p[4, 3] = np.nan
        options = {"temperature": 0.5} if kind in ("logits", "log_probs") else {}
        if kind == "weights":
            p[2, 5:9], q[2, 5:7] = 0.0, 0.0
        actual = kb.compare(p, q, input=kind, targets=np.arange(6), **options)
        with kb.use_backend("numpy"):
            expected = kb.compare(p, q, input=kind, targets=np.arange(6), **options)
        assert list(actual) == list(expected)
        for name in expected:
            assert actual[name].dtype == expected[name].dtype, name
            if name in INTEGERS:
                np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
            else:
                rtol = 10 * tolerance("native", p, q) if name == "delta_prob" else tolerance("native", p, q)
                assert_close(actual[name], expected[name], rtol, name, f"{kind} {dtype}")


def test_default_columns_and_their_order(backend):
    assert list(kb.compare([0.0, 1.0], [0.0, 2.0])) == DEFAULT
    assert list(kb.compare([0.0, 1.0], [0.0, 2.0], targets=1)) == DEFAULT + WITH_TARGETS
    assert list(kb.compare([0.0, 1.0], [0.0, 2.0], top_k=(3,), targets=1))[-6:] == ["overlap_3", *WITH_TARGETS]
    assert list(kb.compare([0.0, 1.0], [0.0, 2.0], metrics=["js", "kl", "js"])) == ["js", "kl"]


def test_shapes(backend, rng):
    p, q = random_rows(rng, (2, 1, 8), "logits", np.float32), random_rows(rng, (3, 8), "logits", np.float32)
    result = kb.compare(p, q, targets=[1, 2, 3])
    assert (result.shape, result.n_rows) == ((2, 3), 6)
    assert {column.shape for column in result.values()} == {(2, 3)}
    single = kb.compare(p[0, 0], q[0], targets=4)
    assert (single.shape, single.n_rows) == ((), 1)
    assert float(single["kl"]) == pytest.approx(float(kb.kl_divergence(p[0, 0], q[0], input="logits")))
    empty = kb.compare(np.empty((0, 8)), q[0], targets=np.empty(0, int))
    assert (empty.shape, empty.n_rows) == ((0,), 0)
    assert {name for name, column in empty.items() if column.dtype == np.int64} == set(INTEGERS)


ERRORS = {
    "unknown": (
        {"metrics": ["kl", "jss"]},
        ValueError,
        f"metrics must be one of {', '.join(kb.divergence_names())}, entropy_p, entropy_q, top1_p, top1_q, "
        "top1_prob_p, top1_prob_q, log_prob_p, log_prob_q, delta_prob, rank_p, rank_q, overlap_<k>, "
        "got 'jss'; did you mean 'js'?",
    ),
    "no parameter": (
        {"metrics": ["renyi"]},
        ValueError,
        "metrics: renyi needs order, as in 'renyi:order=2', got 'renyi'",
    ),
    "another parameter": (
        {"metrics": ["renyi:alpha=2"]},
        ValueError,
        "metrics: renyi takes order, as in 'renyi:order=2', got 'renyi:alpha=2'",
    ),
    "a parameter too many": (
        {"metrics": ["kl:order=2"]},
        ValueError,
        "metrics: kl takes no parameter, got 'kl:order=2'",
    ),
    "not a number": (
        {"metrics": ["skew_kl:alpha=x"]},
        ValueError,
        "metrics: alpha must be a number, got 'skew_kl:alpha=x'",
    ),
    "out of range": (
        {"metrics": ["js:weight=2"]},
        ValueError,
        "metrics: weight must be between 0 and 1, got 2.0 in 'js:weight=2'",
    ),
    "entropy": ({"metrics": ["entropy"]}, ValueError, "got 'entropy'; did you mean 'entropy_q'?"),
    "overlap_0": ({"metrics": ["overlap_0"]}, ValueError, "got 'overlap_0'; did you mean 'overlap_<k>'?"),
    "a string": (
        {"metrics": "kl"},
        TypeError,
        "metrics must be a sequence of column names, got the string 'kl'",
    ),
    "without targets": (
        {"metrics": ["rank_p"]},
        ValueError,
        "the column 'rank_p' needs targets, got targets=None",
    ),
    "top_k 0": ({"top_k": (0,)}, ValueError, "top_k must be between 1 and 999999999, got 0"),
    "top_k float": ({"top_k": (1.5,)}, TypeError, "top_k must be an integer, got 1.5"),
    "float targets": (
        {"targets": [0.0, 1.0]},
        TypeError,
        "targets must hold integer token ids, got dtype float64",
    ),
    "shape of targets": (
        {"targets": [0, 1, 2]},
        ValueError,
        "targets must have the leading shape (2,), got (3,)",
    ),
    "target too large": ({"targets": [0, 3]}, ValueError, "targets must be between 0 and 2, got 3 for row 1"),
    "target negative": ({"targets": [-1, 0]}, ValueError, "targets must be between 0 and 2, got -1 for row 0"),
    "target beyond vocab_size": (
        {"targets": [0, 2], "vocab_size": 2},
        ValueError,
        "targets must be between 0 and 1, got 2 for row 1",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_messages(backend, case):
    options, error, message = ERRORS[case]
    with pytest.raises(error, match=re.escape(message) + "$"):
        kb.compare(np.zeros((2, 3)), np.ones((2, 3)), **options)


def test_errors_of_rows(backend):
    with pytest.raises(
        ValueError, match=re.escape("q must not hold negative probabilities, got -0.5 in row 1, column 0")
    ):
        kb.compare([0.5, 0.5], [[0.5, 0.5], [-0.5, 1.5]], input="probs")
    with pytest.raises(ValueError, match=re.escape("got a sum of 1.5 in row 0;")):
        kb.compare([[0.5, 1.0]], [0.5, 0.5], input="probs", metrics=["top1_q"])


# The record ---------------------------------------------------------------------------------------


@pytest.fixture
def result(rng):
    p, q = (random_rows(rng, (2, 3, 20), "logits", np.float32) for _ in range(2))
    return kb.compare(p, q, targets=7)


def test_mapping(result):
    assert len(result) == len(DEFAULT + WITH_TARGETS)
    assert "kl" in result
    assert "nonsense" not in result
    assert dict(result).keys() == result.keys()
    assert result._ipython_key_completions_() == list(result)
    with pytest.raises(TypeError):
        result["kl"] = np.zeros(3)
    with pytest.raises(KeyError, match=r"column must be one of kl, .*, got 'kld'; did you mean 'kl'"):
        result["kld"]


def test_repr(result):
    lines = repr(result).splitlines()
    assert lines[0].split() == ["Comparison", "of", "6", "rows", "mean", "median", "max"]
    assert [line.split()[0] for line in lines[1:]] == list(result)
    kl = lines[1].split()
    assert float(kl[1]) == pytest.approx(float(np.mean(result["kl"])), rel=1e-3)
    assert lines[1 + list(result).index("top1_p")].split()[1:] == ["-", "-", "-"]
    assert "Comparison of 1 row " in repr(kb.compare([0.0, np.nan], [0.0, 1.0]))
    assert "Comparison of 0 rows" in repr(kb.compare(np.empty((0, 2)), [0.0, 1.0]))


def test_tables(result):
    table = result.to_arrow()
    assert table.schema.field("kl").type == pa.float64()
    assert table.schema.field("rank_q").type == pa.int64()
    frame = result.to_pandas()
    for name in result:
        np.testing.assert_array_equal(table[name].to_numpy(), result[name].ravel())
        np.testing.assert_array_equal(frame[name].to_numpy(), result[name].ravel())


@pytest.mark.parametrize(("method", "library"), [("to_arrow", "pyarrow"), ("to_pandas", "pandas")])
def test_tables_without_their_library(result, method, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError, match=f"{method} needs {library}: pip install {library}"):
        getattr(result, method)()


def test_summary_gets_flat_columns_and_groups(result, monkeypatch):
    from kullback.scoring import summary

    calls = []
    monkeypatch.setattr(summary, "summarise", lambda columns, groups: calls.append((columns, groups)))
    result.summary()
    result.summary(groups=[[0], [1]])
    (first, none), (_, groups) = calls
    assert none is None
    assert {column.shape for column in first.values()} == {(6,)}
    assert groups.tolist() == [0, 0, 0, 1, 1, 1]
