"""Transport on the line: values by hand, SciPy, laws, and the native module against exact arithmetic."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from helpers import DTYPES
from hypothesis import given
from hypothesis import strategies as st

import kullback as kb
from kullback.transport import dominance_violation, emd_1d, quantile_gap, sliced_wasserstein, wasserstein_1d

RTOL = 1e-12
ORDERS = [1, 1.5, 2, 3, 7.25, math.inf]


def weighted(rng, n, zeros=True):
    weights = rng.random(n)
    if zeros:
        weights[rng.random(n) < 0.2] = 0.0
    weights[rng.integers(n)] = 1.0
    return weights


# Values


@pytest.mark.parametrize(
    ("x", "y", "a", "b", "p", "expected"),
    [
        ([0, 1, 3], [5, 6, 8], None, None, 1, 5.0),
        ([0, 1, 3], [5, 6, 8], None, None, 2, 5.0),
        ([3, 0, 1], [8, 5, 6], None, None, math.inf, 5.0),
        ([0.0], [0.0], None, None, 1, 0.0),
        ([0, 0, 1], [1, 0, 0], None, None, 2, 0.0),
        ([0, 1], [0, 1], [3, 1], [1, 1], 1, 0.25),
        ([0, 1], [0, 1], [3, 1], [1, 1], 2, 0.5),
        ([0, 1], [0, 1], [3, 1], [1, 1], math.inf, 1.0),
        # Quantiles in sixths: 0 0 | 0 1 | 1 1 against 0 | 2 | 2 in thirds.
        ([0, 1], [0, 2, 2], None, None, 1, 5 / 6),
        ([0, 1], [0, 2, 2], None, None, 2, math.sqrt(7 / 6)),
        # A point without weight takes no part, however far it lies.
        ([0, 1, 1e9], [-1e9, 0, 1], [1, 1, 0], [0, 1, 1], math.inf, 0.0),
        ([-0.0, 5], [5, 0.0], None, None, 1, 0.0),
        # 0/1 distances of two histograms: their total variation.
        ([0, 1], [0, 1], [0.5, 0.5], [0.25, 0.75], 1, 0.25),
    ],
)
def test_values_by_hand(backend, x, y, a, b, p, expected):
    value = wasserstein_1d(x, y, a=a, b=b, p=p)
    assert type(value) is np.float64
    np.testing.assert_allclose(value, expected, rtol=1e-15, atol=0.0)
    np.testing.assert_array_equal(wasserstein_1d(y, x, a=b, b=a, p=p), value)


def test_equal_clouds_are_at_distance_zero_whatever_their_order(backend, rng):
    x = rng.integers(0, 40, 300) / 7
    a = rng.random(300)
    order = rng.permutation(300)
    for p in ORDERS:
        assert wasserstein_1d(x, x[order], p=p) == 0.0
        assert wasserstein_1d(x, x[order], a=a, b=a[order], p=p) == 0.0
        # Each point twice with its weight halved is the same distribution.
        assert wasserstein_1d(x, np.repeat(x, 2), p=p) == 0.0


def test_order_of_points_leaves_no_trace(backend, rng):
    x, y, a, b = rng.integers(0, 50, 200) / 3, rng.normal(size=170), rng.random(200), rng.random(170)
    order = rng.permutation(200)
    for p in ORDERS:
        assert wasserstein_1d(x[order], y, a=a[order], b=b, p=p) == wasserstein_1d(x, y, a=a, b=b, p=p)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (200, 200), (200, 301), (5000, 4999), (9000, 9000)])
def test_against_scipy(native, rng, sizes):
    n, m = sizes
    x, y = rng.normal(size=n) * 3, rng.normal(size=m) + 0.5
    a, b = weighted(rng, n), weighted(rng, m)
    np.testing.assert_allclose(wasserstein_1d(x, y), scipy.stats.wasserstein_distance(x, y), rtol=1e-11)
    expected = scipy.stats.wasserstein_distance(x, y, a, b)
    np.testing.assert_allclose(wasserstein_1d(x, y, a=a, b=b), expected, rtol=1e-11)


@pytest.mark.parametrize("p", ORDERS)
def test_normal_samples_come_near_the_closed_form(native, p):
    # Quantiles of two normal laws: W_2^2 = (difference of means)^2 + (difference of deviations)^2.
    t = (np.arange(200_000) + 0.5) / 200_000
    x = scipy.stats.norm.ppf(t)
    if p == 2:
        np.testing.assert_allclose(wasserstein_1d(x, 3.0 + 2.0 * x, p=2), math.sqrt(10.0), rtol=1e-4)
    np.testing.assert_allclose(wasserstein_1d(x, x + 0.25, p=p), 0.25, rtol=1e-13)


def test_quantiles_of_any_sizes_against_a_fine_grid(backend, rng):
    # Weights are twelfths, so that each quantile function is constant on twelfths.
    x, y = rng.normal(size=5), rng.normal(size=4)
    a, b = np.array([1, 4, 0, 2, 5]), np.array([3, 3, 5, 1])
    fine_x, fine_y = np.sort(np.repeat(x, a)), np.sort(np.repeat(y, b))
    for p in ORDERS[:-1]:
        expected = np.mean(np.abs(fine_x - fine_y) ** p) ** (1 / p)
        np.testing.assert_allclose(wasserstein_1d(x, y, a=a, b=b, p=p), expected, rtol=1e-14)


def test_small_changes_of_a_histogram_keep_their_digits(backend):
    # Mass 2^-40 moves by 1 within a total of 1: levels differ in their last bits only.
    moved = 2.0**-40
    a, b = np.array([0.25, 0.5, 0.25]), np.array([0.25 - moved, 0.5, 0.25 + moved])
    np.testing.assert_allclose(wasserstein_1d([0, 1, 2], [0, 1, 2], a=a, b=b), 2 * moved, rtol=RTOL)
    b = np.array([0.1, 0.2, 0.7])
    c = b * (1 + np.array([1, -1, 0]) * 1e-9)
    levels = [sum(map(int, (w * 2.0**80 for w in part))) for part in (b[:1], b[:2], b, c[:1], c[:2], c)]
    expected = sum(abs(levels[i] * levels[5] - levels[3 + i] * levels[2]) for i in range(2)) / (levels[2] * levels[5])
    np.testing.assert_allclose(wasserstein_1d([0, 1, 2], [0, 1, 2], a=b, b=c), expected, rtol=RTOL)


def test_numbers_at_the_ends_of_their_range(backend):
    assert wasserstein_1d([-1e200], [1e200], p=2) == 2e200
    assert wasserstein_1d([0.0, 0.0], [1e200, 1e200], p=100) == 1e200
    assert wasserstein_1d([0.0, 1e-200], [0.0, 2e-200], p=3) == pytest.approx(1e-200 / 2 ** (1 / 3), rel=1e-13)
    assert wasserstein_1d([-1.5e308], [1.5e308], p=2) == math.inf
    for scale in (1e-320, 1e-300, 1e300):
        a = scale * np.array([3.0, 1.0])
        assert wasserstein_1d([0, 1], [0, 1], a=a, b=[1, 1]) == pytest.approx(0.25, rel=1e-3)
    huge = np.array([1e308, 1e308, 1e308, 1e308])
    assert wasserstein_1d([0, 1, 2, 3], [1, 2, 3, 4], a=huge, b=[1.0, 1.0, 1.0, 1.0 + 1e-300]) == 1.0


# Arrays


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(backend, rng, dtype):
    x, y = (rng.normal(size=(3, n)).astype(DTYPES[dtype]) for n in (40, 50))
    wide = wasserstein_1d(x.astype(np.float64), y.astype(np.float64), p=2)
    np.testing.assert_allclose(wasserstein_1d(x, y, p=2), wide, rtol=1e-14)
    np.testing.assert_allclose(wasserstein_1d(x, y.astype(np.float64), p=2), wide, rtol=1e-14)


def test_axes_and_broadcasting(backend, rng):
    x, y = rng.normal(size=(4, 1, 6)), rng.normal(size=(3, 5))
    a, b = rng.random((4, 1, 6)), rng.random(5)
    values = wasserstein_1d(x, y, a=a, b=b)
    assert values.shape == (4, 3)
    for i, j in itertools.product(range(4), range(3)):
        assert values[i, j] == wasserstein_1d(x[i, 0], y[j], a=a[i, 0], b=b)
    turned = wasserstein_1d(np.moveaxis(x, -1, 0), np.moveaxis(np.broadcast_to(y, (4, 3, 5)), -1, 0), axis=0)
    np.testing.assert_array_equal(turned, wasserstein_1d(x, y))
    assert wasserstein_1d(x[..., ::-1], y[:, ::-1]).tolist() == wasserstein_1d(x, y).tolist()
    assert wasserstein_1d(np.empty((0, 3)), [1.0, 2.0]).shape == (0,)
    equal = np.ones((4, 1, 6))
    assert wasserstein_1d(x[0], y[0], a=equal).shape == (4, 1)


# Laws

numbers = st.floats(-100, 100).map(lambda x: round(x, 3))
clouds = st.lists(st.tuples(numbers, st.integers(0, 5)), min_size=1, max_size=12).filter(lambda c: any(w for _, w in c))


@given(clouds, clouds, clouds, st.sampled_from(ORDERS))
def test_metric(native, first, second, third, p):
    (x, a), (y, b), (z, c) = (np.array(cloud, dtype=float).T for cloud in (first, second, third))
    xy = wasserstein_1d(x, y, a=a, b=b, p=p)
    assert xy >= 0.0
    assert xy == wasserstein_1d(y, x, a=b, b=a, p=p)
    assert wasserstein_1d(x, x, a=a, b=a, p=p) == 0.0
    around = wasserstein_1d(x, z, a=a, b=c, p=p) + wasserstein_1d(z, y, a=c, b=b, p=p)
    assert xy <= around * (1 + 1e-12) + 1e-12
    lower = wasserstein_1d(x, y, a=a, b=b, p=1)
    assert lower <= xy * (1 + 1e-12)
    mean = abs(np.average(x, weights=a) - np.average(y, weights=b))
    assert mean <= lower * (1 + 1e-12) + 1e-12


@given(clouds, clouds, st.sampled_from(ORDERS), st.integers(-50, 50), st.integers(-4, 4))
def test_translation_and_scaling(native, first, second, p, shift, power):
    (x, a), (y, b) = (np.array(cloud, dtype=float).T for cloud in (first, second))
    value = wasserstein_1d(x, y, a=a, b=b, p=p)
    moved = wasserstein_1d(x + shift, y + shift, a=a, b=b, p=p)
    np.testing.assert_allclose(moved, value, rtol=1e-11, atol=1e-12)
    scaled = wasserstein_1d(x * 2.0**power, -y * -(2.0**power), a=a, b=8 * b, p=p)
    np.testing.assert_allclose(scaled, value * 2.0**power, rtol=1e-14)
    whole = np.round(x)
    assert wasserstein_1d(whole, whole + shift, a=a, b=a, p=p) == pytest.approx(abs(shift), rel=1e-15)
    turned = wasserstein_1d(-x, -y, a=a, b=b, p=p)
    np.testing.assert_allclose(turned, value, rtol=1e-12)


@given(clouds, clouds, st.sampled_from(ORDERS))
def test_native_against_exact_arithmetic(native, first, second, p):
    (x, a), (y, b) = (np.array(cloud, dtype=float).T for cloud in (first, second))
    a = a / 7
    value = wasserstein_1d(x, y, a=a, b=b, p=p), wasserstein_1d(x, y, p=p)
    with kb.use_backend("numpy"):
        expected = wasserstein_1d(x, y, a=a, b=b, p=p), wasserstein_1d(x, y, p=p)
    np.testing.assert_allclose(value, expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("n", "p"), [*((n, p) for n in (3, 5000) for p in ORDERS), (40_000, 2)])
def test_large_rows_against_exact_arithmetic(native, rng, n, p, dtype):
    x, y = (rng.normal(size=size).astype(dtype) for size in (n, n))
    z, a, c = rng.normal(size=n // 2 + 1).astype(dtype), weighted(rng, n), weighted(rng, n // 2 + 1)
    values = wasserstein_1d(x, y, p=p), wasserstein_1d(x, z, p=p), wasserstein_1d(x, z, a=a, b=c, p=p)
    with kb.use_backend("numpy"):
        exact = wasserstein_1d(x, y, p=p), wasserstein_1d(x, z, p=p), wasserstein_1d(x, z, a=a, b=c, p=p)
    np.testing.assert_allclose(values, exact, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 100, 1024, 1025])
def test_many_short_rows_are_as_one(native, rng, dtype, n):
    x, y = (np.round(rng.normal(size=(37, n)), 2).astype(dtype) * 2 - 1 for _ in range(2))
    x[3] = -0.0
    for p in (1, 2, 3, math.inf):
        together = wasserstein_1d(x, y, p=p)
        np.testing.assert_array_equal(together, [wasserstein_1d(*rows, p=p) for rows in zip(x, y, strict=True)])
        with kb.use_backend("numpy"):
            np.testing.assert_allclose(together, wasserstein_1d(x, y, p=p), rtol=1e-13)


def test_threads_give_the_same_bits(native, rng):
    from kullback._core import _native

    x, y = rng.normal(size=(7, 30_000)).astype(np.float32), rng.normal(size=(7, 20_000))
    a, z = weighted(rng, 30_000), rng.normal(size=600_000)
    found = []
    for threads, isa in itertools.product((1, 2, 3), _native.available_isas()):
        kb.set_num_threads(threads)
        _native.set_isa(isa)
        one = [wasserstein_1d(x, y, a=a, p=p) for p in (1, 2)] + [wasserstein_1d(x, x[::-1], p=2)]
        one += [wasserstein_1d(z, z[:300_001] + 1, p=2), wasserstein_1d(z, z * 2, a=np.abs(z))]
        one += [sliced_wasserstein(x[:, :400], y[:, :400], seed=3)]
        one += [wasserstein_1d(z.reshape(-1, 500), z[::-1].reshape(-1, 500), p=2)]
        found.append(np.concatenate([np.atleast_1d(value) for value in one]))
    kb.set_num_threads(None)
    _native.set_isa("auto")
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


# Plans


@given(clouds, clouds, st.sampled_from([1, 2, 3.5]))
def test_plans_have_their_margins_and_their_cost(native, first, second, p):
    (x, a), (y, b) = (np.array(cloud, dtype=float).T for cloud in (first, second))
    plan = emd_1d(x, y, a=a, b=b, p=p)
    dense = plan.toarray()
    np.testing.assert_allclose(dense.sum(axis=1), a / a.sum(), rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(dense.sum(axis=0), b / b.sum(), rtol=1e-14, atol=1e-16)
    assert (plan.mass > 0).all()
    assert len(plan.mass) <= len(x) + len(y) - 1
    assert (np.diff(x[plan.i]) >= 0).all()
    assert (np.diff(y[plan.j]) >= 0).all()
    np.testing.assert_allclose(plan.cost ** (1 / p), wasserstein_1d(x, y, a=a, b=b, p=p), rtol=1e-12)
    with kb.use_backend("numpy"):
        exact = emd_1d(x, y, a=a, b=b, p=p)
    np.testing.assert_array_equal(exact.i, plan.i)
    np.testing.assert_array_equal(exact.j, plan.j)
    np.testing.assert_allclose(exact.mass, plan.mass, rtol=1e-15)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_plans_are_optimal(backend, rng, p):
    x, y, a, b = rng.normal(size=5), rng.normal(size=4), rng.random(5), rng.random(4)
    cost = np.abs(x[:, None] - y) ** p
    rows = np.kron(np.eye(5), np.ones(4)), np.kron(np.ones(5), np.eye(4))
    best = scipy.optimize.linprog(
        cost.ravel(), A_eq=np.concatenate(rows), b_eq=np.concatenate([a / a.sum(), b / b.sum()])
    )
    np.testing.assert_allclose(emd_1d(x, y, a=a, b=b, p=p).cost, best.fun, rtol=1e-9)


def test_a_plan_serves_the_first_of_equal_points_first(backend):
    plan = emd_1d([2, 1, 2, 2], [7, 7, 7, 7])
    assert plan.i.tolist() == [1, 0, 2, 3]
    assert plan.j.tolist() == [0, 1, 2, 3]
    assert plan.shape == (4, 4)


def test_quantile_gap(backend, rng):
    gap, mass = quantile_gap([3, 1, 2], [1, 4], b=[1, 3])
    np.testing.assert_allclose(gap, [0, -3, -2, -1])
    np.testing.assert_allclose(mass, [1 / 4, 1 / 12, 1 / 3, 1 / 3], rtol=1e-15)


def test_dominance_violation(backend, rng):
    u, v = rng.normal(size=50), rng.normal(size=50) - 0.3
    gap = np.sort(u) - np.sort(v)
    beta = 0.25
    expected = {
        "zero_one": np.mean(gap < 0),
        "squared_hinge": np.mean(np.maximum(beta - gap, 0) ** 2),
        "logistic": np.mean(np.log1p(np.exp(-beta * gap))),
        "least_squares": np.mean((beta - gap) ** 2),
    }
    for h, value in expected.items():
        np.testing.assert_allclose(dominance_violation(u, v, h=h, beta=beta), value, rtol=1e-13)
    assert dominance_violation(u, v, h=np.abs) == pytest.approx(wasserstein_1d(u, v), rel=1e-13)
    assert dominance_violation(u + 10, v, h="zero_one") == 0.0
    assert dominance_violation([1e9], [0.0], h="logistic", beta=-1.0) == 1e9
    np.testing.assert_allclose(dominance_violation([1.0], [0.0]), 0.0, atol=0.0)


# Slices


def test_one_direction_is_the_line(backend, rng):
    x, y, a = rng.normal(size=(60, 1)), rng.normal(size=(40, 1)), rng.random(60)
    for p in ORDERS:
        value = sliced_wasserstein(x, y, a=a, p=p, seed=0, n_projections=3)
        np.testing.assert_allclose(value, wasserstein_1d(x[:, 0], y[:, 0], a=a, p=p), rtol=1e-13)


@pytest.mark.parametrize("dimension", [1, 2, 3, 8, 65])
def test_slices_against_projections(native, rng, dimension):
    x, y = rng.normal(size=(130, dimension)).astype(np.float32), rng.normal(size=(77, dimension)).astype(np.float32)
    a, b = rng.random(130), rng.random(77)
    directions = rng.normal(size=(11, dimension))
    for p, weights in itertools.product((1, 2, math.inf), ({}, {"a": a, "b": b})):
        value = sliced_wasserstein(x, y, p=p, directions=directions, **weights)
        lines = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        each = [wasserstein_1d(x @ line, y @ line, p=p, **weights) for line in lines]
        expected = max(each) if p == math.inf else np.mean(np.power(each, p)) ** (1 / p)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        with kb.use_backend("numpy"):
            np.testing.assert_allclose(
                value, sliced_wasserstein(x, y, p=p, directions=directions, **weights), rtol=RTOL
            )


def test_slices_of_a_translation(backend, rng):
    # Along each direction a translation by t moves all by <t, direction>; its mean square is |t|^2/d.
    x, t = rng.normal(size=(50, 3)), np.array([0.3, -0.2, 0.5])
    value = sliced_wasserstein(x, x + t, directions=np.eye(3))
    np.testing.assert_allclose(value, np.linalg.norm(t) / math.sqrt(3), rtol=1e-12)
    many = sliced_wasserstein(x, x + t, n_projections=4000, seed=7)
    np.testing.assert_allclose(many, np.linalg.norm(t) / math.sqrt(3), rtol=0.05)
    assert sliced_wasserstein(x, x[::-1], seed=1) == 0.0


def test_slices_of_numbers_near_the_largest(backend):
    x, y = np.array([[1.5e308, 1.5e308], [-1e308, 0.0]]), np.array([[1.5e308, 1.4e308], [-1e308, 0.0]])
    for p in (1, 2, math.inf):
        value = sliced_wasserstein(x, y, directions=[[1.0, 1.0], [0.0, 1.0]], p=p)
        np.testing.assert_allclose(
            value, sliced_wasserstein(x / 2**9, y / 2**9, directions=[[1, 1], [0, 1]], p=p) * 2**9
        )


def test_seeds(backend, rng):
    x, y = rng.normal(size=(20, 4)), rng.normal(size=(30, 4))
    first = sliced_wasserstein(x, y, seed=5)
    assert type(first) is np.float64
    assert first == sliced_wasserstein(x, y, seed=np.random.default_rng(5))
    assert first != sliced_wasserstein(x, y, seed=6)
    assert first == sliced_wasserstein(x, y, directions=np.random.default_rng(5).normal(size=(50, 4)))


# Hostile input

BAD = [
    ({"x": [1.0, math.nan]}, ValueError, "x must hold finite numbers, got nan at index 1"),
    ({"y": [[1.0, 2.0], [math.inf, 0.0]]}, ValueError, r"y must hold finite numbers, got inf at index \(1, 0\)"),
    ({"x": []}, ValueError, "x must hold at least one point"),
    ({"x": 3.0}, ValueError, "x must hold at least one point"),
    ({"x": ["a"]}, TypeError, "x must hold real numbers"),
    ({"a": [1.0]}, ValueError, "a must hold one weight for each of 2 points, got shape"),
    ({"a": [1.0, -1.0]}, ValueError, "a must hold finite weights that are not negative, got -1.0 at index 1"),
    ({"b": [1.0, math.nan, 0.0]}, ValueError, "b must hold finite weights that are not negative, got nan at index 1"),
    ({"b": [1.0, math.inf, 0.0]}, ValueError, "b must hold finite weights that are not negative, got inf at index 1"),
    ({"b": [0.0, 0.0, 0.0]}, ValueError, "b must have mass"),
    ({"a": [[1.0, 1.0], [0.0, 0.0]]}, ValueError, "a must have mass, got no weight greater than 0 in row 1"),
    ({"p": 0.5}, ValueError, "p must be at least 1, got 0.5"),
    ({"p": math.nan}, ValueError, "p must be at least 1, got nan"),
    ({"p": "2"}, TypeError, "p must be a number, got '2'"),
    ({"p": True}, TypeError, "p must be a number, got True"),
    ({"x": np.ones((2, 2)), "y": np.ones((3, 3))}, ValueError, r"leading shapes must broadcast, got \(2,\) of x"),
    ({"x": np.ones((2, 2)), "axis": 5}, ValueError, "axis must be between -2 and 1"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(backend, change, error, message):
    with pytest.raises(error, match=message):
        wasserstein_1d(**{"x": [1.0, 2.0], "y": [1.0, 2.0, 3.0], **change})


def test_bad_input_of_the_others(backend):
    x, y = np.ones((3, 2)), np.ones((4, 2))
    for call, error, message in [
        (lambda: emd_1d(x, [1.0]), ValueError, "x must be one-dimensional, got shape"),
        (lambda: emd_1d([1.0], [1.0], p=math.inf), ValueError, "p must be at least 1 and finite"),
        (lambda: emd_1d([1.0, 2.0], [1.0], a=np.array([[1.0, 2.0]])), ValueError, "a must be one-dimensional"),
        (lambda: dominance_violation([1.0], [1.0], h="hinge"), ValueError, "h must be one of zero_one.*'hinge'"),
        (lambda: dominance_violation([1.0], [1.0], beta=math.nan), ValueError, "beta must be finite"),
        (lambda: dominance_violation([1.0], [1.0], beta="1"), TypeError, "beta must be a number"),
        (lambda: sliced_wasserstein([1.0], y), ValueError, r"x must hold one point a row, shape \(n, d\)"),
        (lambda: sliced_wasserstein(x, np.ones((4, 3))), ValueError, "x and y must have points of one dimension"),
        (lambda: sliced_wasserstein(x, y, n_projections=0), ValueError, "n_projections must be between 1 and"),
        (lambda: sliced_wasserstein(x, y, directions=[[1.0]]), ValueError, "directions must have 2 coordinates"),
        (lambda: sliced_wasserstein(x, y, directions=[[1.0, 0.0], [0.0, 0.0]]), ValueError, "zeros in row 1"),
        (lambda: sliced_wasserstein(x, y, a=np.ones((1, 3))), ValueError, "a must be one-dimensional"),
        (lambda: sliced_wasserstein(x, y, a=[1.0, 2.0]), ValueError, "a must hold one weight for each of 3 points"),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_the_native_functions_reject_what_the_checks_never_pass(native):
    from kullback._core import _native

    x = np.ones((2, 3))
    for call in (
        lambda: _native.wasserstein_1d(x, x[:1], None, None, 1.0),
        lambda: _native.wasserstein_1d(x, x.astype(np.float32), None, None, 1.0),
        lambda: _native.wasserstein_1d(x[:, ::2], x, None, None, 1.0),
        lambda: _native.wasserstein_1d(x, x, np.ones(4), None, 1.0),
        lambda: _native.wasserstein_1d(x.astype(np.int64), x, None, None, 1.0),
        lambda: _native.monotone_plan(x, x, None, None),
        lambda: _native.sliced_wasserstein(x, x, None, None, np.ones((1, 2)), 1.0),
        lambda: _native.sliced_wasserstein(x, x, np.ones(3), None, np.ones((1, 3)), 1.0),
        lambda: _native.sliced_wasserstein(x[:0], x, None, None, np.ones((1, 3)), 1.0),
    ):
        with pytest.raises(ValueError, match=r".+"):
            call()
    nan = np.array([[math.nan, math.inf, 0.0]])
    _native.wasserstein_1d(nan, nan, np.array([math.nan, -1.0, math.inf]), None, 1.5)
    _native.sliced_wasserstein(nan, nan, np.array([math.nan]), None, nan, 2.0)
