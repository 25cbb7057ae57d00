"""Every row against every row: against the functions row by row, in their bits, at the edges, and the nearest rows."""

import itertools

import numpy as np
import oracle
import pytest
from helpers import DTYPES, KINDS, METRICS, assert_close, definition_of, evaluate, random_rows, tolerance

import kullback as kb

#: Those whose smallest value is that of equal rows.
DISTANCES = [name for name in METRICS if name not in ("acceptance_rate", "cross_entropy")]


def by_rows(name, p, q, **options):
    """The matrix from the function of that name, one line at a time."""
    with kb.use_backend("numpy"):
        return np.array([evaluate(name, row, q, **options) for row in p])


def assert_matrix(name, p, q, backend, **options):
    actual = kb.pairwise(p, q, metric=name, **options)
    q = p if q is None else q
    assert_close(actual, by_rows(name, p, q, **options), tolerance(backend, p, q), name, str(options))
    assert not (actual < 0).any()
    return actual


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_name_kind_and_dtype(backend, kind, dtype, name, rng):
    for n, m, width in ((7, 9, 130), (1, 5, 1), (3, 2, 1100)):
        p, q = (random_rows(rng, (rows, width), kind, DTYPES[dtype]) for rows in (n, m))
        assert_matrix(name, p, q, backend, input=kind)


@pytest.mark.parametrize("kinds", [pair for pair in itertools.product(KINDS, repeat=2) if pair[0] != pair[1]])
def test_mixed_kinds_and_dtypes(backend, kinds, rng):
    for dtypes in itertools.product(("float64", "float32", "bfloat16"), repeat=2):
        p, q = (random_rows(rng, (3, 70), kind, DTYPES[dtype]) for kind, dtype in zip(kinds, dtypes, strict=True))
        for name in ("kl", "reverse_kl", "js", "jeffreys", "hellinger", "total_variation"):
            assert_matrix(name, p, q, backend, input=kinds)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "jeffreys", "squared_hellinger", "total_variation"])
def test_tiles_of_every_size(native, name, rng):
    # Around the vectors, the panels and the tiles: 6, 8, 32, 48, 64, 192 and 288 rows, 128 and 1024 columns.
    for n, m, width in ((1, 301, 3), (6, 8, 128), (13, 33, 129), (65, 31, 257), (290, 195, 7), (5, 70, 2049)):
        p, q = (random_rows(rng, (rows, width), "probs", np.float32) for rows in (n, m))
        actual = kb.pairwise(p, q, metric=name)
        expected = kb.divergence(name, p[:, np.newaxis], q)
        assert_close(actual, expected, 2e-6, name, str((n, m, width)))


def test_against_the_oracle(backend, rng):
    p, q = (random_rows(rng, (2, 40), "probs", np.float64) for _ in range(2))
    q[1, 3] = p[0, 5] = p[1, 3] = 0.0
    exact = [[oracle.distribution(row, "probs") for row in rows] for rows in (p, q)]
    for name in (
        "kl",
        "reverse_kl",
        "js",
        "js_distance",
        "jeffreys",
        "squared_hellinger",
        "hellinger",
        "cross_entropy",
    ):
        expected = np.array([[oracle.value(name, a, b) for b in exact[1]] for a in exact[0]])
        assert_close(kb.pairwise(p, q, metric=name), expected, 1e-12, name)


def test_values_by_hand(backend):
    rows = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
    log2 = np.log(2.0)
    expected = [[0.0, log2, np.inf], [np.inf, 0.0, np.inf], [np.inf, log2, 0.0]]
    assert_close(kb.pairwise(rows, metric="kl"), expected, 1e-15)
    assert_close(kb.pairwise(rows, metric="reverse_kl"), np.transpose(expected), 1e-15)
    assert kb.pairwise(rows)[0, 2] == pytest.approx(log2, rel=1e-15)
    assert kb.pairwise(rows, metric="hellinger")[0, 2] == 1.0


# Close rows, equal rows ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["logits", "weights"])
def test_close_rows_keep_their_digits(backend, kind, dtype, name, rng):
    logits = rng.normal(size=(3, 600)) * 2
    noise = np.array([0.0, 1e-5, 1e-3, 1e-1])[:, np.newaxis, np.newaxis]
    near = (logits + noise * rng.normal(size=(4, 3, 600))).reshape(12, 600)
    p, q = (logits, near) if kind == "logits" else (np.exp(logits), np.exp(near))
    p, q = p.astype(dtype), q.astype(dtype)
    values = assert_matrix(name, p, q, backend, input=kind)
    if name == "kl":
        assert 0 < values[0, 3] < 1e-9
    if name in DISTANCES:
        np.testing.assert_array_equal(np.diagonal(values), np.zeros(3))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_p_against_itself(backend, kind, dtype, name, rng):
    p = random_rows(rng, (10, 90), kind, DTYPES[dtype])
    given = {"metric": name, "input": kind}
    values = kb.pairwise(p, **given)
    np.testing.assert_array_equal(kb.pairwise(p, p, **given), values)
    assert_close(values, kb.pairwise(p, p.copy(), **given), tolerance(backend, p), name)
    if name in DISTANCES:
        np.testing.assert_array_equal(np.diagonal(values), np.zeros(10))
    if definition_of(name).symmetric and backend == "native":
        np.testing.assert_array_equal(values, values.T)


# Zeros, infinities, NaN ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["weights", "logits"])
def test_zeros_infinities_and_nan(backend, kind, dtype, name, rng):
    p, q = (random_rows(rng, (12, 65), "weights", np.float64) for _ in range(2))
    for rows in (p, q):
        rows[:8][rng.random((8, 65)) < 0.3] = 0.0
    q[0] = np.where(p[0] == 0.0, 0.0, q[0])
    p[1], q[1], q[2] = 0.0, 0.0, 0.0
    p[1, 7] = q[1, 7] = q[2, 8] = 2.0  # one token each, the same and another
    p[2, 30:], q[3, :30] = 0.0, 0.0  # no common token
    with np.errstate(divide="ignore"):
        p, q = (np.log(rows) if kind == "logits" else rows for rows in (p, q))
    p, q = p.astype(dtype), q.astype(dtype)
    p[5, 3], q[6, 64], q[7] = np.nan, np.inf, -np.inf if kind == "logits" else 0.0
    values = assert_matrix(name, p, q, backend, input=kind)
    assert np.isnan(values[5]).all()
    assert np.isnan(values[:, 6]).all()
    assert np.isnan(values[:, 7]).all()
    assert np.isnan(values).sum() == 12 + 2 * 12 - 2


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_masked_logits_and_absurd_sizes(backend, dtype, rng):
    logits = rng.normal(size=(9, 50)) * 3
    logits[0, ::3] = -1e9
    logits[1, 1::3] = np.finfo(np.float32).min
    logits[2] += 3e4
    logits[3] -= 1e7
    logits[4] *= 1e4
    logits[5, 10] = -1e30
    logits = logits.astype(dtype)
    for name in ("kl", "reverse_kl", "js", "jeffreys", "hellinger", "cross_entropy"):
        assert_matrix(name, logits, None, backend, input="logits")
    weights = np.exp(rng.normal(size=(6, 50)))
    weights[0] *= 1e-30
    weights[1] *= 1e30
    weights[2, 0] = 1e-44
    weights[3, 1] = 1e-30
    if dtype == "float64":
        weights[1] *= 1e270
        weights[2, 0] = 5e-324
        weights[4] = 1.7e308
    for name in ("kl", "reverse_kl", "js", "jeffreys", "hellinger", "cross_entropy"):
        assert_matrix(name, weights.astype(dtype), None, backend, input="weights")


# Layouts, options, out ----------------------------------------------------------------------------


def test_layouts(backend, rng):
    p, q = (random_rows(rng, (rows, 60), "logits", np.float32) for rows in (8, 10))
    views = [
        (p[::-2, ::-1], q[1::3, ::-1]),
        (np.asfortranarray(p), q),
        (p[:, ::3], q[:, 1::3]),
        (np.broadcast_to(p[0], (4, 60)), q),
    ]
    for name in ("kl", "js", "total_variation"):
        for a, b in views:
            actual = kb.pairwise(a, b, metric=name, input="logits")
            np.testing.assert_array_equal(
                actual, kb.pairwise(a.copy(order="C"), b.copy(order="C"), metric=name, input="logits")
            )


@pytest.mark.parametrize("name", ["kl", "js", "total_variation", "squared_hellinger"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_temperature_and_vocab_size(backend, dtype, name, rng):
    p, q = (random_rows(rng, (4, width), "logits", dtype) for width in (80, 75))
    values = assert_matrix(name, p, q, backend, input="logits", temperature=0.7, vocab_size=71)
    cut = kb.pairwise(p[:, :71], q[:, :71], metric=name, input="logits", temperature=0.7)
    np.testing.assert_array_equal(values, cut)


def test_parameters(backend, rng):
    p, q = (random_rows(rng, (rows, 30), "probs", np.float32) for rows in (3, 4))
    for name, option, value in (("renyi", "order", 3.0), ("alpha", "alpha", -0.5), ("skew_kl", "alpha", 0.3)):
        found = kb.pairwise(p, q, metric=name, **{option: value})
        np.testing.assert_array_equal(found, kb.pairwise(p, q, metric=f"{name}:{option}={value}"))
        assert_close(found, by_rows(f"{name}:{option}={value}", p, q), tolerance(backend, p), name)
    np.testing.assert_array_equal(kb.pairwise(p, q, weight=0.5), kb.pairwise(p, q))
    skewed = kb.pairwise(p, weight=0.25)
    assert_close(skewed, by_rows("js:weight=0.25", p, p), tolerance(backend, p))
    assert not np.array_equal(skewed, skewed.T)


def test_out(backend, rng):
    p, q = (random_rows(rng, (rows, 20), "probs", np.float64) for rows in (4, 20))
    expected = kb.pairwise(p, q)
    outs = [
        np.empty((4, 20)),
        np.empty((20, 4)).T,
        np.empty((8, 40))[::2, ::2],
        np.empty((4, 20), np.dtype(np.float64).newbyteorder("S")),
    ]
    for out in outs:
        assert kb.pairwise(p, q, out=out) is out
        np.testing.assert_array_equal(out, expected)
    overlapping = p.copy()
    assert kb.pairwise(overlapping, q, out=overlapping) is overlapping
    np.testing.assert_array_equal(overlapping, expected)


def test_empty(backend):
    assert kb.pairwise(np.empty((0, 5)), np.ones((3, 5)) / 5).shape == (0, 3)
    assert kb.pairwise(np.ones((3, 5)) / 5, np.empty((0, 5))).shape == (3, 0)
    indices, values = kb.nearest(np.empty((0, 5)), np.ones((3, 5)) / 5, metric="kl", k=2)
    assert (indices.shape, values.shape, indices.dtype) == ((0, 2), (0, 2), np.int64)


def frozen():
    array = np.empty((2, 2))
    array.flags.writeable = False
    return array


HALF = np.full((2, 2), 0.5)
ERRORS = [
    ((HALF, HALF), {"metric": "jss"}, ValueError, r"metric must be one of kl, .*, got 'jss'; did you mean 'js'\?"),
    ((HALF[0], HALF), {}, ValueError, r"p must be a matrix with one distribution a row, got shape \(2,\)"),
    ((HALF, HALF[np.newaxis]), {}, ValueError, r"q must be a matrix .* got shape \(1, 2, 2\)"),
    ((HALF, np.full((2, 3), 1 / 3)), {}, ValueError, "rows of one length, got 2 and 3.*vocab_size="),
    ((HALF, np.array([[0.5, 0.5], [-0.5, 1.5]])), {}, ValueError, "q must not hold negative .* row 1, column 0"),
    (
        (np.array([[0.5, 0.5], [0.5, 1.5]]), HALF),
        {},
        ValueError,
        "p must .* sum to 1.* 2 in row 1",
    ),
    ((HALF, 2 * HALF), {"input": ("weights", "log_probs")}, ValueError, "q must hold log-probabilities.* in row 0"),
    ((HALF, [[0.5, np.nan]]), {"nan_policy": "raise"}, ValueError, "the result is NaN for row 0 of q"),
    ((HALF,), {"out": np.empty((2, 3))}, ValueError, r"out must have the shape \(2, 2\), got \(2, 3\)"),
    ((HALF,), {"out": np.empty((2, 2), np.float32)}, TypeError, "out must be an ndarray of float64, got dtype float32"),
    ((HALF,), {"out": [[1.0]]}, TypeError, "out must be an ndarray of float64, got a list"),
    ((HALF,), {"out": frozen()}, ValueError, "out must be writeable"),
    ((HALF,), {"metric": "renyi"}, ValueError, "renyi needs order"),
    ((HALF,), {"metric": "renyi", "order": -1}, ValueError, "order must be at least 0, got -1"),
    ((HALF,), {"metric": "renyi", "alpha": 2}, TypeError, "unexpected keyword argument 'alpha'"),
    ((HALF,), {"metric": "js:weight=2"}, ValueError, "weight must be between 0 and 1"),
    ((HALF,), {"axis": 0}, TypeError, "unexpected keyword argument 'axis'"),
    ((HALF,), {"metric": "kl", "alpha": 0.5}, TypeError, "unexpected keyword argument 'alpha'"),
    ((HALF,), {"temperature": 2.0}, ValueError, "temperature divides logits"),
    ((HALF,), {"threads": 0}, ValueError, "threads must be between 1"),
]


@pytest.mark.parametrize("call", range(len(ERRORS)))
def test_errors(backend, call):
    arguments, options, kind, message = ERRORS[call]
    with pytest.raises(kind, match=message):
        kb.pairwise(*arguments, **options)


@pytest.mark.parametrize("k", [0, 3, 1.5, True])
def test_k(backend, k):
    with pytest.raises((ValueError, TypeError), match="k must be"):
        kb.nearest(HALF, HALF, metric="kl", k=k)


# Bits ---------------------------------------------------------------------------------------------


def test_threads_tiles_and_instruction_sets_give_the_same_bits(native, rng):
    from kullback._core import _native

    p = random_rows(rng, (70, 1100), "probs", np.float32)
    q = np.concatenate([random_rows(rng, (40, 1100), "probs", np.float32), p[:3]])
    cases = [
        (kind, name)
        for kind in ("weights", "logits")
        for name in ("kl", "reverse_kl", "js", "jeffreys", "hellinger", "cross_entropy", "total_variation")
    ]
    results = {}
    try:
        for isa in _native.available_isas():
            _native.set_isa(isa)
            small = isa == "scalar"  # slow: a part of the matrix, which must not differ from that part of the whole
            for kind, name in cases:
                for threads in (1,) if small else (1, 2, 3):
                    a, b = (p[60:], q[30:]) if small else (p, q)
                    values = kb.pairwise(a, b, metric=name, input=kind, threads=threads)
                    results.setdefault((kind, name), []).append(values if small else values[60:, 30:])
                    if not small:
                        results.setdefault((kind, name, "whole"), []).append(values)
    finally:
        _native.set_isa("auto")
    for case, found in results.items():
        for values in found:
            np.testing.assert_array_equal(values.view(np.int64), found[0].view(np.int64), err_msg=str(case))


# Nearest ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kl", "js", "total_variation", "cross_entropy"])
def test_nearest_is_the_head_of_the_sorted_matrix(backend, name, rng):
    p, q = (random_rows(rng, (rows, 33), "weights", np.float32) for rows in (5, 300))
    q[100:200] = q[:100]  # ties
    q[250:] = np.where(rng.random((50, 33)) < 0.5, 0.0, q[250:])  # infinities
    q[17] = np.nan
    p[3] = 0.0
    matrix = kb.pairwise(p, q, metric=name, input="weights")
    order = np.argsort(matrix, axis=-1, kind="stable")
    for k in (1, 7, 300):
        indices, values = kb.nearest(p, q, metric=name, k=k, input="weights")
        assert (indices.dtype, values.dtype) == (np.int64, np.float64)
        expected = np.take_along_axis(matrix, order, axis=-1)[:, :k]
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_array_equal(indices, np.where(np.isnan(expected), -1, order[:, :k]))


def test_nearest_over_several_blocks(native, rng):
    p, q = (random_rows(rng, (rows, 4), "weights", np.float64) for rows in (600, 5000))
    matrix = kb.pairwise(p, q, metric="kl", input="weights")
    order = np.argsort(matrix, axis=-1, kind="stable")[:, :5]
    indices, values = kb.nearest(p, q, metric="kl", k=5, input="weights")
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(values, np.take_along_axis(matrix, order, axis=-1))


def test_nearest_raises_for_nan_if_asked(backend):
    with pytest.raises(ValueError, match="the result is NaN for row 1 of p"):
        kb.nearest([[0.5, 0.5], [np.nan, 1.0]], HALF, metric="kl", k=1, nan_policy="raise")
