"""Entropic transport: cases solved by hand, planted solutions, laws, and the methods against each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kullback as kb

METHODS = ("auto", "sinkhorn", "accelerated", "newton")
DTYPES = {"float64": (np.float64, 1e-10), "float32": (np.float32, 1e-5)}
SWAP = np.array([[0.0, 1.0], [1.0, 0.0]])


@pytest.fixture(params=METHODS)
def method(request):
    """Each method in turn."""
    return request.param


@pytest.fixture(params=DTYPES)
def precision(request):
    """A dtype of the costs and the tolerance that goes with it."""
    return DTYPES[request.param]


def solve(a, b, cost, **options):
    """Solve tightly."""
    wide = np.asarray(cost).dtype != np.float32
    return kb.sinkhorn(a, b, cost, **({"tol": 1e-13 if wide else 1e-6} | options))


def assert_feasible(result, atol=None):
    plan = result.plan().astype(np.float64)
    atol = 2e-6 if atol is None else atol
    error = np.abs(plan.sum(1) - result.a).sum() + np.abs(plan.sum(0) - result.b).sum()
    assert error <= atol
    assert np.isfinite(plan).all()


def planted(rng, shape, epsilon, dtype=np.float64, spread=6.0):
    """Costs whose plan is known: chosen potentials, chosen exponents, and the marginals they give."""
    n, m = shape
    f, g = rng.random(n), rng.random(m)
    cost = (f[:, None] + g + epsilon * spread * rng.random(shape)).astype(dtype)
    # What the rounded costs say, so that the plan is theirs exactly.
    plan = np.exp((f[:, None] + g - cost.astype(np.float64)) / epsilon)
    plan /= plan.sum()
    return cost, plan, plan.sum(1), plan.sum(0)


# Solved by hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "corner", "cost", "value"),
    [
        (10.0, 0.26248959373947, 0.47502081252106, 0.4875052048637445),
        (1.0, 0.36552928931500245, 0.2689414213699951, 0.3798854930417225),
        (0.1, 0.4999773010656488, 4.5397868702434395e-05, 0.06931017816607285),
        (0.01, 0.5, 3.7200759760208356e-44, 0.006931471805599453),
    ],
)
def test_two_by_two_symmetric(backend, method, precision, epsilon, corner, cost, value):
    dtype, rtol = precision
    result = solve(None, None, SWAP.astype(dtype), epsilon=epsilon, method=method)
    np.testing.assert_allclose(result.plan()[0, 0], corner, rtol=rtol)
    np.testing.assert_allclose([result.transport_cost, result.value], [cost, value], rtol=rtol)


@pytest.mark.parametrize(
    ("epsilon", "corner", "cost", "value"),
    [
        (1.0, 0.26201794046923704, 0.3759641190615259, 0.45021993571997804),
        (0.5, 0.29312244813219834, 0.3137551037356033, 0.3939404594207001),
        (0.1, 0.2999999991755385, 0.300000001648923, 0.3194975992894465),
    ],
)
def test_two_by_two(backend, method, precision, epsilon, corner, cost, value):
    dtype, rtol = precision
    result = solve([0.3, 0.7], [0.6, 0.4], SWAP.astype(dtype), epsilon=epsilon, method=method)
    np.testing.assert_allclose(result.plan()[0, 0], corner, rtol=rtol)
    np.testing.assert_allclose([result.transport_cost, result.value], [cost, value], rtol=rtol)


@pytest.mark.parametrize(
    ("epsilon", "cost", "value"),
    [
        (1.0, 0.4989781463726321, 1.506973221233213),
        (0.1, 9.07916156590558e-05, 0.20793507459423688),
        (0.01, 7.440151952041672e-44, 0.020794415416798356),
    ],
)
def test_circulant(backend, method, precision, epsilon, cost, value, rng):
    dtype, rtol = precision
    steps = np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    costs = np.minimum(steps, 8 - steps) ** 2.0
    kernel = np.exp(-costs / epsilon)
    result = solve(None, None, costs.astype(dtype), epsilon=epsilon, method=method)
    np.testing.assert_allclose([result.transport_cost, result.value], [cost, value], rtol=rtol)
    # float32 has no number for the smallest of its entries.
    atol = 1e-37 if dtype == np.float32 else 0.0
    np.testing.assert_allclose(result.plan(), kernel / kernel.sum(), rtol=rtol, atol=atol)
    if dtype == np.float32 or (method == "sinkhorn" and epsilon < 1.0):
        return  # rounded costs would not be the same problem, and plain iterations would take far too many
    # What rows and columns pay alone changes the value, never the plan.
    rows, columns = rng.random((2, 8))
    moved = solve(None, None, costs + rows[:, None] + columns, epsilon=epsilon, method=method)
    np.testing.assert_allclose(moved.value, value + rows.mean() + columns.mean(), rtol=1e-10)
    np.testing.assert_allclose(moved.plan(), kernel / kernel.sum(), atol=1e-11)


@pytest.mark.parametrize(
    ("epsilon", "value", "cost"),
    [
        (4.0, 4.490287695119628, 3.5278640450004204),
        (1.0, 3.2243566798713923, 2.4688711258507254),
        (0.25, 2.4735265563807993, 2.1230473516044697),
    ],
)
def test_gaussians_on_a_grid(native, epsilon, value, cost):
    grid = np.arange(-14.0, 14.01, 0.1)

    def weights(mean, variance):
        density = np.exp(-((grid - mean) ** 2) / (2 * variance))
        return density / density.sum()

    result = solve(weights(0, 1), weights(1, 4), (grid[:, None] - grid) ** 2, epsilon=epsilon, tol=1e-11)
    np.testing.assert_allclose([result.value, result.transport_cost], [value, cost], atol=1e-7)


@pytest.mark.parametrize(
    ("problem", "mass", "value"),
    [
        ((1, 2, 0.5, 0.1, 1), 1.1331278939559972, 0.820431422692406),
        ((1, 1, 1, 0.01, 0.1), 0.008549309479686051, 0.20820464500926594),
        ((0.5, 3, 0, 1, 10), 1.2366257302745978, 10.53085966423345),
    ],
)
def test_unbalanced_single_pair(backend, method, precision, problem, mass, value):
    dtype, rtol = precision
    a, b, cost, epsilon, reach = problem
    result = solve([a], [b], np.array([[cost]], dtype), epsilon=epsilon, reach=reach, method=method)
    # The tolerance of float32 is a share of the mass of a, not of the little that is left of it.
    atol = 0.0 if dtype == np.float64 else 1e-6
    found = [result.plan()[0, 0], result.mass, result.value]
    np.testing.assert_allclose(found, [mass, mass, value], rtol=rtol, atol=atol)


def test_separable_costs_give_the_product(backend, method, precision, rng):
    dtype, rtol = precision
    a, b = (w / w.sum() for w in (rng.random(9), rng.random(7)))
    rows, columns = rng.random(9), rng.random(7)
    for epsilon in (1.0, 0.01):
        result = solve(a, b, (rows[:, None] + columns).astype(dtype), epsilon=epsilon, method=method)
        np.testing.assert_allclose(result.plan(), np.outer(a, b), rtol=10 * rtol)
        np.testing.assert_allclose([result.value, result.transport_cost], a @ rows + b @ columns, rtol=rtol)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1)])
def test_one_row_or_column_forces_the_plan(backend, method, shape, rng):
    weights = rng.random(6)
    weights /= weights.sum()
    a, b = ([1.0], weights) if shape[0] == 1 else (weights, [1.0])
    result = solve(a, b, rng.random(shape), epsilon=0.01, method=method)
    np.testing.assert_allclose(result.plan().ravel(), weights, rtol=1e-10)


@pytest.mark.parametrize("method", ["auto", "accelerated", "newton"])
def test_sorted_points_on_a_line(backend, method):
    x, y = np.array([0.0, 1.0, 3.0]), np.array([5.0, 6.0, 8.0])
    result = solve(None, None, (x[:, None] - y) ** 2, epsilon=0.01, method=method)
    # The other permutations cost at least 2 more, e^-100 of the mass: W2² = 25, and the entropy is that of a third.
    np.testing.assert_allclose([result.transport_cost, result.value], [25.0, 25.0 + 0.01 * np.log(3.0)], rtol=1e-12)


def test_zero_one_cost_tends_to_total_variation(backend, rng):
    a, b = (w / w.sum() for w in rng.random((2, 12)))
    result = solve(a, b, 1.0 - np.eye(12), epsilon=0.01)
    distance = kb.total_variation(a, b)
    assert -1e-12 <= result.transport_cost - distance <= 0.01 * np.log(12)


@pytest.mark.parametrize(("epsilon", "atol"), [(10.0, 2e-6), (100.0, 2e-8), (1000.0, 2e-10)])
def test_large_epsilon(backend, epsilon, atol, rng):
    costs = rng.random((5, 7))
    a, b = (w / w.sum() for w in (rng.random(5), rng.random(7)))
    result = solve(a, b, costs, epsilon=epsilon)
    rows, columns = costs @ b, a @ costs
    centred = costs - rows[:, None] - columns + a @ rows
    product = np.outer(a, b)
    expected = (product * costs).sum() - (product * centred**2).sum() / (2 * epsilon)
    np.testing.assert_allclose(result.value, expected, atol=4 * atol)


# Planted solutions --------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_planted_solution(backend, precision, epsilon, rng):
    dtype, _ = precision
    costs, plan, a, b = planted(rng, (40, 31), epsilon, dtype)
    methods = METHODS if epsilon >= 1e-2 else ("auto", "newton")
    for method in methods:
        options = {"tol": 1e-12 / min(epsilon, 1e-3) * 1e-3} if dtype == np.float64 else {}
        result = solve(a, b, costs, epsilon=epsilon, method=method, **options)
        assert result.converged, method
        found = result.plan().astype(np.float64)
        # Exponents carry the rounding of C/epsilon.
        atol = 1e-5 if dtype == np.float32 else max(1e-10, 1e-14 / epsilon)
        assert np.abs(found - plan).sum() < atol * 50, method
        np.testing.assert_allclose(
            result.transport_cost, (plan * costs).sum(), rtol=1e-5 if dtype == np.float32 else 1e-9
        )


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (33, 17), (64, 64), (5, 1000), (130, 7)], ids=str)
def test_planted_solution_of_any_shape(backend, precision, shape, rng):
    costs, plan, a, b = planted(rng, shape, 0.05, precision[0])
    result = solve(a, b, costs, epsilon=0.05)
    assert result.converged
    assert np.abs(result.plan() - plan).sum() < 20 * (1e-5 if precision[0] == np.float32 else 1e-10)


# Methods and backends against each other ----------------------------------------------------------


def clouds(rng, n, m, dimension=2):
    x, y = rng.random((n, dimension)), rng.random((m, dimension))
    costs = ((x[:, None] - y) ** 2).sum(-1)
    a, b = (w / w.sum() for w in (rng.random(n) + 0.1, rng.random(m) + 0.1))
    return a, b, costs / costs.max()


@pytest.mark.parametrize("epsilon", [0.1, 0.01, 0.002])
@pytest.mark.parametrize("reach", [None, 0.5, (0.3, None), (None, 2.0)], ids=str)
def test_methods_agree(native, epsilon, reach, rng):
    a, b, costs = clouds(rng, 60, 45)
    b = b if reach is None else 1.7 * b
    expected = solve(a, b, costs, epsilon=epsilon, reach=reach, method="newton", tol=1e-11)
    for method in METHODS:
        result = solve(a, b, costs, epsilon=epsilon, reach=reach, method=method, tol=1e-9, max_iter=100_000)
        assert result.converged
        np.testing.assert_allclose(result.plan(), expected.plan(), atol=1e-7)
        np.testing.assert_allclose(result.value, expected.value, rtol=1e-8)


@pytest.mark.parametrize("epsilon", [0.2, 0.02, 0.003])
@pytest.mark.parametrize("reach", [None, 0.5], ids=str)
def test_backends_agree(native, epsilon, reach, method, rng):
    a, b, costs = clouds(rng, 37, 50)
    options = {"epsilon": epsilon, "reach": reach, "method": method, "tol": 1e-10}
    one = kb.sinkhorn(a, b, costs, **options)
    with kb.use_backend("numpy"):
        other = kb.sinkhorn(a, b, costs, **options)
    np.testing.assert_allclose(one.plan(), other.plan(), atol=1e-8)
    np.testing.assert_allclose(one.f, other.f, atol=1e-7)
    np.testing.assert_allclose(one.g, other.g, atol=1e-7)
    np.testing.assert_allclose([one.value, one.transport_cost], [other.value, other.transport_cost], rtol=1e-8)
    if method == "sinkhorn":
        assert one.n_iter == other.n_iter
        np.testing.assert_allclose(one.error_history, other.error_history, rtol=1e-6, atol=1e-13)


def test_log_sweeps_agree_with_the_absorbed_kernel(native, rng):
    from kullback._core import _native

    for dtype in (np.float64, np.float32):
        a, b, costs = clouds(rng, 70, 90)
        costs = costs.astype(dtype)
        arguments = (a, b, costs, 0.01, (np.inf, np.inf), 1e-6, 10_000)
        log, absorbed = (_native.sinkhorn(*arguments, name, None, False, 1, None) for name in ("log", "sinkhorn"))
        np.testing.assert_allclose(log[0], absorbed[0], atol=1e-6)
        assert log[5]
        assert absorbed[5]
        assert abs(log[4] - absorbed[4]) <= 2


# Laws ---------------------------------------------------------------------------------------------


def test_invariances(backend, rng):
    a, b, costs = clouds(rng, 20, 25)
    base = solve(a, b, costs, epsilon=0.03)
    shifted = solve(a, b, costs - 3.0, epsilon=0.03)
    np.testing.assert_allclose(shifted.value, base.value - 3.0, rtol=1e-10)
    np.testing.assert_allclose(shifted.plan(), base.plan(), atol=1e-11)
    scaled = solve(a, b, 1e6 * costs, epsilon=3e4)
    np.testing.assert_allclose(scaled.plan(), base.plan(), atol=1e-11)
    transposed = solve(b, a, costs.T, epsilon=0.03)
    np.testing.assert_allclose(transposed.plan().T, base.plan(), atol=1e-11)
    rows, columns = rng.permutation(20), rng.permutation(25)
    permuted = solve(a[rows], b[columns], costs[np.ix_(rows, columns)], epsilon=0.03)
    np.testing.assert_allclose(permuted.plan(), base.plan()[np.ix_(rows, columns)], atol=1e-11)
    doubled = solve(np.repeat(a, 2) / 2, b, np.repeat(costs, 2, axis=0), epsilon=0.03)
    np.testing.assert_allclose(doubled.plan()[::2] + doubled.plan()[1::2], base.plan(), atol=1e-11)
    np.testing.assert_allclose(doubled.value, base.value, rtol=1e-10)
    heavy = solve(1e6 * a, 1e6 * b, costs, epsilon=0.03)
    np.testing.assert_allclose(heavy.plan(), 1e6 * base.plan(), rtol=1e-8, atol=1e-5)
    light = solve(1e-9 * a, 1e-9 * b, costs, epsilon=0.03)
    np.testing.assert_allclose(light.plan(), 1e-9 * base.plan(), rtol=1e-8, atol=1e-20)


def test_a_row_without_weight_is_as_good_as_none(backend, method, rng):
    a, b, costs = clouds(rng, 15, 18)
    base = solve(a, b, costs, epsilon=0.02, method=method, max_iter=50_000)
    wide_a, wide_b = np.insert(a, 4, 0.0), np.insert(b, [0, 9], 0.0)
    wide = np.insert(np.insert(costs, 4, 0.5, axis=0), [0, 9], 0.1, axis=1)
    result = solve(wide_a, wide_b, wide, epsilon=0.02, method=method, max_iter=50_000)
    np.testing.assert_allclose(result.value, base.value, rtol=1e-10)
    plan = result.plan()
    np.testing.assert_array_equal(plan[4], 0.0)
    np.testing.assert_array_equal(plan[:, [0, 10]], 0.0)
    np.testing.assert_allclose(np.delete(np.delete(plan, 4, 0), [0, 10], 1), base.plan(), atol=1e-11)
    assert result.f[4] == result.g[0] == result.g[10] == -np.inf
    assert np.isfinite(np.delete(result.f, 4)).all()


@pytest.mark.parametrize("epsilon", [0.05, 0.004])
def test_the_costs_of_a_row_without_weight_do_not_matter(backend, method, precision, epsilon, rng):
    # Their exponentials leave the range of any float.
    a, b, costs = clouds(rng, 20, 17)
    a[[3, 9]] = 0.0
    a /= a.sum()
    expected = kb.sinkhorn(a, b, costs.astype(precision[0]), epsilon=epsilon, method=method, max_iter=50_000)
    costs[3] = -40.0
    costs[9] = 40.0
    result = kb.sinkhorn(a, b, costs.astype(precision[0]), epsilon=epsilon, method=method, max_iter=50_000)
    assert result.converged
    np.testing.assert_allclose(result.value, expected.value, atol=1e-5)
    np.testing.assert_allclose(result.plan(), expected.plan(), atol=1e-5)


def test_forbidden_pairs_carry_nothing(backend, method, rng):
    costs = clouds(rng, 12, 12)[2]
    costs[rng.random(costs.shape) < 0.2] = np.inf
    np.fill_diagonal(costs, 0.3)
    result = solve(None, None, costs, epsilon=0.05, method=method, tol=1e-9)
    plan = result.plan()
    assert result.converged
    np.testing.assert_array_equal(plan[costs == np.inf], 0.0)
    assert (plan[costs < np.inf] > 0.0).all()
    assert_feasible(result, 1e-8)
    assert np.isfinite([result.value, result.transport_cost]).all()


def test_balanced_is_the_limit_of_unbalanced(backend, rng):
    a, b, costs = clouds(rng, 14, 10)
    balanced = solve(a, b, costs, epsilon=0.05)
    far = solve(a, b, costs, epsilon=0.05, reach=1e7, tol=1e-12)
    np.testing.assert_allclose(far.plan(), balanced.plan(), atol=1e-7)
    np.testing.assert_allclose(far.value, balanced.value, atol=1e-6)


def test_the_plan_is_a_kernel_scaled(backend, rng):
    a, b, costs = clouds(rng, 9, 14)
    result = solve(a, b, costs, epsilon=0.1)
    with np.errstate(divide="ignore"):
        logs = np.log(result.plan() / np.outer(a, b)) * 0.1 + costs
    np.testing.assert_allclose(logs, result.f[:, None] + result.g, atol=1e-10)
    np.testing.assert_allclose(a @ result.f, b @ result.g, atol=1e-12)


@given(st.integers(1, 12), st.integers(1, 12), st.floats(-3.0, 1.0), st.integers(0, 10**6))
def test_random_problems(n, m, exponent, seed):
    rng = np.random.default_rng(seed)
    a, b, costs = clouds(rng, n, m)
    result = kb.sinkhorn(a, b, costs * 7.0, epsilon=7.0 * 10.0**exponent)
    assert result.converged
    assert_feasible(result)
    plan = result.plan()
    assert (plan >= 0.0).all()
    entropy = np.where(plan > 0.0, plan * np.log(np.maximum(plan, 1e-300) / np.outer(a, b)), 0.0).sum()
    primal = (plan * costs * 7.0).sum() + 7.0 * 10.0**exponent * entropy
    np.testing.assert_allclose(result.value, primal, atol=1e-5)


@pytest.mark.parametrize("reach", [None, 0.7, (0.5, None), (None, 0.5)], ids=str)
def test_gradients(backend, reach, rng):
    a, b, costs = clouds(rng, 6, 5)
    options = {"epsilon": 0.1, "reach": reach, "tol": 1e-13, "method": "newton"}

    def value(a, b, costs):
        return kb.sinkhorn(a, b, costs, **options).value

    result = kb.sinkhorn(a, b, costs, **options)
    h = 1e-5
    for i, j in ((0, 0), (3, 4)):
        step = np.zeros_like(costs)
        step[i, j] = h
        numeric = (value(a, b, costs + step) - value(a, b, costs - step)) / (2 * h)
        np.testing.assert_allclose(result.grad_cost[i, j], numeric, atol=1e-7)
    # Mass moved within a side, and, where masses may differ, added to one.
    for direction in ([1, -1, 0, 0, 0], [0, 2, 0, -1, -1], *([] if reach is None else [[0, 0, 1, 0, 0]])):
        up = np.array([*direction, 0]) * h
        numeric = (value(a + up, b, costs) - value(a - up, b, costs)) / (2 * h)
        np.testing.assert_allclose(result.grad_a @ up / h, numeric, atol=1e-7)
        up = np.array(direction) * h
        numeric = (value(a, b + up, costs) - value(a, b - up, costs)) / (2 * h)
        np.testing.assert_allclose(result.grad_b @ up / h, numeric, atol=1e-7)


def test_apply_is_the_plan_times_a_vector(backend, precision, rng):
    a, b, costs = clouds(rng, 150, 70)
    result = kb.sinkhorn(a, b, costs.astype(precision[0]), epsilon=0.05)
    plan = result.plan().astype(np.float64)
    v, w = rng.normal(size=70), rng.normal(size=(150, 3))
    rtol = 1e-6 if precision[0] == np.float32 else 1e-12
    np.testing.assert_allclose(result.apply(v), plan @ v, atol=rtol)
    np.testing.assert_allclose(result.apply(w, transposed=True), plan.T @ w, atol=rtol)
    assert result.apply(np.ones((70, 4))).shape == (150, 4)
    assert result.apply(np.empty((70, 0))).shape == (150, 0)
    with pytest.raises(ValueError, match=r"v must have shape \(70,\) or \(70, k\), got \(150, 3\)"):
        result.apply(w)


def test_rounding_makes_the_marginals_exact(backend, rng):
    a, b, costs = clouds(rng, 30, 20)
    with pytest.warns(kb.ConvergenceWarning):
        result = kb.sinkhorn(a, b, costs, epsilon=0.01, max_iter=3, method="sinkhorn")
    plan = result.plan(round_to_feasible=True)
    np.testing.assert_allclose(plan.sum(1), a, rtol=1e-13)
    np.testing.assert_allclose(plan.sum(0), b, rtol=1e-13)
    assert (plan >= 0.0).all()
    assert np.abs(plan - result.plan()).sum() <= 2.1 * result.marginal_error
    bent = kb.sinkhorn(a, b, costs, epsilon=0.1, reach=1.0)
    with pytest.raises(ValueError, match="round_to_feasible needs marginals that hold"):
        bent.plan(round_to_feasible=True)
