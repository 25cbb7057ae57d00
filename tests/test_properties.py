"""Laws that every divergence obeys, drawn at random and switched on by the traits it declares."""

import math

import helpers
import numpy as np
import pytest
from helpers import METRICS, NAMES, definitions, evaluate
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import kullback as kb

ALL = definitions()
PAIRS = definitions(METRICS)


def rows_of(width, dtype):
    """Logits with ties, far outliers and -inf, but at least one finite number."""
    numbers = st.one_of(
        st.floats(-40, 40, width=32),
        st.sampled_from([0.0, 1.0, -np.inf, 1e4, -1e4, 1e-7]),
    )
    drawn = hnp.arrays(np.float64, (width,), elements=numbers)
    return drawn.filter(lambda row: np.isfinite(row).any()).map(lambda row: row.astype(dtype))


@st.composite
def several_rows(draw, count=2):
    width = draw(st.sampled_from([1, 2, 3, 8, 17, 40]))
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    return [draw(rows_of(width, dtype)) for _ in range(count)]


def rtol_of(*rows):
    return 2e-12 if any(row.dtype == np.float64 for row in rows) else 2e-6


def close(name, actual, expected, rtol):
    helpers.assert_close(actual, expected, rtol, name)


@pytest.mark.parametrize("definition", ALL, ids=NAMES)
@given(rows=several_rows())
def test_between_zero_and_the_bound(backend, definition, rows):
    value = evaluate(definition.name, *rows, input="logits")
    assert 0.0 <= value <= definition.bound * (1 + rtol_of(*rows))


@pytest.mark.parametrize("definition", [d for d in PAIRS if d.symmetric], ids=lambda d: d.name)
@given(rows=several_rows())
def test_symmetric(backend, definition, rows):
    p, q = rows
    close(
        definition.name,
        evaluate(definition.name, p, q, input="logits"),
        evaluate(definition.name, q, p, input="logits"),
        rtol_of(p),
    )


@pytest.mark.parametrize("definition", [d for d in PAIRS if d.zero_iff_equal], ids=lambda d: d.name)
@given(rows=several_rows(), shift=st.integers(-64, 64))
def test_zero_exactly_for_equal_distributions(backend, definition, rows, shift):
    p, q = rows
    coarse = np.round(p * 8) / 8  # so that the shift is exact
    assert evaluate(definition.name, p, p, input="logits") == 0.0
    assert evaluate(definition.name, coarse, coarse + p.dtype.type(shift), input="logits") == 0.0
    # Where some probability differs visibly, the divergence is not 0.
    shares = [np.exp(row.astype(np.float64) - np.logaddexp.reduce(row.astype(np.float64))) for row in rows]
    if np.abs(shares[0] - shares[1]).max() > 1e-6:
        assert evaluate(definition.name, p, q, input="logits") > 0.0


@pytest.mark.parametrize("definition", ALL, ids=NAMES)
@given(rows=several_rows(), seed=st.integers(0, 2**31))
def test_order_of_the_columns_does_not_matter(backend, definition, rows, seed):
    order = np.random.default_rng(seed).permutation(rows[0].size)
    value = evaluate(definition.name, *rows, input="logits")
    close(
        definition.name, evaluate(definition.name, *(row[order] for row in rows), input="logits"), value, rtol_of(*rows)
    )


@pytest.mark.parametrize("definition", ALL, ids=NAMES)
@given(rows=several_rows(), shifts=st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)))
def test_logits_may_be_shifted(backend, definition, rows, shifts):
    # Multiples of 1/8 survive the addition exactly, also in float32.
    rows = [np.round(row * 8) / 8 for row in rows]
    moved = [row + row.dtype.type(shift) for row, shift in zip(rows, shifts, strict=True)]
    close(
        definition.name,
        evaluate(definition.name, *moved, input="logits"),
        evaluate(definition.name, *rows, input="logits"),
        rtol_of(*rows),
    )


@pytest.mark.parametrize("definition", ALL, ids=NAMES)
@given(rows=several_rows(), powers=st.tuples(st.integers(-20, 20), st.integers(-20, 20)))
def test_weights_may_be_scaled(backend, definition, rows, powers):
    weights = [np.exp(np.clip(row - row.max(), -40, 0)) for row in rows]
    scaled = [row * row.dtype.type(2.0**power) for row, power in zip(weights, powers, strict=True)]
    value = evaluate(definition.name, *weights, input="weights")
    close(definition.name, evaluate(definition.name, *scaled, input="weights"), value, rtol_of(*rows))


@given(rows=several_rows())
def test_inequalities_between_divergences(backend, rows):
    values = {name: float(evaluate(name, *rows, input="logits")) for name in NAMES}
    slack = 1 + rtol_of(*rows)
    kl, tv, js, hellinger = (values[name] for name in ("kl", "total_variation", "js", "hellinger"))
    assert 2 * tv**2 <= kl * slack + 1e-300, "Pinsker"
    assert tv <= math.sqrt(-math.expm1(-kl)) * slack + 1e-300, "Bretagnolle-Huber"
    assert hellinger**2 <= tv * slack + 1e-300, "Le Cam, lower"
    assert tv <= hellinger * math.sqrt(2 - min(hellinger, 1.0) ** 2) * slack + 1e-300, "Le Cam, upper"
    assert tv**2 / 2 <= js * slack + 1e-300, "Pinsker for JS"
    assert js <= math.log(2) * tv * slack + 1e-300, "Lin"
    assert 4 * js <= values["jeffreys"] * slack, "JS and Jeffreys"
    close("jeffreys", values["jeffreys"], kl + values["reverse_kl"], rtol_of(*rows))
    close("cross_entropy", values["cross_entropy"], values["entropy"] + kl, rtol_of(*rows))
    close("js", values["js_distance"] ** 2, js, rtol_of(*rows))
    close("squared_hellinger", hellinger**2, values["squared_hellinger"], rtol_of(*rows))


@pytest.mark.parametrize("definition", [d for d in PAIRS if d.is_metric], ids=lambda d: d.name)
@given(rows=several_rows(3))
def test_triangle_inequality(backend, definition, rows):
    a, b, c = rows
    ab, bc, ac = (float(evaluate(definition.name, *pair, input="logits")) for pair in ((a, b), (b, c), (a, c)))
    assert ac <= (ab + bc) * (1 + rtol_of(a))


@given(rows=several_rows(1))
def test_entropy_is_largest_for_even_rows(backend, rows):
    (row,) = rows
    support = int(np.isfinite(row).sum())
    assert kb.entropy(row, input="logits") <= math.log(support) + rtol_of(row)


@given(rows=several_rows(), seed=st.integers(0, 2**31))
def test_merging_columns_never_increases_a_divergence(backend, rows, seed):
    weights = [np.exp(np.clip(row.astype(np.float64) - row.max(), -40, 0)) for row in rows]
    groups = np.random.default_rng(seed).integers(0, 3, weights[0].size)
    merged = [np.bincount(groups, row, minlength=3) for row in weights]
    for definition in PAIRS:
        if definition.monotone and definition.zero_iff_equal:
            before = evaluate(definition.name, *weights, input="weights")
            after = evaluate(definition.name, *merged, input="weights")
            assert after <= before * (1 + 1e-11) + 1e-15, definition.name
