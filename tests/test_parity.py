"""Native and NumPy agree: on values, on NaN and infinities, on exceptions and their messages."""

import dataclasses
import itertools

import helpers
import numpy as np
import pytest
from helpers import DTYPES, ENTROPIES, KINDS, METRICS, NAMES, assert_close, evaluate, outcome, random_rows, tolerance

import kullback as kb
from kullback._core import registry

KIND_PAIRS = list(itertools.product(KINDS, repeat=2))


def assert_parity(name, p, q, first="native", second="numpy", **options):
    """Run one call on two backends and compare the values."""
    with kb.use_backend(first):
        actual = evaluate(name, p, q, **options)
    with kb.use_backend(second):
        expected = evaluate(name, p, q, **options)
    used = (p,) if name in ENTROPIES else (p, q)
    assert_close(actual, expected, tolerance(first, *used), name, str(options))


@pytest.mark.parametrize("dtypes", list(itertools.product(DTYPES, repeat=2)), ids="-".join)
@pytest.mark.parametrize("kinds", KIND_PAIRS, ids="-".join)
def test_kinds_and_dtypes(native, kinds, dtypes, rng):
    for width in (1, 33, 700):
        p, q = (random_rows(rng, (3, width), kind, DTYPES[dtype]) for kind, dtype in zip(kinds, dtypes, strict=True))
        for name in NAMES:
            assert_parity(name, p, q, input=kinds)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_tail(native, kind, dtype, rng):
    for width in range(1, 131 if helpers.SLOW else 70):
        p, q = (random_rows(rng, (2, width), kind, DTYPES[dtype]) for _ in range(2))
        for name in ("kl", "js", "entropy"):
            assert_parity(name, p, q, input=kind)


@pytest.mark.parametrize("noise", [1e-1, 1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_close_rows(native, noise, dtype, rng):
    x = random_rows(rng, (4, 3000), "logits", np.float64)
    y = x + rng.normal(size=x.shape) * noise
    for name in NAMES:
        assert_parity(name, x.astype(dtype), y.astype(dtype), input="logits")


def layouts(rng, kind, dtype):
    """Yield pairs that share values but not strides, order, writability or alignment of their rows."""
    p, q = (random_rows(rng, (4, 6, 40), kind, dtype) for _ in range(2))
    yield p, q, {}
    yield p[::-1, ::2, ::-1], q[:, 1::2, ::-1], {}
    yield np.asfortranarray(p), q, {}
    yield p.transpose(2, 0, 1), q.transpose(2, 0, 1), {"axis": 0}
    yield p[:, :1], q[:1], {}
    yield p, q[0, 0], {}
    yield p[0, 0], q[0, 0], {}
    yield p[..., ::2], q[..., ::2], {}
    yield np.broadcast_to(p[0, 0], p.shape), q, {}
    yield p[..., 3:], q[..., 1:], {"vocab_size": 31}
    frozen = p.copy()
    frozen.flags.writeable = False
    yield frozen, q, {}
    if kind in ("logits", "log_probs"):
        yield p, q, {"temperature": 0.75}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["weights", "logits"])
def test_layouts(native, kind, dtype, rng):
    for p, q, options in layouts(rng, kind, DTYPES[dtype]):
        for name in NAMES:
            assert_parity(name, p, q, input=kind, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_zeros_infinities_and_nan_planted_everywhere(native, kind, dtype, rng):
    p, q = (random_rows(rng, (60, 45), "weights", np.float64) for _ in range(2))
    for rows in (p, q):
        rows[rng.random(rows.shape) < 0.1] = 0.0
        rows[rng.random(rows.shape[0]) < 0.1] = 0.0
    shared = rng.random(p.shape[0]) < 0.5
    q[shared] = np.where(p[shared] == 0.0, 0.0, q[shared])
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind in ("probs", "log_probs"):
            p, q = (rows / rows.sum(axis=-1, keepdims=True) for rows in (p, q))
        if kind in ("logits", "log_probs"):
            p, q = np.log(p), np.log(q)
        p, q = p.astype(DTYPES[dtype]), q.astype(DTYPES[dtype])
    for rows in (p, q):
        rows[3, 7], rows[8, 44], rows[9, 0] = np.nan, np.inf, np.nan
    for name in NAMES:
        assert_parity(name, p, q, input=kind)


def bad_calls():
    """Yield calls that must fail alike, several with more than one thing wrong."""
    good, row = np.full((3, 2, 4), 0.25), np.full(4, 0.25)

    def spoiled(*changes, base=good):
        rows = base.copy()
        for index, value in changes:
            rows[index] = value
        return rows

    yield good, spoiled(((1, 1, 2), -0.5)), {}
    yield spoiled(((1, 0, 3), -1e-30), ((2, 0, 0), -1.0)), spoiled(((2, 1, 2), -0.5)), {}
    yield spoiled(((1, 1, 0), np.nan), ((1, 1, 2), -0.5)), good, {"input": "weights"}
    yield good, spoiled(((2, 1, 1), -np.inf)), {"input": "weights"}
    yield good, spoiled(((1, 1), 0.5)), {}
    yield spoiled(((2, 1), 0.5)), spoiled(((1, 1, 0), 2.0)), {}
    yield spoiled(((1, 0), 0.5)), spoiled(((1, 0, 2), -0.125)), {}
    yield spoiled(((1, 0), 0.5)), spoiled(((1, 0), 0.375)), {}
    yield np.log(good), spoiled(((0, 1), 3.0)), {"input": ("log_probs", "probs")}
    yield np.log(good), np.log(good) + spoiled(((2, 0), 0.5), base=0 * good), {"input": "log_probs"}
    shifted = np.log(good) + spoiled(((1, 0), 0.5), base=0 * good)
    yield shifted, spoiled(((1, 0, 2), 2.0)), {"input": ("log_probs", "probs")}
    yield shifted, spoiled(((1, 0, 2), np.nan)), {"input": ("log_probs", "logits")}
    yield row, spoiled(((1, 1, 2), -0.5)), {}
    yield spoiled((1, -0.5), base=row), row, {}
    yield spoiled((1, 0.5), base=row), row, {}
    yield spoiled(((0, 1), -0.25), base=good[0]), good[0], {}
    yield spoiled(((2, 1, 3), np.nan)), good, {"nan_policy": "raise"}
    yield good, spoiled(((0, 1), 0.0)), {"nan_policy": "raise"}
    yield spoiled(((1, 1, 3), np.nan)), spoiled(((2, 1, 3), -1.0)), {"nan_policy": "raise"}
    yield spoiled(((0, 0), -np.inf)), good, {"nan_policy": "raise", "input": ("logits", "probs")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", range(len(list(bad_calls()))))
def test_exceptions(native, call, dtype):
    p, q, options = list(bad_calls())[call]
    p, q = p.astype(DTYPES[dtype]), q.astype(DTYPES[dtype])
    for name in METRICS:
        actual = outcome(name, p, q, **options)
        with kb.use_backend("numpy"):
            expected = outcome(name, p, q, **options)
        assert isinstance(expected, tuple), f"{name}: the reference did not raise"
        assert actual == expected, name
    for name in ENTROPIES:
        actual = outcome(name, p, q, **options)
        with kb.use_backend("numpy"):
            expected = outcome(name, p, q, **options)
        assert type(actual) is type(expected), name
        assert not isinstance(expected, tuple) or actual == expected, name


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_canary(backend, dtype, rng, monkeypatch):
    """A reference that is off by twice the tolerance must be noticed, or the comparisons above mean nothing."""
    x, y = (random_rows(rng, (3, 50), "logits", DTYPES[dtype]) for _ in range(2))
    options = {"first": backend, "input": "logits"}
    assert_parity("kl", x, y, **options)
    kl = registry.definitions()["kl"]
    off = 1.0 + 2.0 * tolerance(backend, x, y)
    value = kb.kl_divergence(x, y, input="logits")
    perturbed = dataclasses.replace(kl, body=lambda pair: kl.body(pair) * off)
    monkeypatch.setitem(registry._DEFINITIONS, "kl", perturbed)
    with kb.use_backend("numpy"), pytest.raises(AssertionError):
        assert_close(kb.kl_divergence(x, y, input="logits"), value, tolerance(backend, x, y))
    if backend == "native":
        with pytest.raises(AssertionError):
            assert_parity("kl", x, y, **options)
