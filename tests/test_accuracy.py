"""Relative error against 80-digit arithmetic, from values near 1 down to 1e-13, and for rows that are hard to sum.

The promise: 1e-12 with a float64 input (and always with NumPy), 1e-6 with float32 lanes; never negative.
"""

import functools
import itertools

import helpers
import numpy as np
import oracle
import pytest
from helpers import KINDS, NAMES, assert_close, evaluate, tolerance

import kullback as kb

DTYPES = ("float64", "float32")


def check(backend, p, q, kinds=("logits", "logits"), names=NAMES, temperature=1.0):
    """Compare every divergence of two rows with its exact value, and in both orders."""
    rtol = tolerance(backend, p, q)
    for (a, kind_a), (b, kind_b) in itertools.permutations([(p, kinds[0]), (q, kinds[1])]):
        exact = oracle.distribution(a, kind_a, temperature), oracle.distribution(b, kind_b, temperature)
        for name in names:
            options = {"temperature": temperature} if temperature != 1.0 else {}
            value = evaluate(name, a, b, input=(kind_a, kind_b), **options)
            wanted = oracle.value(name, *exact)
            assert value >= 0.0, name
            assert_close(value, wanted, rtol, name)


def noisy_logits(rng, width, noise, dtype, offset=0.0, spread=3.0):
    x = (rng.normal(size=width) * spread).astype(dtype)
    return x, (x + rng.normal(size=width) * noise + offset).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noise", [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_logits_from_far_to_almost_equal(backend, noise, dtype, rng):
    for width in (2, 3, 64, 1000):
        check(backend, *noisy_logits(rng, width, noise, dtype))


@pytest.mark.parametrize("noise", [1e-7, 1e-10, 1e-13])
def test_float64_logits_that_agree_to_many_digits(backend, noise, rng):
    for width in (2, 64, 1000):
        check(backend, *noisy_logits(rng, width, noise, np.float64), names=["total_variation", "kl", "js", "jeffreys"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [1000.25, -1000.25, 40.5])
def test_a_common_offset_between_the_logits(backend, offset, dtype, rng):
    for noise in (1.0, 1e-2, 1e-4):
        # Noise on a grid that survives the offset in float32.
        x = np.round(rng.normal(size=200) * 3 * 2**13) / 2**13
        y = x + np.round(rng.normal(size=200) * noise * 2**13) / 2**13 + offset
        check(backend, x.astype(dtype), y.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [20.0, 60.0, 200.0])
def test_peaked_rows(backend, spread, dtype, rng):
    for noise in (1.0, 1e-2):
        check(backend, *noisy_logits(rng, 100, noise, dtype, spread=spread))
    check(backend, *(rng.normal(size=(2, 100)) * spread).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [30.0, 100.0, 1000.0])
def test_long_rows_that_have_nothing_in_common(native, spread, dtype, rng):
    """The first numbers of a row do not tell where its mass lies; no row may be lost over that."""
    x, y = (rng.normal(size=(2, 60, 1500)) * spread).astype(dtype)
    for name in ("kl", "reverse_kl", "js", "total_variation"):
        value = kb.divergence(name, x, y, input="logits")
        with kb.use_backend("numpy"):
            assert_close(value, kb.divergence(name, x, y, input="logits"), tolerance("native", x, y), name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("height", [10.0, 15.0, 20.0, 30.0])
def test_nearly_certain_rows(backend, height, dtype, rng):
    """Nearly all mass in one token: what moved is small beside what the normalisers are known to."""
    for width, noise in itertools.product((2, 1000), (1.0, 1e-2)):
        x, y = noisy_logits(rng, width, noise, dtype, spread=1.5)
        x[width // 2] += np.dtype(dtype).type(height)
        y[width // 2] += np.dtype(dtype).type(height)
        check(backend, x, y, names=["total_variation", "kl", "js", "squared_hellinger", "jeffreys"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 2, 3, 15, 16, 17, 63, 64, 65])
def test_short_rows(backend, width, dtype, rng):
    check(backend, *noisy_logits(rng, width, 0.1, dtype))


@functools.cache
def vocabulary(noise, dtype):
    """Two long rows of logits with their exact KL, worked out once for all backends."""
    x, y = noisy_logits(np.random.default_rng(5), 50_000, noise, dtype)
    return x, y, oracle.value("kl", oracle.distribution(x, "logits"), oracle.distribution(y, "logits"))


@pytest.mark.parametrize(("noise", "dtype"), [(0.5, "float32"), (1e-5, "float32"), (1e-5, "float64")])
def test_a_vocabulary(backend, noise, dtype):
    x, y, exact = vocabulary(noise, dtype)
    assert_close(kb.kl_divergence(x, y, input="logits"), exact, tolerance(backend, x, y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, repeat=2)), ids="-".join)
def test_every_pair_of_kinds(backend, kinds, dtype, rng):
    for noise in (1.0, 1e-2, 1e-4):
        logits = rng.normal(size=300) * 3
        rows = []
        for kind, x in zip(kinds, (logits, logits + rng.normal(size=300) * noise), strict=True):
            log_probs = x - np.logaddexp.reduce(x)
            numbers = {"logits": x, "log_probs": log_probs, "probs": np.exp(log_probs), "weights": np.exp(x)}
            rows.append(numbers[kind].astype(dtype))
        check(backend, *rows, kinds=kinds, names=["kl", "js", "total_variation", "squared_hellinger", "entropy"])


@pytest.mark.parametrize("noise", [1e-6, 1e-9, 1e-12])
def test_float64_probabilities_that_agree_to_many_digits(backend, noise, rng):
    for width in (2, 500):
        p = rng.dirichlet(np.ones(width))
        q = p * (1.0 + noise * rng.uniform(-1, 1, width))
        for kinds in (("probs", "probs"), ("weights", "probs"), ("probs", "weights")):
            check(backend, p, q, kinds=kinds, names=["total_variation", "kl", "js", "jeffreys", "squared_hellinger"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_with_minus_infinity(backend, dtype, rng):
    x, y = noisy_logits(rng, 300, 1e-2, dtype)
    x[200:], y[200:] = -np.inf, -np.inf
    check(backend, x, y)
    y[100] = -np.inf
    check(backend, x, y)


@pytest.mark.parametrize(("dtype", "tiny"), [("float64", 5e-324), ("float64", 1e-310), ("float32", 1e-45)])
def test_subnormal_probabilities(backend, dtype, tiny):
    p = np.array([0.5, 0.5, tiny, 0.0], dtype=dtype)
    q = np.array([0.25, 0.5, 0.25, tiny], dtype=dtype)
    check(backend, p, q, kinds=("probs", "probs"))
    check(backend, p, np.array([0.5, 0.5, 3 * tiny, 0.0], dtype=dtype), kinds=("weights", "probs"))


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_weights_of_any_size(backend, scale, rng):
    p, q = rng.dirichlet(np.ones(50), size=2)
    check(backend, p * scale, q / scale, kinds=("weights", "weights"))


def test_float32_weights_of_any_size(backend, rng):
    p, q = rng.dirichlet(np.ones(50), size=2)
    check(backend, (p * 1e37).astype(np.float32), (q * 1e-36).astype(np.float32), kinds=("weights", "weights"))


def test_entropy_of_an_almost_certain_row(backend):
    for gap in (5.0, 20.0, 30.0):
        for dtype in (np.float64, np.float32):
            row = np.array([gap, 0.0, 1.0, -3.0], dtype=dtype)
            exact = oracle.value("entropy", oracle.distribution(row, "logits"), ())
            assert_close(kb.entropy(row, input="logits"), exact, tolerance(backend, row))


def test_temperature_in_float64(backend, rng):
    x, y = noisy_logits(rng, 200, 0.1, np.float64)
    # Dividing rounds the logits, so a power of two keeps the exact value comparable.
    for temperature in (0.5, 4.0):
        check(backend, x, y, temperature=temperature)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_exact_about_the_numbers_given(backend, dtype, rng):
    x, y = noisy_logits(rng, 300, 0.1, helpers.DTYPES[dtype])
    check(backend, x, y)
