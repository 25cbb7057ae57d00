"""sampled_kl: hand values, the laws of its estimators, standard errors by groups, hostile input."""

import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kullback as kb

LOGS = st.floats(-700.0, 0.0)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("k1", 0.5), ("k2", 0.125), ("k3", float(mpmath.exp(-0.5) - 0.5))],
)
def test_hand_values(estimator, expected):
    # One token, log q - log p = -0.5.
    result = kb.sampled_kl([-1.0], [-1.5], estimator=estimator)
    assert float(result.estimate) == pytest.approx(expected, rel=1e-15)
    assert np.isnan(result.standard_error)
    assert (result.n_samples, result.n_groups) == (1, None)


def test_sign_convention_by_enumeration():
    # Averaged over the whole of p, k1 and k3 are KL(p || q) exactly; each token as often as p says.
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    tokens = [0, 0, 1, 2]
    expected = float(kb.kl_divergence(p, q))
    for estimator in ("k1", "k3"):
        got = kb.sampled_kl(np.log(p)[tokens], np.log(q)[tokens], estimator=estimator)
        assert float(got.estimate) == pytest.approx(expected, rel=1e-14)


@given(st.lists(st.tuples(LOGS, LOGS), min_size=1, max_size=20))
def test_k3_is_phi_to_the_last_digits(pairs):
    log_p, log_q = np.array(pairs).T
    with mpmath.workdps(60):
        terms = [mpmath.expm1(mpmath.mpf(b) - mpmath.mpf(a)) - (mpmath.mpf(b) - mpmath.mpf(a)) for a, b in pairs]
        expected = mpmath.fsum(terms) / len(terms)
        expected = float(expected) if expected < mpmath.mpf("1.7e308") else np.inf
    got = float(kb.sampled_kl(log_p, log_q).estimate)
    assert got >= 0.0
    # The rounding of log q - log p, up to 700 ulp in e^r, is part of it.
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_k3_of_close_float32_logs_keeps_its_digits():
    log_p = np.float32(-11.0)
    log_q = np.nextafter(log_p, np.float32(0.0))
    r = float(log_q) - float(log_p)
    expected = float(mpmath.mpf(r) ** 2 / 2 + mpmath.mpf(r) ** 3 / 6)
    assert float(kb.sampled_kl([log_p], [log_q]).estimate) == pytest.approx(expected, rel=1e-12)
    assert float(kb.sampled_kl([log_q], [log_p]).estimate) > 0.0


def test_standard_error_without_and_with_groups(rng):
    log_p, log_q = -rng.exponential(size=12), -rng.exponential(size=12)
    k1 = log_p - log_q
    plain = kb.sampled_kl(log_p, log_q, estimator="k1")
    assert float(plain.standard_error) == pytest.approx(np.std(k1, ddof=1) / np.sqrt(12), rel=1e-13)
    alone = kb.sampled_kl(log_p, log_q, estimator="k1", groups=np.arange(12)[::-1])
    assert float(alone.standard_error) == pytest.approx(float(plain.standard_error), rel=1e-13)
    # Groups of one size: the standard error of the mean of their means.
    groups = np.repeat(["a", "b", "c", "d"], 3)
    means = k1.reshape(4, 3).mean(axis=1)
    clustered = kb.sampled_kl(log_p, log_q, estimator="k1", groups=groups)
    assert float(clustered.standard_error) == pytest.approx(np.std(means, ddof=1) / 2.0, rel=1e-13)
    assert clustered.n_groups == 4
    # Each sample twice, as a group of its own: no more is known than before.
    twice = kb.sampled_kl(np.tile(log_p, 2), np.tile(log_q, 2), estimator="k1", groups=np.tile(np.arange(12), 2))
    assert float(twice.standard_error) == pytest.approx(float(plain.standard_error), rel=1e-13)
    assert np.isnan(kb.sampled_kl(log_p, log_q, groups=np.zeros(12, int)).standard_error)


def test_axis_is_a_loop_over_rows(rng):
    log_p, log_q = -rng.exponential(size=(2, 5, 3)), -rng.exponential(size=(2, 5, 3))
    groups = np.array([3, 3, 1, 1, 0])
    got = kb.sampled_kl(log_p, log_q, axis=1, groups=groups)
    assert got.estimate.shape == got.standard_error.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        row = kb.sampled_kl(log_p[i, :, j], log_q[i, :, j], groups=groups)
        assert float(got.estimate[i, j]) == pytest.approx(float(row.estimate), rel=1e-14)
        assert float(got.standard_error[i, j]) == pytest.approx(float(row.standard_error), rel=1e-13)
    by_row = kb.sampled_kl(log_p[0].T, log_q[0].T, axis=-1, groups=np.arange(15).reshape(3, 5) // 5)
    assert by_row.n_groups == 3
    assert np.isnan(by_row.standard_error).all()  # one group in each row


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_zeros_infinities_and_nan(estimator):
    def one(a, b):
        return float(kb.sampled_kl([a, -1.0], [b, -1.0], estimator=estimator).estimate)

    assert one(-1.0, -np.inf) == np.inf
    for a, b in [(-np.inf, -1.0), (-np.inf, -np.inf), (np.nan, -1.0), (-1.0, np.nan), (np.inf, -1.0), (-1.0, np.inf)]:
        assert np.isnan(one(a, b))
    assert np.isnan(kb.sampled_kl([-1.0, -1.0], [-np.inf, -1.0], estimator=estimator).standard_error)
    with pytest.raises(ValueError, match=r"the estimate is NaN: .* at sample 1 of mean 0"):
        kb.sampled_kl([-1.0, np.nan], [-1.0, -1.0], estimator=estimator, nan_policy="raise")


def test_narrow_dtypes_are_widened_first():
    log_p, log_q = np.array([-1.0, -3.0]), np.array([-1.5, -2.0])
    expected = kb.sampled_kl(log_p, log_q)
    for dtype in (np.float16, np.float32, ml_dtypes.bfloat16):
        assert kb.sampled_kl(log_p.astype(dtype), log_q.astype(dtype)) == expected


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([-1.0], [-1.0]), {"estimator": "k4"}, ValueError, "estimator must be one of k1, k2, k3, got 'k4'"),
        (([-1.0] * 2, [-1.0] * 3), {}, ValueError, r"log_p and log_q must have shapes that broadcast, got \(2,\) and"),
        (([], []), {}, ValueError, "at least one sample"),
        (([-1.0], [-1.0]), {"axis": 1}, ValueError, "axis must be between -1 and 0"),
        (([-1.0], [-1.0]), {"axis": 0.5}, TypeError, "axis must be an integer"),
        (([-1.0], [-1.0]), {"groups": [1, 2]}, ValueError, r"groups must broadcast to the shape \(1,\)"),
        (([-1.0], [-1.0]), {"groups": [1.5]}, TypeError, "groups must hold integers or strings, got dtype float64"),
        (([-1.0], [-1.0]), {"nan_policy": "omit"}, ValueError, "nan_policy must be"),
        ((["a"], [-1.0]), {}, TypeError, "log_p must hold real numbers"),
        (([-1.0], [1j]), {}, TypeError, "log_q must hold real numbers"),
    ],
)
def test_hostile_input(arguments, options, error, message):
    with pytest.raises(error, match=message):
        kb.sampled_kl(*arguments, **options)
