"""Values by hand, and the whole table of zeros, infinities and NaN, for each backend and kind of input."""

import itertools
from math import acos, inf, log, pi, sqrt

import helpers
import numpy as np
import pytest
from helpers import ENTROPIES, KINDS, METRICS, NAMES, ROOTS, as_kind, assert_close, evaluate

import kullback as kb

LN2 = log(2.0)

# p, q, and the value of every registered name.
BY_HAND = {
    "overlapping": (
        [0.5, 0.5],
        [0.25, 0.75],
        {
            "kl": 0.5 * log(4 / 3),
            "reverse_kl": 0.25 * log(1 / 2) + 0.75 * log(3 / 2),
            "js": 0.25 * log(4 / 3) + 0.25 * log(4 / 5) + 0.125 * log(2 / 3) + 0.375 * log(6 / 5),
            "js_distance": sqrt(0.25 * log(4 / 3) + 0.25 * log(4 / 5) + 0.125 * log(2 / 3) + 0.375 * log(6 / 5)),
            "jeffreys": 0.25 * log(3.0),
            "total_variation": 0.25,
            "squared_hellinger": 1.0 - sqrt(0.125) - sqrt(0.375),
            "hellinger": sqrt(1.0 - sqrt(0.125) - sqrt(0.375)),
            "skew_kl": 0.5 * log(0.5 / 0.275) + 0.5 * log(0.5 / 0.725),
            "chi2": 1 / 3,
            "neyman_chi2": 0.25,
            "triangular_discrimination": 2 / 15,
            "alpha:alpha=0.3": (0.5**0.3 * (0.25**0.7 + 0.75**0.7) - 1) / -0.21,
            "renyi:order=2": log(4 / 3),
            "bhattacharyya": -log(sqrt(0.125) + sqrt(0.375)),
            "cauchy_schwarz": -log(0.8),
            "fisher_rao": 2 * acos(sqrt(0.125) + sqrt(0.375)),
            "acceptance_rate": 0.75,
            "cross_entropy": 0.5 * log(4.0) + 0.5 * log(4 / 3),
            "entropy": LN2,
            "renyi_entropy:order=2": LN2,
            "tsallis_entropy:order=0.5": 2 * (sqrt(2) - 1),
        },
    ),
    "disjoint": (
        [1.0, 0.0],
        [0.0, 1.0],
        {
            "kl": inf,
            "reverse_kl": inf,
            "js": LN2,
            "js_distance": sqrt(LN2),
            "jeffreys": inf,
            "total_variation": 1.0,
            "squared_hellinger": 1.0,
            "hellinger": 1.0,
            "skew_kl": log(10.0),
            "chi2": inf,
            "neyman_chi2": inf,
            "triangular_discrimination": 2.0,
            "alpha:alpha=0.3": 1 / 0.21,
            "renyi:order=2": inf,
            "bhattacharyya": inf,
            "cauchy_schwarz": inf,
            "fisher_rao": pi,
            "acceptance_rate": 0.0,
            "cross_entropy": inf,
            "entropy": 0.0,
            "renyi_entropy:order=2": 0.0,
            "tsallis_entropy:order=0.5": 0.0,
        },
    ),
    "certain against even": (
        [1.0, 0.0],
        [0.5, 0.5],
        {
            "kl": LN2,
            "reverse_kl": inf,
            "js": 0.75 * log(4 / 3),
            "js_distance": sqrt(0.75 * log(4 / 3)),
            "jeffreys": inf,
            "total_variation": 0.5,
            "squared_hellinger": 1.0 - sqrt(0.5),
            "hellinger": sqrt(1.0 - sqrt(0.5)),
            "skew_kl": -log(0.55),
            "chi2": 1.0,
            "neyman_chi2": inf,
            "triangular_discrimination": 2 / 3,
            "alpha:alpha=0.3": (0.5**0.7 - 1) / -0.21,
            "renyi:order=2": LN2,
            "bhattacharyya": 0.5 * LN2,
            "cauchy_schwarz": LN2,
            "fisher_rao": 0.5 * pi,
            "acceptance_rate": 0.5,
            "cross_entropy": LN2,
            "entropy": 0.0,
            "renyi_entropy:order=2": 0.0,
            "tsallis_entropy:order=0.5": 0.0,
        },
    ),
    "even against certain": (
        [0.5, 0.5, 0.0],
        [1.0, 0.0, 0.0],
        {
            "kl": inf,
            "reverse_kl": LN2,
            "js": 0.75 * log(4 / 3),
            "js_distance": sqrt(0.75 * log(4 / 3)),
            "jeffreys": inf,
            "total_variation": 0.5,
            "squared_hellinger": 1.0 - sqrt(0.5),
            "hellinger": sqrt(1.0 - sqrt(0.5)),
            "skew_kl": 0.5 * log(0.5 / 0.95) + 0.5 * log(10.0),
            "chi2": inf,
            "neyman_chi2": 1.0,
            "triangular_discrimination": 2 / 3,
            "alpha:alpha=0.3": (0.5**0.3 - 1) / -0.21,
            "renyi:order=2": inf,
            "bhattacharyya": 0.5 * LN2,
            "cauchy_schwarz": LN2,
            "fisher_rao": 0.5 * pi,
            "acceptance_rate": 0.5,
            "cross_entropy": inf,
            "entropy": LN2,
            "renyi_entropy:order=2": LN2,
            "tsallis_entropy:order=0.5": 2 * (sqrt(2) - 1),
        },
    ),
    "equal, with a zero": (
        [0.25, 0.0, 0.75],
        [0.25, 0.0, 0.75],
        dict.fromkeys(NAMES, 0.0)
        | {
            "cross_entropy": 0.25 * log(4.0) + 0.75 * log(4 / 3),
            "entropy": 0.25 * log(4.0) + 0.75 * log(4 / 3),
            "renyi_entropy:order=2": -log(0.625),
            "tsallis_entropy:order=0.5": 2 * (sqrt(0.75) - 0.5),
            "acceptance_rate": 1.0,
        },
    ),
    "one column": ([1.0], [1.0], dict.fromkeys(NAMES, 0.0) | {"acceptance_rate": 1.0}),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, repeat=2)), ids="-".join)
@pytest.mark.parametrize("case", BY_HAND)
def test_values_by_hand(backend, case, kinds, dtype):
    p, q, expected = BY_HAND[case]
    p, q = (as_kind(row, kind).astype(dtype) for row, kind in zip((p, q), kinds, strict=True))
    # Rounding the inputs to the dtype moves the value, so the tolerance is that of the dtype, not of the library.
    atol = 4 * np.finfo(dtype).eps * (17.25 if "logits" in kinds else 1.0)
    assert set(expected) == set(NAMES)
    for name in NAMES:
        value = evaluate(name, p, q, input=kinds)
        slack = sqrt(atol) if name in ROOTS else atol
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=slack, err_msg=name)


@pytest.mark.parametrize("name", [d.name for d in helpers.definitions() if d.zero_iff_equal])
def test_exact_zero_for_equal_rows(backend, name, rng):
    for kind, dtype in itertools.product(KINDS, helpers.DTYPES.values()):
        rows = helpers.random_rows(rng, (3, 97), kind, dtype)
        assert np.all(evaluate(name, rows, rows, input=kind) == 0.0), (kind, dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["p", "q"])
@pytest.mark.parametrize("bad", ["nan", "inf", "no mass"])
def test_rows_that_are_not_distributions_are_nan(backend, bad, side, kind):
    rows = as_kind([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.125, 0.125, 0.75]], kind)
    spoiled = rows.copy()
    if bad == "no mass":
        spoiled[1] = 0.0 if kind in ("probs", "weights") else -np.inf
    else:
        spoiled[1, 2] = float(bad)
    p, q = (spoiled, rows) if side == "p" else (rows, spoiled)
    for name in NAMES:
        values = evaluate(name, p, q, input=kind)
        expected = np.array([False, side == "p" or name not in ENTROPIES, False])
        np.testing.assert_array_equal(np.isnan(values), expected, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_anywhere_in_a_long_row_is_found(backend, kind, rng):
    for width, column in [(1, 0), (7, 6), (64, 0), (1025, 1024), (5000, 4999), (5000, 2500)]:
        rows = helpers.random_rows(rng, (2, width), kind, np.float32)
        spoiled = rows.copy()
        spoiled[1, column] = np.nan
        for name in NAMES:
            assert np.isnan(evaluate(name, spoiled, rows, input=kind)).tolist() == [False, True], (name, width)


def test_nan_among_zeros_wins_over_infinity(backend):
    for name in METRICS:
        assert np.isnan(evaluate(name, [0.5, 0.5, 0.0], [0.0, np.nan, 1.0])), name


def test_padding_with_minus_infinity_changes_nothing(backend, rng):
    x, y = (helpers.random_rows(rng, (4, 50), "logits", np.float64) for _ in range(2))
    padding = np.full((4, 14), -np.inf)
    for name in NAMES:
        padded = evaluate(name, np.hstack([x, padding]), np.hstack([y, padding]), input="logits")
        assert_close(padded, evaluate(name, x, y, input="logits"), 1e-14, name)


def test_a_probability_that_underflows_still_counts(backend):
    # p = (1, e^-2000): p underflows to 0 but ln p does not, so KL(q || p) is about q * 2000, not infinite.
    p, q = np.array([0.0, -2000.0]), np.array([0.0, 0.0])
    assert_close(kb.divergence("reverse_kl", p, q, input="logits"), 1000.0 - LN2, 1e-12)
    assert_close(kb.kl_divergence(p, q, input="logits"), LN2, 1e-12)
    assert_close(kb.js_divergence(p, q, input="logits"), 0.75 * log(4 / 3), 1e-12)
    # Against a true zero even that is infinite.
    assert kb.kl_divergence(p, [0.0, -np.inf], input="logits") == inf


def test_integer_counts_are_weights(backend):
    counts, other = np.array([[3, 1], [0, 5]]), np.array([1, 1], dtype=np.uint16)
    expected = kb.kl_divergence([[0.75, 0.25], [0.0, 1.0]], [0.5, 0.5])
    assert_close(kb.kl_divergence(counts, other, input="weights"), expected, 1e-15)


def test_temperature_divides_the_logits(backend, rng):
    x, y = (helpers.random_rows(rng, (3, 40), "logits", np.float64) for _ in range(2))
    for name in NAMES:
        hot = evaluate(name, x, y, input="logits", temperature=2.5)
        assert_close(hot, evaluate(name, x / 2.5, y / 2.5, input="logits"), 1e-14, name)


def test_temperature_of_log_probs_comes_after_the_check_of_their_mass(backend):
    p, q = np.log([0.25, 0.75]), np.log([0.5, 0.5])
    assert_close(
        kb.kl_divergence(p, q, input="log_probs", temperature=3.0),
        kb.kl_divergence(p / 3, q / 3, input="logits"),
        1e-15,
    )


def test_temperature_leaves_the_side_that_has_no_logits_alone(backend):
    value = kb.kl_divergence([0.5, 0.5], [0.0, 2 * LN2], input=("probs", "logits"), temperature=2.0)
    assert_close(value, kb.kl_divergence([0.5, 0.5], [1 / 3, 2 / 3]), 1e-14)


def test_probs_are_normalised_exactly(backend):
    assert kb.kl_divergence([0.504, 0.504], [0.498, 0.498]) < 1e-30
    assert_close(kb.entropy([0.504, 0.504]), LN2, 1e-15)


def test_shapes_follow_the_leading_axes(backend):
    p, q = np.full((2, 1, 3, 4), 0.25), np.full((5, 1, 4), 0.25)
    assert kb.kl_divergence(p, q).shape == (2, 5, 3)
    assert isinstance(kb.kl_divergence(p[0, 0, 0], q[0, 0]), np.float64)
    assert isinstance(kb.entropy(p[0, 0, 0]), np.float64)
    assert kb.kl_divergence(p, np.full((4, 3), 0.25).T).shape == (2, 1, 3)
    assert kb.kl_divergence(np.full((4, 7), 0.25), np.full(4, 0.25), axis=0).shape == (7,)
    assert kb.kl_divergence(np.empty((0, 4)), q[0]).shape == (0,)
    assert kb.entropy(np.empty((3, 0, 4))).shape == (3, 0)


def test_vocab_size_cuts_both_rows(backend, rng):
    x, y = (
        helpers.random_rows(rng, (3, 10), "logits", np.float32),
        helpers.random_rows(rng, (3, 12), "logits", np.float32),
    )
    for name in NAMES:
        cut = evaluate(name, x, y, input="logits", vocab_size=8)
        assert_close(cut, evaluate(name, x[:, :8], y[:, :8], input="logits"), 1e-15, name)
