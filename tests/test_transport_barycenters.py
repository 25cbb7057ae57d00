"""Barycenters: closed forms, optimality, debiasing, hostile input."""

import math

import numpy as np
import pytest

import kullback as kb
from kullback.transport import barycenter, free_support_barycenter


def test_barycenter_of_two_points_is_between_them(backend):
    x = np.linspace(0.0, 1.0, 41)
    cost = np.square(x[:, None] - x)
    ends = np.zeros((2, 41))
    ends[0, 0] = ends[1, 40] = 1.0
    for share in (0.5, 0.25):
        result = barycenter(ends, cost, epsilon=0.002, weights=[1 - share, share])
        assert result.converged
        np.testing.assert_allclose(result.weights.sum(), 1.0, rtol=1e-14)
        np.testing.assert_allclose(result.weights @ x, share, atol=1e-4)
        # The blur of a point: a normal law of variance epsilon/2.
        np.testing.assert_allclose(result.weights @ np.square(x - share), 0.001, rtol=1e-3)


def test_barycenter_against_plans(backend, rng):
    histograms = rng.random((3, 12))
    histograms[0, 3] = 0.0
    x = rng.normal(size=(12, 2))
    y = rng.normal(size=(9, 2))
    cost = np.square(x[:, None] - y[None]).sum(axis=2)
    shares = np.array([0.2, 0.5, 0.3])
    result = barycenter(histograms, cost, epsilon=0.3, weights=10 * shares, tol=1e-11)
    plans = np.exp((result.f[:, :, None] + result.g[:, None] - cost) / 0.3)
    unit = histograms / histograms.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(plans.sum(axis=2), unit, rtol=1e-9)
    np.testing.assert_allclose(plans.sum(axis=1), np.tile(result.weights, (3, 1)), atol=1e-10)
    # Optimal: the potentials of the barycenter, weighted, cancel.
    np.testing.assert_allclose(shares @ result.g, 0.0, atol=1e-12)
    with kb.use_backend("numpy"):
        other = barycenter(histograms, cost, epsilon=0.3, weights=shares, tol=1e-11)
    np.testing.assert_allclose(result.weights, other.weights, rtol=1e-9)


def test_barycenters_at_small_epsilon_do_not_vanish(backend):
    x = np.linspace(0.0, 1.0, 21)
    cost = np.square(x[:, None] - x)
    p, q = np.eye(21)[0], np.eye(21)[10]
    result = barycenter([p, q], cost, epsilon=1e-5, tol=1e-9)
    assert result.weights[5] > 0.999


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3])
def test_debiased_barycenters_are_not_blurred(backend, epsilon):
    x = np.linspace(0.0, 1.0, 101)
    cost = np.square(x[:, None] - x)
    humps = np.exp(-0.5 * np.square((x - [[0.3], [0.7]]) / 0.05))
    for debiased, variance in ((False, 0.05**2 + epsilon / 2), (True, 0.05**2)):
        result = barycenter(humps, cost, epsilon=epsilon, debiased=debiased, tol=1e-8)
        assert result.converged
        np.testing.assert_allclose(result.weights @ x, 0.5, rtol=1e-10)
        np.testing.assert_allclose(result.weights @ np.square(x - 0.5), variance, rtol=1e-5)


def test_a_debiased_barycenter_of_one_histogram_is_that_histogram(backend, rng):
    x = rng.random((15, 2))
    p = rng.random(15)
    result = barycenter([p], np.square(x[:, None] - x).sum(axis=2), epsilon=0.05, debiased=True, tol=1e-8)
    np.testing.assert_allclose(result.weights, p / p.sum(), atol=1e-6)


def test_free_barycenter_of_translations(backend, rng):
    x = rng.normal(size=(25, 2))
    moved = [x, x + np.array([4.0, 0.0]), x + np.array([0.0, 2.0])]
    shares = [0.5, 0.25, 0.25]
    result = free_support_barycenter(moved, x + 0.5, epsilon=1e-3, weights=shares, tol=1e-6)
    assert result.converged
    # The mean of translations is the translation by the mean, point by point in some order.
    expected = x + np.array([1.0, 0.5])
    order = np.lexsort(np.round(expected.T, 3))
    found = np.lexsort(np.round(result.points.T, 3))
    np.testing.assert_allclose(result.points[found], expected[order], atol=0.1)
    np.testing.assert_allclose(result.points.mean(axis=0), expected.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(result.weights, 1 / 25)


def test_free_barycenter_of_one_point_is_its_mean(backend, rng):
    x, y = rng.normal(size=(10, 3)), rng.normal(size=(8, 3))
    a, b = rng.random(10), rng.random(8)
    a, b = a / a.sum(), b / b.sum()
    result = free_support_barycenter([x, y], np.zeros((1, 3)), epsilon=1.0, masses=[a, b], weights=[3, 1])
    np.testing.assert_allclose(result.points[0], 0.75 * (a @ x) + 0.25 * (b @ y), rtol=1e-9, atol=1e-12)


def test_bad_barycenters(backend):
    cost = np.zeros((2, 2))
    for call, error, message in [
        (lambda: barycenter([0.5, 0.5], cost, epsilon=1.0), ValueError, "histograms must have one histogram a row"),
        (lambda: barycenter([[0.5, -0.5]], cost, epsilon=1.0), ValueError, "histograms must not be negative"),
        (lambda: barycenter([[0.0, 0.0]], cost, epsilon=1.0), ValueError, "histograms must have a finite mass"),
        (lambda: barycenter([[1.0, 1.0]], cost[:1], epsilon=1.0), ValueError, "cost must have one row for each of 2"),
        (lambda: barycenter([[1.0, 1.0]], cost + math.inf, epsilon=1.0), ValueError, "cost must hold finite numbers"),
        (lambda: barycenter([[1.0, 1.0]], cost, epsilon=0.0), ValueError, "epsilon must be finite"),
        (
            lambda: barycenter([[1.0, 1.0]], [[0.0, 1.0], [2.0, 0.0]], epsilon=1.0, debiased=True),
            ValueError,
            "cost must be symmetric where debiased",
        ),
        (lambda: barycenter([[1.0, 1.0]], cost, epsilon=1.0, weights=[1.0, 2.0]), ValueError, "weights must hold one"),
        (lambda: free_support_barycenter([], cost, epsilon=1.0), ValueError, "supports must hold at least one cloud"),
        (lambda: free_support_barycenter([cost], cost, epsilon=1.0, masses=[]), ValueError, "masses must hold"),
        (lambda: free_support_barycenter([cost], [[0.0]], epsilon=1.0), ValueError, r"supports\[0\] and init must"),
        (lambda: free_support_barycenter([cost], cost, epsilon=1.0, b=[1.0, 0.0]), ValueError, "b must be greater"),
    ]:
        with pytest.raises(error, match=message):
            call()
    with pytest.warns(kb.ConvergenceWarning, match="barycenter stopped after 1 iteration"):
        barycenter(np.eye(3), np.square(np.subtract.outer(np.arange(3), np.arange(3))), epsilon=0.1, max_iter=1)
