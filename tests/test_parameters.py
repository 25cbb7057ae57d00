"""Divergences with a parameter: limits without a jump, nearly disjoint rows, mixtures, generators, many rows."""

import itertools
import math

import helpers
import numpy as np
import oracle
import pytest
from helpers import KINDS, assert_close, evaluate, tolerance

import kullback as kb
from kullback._core import metrics

NEAR = (1e-3, 1e-8, 1e-14, 1e-100)
WITH_PARAMETER = [
    *(f"js:weight={w}" for w in (0, 1e-9, 0.1, 0.9, 1)),
    *(f"skew_kl:alpha={a}" for a in (0, 1e-12, 0.5, 1 - 2**-30, 1)),
    *(f"alpha:alpha={a}" for a in (-3, -1e-8, 1e-8, 0.5, 0.9, 1 - 1e-8, 1 + 1e-8, 2, 6)),
    *(f"renyi:order={o}" for o in (0, 1e-9, 0.5, 1 - 1e-8, 1, 1 + 1e-8, 3, 40, "inf")),
    *(f"{name}_entropy:order={o}" for name in ("renyi", "tsallis") for o in (0, 0.3, 1 - 1e-8, 1, 1 + 1e-8, 3, "inf")),
]


def compare_with_oracle(backend, p, q, kind, names):
    exact = oracle.distribution(p, kind), oracle.distribution(q, kind)
    for name in names:
        value = evaluate(name, p, q, input=kind)
        assert value >= 0.0, name
        wanted = oracle.value(name, *exact)
        # Values beyond 1e3 have no promise but infinity.
        if wanted < 1e3 or math.isinf(wanted):
            assert_close(value, wanted, tolerance(backend, p, q), name, kind)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("noise", [1e-4, 1e-1, 3.0, 30.0])
def test_against_textbook_formulas(backend, noise, dtype, rng):
    for width, spread in ((2, 3.0), (40, 3.0), (40, 20.0)):
        x = rng.normal(size=width) * spread
        y = x + rng.normal(size=width) * noise
        for kind in ("logits", "weights"):
            p, q = (np.exp(row - row.max()) if kind == "weights" else row for row in (x, y))
            compare_with_oracle(backend, p.astype(dtype), q.astype(dtype), kind, WITH_PARAMETER)


@pytest.mark.parametrize("noise", [1e-7, 1e-3, 1.0])
def test_no_jump_at_the_limits(backend, noise, rng):
    x = rng.normal(size=50) * 3
    y = x + rng.normal(size=50) * noise
    kl, reverse = (float(kb.kl_divergence(*rows, input="logits")) for rows in ((x, y), (y, x)))
    shannon = float(kb.entropy(x, input="logits"))
    for step, sign in itertools.product(NEAR, (1.0, -1.0)):
        one, zero = 1.0 + sign * step, sign * step
        # A step in the parameter moves the value by the step times what varies in ln p/q, and no more.
        slack = 1e-12 + 10.0 * step * max(noise, 1e-3) + 1e-15
        at = {
            "alpha, 1": (kb.alpha_divergence(x, y, alpha=one, input="logits"), kl),
            "alpha, 0": (kb.alpha_divergence(x, y, alpha=zero, input="logits"), reverse),
            "renyi": (kb.renyi_divergence(x, y, order=one, input="logits"), kl),
            "renyi_entropy": (kb.renyi_entropy(x, order=one, input="logits"), shannon),
            "tsallis_entropy": (kb.tsallis_entropy(x, order=one, input="logits"), shannon),
        }
        for name, (value, limit) in at.items():
            rtol = slack if "alpha" in name else 1e-12 + 20.0 * step
            np.testing.assert_allclose(value, limit, rtol=rtol, atol=1e-25, err_msg=f"{name} {step} {sign}")


@pytest.mark.parametrize("gap", [30.0, 300.0, 900.0])
def test_nearly_disjoint_rows(backend, gap):
    # Each row is certain but for e^-gap of its mass; the exact values are sums of two such terms.
    p, q = np.array([0.0, -gap]), np.array([-gap, 0.0])
    both = math.log(2.0)
    half = -gap / 2 + both
    lse = math.log1p(math.exp(-gap))
    assert_close(kb.bhattacharyya_distance(p, q, input="logits"), lse - half, 1e-12)
    assert_close(kb.renyi_divergence(p, q, order=0.5, input="logits"), 2 * (lse - half), 1e-12)
    pp = math.log1p(math.exp(-2 * gap))
    assert_close(kb.cauchy_schwarz_divergence(p, q, input="logits"), 2 * (pp + gap - both), 1e-12)
    assert_close(kb.acceptance_rate(p, q, input="logits"), 2 * math.exp(-gap - lse), 1e-12, "acceptance_rate")
    assert_close(kb.renyi_divergence(p, q, order=50, input="logits"), gap, 1e-12)
    assert_close(kb.renyi_divergence(p, q, order=np.inf, input="logits"), gap, 1e-12)
    assert_close(kb.fisher_rao_distance(p, q, input="logits"), math.pi - 4 * math.exp(-gap / 2), 1e-12)


def test_a_power_of_a_probability_that_underflows(backend):
    # p^2/q is 1 although p is e^-1000 and q e^-2000.
    p, q = np.array([0.0, -1000.0]), np.array([0.0, -2000.0])
    assert_close(kb.chi2_divergence(p, q, input="logits"), 1.0, 1e-12)
    assert_close(kb.neyman_chi2_divergence(q, p, input="logits"), 1.0, 1e-12)
    assert_close(kb.renyi_divergence(p, q, order=2, input="logits"), math.log(2.0), 1e-12)
    assert_close(kb.alpha_divergence(p, q, alpha=3, input="logits"), math.inf, 1e-12)
    assert_close(kb.renyi_divergence(p, q, order=3, input="logits"), 500.0, 1e-12)


def test_supports(backend):
    p, q = [0.5, 0.5, 0.0], [0.25, 0.0, 0.75]
    assert_close(kb.renyi_divergence(p, q, order=0), math.log(4.0), 1e-14)
    assert_close(kb.renyi_divergence(p, q, order=1e-200), math.log(4.0), 1e-14)
    assert kb.renyi_divergence(p, q, order=1) == math.inf
    assert_close(kb.renyi_divergence([0.5, 0.5, 0.0], [0.5, 0.25, 0.25], order=np.inf), math.log(2.0), 1e-14)
    assert_close(
        kb.alpha_divergence(p, q, alpha=1e-8), (0.5**1e-8 * 0.25 ** (1 - 1e-8) - 1) / (1e-8 * (1e-8 - 1)), 1e-7
    )
    for alpha in (-1, 0, 1, 2):
        assert kb.alpha_divergence(p, q, alpha=alpha) == math.inf
    for zero in ("js:weight=0", "js:weight=1", "skew_kl:alpha=1"):
        assert evaluate(zero, p, q) == 0.0
    assert kb.skew_kl_divergence(p, q, alpha=0) == math.inf
    assert_close(kb.skew_kl_divergence([1.0, 0.0], [0.0, 1.0], alpha=1e-300), 300 * math.log(10), 1e-14)
    assert_close(kb.renyi_entropy([0.25, 0.75, 0.0], order=0), math.log(2.0), 1e-14)
    assert_close(kb.tsallis_entropy([0.25, 0.75, 0.0], order=0), 1.0, 1e-14)
    assert_close(kb.renyi_entropy([0.25, 0.75, 0.0], order=np.inf), math.log(4 / 3), 1e-14)


@pytest.mark.parametrize("name", WITH_PARAMETER)
def test_both_backends_agree(native, name, rng):
    for kinds in itertools.product(KINDS, repeat=2):
        for dtype in helpers.DTYPES.values():
            p, q = (helpers.random_rows(rng, (2, 37), kind, dtype) for kind in kinds)
            value = evaluate(name, p, q, input=kinds)
            with kb.use_backend("numpy"):
                wanted = evaluate(name, p, q, input=kinds)
            assert_close(value, wanted, tolerance("native", p, q), name, f"{kinds}")


def test_orders_are_monotone(backend, rng):
    x, y = rng.normal(size=(2, 20))
    orders = [0, 0.1, 0.5, 1 - 1e-9, 1, 1 + 1e-9, 2, 30, np.inf]
    divergences = [float(kb.renyi_divergence(x, y, order=order, input="logits")) for order in orders]
    entropies = [float(kb.renyi_entropy(x, order=order, input="logits")) for order in orders]
    assert divergences == sorted(divergences)
    assert entropies == sorted(entropies, reverse=True)


def test_names_carry_their_parameter():
    assert metrics.parse("renyi:order=2") == metrics.Metric("renyi", 2.0)
    assert metrics.parse("js").text == "js" == metrics.parse("js:weight=0.5").text
    assert metrics.parse("renyi:order=inf").text == "renyi:order=inf"
    for text in (
        "renyi",
        "renyi:",
        "renyi:order",
        "renyi:order=",
        "renyi:order=nan",
        "kl:",
        "kl:x=1",
        ":",
        "nonsense:a=1",
    ):
        with pytest.raises(ValueError, match=r"^metrics"):
            metrics.parse(text)


# The generators f(u) of some names.
GENERATORS = {
    "kl": lambda u: u * np.log(u),
    "reverse_kl": lambda u: -np.log(u),
    "total_variation": lambda u: np.abs(u - 1) / 2,
    "squared_hellinger": lambda u: (np.sqrt(u) - 1) ** 2 / 2,
    "chi2": lambda u: (u - 1) ** 2,
    "neyman_chi2": lambda u: (u - 1) ** 2 / u,
    "triangular_discrimination": lambda u: (u - 1) ** 2 / (u + 1),
    "jeffreys": lambda u: (u - 1) * np.log(u),
    "alpha:alpha=0.3": lambda u: (u**0.3 - 1) / -0.21,
}


@pytest.mark.parametrize("name", GENERATORS)
def test_generators(backend, name, rng):
    p, q = rng.dirichlet(np.ones(30), size=(2, 5))
    p[0, 3] = q[1, 4] = p[2, 5] = q[2, 5] = 0.0
    p, q = (rows / rows.sum(axis=-1, keepdims=True) for rows in (p, q))
    wanted = evaluate(name, p, q)
    np.testing.assert_allclose(kb.f_divergence(p, q, GENERATORS[name]), wanted, rtol=1e-11)
    np.testing.assert_array_equal(kb.f_divergence(p, q, name), wanted)
    assert kb.f_divergence(p, p, GENERATORS[name]).tolist() == [0.0] * 5


def test_generators_are_checked(backend):
    p, q = [0.5, 0.5, 0.0], [0.25, 0.0, 0.75]
    assert kb.f_divergence(p, q, lambda u: np.zeros_like(u), limits=(2.0, 4.0)) == 0.75 * 2.0 + 0.5 * 4.0
    assert kb.f_divergence(p, q, lambda u: (u > 1).astype(np.float32)).shape == ()
    calls = {
        "generator must be 0 at 1": lambda u: u,
        "real numbers of the shape": lambda u: u.sum(),
        "got dtype complex128": lambda u: (u - 1) * 1j,
        "got dtype object": lambda u: (u - 1).astype(object),
        "NaN at positive numbers": lambda u: np.where(u == 2.0, np.nan, u - 1),
        "must be one of kl": "nonsense",
        "renyi needs order": "renyi",
        "registry name or a callable": 3,
    }
    for message, generator in calls.items():
        with pytest.raises((TypeError, ValueError), match=message):
            kb.f_divergence(p, q, generator)
    with pytest.raises(TypeError, match="limits must be a pair"):
        kb.f_divergence(p, q, GENERATORS["kl"], limits=3)
    with pytest.raises(ValueError, match="limits are those of a callable"):
        kb.f_divergence(p, q, "kl", limits=(0, 0))
    with pytest.raises(ValueError, match="q must not hold negative"):
        kb.f_divergence(p, [1.5, -0.5, 0.0], GENERATORS["kl"])
    assert np.isnan(kb.f_divergence(p, [np.nan, 0.5, 0.5], GENERATORS["kl"]))


@pytest.mark.parametrize("noise", [1e-6, 1e-3, 1.0, 20.0])
@pytest.mark.parametrize("kind", KINDS)
def test_js_of_many(backend, kind, noise, rng):
    for weights in ([1, 1, 1, 1], [0.1, 0.2, 0.0, 0.7], [1e-9, 1.0, 1.0, 1.0]):
        logits = rng.normal(size=(1, 2, 33)) * 2 + rng.normal(size=(4, 2, 33)) * noise
        if noise == 20.0:
            logits[0, 0, 3] = logits[:, 1, 4] = logits[2, 1, 5] = -np.inf
        rows = (
            logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True) if kind in ("probs", "log_probs") else logits
        )
        rows = np.exp(rows) if kind in ("probs", "weights") else rows
        values = kb.js_divergence_many(rows, weights=weights, input=kind)
        for column in range(2):
            exact = oracle.js_of_many([oracle.distribution(row, kind) for row in rows[:, column]], weights)
            assert_close(values[column], exact, 1e-12, f"{weights}")


def test_js_of_many_agrees_with_that_of_two(backend, rng):
    rows = helpers.random_rows(rng, (2, 3, 4, 50), "logits", np.float32)
    two = kb.js_divergence(rows[0], rows[1], weight=0.25, input="logits")
    many = kb.js_divergence_many(rows, weights=[1, 3], input="logits")
    assert_close(many, np.asarray(two), tolerance(backend, rows))
    moved = kb.js_divergence_many(np.moveaxis(rows, -1, 2), weights=[1, 3], input="logits", axis=2)
    np.testing.assert_array_equal(moved, many)
    assert kb.js_divergence_many(rows[:1], input="logits").tolist() == np.zeros((3, 4)).tolist()
    assert kb.js_divergence_many(np.stack([rows[0]] * 3), input="logits").tolist() == np.zeros((3, 4)).tolist()
    assert_close(kb.js_divergence_many(np.eye(5)), math.log(5.0), 1e-14)


def test_js_of_many_is_checked(backend):
    rows = np.full((3, 2, 4), 0.25)
    spoiled = rows.copy()
    spoiled[2, 1, 0] = np.nan
    assert np.isnan(kb.js_divergence_many(spoiled)).tolist() == [False, True]
    with pytest.raises(ValueError, match=r"NaN for the rows of p\[:, 1\]"):
        kb.js_divergence_many(spoiled, nan_policy="raise")
    spoiled[2, 1, 0] = -0.25
    with pytest.raises(
        ValueError, match=r"p must not hold negative probabilities, got -0.25 in row \(2, 1\), column 0"
    ):
        kb.js_divergence_many(spoiled)
    with pytest.raises(ValueError, match=r"p must have the shape \(M, ..., V\)"):
        kb.js_divergence_many(rows[0, 0])
    for weights in ([1, 1], [1, 1, -1], [0, 0, 0], [1, np.inf, 1], "abc", [[1, 1, 1]]):
        with pytest.raises(ValueError, match="weights must be"):
            kb.js_divergence_many(rows, weights=weights)
    assert kb.js_divergence_many(np.empty((3, 0, 4))).shape == (0,)
    assert np.isnan(kb.js_divergence_many([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match=r"p must have the shape"):
        kb.js_divergence_many([1.0])
