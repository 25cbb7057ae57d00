"""Batches: each problem is that of a single call to the bit, and fails alone."""

import numpy as np
import pytest

import kullback as kb


def problems(rng, shapes):
    """Weights and costs of those shapes."""
    a, b, costs = [], [], []
    for n, m in shapes:
        costs.append(rng.random((n, m)))
        a.append(rng.dirichlet(np.ones(n)))
        b.append(rng.dirichlet(np.ones(m)))
    return a, b, costs


def assert_same(one, other):
    for name in ("f", "g", "error_history"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("value", "transport_cost", "mass", "marginal_error", "tol", "converged", "n_iter", "method"):
        assert getattr(one, name) == getattr(other, name), name
    np.testing.assert_array_equal(one.plan(), other.plan())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_problem_is_that_of_a_single_call(backend, dtype, rng):
    a, b, costs = problems(rng, [(7, 9)] * 12)
    stacked = np.array(costs, dtype)
    for threads in (1, 3):
        result = kb.sinkhorn_batch(np.array(a), np.array(b), stacked, epsilon=0.02, threads=threads)
        assert len(result) == 12
        assert result.f.shape == (12, 7)
        assert result.g.shape == (12, 9)
        assert result.plan().shape == (12, 7, 9)
        assert result.plan().dtype == dtype
        for i, one in enumerate(result):
            single = kb.sinkhorn(a[i], b[i], stacked[i], epsilon=0.02)
            assert_same(one, single)
            assert result.value[i] == single.value
            assert result.n_iter[i] == single.n_iter
            assert result.status[i] == "converged"
            np.testing.assert_array_equal(result.error_history[i], single.error_history)


def test_ragged_problems(backend, rng):
    a, b, costs = problems(rng, [(3, 4), (1, 1), (40, 2), (5, 17)])
    epsilon = np.array([0.1, 0.5, 0.02, 0.05])
    result = kb.sinkhorn_batch(a, b, costs, epsilon=epsilon)
    assert [f.shape for f in result.f] == [(3,), (1,), (40,), (5,)]
    assert [plan.shape for plan in result.plan()] == [cost.shape for cost in costs]
    for i in range(4):
        assert_same(result[i], kb.sinkhorn(a[i], b[i], costs[i], epsilon=float(epsilon[i])))
    assert_same(result[-1], result[3])
    with pytest.raises(IndexError):
        result[4]


def test_shared_weights_and_costs(backend, rng):
    a, b, costs = problems(rng, [(6, 5)] * 3)
    same_weights = kb.sinkhorn_batch(a[0], None, np.array(costs), epsilon=0.1)
    for i in range(3):
        assert_same(same_weights[i], kb.sinkhorn(a[0], None, costs[i], epsilon=0.1))
    same_costs = kb.sinkhorn_batch(np.array(a), np.array(b), costs[0], epsilon=0.1)
    assert len(same_costs) == 3
    for i in range(3):
        assert_same(same_costs[i], kb.sinkhorn(a[i], b[i], costs[0], epsilon=0.1))


def test_one_bad_problem_disturbs_no_other(backend, rng):
    a, b, costs = problems(rng, [(6, 5)] * 4)
    stacked = np.array(costs)
    stacked[1, 2, 3] = np.nan
    weights = np.array(b)
    weights[2] *= 2.0
    with pytest.warns(kb.ConvergenceWarning, match="2 of 4 problems did not converge, the first of them problem 1"):
        result = kb.sinkhorn_batch(np.array(a), weights, stacked, epsilon=0.1)
    np.testing.assert_array_equal(result.converged, [True, False, False, True])
    assert result.status[1] == "cost must hold numbers or +inf, got nan at row 2, column 3"
    assert result.status[2].startswith("b must have the mass of a within 1e-6 of it")
    assert np.isnan(result.value[[1, 2]]).all()
    assert np.isnan(result.f[1]).all()
    assert "2 not valid" in repr(result)
    for i in (0, 3):
        assert_same(result[i], kb.sinkhorn(a[i], b[i], stacked[i], epsilon=0.1))
    with pytest.raises(ValueError, match="got nan at row 2, column 3"):
        result[1]


def test_each_problem_stops_by_itself(backend, rng):
    costs = np.array([np.zeros((8, 8)), rng.random((8, 8))])
    with pytest.warns(kb.ConvergenceWarning, match="1 of 2 problems"):
        result = kb.sinkhorn_batch(None, rng.dirichlet(np.ones(8)), costs, epsilon=1e-3, max_iter=4, method="sinkhorn")
    np.testing.assert_array_equal(result.n_iter, [1, 4])
    assert result.status == ["converged", "not converged"]


def test_starts(backend, rng):
    a, b, costs = problems(rng, [(6, 5), (3, 4), (2, 2)])
    first = kb.sinkhorn_batch(a, b, costs, epsilon=0.05, tol=1e-9)
    again = kb.sinkhorn_batch(a, b, costs, epsilon=0.05, init=first)
    np.testing.assert_array_equal(again.n_iter, 1)
    listed = kb.sinkhorn_batch(a, b, costs, epsilon=0.05, init=[first[0], (first.f[1], first.g[1]), first[2]])
    np.testing.assert_array_equal(listed.n_iter, 1)


def test_unbalanced_batch(backend, rng):
    a, b, costs = problems(rng, [(6, 5)] * 2)
    result = kb.sinkhorn_batch(np.array(a), 2.0 * np.array(b), np.array(costs), epsilon=0.05, reach=(0.5, None))
    assert_same(result[1], kb.sinkhorn(a[1], 2.0 * b[1], costs[1], epsilon=0.05, reach=(0.5, None)))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((None, None, np.zeros(3)), {}, "cost must be a matrix, a stack of matrices or a list of them"),
        ((None, None, np.zeros((0, 2, 2))), {}, "cost must have at least one problem, row and column"),
        ((None, None, [np.zeros((2, 2)), np.zeros(2)]), {}, r"cost\[1\] must be a matrix, got shape \(2,\)"),
        ((np.ones((3, 2)), None, np.zeros((2, 2, 2))), {}, r"a must have shape \(2,\) or \(2, 2\)"),
        (([np.ones(2)], None, np.zeros((2, 2, 2))), {}, "a must have one array for each of 2 problems, got 1"),
        (([np.ones(2), np.ones(3)], None, np.zeros((2, 2, 2))), {}, r"a\[1\] must have shape \(2,\), got \(3,\)"),
        (
            (None, None, np.zeros((2, 2, 2))),
            {"epsilon": [0.1, 0.2, 0.3]},
            r"epsilon must be a number or have shape \(2,\)",
        ),
        ((None, None, np.zeros((2, 2, 2))), {"epsilon": [0.1, 0.0]}, "epsilon must be finite and greater than 0"),
        ((None, None, np.zeros((2, 2, 2))), {"init": [None]}, "init must have one start for each of 2 problems, got 1"),
        ((None, None, np.zeros((2, 2, 2))), {"method": "sink"}, "method must be one of"),
    ],
)
def test_bad_batches(backend, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        kb.sinkhorn_batch(*arguments, **({"epsilon": 0.1} | options))
