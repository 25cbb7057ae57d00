"""Entropic transport between clouds: stored costs, closed forms, laws, gradients, native against NumPy."""

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kullback as kb
from kullback.transport import monge_gap, sinkhorn_divergence, sinkhorn_points

COSTS = ("sqeuclidean", "euclidean", "cosine", "manhattan")


def stored(x, y, cost):
    """Costs by the textbook."""
    apart = x[:, None].astype(float) - y[None].astype(float)
    if cost == "cosine":
        lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)
        return 1.0 - (x.astype(float) @ y.astype(float).T) / lengths
    if cost == "manhattan":
        return np.abs(apart).sum(axis=2)
    square = np.square(apart).sum(axis=2)
    return np.sqrt(square) if cost == "euclidean" else square


def clouds(rng, n, m, dimension, dtype=np.float64):
    x, y = rng.normal(size=(n, dimension)), rng.normal(size=(m, dimension)) * 0.7 + 0.3
    a, b = rng.random(n) + 0.1, rng.random(m) + 0.1
    return x.astype(dtype), y.astype(dtype), a / a.sum(), b / b.sum()


# Against stored costs


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 17])
def test_the_same_as_stored_costs(backend, rng, cost, dimension):
    x, y, a, b = clouds(rng, 37, 21, dimension)
    if cost == "cosine" and dimension == 1:
        x, y = np.abs(x), np.abs(y)
    matrix = np.maximum(stored(x, y, cost), 0.0)
    result = sinkhorn_points(x, y, a=a, b=b, cost=cost, epsilon=0.2, tol=1e-12)
    expected = kb.sinkhorn(a, b, matrix, epsilon=0.2, tol=1e-12)
    assert result.converged
    np.testing.assert_allclose(result.value, expected.value, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.transport_cost, expected.transport_cost, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.plan(), expected.plan(), rtol=1e-8, atol=1e-12)
    total, total_expected = result.f[:, None] + result.g, expected.f[:, None] + expected.g
    np.testing.assert_allclose(total, total_expected, rtol=0.0, atol=1e-9)
    v = rng.normal(size=21)
    np.testing.assert_allclose(result.apply(v), result.plan() @ v, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.apply(a, transposed=True), a @ result.plan(), rtol=1e-10)


@pytest.mark.parametrize("method", ["sinkhorn", "accelerated", "newton", "auto"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_methods_reach_one_solution(native, rng, method, dtype):
    x, y, a, b = clouds(rng, 150, 130, 3, dtype)
    result = sinkhorn_points(x, y, a=a, b=b, epsilon=0.3, method=method, tol=1e-7)
    exact = sinkhorn_points(x.astype(float), y.astype(float), a=a, b=b, epsilon=0.3, tol=1e-13)
    np.testing.assert_allclose(result.value, exact.value, rtol=1e-6)
    assert result.plan().dtype == dtype
    assert result.marginal_error <= 3.1e-7


@pytest.mark.parametrize("cost", COSTS)
def test_costs_that_are_not_kept(native, rng, cost):
    # Beyond four million pairs every sweep starts from the points.
    x, y, a, b = clouds(rng, 2100, 2003, 3, np.float32)
    result = sinkhorn_points(x, y, a=a, b=b, cost=cost, epsilon=0.5)
    assert result.converged
    matrix = np.maximum(stored(x, y, cost), 0.0)
    expected = kb.sinkhorn(a, b, matrix, epsilon=0.5)
    np.testing.assert_allclose(result.value, expected.value, rtol=1e-6)
    again = sinkhorn_points(x, y, a=a, b=b, cost=cost, epsilon=0.5, init=result)
    assert again.n_iter <= 1
    np.testing.assert_allclose(again.value, result.value, rtol=1e-7)


def test_threads_give_the_same_bits(native, rng):
    from kullback._core import _native

    x, y, _, _ = clouds(rng, 1200, 1100, 3, np.float32)
    found = []
    for threads, isa in itertools.product((1, 3), _native.available_isas()):
        kb.set_num_threads(threads)
        _native.set_isa(isa)
        result = sinkhorn_points(x[:600], y[:500], epsilon=0.5, max_iter=60)
        divergence = sinkhorn_divergence(x[:400], y[:300], epsilon=0.5)
        found.append(np.concatenate([result.f, result.g, result.grad_x.ravel(), [divergence.value]]))
    kb.set_num_threads(None)
    _native.set_isa("auto")
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_unbalanced_clouds(backend, rng):
    x, y, a, b = clouds(rng, 30, 20, 2)
    b = 1.5 * b
    result = sinkhorn_points(x, y, a=a, b=b, epsilon=0.1, reach=1.0, tol=1e-10)
    expected = kb.sinkhorn(a, b, stored(x, y, "sqeuclidean"), epsilon=0.1, reach=1.0, tol=1e-10)
    np.testing.assert_allclose(result.value, expected.value, rtol=1e-9)
    np.testing.assert_allclose(result.plan(), expected.plan(), rtol=1e-6, atol=1e-12)


# Closed forms and laws


def test_one_dimensional_values(backend):
    # Sorted {0, 1, 3} to {5, 6, 8}: W_2^2 = 25, and the plan is the permutation but for e^-100.
    result = sinkhorn_points([[0.0], [1.0], [3.0]], [[5.0], [6.0], [8.0]], epsilon=0.01, tol=1e-13)
    np.testing.assert_allclose(result.transport_cost, 25.0, rtol=1e-14)
    np.testing.assert_allclose(result.value, 25.0 + 0.01 * math.log(3.0), rtol=1e-14)


@pytest.mark.parametrize(
    ("epsilon", "divergence"), [(4.0, 1.8987668345435769), (1.0, 1.992309330485511), (0.25, 1.9995122048233225)]
)
def test_normal_distributions(native, epsilon, divergence):
    x = np.arange(-10.0, 12.0, 0.1)[:, None]
    a = np.exp(-0.5 * x[:, 0] ** 2)
    b = np.exp(-0.125 * (x[:, 0] - 1.0) ** 2)
    result = sinkhorn_divergence(x, x, a=a, b=b, epsilon=epsilon, tol=1e-10)
    np.testing.assert_allclose(result.value, divergence, rtol=1e-5)


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_translations(backend, rng, epsilon, dtype):
    x = rng.normal(size=(40, 3)).astype(np.float32).astype(dtype)
    # Steps that keep every sum exact in float32.
    x = np.round(x * 1024) / 1024
    t = np.array([0.25, -0.125, 0.5], dtype)
    a = rng.random(40)
    result = sinkhorn_divergence(x, x + t, a=a, b=a, epsilon=epsilon, tol=1e-7)
    np.testing.assert_allclose(result.value, 0.328125, rtol=1e-11)
    far = sinkhorn_divergence(x.astype(float) + 1e6, x.astype(float) + 1e6 + t, epsilon=epsilon, tol=1e-7)
    np.testing.assert_allclose(far.value, 0.328125, rtol=1e-8)
    np.testing.assert_allclose(result.grad_x, -2.0 * np.outer(a / a.sum(), t), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("cost", COSTS)
def test_a_cloud_is_at_zero_from_itself(backend, rng, cost):
    x, _, a, _ = clouds(rng, 25, 1, 3)
    assert sinkhorn_divergence(x, x, a=a, b=a, cost=cost, epsilon=0.1).value == 0.0
    order = rng.permutation(25)
    shuffled = sinkhorn_divergence(x, x[order], a=a, b=a[order], cost=cost, epsilon=0.1, tol=1e-9)
    assert 0.0 <= shuffled.value <= 1e-12
    twice = sinkhorn_divergence(x, np.repeat(x, 2, axis=0), a=a, b=np.repeat(a, 2), cost=cost, epsilon=0.1, tol=1e-9)
    assert 0.0 <= twice.value <= 1e-12


@given(st.integers(0, 2**32 - 1), st.sampled_from(COSTS), st.sampled_from([0.05, 1.0, 20.0]))
def test_divergences_are_symmetric_and_not_negative(native, seed, cost, epsilon):
    rng = np.random.default_rng(seed)
    x, y, a, b = clouds(rng, 12, 9, 2)
    first = sinkhorn_divergence(x, y, a=a, b=b, cost=cost, epsilon=epsilon, tol=1e-8)
    second = sinkhorn_divergence(y, x, a=b, b=a, cost=cost, epsilon=epsilon, tol=1e-8)
    assert first.value > 0.0
    np.testing.assert_allclose(first.value, second.value, rtol=1e-8, atol=1e-13)
    assert first.converged
    assert first.xx.transport_cost >= 0.0


def test_small_divergences_keep_their_digits(native, rng):
    # Scaling by 1 + s moves W_2^2 by s^2 times the second moment: halving s quarters it.
    x = rng.normal(size=(30, 1))
    values = [sinkhorn_divergence(x, x * (1 + s), epsilon=0.5, tol=1e-10).value for s in (1e-3, 5e-4)]
    np.testing.assert_allclose(values[0] / values[1], 4.0, rtol=5e-3)
    assert values[1] > 1e-9


def test_limits_of_epsilon(native, rng):
    x, y, a, b = clouds(rng, 20, 15, 2)
    means = np.square(a @ x - b @ y).sum()
    np.testing.assert_allclose(sinkhorn_divergence(x, y, a=a, b=b, epsilon=1e5).value, means, rtol=1e-4)
    z = rng.normal(size=(20, 1))
    exact = np.square(np.sort(x[:, 0]) - np.sort(z[:, 0])).mean()
    near = sinkhorn_divergence(x[:, :1], z, epsilon=1e-3, tol=1e-9)
    np.testing.assert_allclose(near.value, exact, rtol=2e-2)


@pytest.mark.parametrize("cost", COSTS)
def test_gradients(backend, rng, cost):
    x, y, a, b = clouds(rng, 6, 5, 3)
    options = {"a": a, "b": b, "cost": cost, "epsilon": 0.3, "tol": 1e-12}
    result, divergence = sinkhorn_points(x, y, **options), sinkhorn_divergence(x, y, **options)
    step = 1e-5
    for i, c in ((0, 0), (3, 2), (4, 1)):
        for points, of, both in ((x, "grad_x", (x, y)), (y, "grad_y", (x, y))):
            moved = []
            for sign in (1.0, -1.0):
                other = points.copy()
                other[i, c] += sign * step
                pair = [other if p is points else p for p in both]
                moved.append((sinkhorn_points(*pair, **options).value, sinkhorn_divergence(*pair, **options).value))
            slope = (np.array(moved[0]) - moved[1]) / (2 * step)
            np.testing.assert_allclose(getattr(result, of)[i, c], slope[0], rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(getattr(divergence, of)[i, c], slope[1], rtol=1e-6, atol=1e-9)


def test_gradients_where_points_meet(backend):
    x = np.array([[0.0, 1.0], [2.0, 3.0]])
    for cost in COSTS:
        result = sinkhorn_points(x, x, cost=cost, epsilon=0.5)
        assert np.isfinite(result.grad_x).all()
    one = sinkhorn_points(x[:1], x[:1], cost="euclidean", epsilon=1.0)
    assert one.value == 0.0
    np.testing.assert_array_equal(one.grad_x, 0.0)


@pytest.mark.parametrize("cost", COSTS)
def test_native_against_numpy(native, rng, cost):
    x, y, a, b = clouds(rng, 40, 33, 3)
    a[3] = b[5] = 0.0
    a, b = a / a.sum(), b / b.sum()
    options = {"a": a, "b": b, "cost": cost, "epsilon": 0.1, "tol": 1e-11}
    result, divergence = sinkhorn_points(x, y, **options), sinkhorn_divergence(x, y, **options)
    with kb.use_backend("numpy"):
        expected, other = sinkhorn_points(x, y, **options), sinkhorn_divergence(x, y, **options)
        np.testing.assert_allclose(result.grad_x, expected.grad_x, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(result.value, expected.value, rtol=1e-10)
    np.testing.assert_allclose(divergence.value, other.value, rtol=1e-9)
    np.testing.assert_allclose(divergence.xx.value, other.xx.value, rtol=1e-10)
    np.testing.assert_allclose(divergence.xx.transport_cost, other.xx.transport_cost, rtol=1e-8)
    assert result.f[3] == expected.f[3] == -math.inf
    assert result.plan()[3].sum() == result.plan()[:, 5].sum() == 0.0


def test_self_terms_are_the_same_as_the_general_solver(native, rng):
    x, _, a, _ = clouds(rng, 60, 1, 2)
    for cost, epsilon in itertools.product(COSTS, (0.01, 0.5)):
        divergence = sinkhorn_divergence(x, x + 1.0, a=a, cost=cost, epsilon=epsilon, tol=1e-10)
        general = sinkhorn_points(x, x, a=a, b=a, cost=cost, epsilon=epsilon)
        np.testing.assert_allclose(divergence.xx.value, general.value, rtol=1e-5)
        assert divergence.xx.n_iter < 80


def test_coordinates_at_the_ends_of_their_range(native):
    for scale in (1e-60, 1e-20, 1e20, 1e60):
        x, y = scale * np.array([[0.0], [1.0], [3.0]]), scale * np.array([[5.0], [6.0], [8.0]])
        result = sinkhorn_points(x, y, epsilon=0.1 * scale**2, tol=1e-10)
        np.testing.assert_allclose(result.transport_cost / scale**2, 25.0, rtol=1e-4)


# Warnings and hostile input


def test_not_converged(backend, rng):
    x, y, _, _ = clouds(rng, 20, 20, 2)
    with pytest.warns(kb.ConvergenceWarning, match="sinkhorn_points stopped after 2 sweeps") as caught:
        result = sinkhorn_points(x, y, epsilon=0.01, max_iter=2, method="sinkhorn")
    assert caught[0].filename == __file__
    assert not result.converged
    assert np.isfinite(result.value)
    with pytest.warns(kb.ConvergenceWarning, match="sinkhorn_divergence stopped") as caught:
        sinkhorn_divergence(x, y, epsilon=0.01, max_iter=2)
    assert {warning.filename for warning in caught} == {__file__}


def test_progress(backend, rng, capsys):
    x, y, _, _ = clouds(rng, 20, 15, 2)
    seen = []
    result = sinkhorn_points(x, y, epsilon=0.05, progress=lambda sweeps, error: seen.append((sweeps, error)))
    assert [error for _, error in seen] == result.error_history.tolist()
    assert sinkhorn_points(x, y, epsilon=0.05, progress=True).value == result.value
    written = capsys.readouterr().err
    assert written.startswith("\rsinkhorn_points: sweep 1, marginal error")
    assert written.endswith("\n")

    def stop(sweeps, error):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        sinkhorn_points(x, y, epsilon=0.05, progress=stop)
    with pytest.raises(TypeError, match="progress must be True, False or a callable, got 'yes'"):
        sinkhorn_points(x, y, epsilon=0.05, progress="yes")


@pytest.mark.parametrize(("n", "dimension"), [(60, 2), (200, 3), (500, 2)])
def test_points_far_from_all_others_do_not_stall(native, rng, n, dimension):
    # Nearly every point keeps its mass to itself, and little holds the plan together: epsilon is 2e-4 of the range.
    x = rng.normal(size=(n, dimension))
    for result in (
        sinkhorn_points(x, x, epsilon=0.01, tol=1e-12),
        kb.sinkhorn(None, None, stored(x, x, "sqeuclidean"), epsilon=0.01, tol=1e-12),
    ):
        assert result.converged
        assert result.marginal_error <= 1e-12
        # Both sides are one cloud, so both potentials are one, up to a constant for every part that stands alone.
        plan = result.plan()
        assert np.abs(plan - plan.T).sum() <= 1e-9


BAD = [
    ({"x": [1.0, 2.0]}, ValueError, r"x must hold one point a row, shape \(n, d\), got shape \(2,\)"),
    ({"x": np.ones((0, 2))}, ValueError, "x must hold"),
    ({"y": np.ones((3, 3))}, ValueError, "x and y must have points of one dimension, got 2 and 3"),
    ({"x": [[1.0, math.nan]]}, ValueError, r"x must hold finite numbers, got nan at index \(0, 1\)"),
    ({"a": [1.0]}, ValueError, "a must hold one weight for each of 2 points"),
    ({"a": [1.0, -1.0]}, ValueError, "a must hold finite weights that are not negative, got -1.0 at index 1"),
    ({"b": [0.0, 0.0, 0.0]}, ValueError, "b must have a finite mass greater than 0"),
    ({"a": [1.0, 1.0], "b": [1.0, 1.0, 1.0]}, ValueError, "b must have the mass of a"),
    ({"cost": "squared"}, ValueError, "cost must be one of sqeuclidean, euclidean, cosine, manhattan, got 'squared'"),
    ({"epsilon": 0.0}, ValueError, "epsilon must be finite and greater than 0"),
    ({"epsilon": "1"}, TypeError, "epsilon must be a number"),
    ({"epsilon": 1e-300}, ValueError, "epsilon must be at least 1e-13 of the largest cost"),
    ({"tol": -1.0}, ValueError, "tol must be finite and greater than 0"),
    ({"method": "simplex"}, ValueError, "method must be one of"),
    ({"max_iter": 0}, ValueError, "max_iter must be between 1"),
    ({"init": ([0.0], [0.0])}, ValueError, "init must have a potential f of shape"),
    ({"x": [[0.0, 0.0], [1.0, 0.0]], "cost": "cosine"}, ValueError, "x must have no point at the origin.* row 0"),
    ({"x": [[1e200, 0.0], [-1e200, 0.0]]}, ValueError, "x and y must lie near enough"),
    ({"x": ["a"]}, TypeError, "x must hold real numbers"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(backend, change, error, message):
    given = {"x": [[1.0, 2.0], [3.0, 4.0]], "y": [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], "epsilon": 1.0, **change}
    with pytest.raises(error, match=message):
        sinkhorn_points(**given)
    if "init" not in change and change.get("b") is None:
        with pytest.raises(error, match=message):
            sinkhorn_divergence(**given)


# The Monge gap


@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean", "manhattan"])
def test_monge_gap(backend, rng, cost):
    x = rng.normal(size=(30, 2))
    epsilon = 0.01
    least = epsilon * math.log(30)
    # A translation is optimal for every one of these costs.
    gap = monge_gap(x, x + np.array([1.0, 2.0]), epsilon=epsilon, cost=cost)
    assert least * (1 - 1e-6) <= gap <= 2 * least * (1 + 1e-6) + 1e-9
    assert monge_gap(x, np.flip(x, axis=0), epsilon=epsilon, cost=cost) > 10 * gap


def test_monge_gap_with_the_default_epsilon(backend, rng):
    x = rng.normal(size=(25, 3))
    tx = x @ np.diag([2.0, 1.0, 0.5]) + 1.0
    spread = stored(x, tx, "sqeuclidean").std()
    np.testing.assert_allclose(monge_gap(x, tx), monge_gap(x, tx, epsilon=0.05 * spread), rtol=1e-9)
    assert monge_gap(x, tx, cost="cosine") > 0.0
    with pytest.raises(ValueError, match="tx must hold one image for each of 25 points, got 24"):
        monge_gap(x, tx[1:])
    with pytest.raises(ValueError, match="epsilon must be given where all points are at one cost"):
        monge_gap([[1.0]], [[2.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monge_gap(x, tx, epsilon=1.0)
