"""Arrow in, Arrow out: the numbers of compare, no copy, and one sentence for whatever does not fit."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from formats import fixed_size_lists
from hypothesis import given
from hypothesis import strategies as st

import kullback as kb
from kullback.scoring import batches

RNG = np.random.default_rng(3)
P = RNG.normal(0, 3, (12, 60)).astype(np.float32)
Q = P + RNG.normal(0, 0.1, P.shape).astype(np.float32)


def make(p=P, q=Q, **others):
    return pa.record_batch({"p": fixed_size_lists(p), "q": fixed_size_lists(q), **others})


def assert_columns(result, expected):
    for name in expected:
        np.testing.assert_array_equal(result[name].to_numpy(), expected[name])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_columns_are_those_of_compare(dtype):
    p, q = P.astype(dtype), Q.astype(dtype)
    targets = np.arange(12) % 60
    keys = {"row": pa.array(range(5, 17)), "group": pa.array(list("aabbccddeeff")), "target": pa.array(targets)}
    result = kb.score_batch(make(p, q, **keys))
    expected = kb.compare(p, q, targets=targets)
    assert isinstance(result, pa.RecordBatch)
    assert result.schema.names == ["row", "group", "target", *expected]
    assert result["row"].to_pylist() == list(range(5, 17))
    assert "".join(result["group"].to_pylist()) == "aabbccddeeff"
    assert_columns(result, expected)


def test_options_are_those_of_compare():
    options = {"temperature": 1.5, "vocab_size": 50, "nan_policy": "raise"}
    result = kb.score_batch(make(), metrics="kl, renyi:order=2", **options)
    assert result.schema.names == ["kl", "renyi:order=2"]
    assert_columns(result, kb.compare(P, Q, metrics=["kl", "renyi:order=2"], **options))
    probabilities = np.exp(P) / np.exp(P).sum(axis=1, keepdims=True)
    result = kb.score_batch(make(p=probabilities), input=("probs", "logits"), metrics=["kl"])
    assert_columns(result, kb.compare(probabilities, Q, input=("probs", "logits"), metrics=["kl"]))
    counts = RNG.integers(0, 9, P.shape)
    assert_columns(
        kb.score_batch(make(counts, counts + 1), input="weights"), kb.compare(counts, counts + 1, input="weights")
    )


def test_names_of_columns():
    batch = make(next=pa.array(np.arange(12)), target=pa.array(["no"] * 12)).rename_columns(
        ["a", "b", "next", "target"]
    )
    result = kb.score_batch(batch, p="b", q="a", target="next", metrics=["kl", "rank_p"])
    assert result.schema.names == ["target", "kl", "rank_p"]
    assert_columns(result, kb.compare(Q, P, targets=np.arange(12), metrics=["kl", "rank_p"]))


@given(st.lists(st.integers(0, 12), max_size=4), st.booleans())
def test_tables_in_any_number_of_chunks(cuts, as_lists):
    """Also lists without a fixed size, as Spark makes them, and slices, whose numbers do not begin at the buffer's."""
    batch = make(row=pa.array(range(12)))
    if as_lists:
        lists = [column.cast(pa.list_(pa.float32())) for column in (batch["p"], batch["q"])]
        batch = pa.record_batch({"p": lists[0], "q": lists[1], "row": batch["row"]})
    bounds = [0, *sorted(cuts), 12]
    table = pa.Table.from_batches([batch.slice(a, b - a) for a, b in itertools.pairwise(bounds)])
    result = kb.score_batch(table)
    assert isinstance(result, pa.RecordBatch)
    assert result["row"].to_pylist() == list(range(12))
    assert_columns(result, kb.compare(P, Q))


@pytest.mark.parametrize("element", [pa.list_(pa.float32(), 60), pa.list_(pa.float32()), pa.large_list(pa.float32())])
@pytest.mark.parametrize("of", [pa.RecordBatch, pa.Table])
def test_an_empty_batch_gives_the_same_schema(element, of):
    whole = pa.record_batch(
        {"p": make()["p"].cast(element), "q": make()["q"].cast(element), "row": pa.array(range(12))}
    )
    empty = of.from_batches([whole]).slice(0, 0) if of is pa.Table else whole.slice(0, 0)
    result = kb.score_batch(empty)
    assert len(result) == 0
    assert result.schema == kb.score_batch(whole).schema


def test_nothing_is_copied(monkeypatch):
    seen = []
    monkeypatch.setattr(batches, "compare", lambda p, q, **options: seen.extend((p, q)) or {"kl": np.zeros(len(p))})
    p, q = P.copy(), Q.copy()
    batch = make(p, q)
    kb.score_batch(batch)
    kb.score_batch(batch.slice(3, 4))
    assert [np.shares_memory(array, mine) for array, mine in zip(seen, (p, q, p, q), strict=True)] == [True] * 4
    np.testing.assert_array_equal(seen[2], P[3:7])


BAD = P.copy()
BAD[4] = np.nan
NULL_ROW = pa.array([*P[:11].tolist(), None], pa.list_(pa.float32(), 60))
NULL_NUMBER = pa.array([*P[:11].tolist(), [None, *P[11, 1:].tolist()]], pa.list_(pa.float32(), 60))
RAGGED = pa.array([*P[:11].tolist(), P[11, :59].tolist()], pa.list_(pa.float32()))


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({"p": NULL_ROW}, {}, ValueError, "column 'p' has a null among rows 0 to 12"),
        ({"q": NULL_NUMBER}, {}, ValueError, "column 'q' has a null number among rows 0 to 12"),
        ({"q": RAGGED}, {}, ValueError, "column 'q': row 11 has 59 columns; expected 60"),
        ({"p": pa.array(range(12))}, {}, TypeError, "column 'p' holds int64; expected a FixedSizeList"),
        ({"p": pa.array([["a"]] * 12)}, {}, TypeError, "column 'p' holds list<.*string>; expected a FixedSizeList"),
        ({"p": fixed_size_lists(P.astype(int))}, {}, ValueError, "integers.*weights"),
        ({"q": fixed_size_lists(P[:, :50])}, {}, ValueError, "one length, got 60 and 50.*vocab_size"),
        ({}, {"p": "logits"}, ValueError, r"no column 'logits' for p; its columns are p \(fixed_size_list"),
        ({}, {"group": "document"}, ValueError, "no column 'document' for group"),
        ({"target": pa.array([0.0] * 12)}, {}, TypeError, "target column holds double; expected integer"),
        ({"target": pa.array([0] * 11 + [None])}, {}, ValueError, "target column has a null among rows 0 to 12"),
        ({"target": pa.array([0] * 11 + [60])}, {}, ValueError, "between 0 and 59, got 60 for row 11"),
        ({}, {"metrics": ["nonsense"]}, ValueError, "nonsense"),
        ({}, {"metrics": []}, ValueError, "metrics must name at least one column"),
        ({}, {"input": "probs"}, ValueError, "negative probabilities"),
        ({}, {"input": "nonsense"}, ValueError, "input must be one of"),
        ({}, {"input": ("probs",)}, ValueError, "input must be one of"),
        ({}, {"input": None}, ValueError, "input must be one of"),
        ({}, {"temperature": 0.0}, ValueError, "temperature"),
        ({}, {"threads": 0}, ValueError, "threads"),
        ({"q": fixed_size_lists(BAD)}, {"nan_policy": "raise"}, ValueError, "NaN for row 4"),
    ],
)
def test_what_does_not_fit_is_one_sentence(change, options, error, message):
    columns = {"p": fixed_size_lists(P), "q": fixed_size_lists(Q), **change}
    with pytest.raises(error, match=message) as caught:
        kb.score_batch(pa.record_batch(columns), **options)
    assert "\n" not in str(caught.value)


def test_other_things_than_batches():
    with pytest.raises(TypeError, match=r"batch must be a pyarrow\.RecordBatch or pyarrow\.Table, got dict"):
        kb.score_batch({"p": P, "q": Q})
    twice = pa.RecordBatch.from_arrays([make()["p"], make()["q"], make()["q"]], ["p", "q", "q"])
    with pytest.raises(ValueError, match="2 columns 'q' for q"):
        kb.score_batch(twice)
