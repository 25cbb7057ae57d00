"""Two hundred problems whose solution is known, down to an epsilon of 1e-6 of the range of the costs.

Potentials f and g and costs C are chosen; the plan exp((f + g - C) / epsilon), over its mass, is then the solution of
the problem with the marginals it has, whatever they are: no solver is asked what is right. `make test` takes every
ninth problem, `make test-full` all of them.
"""

import warnings

import helpers
import numpy as np
import pytest

import kullback as kb

COUNT = 200
KINDS = ("separable", "far", "plane", "cosine")


def planted(seed):
    """A problem and its plan; epsilon is log-uniform between 1 and 1e-6 of the range of the costs."""
    rng = np.random.default_rng([7, seed])
    n, m = rng.integers(2, 60, size=2)
    ratio = 10.0 ** -rng.uniform(0.0, 6.0)
    kind = KINDS[seed % len(KINDS)]
    if kind in ("separable", "far"):
        # Costs that all but split into those of rows and columns: every pair counts, or only the nearest do.
        f, g = rng.random(n), rng.random(m)
        spread = 6.0 if kind == "separable" else 60.0
        cost = f[:, None] + g + ratio * spread * rng.random((n, m))
        epsilon = ratio * np.ptp(cost)
    else:
        # Costs between points, and potentials that give every row, and most columns, a share of the mass.
        dimension = 2 if kind == "plane" else 16
        x, y = rng.standard_normal((n, dimension)), rng.standard_normal((m, dimension))
        if kind == "plane":
            cost = np.square(x[:, None] - y).sum(axis=2)
        else:
            cost = 1.0 - x @ y.T / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))
        epsilon = ratio * np.ptp(cost)
        g = cost.min(axis=0) + epsilon * rng.uniform(-3.0, 3.0, m)
        f = (cost - g).min(axis=1) + epsilon * rng.uniform(-3.0, 3.0, n)
    plan = np.exp((f[:, None] + g - cost) / epsilon)
    plan /= plan.sum()
    return cost, epsilon, plan


@pytest.mark.parametrize("seed", range(0, COUNT, 1 if helpers.SLOW else 9))
def test_planted_solutions(native, seed):
    cost, epsilon, plan = planted(seed)
    a, b = plan.sum(axis=1), plan.sum(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kb.ConvergenceWarning)
        result = kb.sinkhorn(a, b, cost, epsilon=epsilon, tol=1e-10, max_iter=50_000)
    found = result.plan()
    assert np.isfinite(found).all()
    assert np.isfinite([result.value, result.transport_cost, result.marginal_error]).all()
    # What the result says of itself is what its plan says.
    error = np.abs(found.sum(axis=1) - a).sum() + np.abs(found.sum(axis=0) - b).sum()
    np.testing.assert_allclose(result.marginal_error, error, rtol=1e-3, atol=1e-13 / min(epsilon / np.ptp(cost), 1e-1))
    assert abs(found.sum() - 1.0) <= error + 1e-12
    if result.converged:
        assert error <= 2e-10 + 1e-14 * np.ptp(cost) / epsilon
        assert np.abs(found - plan).sum() <= 1e-6
    else:
        assert error > 1e-10
