"""What sinkhorn promises around the numbers: errors, flags and warnings, starts, threads, bits, and batches."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import ml_dtypes
import numpy as np
import pytest

import kullback as kb

TIMEOUT = 60
COST = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.7]])


def clouds(rng, n, m, dimension=2):
    x, y = rng.random((n, dimension)), rng.random((m, dimension))
    costs = ((x[:, None] - y) ** 2).sum(-1)
    a, b = (w / w.sum() for w in (rng.random(n) + 0.1, rng.random(m) + 0.1))
    return a, b, costs / costs.max()


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"epsilon": 0.0}, ValueError, "epsilon must be finite and greater than 0, got 0.0"),
        ({"epsilon": -0.1}, ValueError, "epsilon must be finite and greater than 0, got -0.1"),
        ({"epsilon": np.nan}, ValueError, "epsilon must be finite and greater than 0, got nan"),
        ({"epsilon": np.inf}, ValueError, "epsilon must be finite and greater than 0, got inf"),
        ({"epsilon": "0.1"}, TypeError, "epsilon must be a number, got '0.1'"),
        ({"epsilon": 1e-14}, ValueError, "epsilon must be at least 1e-13 of the largest cost.*, got 1e-14"),
        ({"tol": 0.0}, ValueError, "tol must be finite and greater than 0"),
        ({"max_iter": 0}, ValueError, "max_iter must be between 1 and"),
        ({"max_iter": 1.5}, TypeError, "max_iter must be an integer, got 1.5"),
        ({"method": "newtons"}, ValueError, "method must be one of auto, sinkhorn.*did you mean 'newton'"),
        ({"reach": -1.0}, ValueError, "reach must be finite and greater than 0, got -1.0"),
        ({"reach": (1.0, 2.0, 3.0)}, ValueError, "reach must be a number or a pair"),
        ({"dtype": np.int32}, ValueError, "dtype must be float32 or float64"),
        ({"dtype": "what"}, ValueError, "dtype must be float32 or float64, got 'what'"),
        ({"threads": 0}, ValueError, "threads must be between 1 and"),
        ({"progress": 3}, TypeError, "progress must be True, False or a callable, got 3"),
        ({"init": 3}, TypeError, "init must be a result of sinkhorn or a pair of potentials"),
        ({"init": ([0, 0], [0, 0])}, ValueError, r"init must have a potential g of shape \(3,\), got shape \(2,\)"),
        ({"init": ([0, 0], [0, np.nan, 0])}, ValueError, "init must hold potentials that are finite or -inf"),
        ({"a": [0.5, 0.5, 0.0]}, ValueError, r"a must have one weight for each row of cost, 2 for shape \(2, 3\)"),
        ({"b": [[0.5, 0.5, 0.0]]}, ValueError, r"b must have one weight for each column of cost, 3"),
        ({"a": [1.5, -0.5]}, ValueError, "a must hold finite weights of at least 0, got -0.5 at index 1"),
        ({"b": [0.5, np.nan, 0.5]}, ValueError, "b must hold finite weights of at least 0, got nan at index 1"),
        ({"b": [0.5, np.inf, 0.5]}, ValueError, "b must hold finite weights of at least 0, got inf at index 1"),
        ({"a": [0.0, 0.0]}, ValueError, "a must have a finite total mass greater than 0, got 0"),
        ({"a": [1.0, 1.0]}, ValueError, "b must have the mass of a within 1e-6 of it, got 0.5 times that mass"),
        ({"a": ["x", "y"]}, TypeError, "a must hold real numbers"),
        (
            {"cost": [[0, 1, 2], [1, np.nan, 1]]},
            ValueError,
            "cost must hold numbers or .inf, got nan at row 1, column 1",
        ),
        ({"cost": [[0, 1, -np.inf], [1, 2, 1]]}, ValueError, "cost must hold .*, got -inf at row 0, column 2"),
        ({"cost": [[0, 1, 2], [np.inf] * 3]}, ValueError, "cost must leave every row with mass .*in row 1"),
        ({"cost": [[np.inf, 1, 2], [np.inf, 2, 2]]}, ValueError, "cost must leave every column .*in column 0"),
        ({"cost": [1.0, 2.0]}, ValueError, r"cost must be a matrix, got shape \(2,\)"),
        ({"cost": np.empty((0, 3))}, ValueError, r"cost must have at least one row and one column, got shape \(0, 3\)"),
        ({"cost": COST + 1j}, TypeError, "cost must hold real numbers"),
    ],
)
def test_bad_input(backend, change, kind, message):
    arguments = {"a": None, "b": None, "cost": COST, "epsilon": 0.1} | change
    a, b, cost = (arguments.pop(name) for name in ("a", "b", "cost"))
    with pytest.raises(kind, match=message):
        kb.sinkhorn(a, b, cost, **arguments)


PROBES = {
    "small epsilon": {"epsilon": 1e-3},
    "tiny epsilon": {"epsilon": 1e-5},
    "a zero in a": {"zero": "a"},
    "a zero in b": {"zero": "b"},
    "one forbidden pair": {"forbid": True},
    "float32": {"dtype": np.float32, "tol": 1e-9},
}


@pytest.mark.parametrize("probe", PROBES)
def test_where_others_lose_mass_or_never_end(backend, probe, rng):
    """Twelve by twelve, largest cost 1.84: what common solvers answer with NaN, lost mass or a thousand sweeps."""
    options = {"epsilon": 0.05, "tol": 1e-6} | PROBES[probe]
    a, b, costs = clouds(rng, 12, 12)
    costs *= 1.84
    zero = options.pop("zero", None)
    if zero == "a":
        a[4] = 0.0
        a /= a.sum()
    elif zero == "b":
        b[7] = 0.0
        b /= b.sum()
    if options.pop("forbid", False):
        costs[0, 0] = np.inf
    costs = costs.astype(options.get("dtype", np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = kb.sinkhorn(a, b, costs, **options)
    plan = result.plan().astype(np.float64)
    assert result.converged
    assert result.tol <= 1e-6
    assert np.abs(plan.sum(1) - a).sum() + np.abs(plan.sum(0) - b).sum() <= 1.5e-6
    assert abs(plan.sum() - 1.0) <= 1e-6
    assert np.isfinite([result.value, result.transport_cost]).all()
    assert (plan[~np.isfinite(costs)] == 0.0).all()
    if zero:
        assert (plan[4] if zero == "a" else plan[:, 7]).sum() == 0.0


def test_forbidden_where_there_is_no_mass_is_no_error(backend):
    costs = np.array([[0.0, 1.0, np.inf], [np.inf, np.inf, np.inf], [1.0, 0.0, np.inf]])
    result = kb.sinkhorn([0.5, 0.0, 0.5], [0.5, 0.5, 0.0], costs, epsilon=0.5)
    assert result.converged
    np.testing.assert_array_equal(result.plan()[1], 0.0)
    # A row that only reaches a column without mass reaches nothing.
    costs = np.array([[0.0, np.inf], [np.inf, 1.0]])
    with pytest.raises(ValueError, match=r"cost must leave every row with mass a column to go to, got .* in row 1"):
        kb.sinkhorn([0.5, 0.5], [1.0, 0.0], costs, epsilon=0.5)


@pytest.mark.parametrize("method", ["auto", "sinkhorn", "accelerated", "newton"])
def test_forbidden_pairs_that_leave_no_plan(backend, method):
    # Rows 0 and 1 share one column that is too small for both.
    costs = np.array([[0.0, np.inf], [0.0, np.inf], [0.0, 0.0]])
    with pytest.warns(kb.ConvergenceWarning, match="marginal error"):
        result = kb.sinkhorn(None, [0.3, 0.7], costs, epsilon=0.1, method=method, max_iter=200)
    assert not result.converged
    assert result.marginal_error > 0.3
    assert np.isfinite(result.plan()).all()
    assert np.isfinite([result.value, result.transport_cost, *result.f, *result.g]).all()


# Flags --------------------------------------------------------------------------------------------


def test_one_warning_and_a_flag_where_the_sweeps_do_not_suffice(backend, rng):
    a, b, costs = clouds(rng, 20, 20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = kb.sinkhorn(a, b, costs, epsilon=1e-3, method="sinkhorn", max_iter=3)
    assert [warning.category for warning in caught] == [kb.ConvergenceWarning]
    assert caught[0].filename == __file__
    assert not result.converged
    assert "NOT CONVERGED" in repr(result)
    assert result.n_iter == 3
    plan = result.plan()
    error = np.abs(plan.sum(1) - a).sum() + np.abs(plan.sum(0) - b).sum()
    np.testing.assert_allclose(result.marginal_error, error, rtol=1e-6)


@pytest.mark.parametrize("method", ["auto", "sinkhorn", "accelerated", "newton"])
def test_sweeps_are_kept_to(backend, method, rng):
    a, b, costs = clouds(rng, 20, 20)
    for most in (1, 2, 7):
        with pytest.warns(kb.ConvergenceWarning):
            result = kb.sinkhorn(a, b, costs, epsilon=1e-3, method=method, max_iter=most)
        # A ladder that is cut short is left by one evaluation at the bottom.
        assert result.n_iter <= most + 2
        assert np.isfinite(result.plan()).all()


def test_what_float32_reaches_is_said(native, rng):
    a, b, costs = clouds(rng, 50, 60)
    result = kb.sinkhorn(a, b, costs.astype(np.float32), epsilon=0.01, tol=1e-12)
    assert result.converged
    assert result.tol == pytest.approx(3e-7)
    assert result.marginal_error <= result.tol
    wide = kb.sinkhorn(a, b, costs.astype(np.float32), epsilon=0.01, tol=1e-12, dtype=np.float64)
    assert wide.converged
    assert wide.tol == pytest.approx(1e-12)


@pytest.mark.parametrize("epsilon", [0.3, 0.01, 1e-3, 1e-4])
def test_float32_meets_its_tolerance_at_small_epsilon(native, epsilon, rng):
    a, b, costs = clouds(rng, 80, 70)
    result = kb.sinkhorn(a, b, costs.astype(np.float32), epsilon=epsilon)
    assert result.converged
    assert result.marginal_error <= 1e-6
    truth = kb.sinkhorn(a, b, costs.astype(np.float32).astype(np.float64), epsilon=epsilon)
    np.testing.assert_allclose(result.value, truth.value, rtol=1e-5)


def test_small_masses_are_held_to_a_share(backend, rng):
    a, b, costs = clouds(rng, 10, 10)
    result = kb.sinkhorn(1e-9 * a, 1e-9 * b, costs, epsilon=0.05)
    assert result.tol == pytest.approx(1e-15)
    np.testing.assert_allclose(result.plan().sum(0), 1e-9 * b, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int64", "list"])
def test_dtypes(backend, dtype):
    costs = np.array([[0, 1, 2], [2, 0, 1]])
    given = costs.tolist() if dtype == "list" else costs.astype(getattr(ml_dtypes, dtype, None) or dtype)
    result = kb.sinkhorn(None, None, given, epsilon=0.5)
    narrow = dtype in ("float16", "bfloat16", "float32")
    assert result.plan().dtype == (np.float32 if narrow else np.float64)
    assert result.f.dtype == result.g.dtype == result.error_history.dtype == np.float64
    np.testing.assert_allclose(result.value, kb.sinkhorn(None, None, costs, epsilon=0.5).value, rtol=1e-6)
    assert kb.sinkhorn(None, None, given, epsilon=0.5, dtype="float32").plan().dtype == np.float32


def test_layout_of_the_costs_does_not_matter(backend, rng):
    a, b, costs = clouds(rng, 30, 20)
    expected = kb.sinkhorn(a, b, costs, epsilon=0.05)
    wide = np.repeat(costs, 2, axis=1)[:, ::2]
    wide.flags.writeable = False
    for given in (np.asfortranarray(costs), wide):
        np.testing.assert_array_equal(kb.sinkhorn(a, b, given, epsilon=0.05).f, expected.f)


# Starts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "sinkhorn", "accelerated", "newton"])
@pytest.mark.parametrize("reach", [None, 0.5], ids=str)
def test_a_start_at_the_solution_needs_one_sweep(backend, method, reach, rng):
    a, b, costs = clouds(rng, 25, 30)
    a[3] = b[7] = 0.0
    a, b = a / a.sum(), b / b.sum()
    for epsilon in (0.1, 0.004):
        options = {"epsilon": epsilon, "reach": reach}
        first = kb.sinkhorn(a, b, costs, tol=1e-9, **options)
        again = kb.sinkhorn(a, b, costs, init=first, method=method, **options)
        assert again.n_iter <= 1
        assert again.converged
        pair = kb.sinkhorn(a, b, costs, init=(first.f, first.g), method=method, **options)
        np.testing.assert_array_equal(pair.f, again.f)


def test_a_start_nearby_saves_sweeps(backend, rng):
    a, b, costs = clouds(rng, 40, 40)
    near = kb.sinkhorn(a, b, costs, epsilon=0.01)
    moved = costs + 1e-3 * rng.random(costs.shape)
    cold = kb.sinkhorn(a, b, moved, epsilon=0.01, method="accelerated")
    warm = kb.sinkhorn(a, b, moved, epsilon=0.01, method="accelerated", init=near)
    assert warm.n_iter < cold.n_iter
    # A start that is far off does no harm.
    far = kb.sinkhorn(a, b, costs, epsilon=0.01, init=(np.zeros(40), 100.0 * rng.normal(size=40)))
    np.testing.assert_allclose(far.value, near.value, atol=1e-6)


# Watching and drawing -----------------------------------------------------------------------------


def test_progress(backend, rng, capsys):
    a, b, costs = clouds(rng, 10, 10)
    seen = []
    result = kb.sinkhorn(a, b, costs, epsilon=0.05, progress=lambda sweeps, error: seen.append((sweeps, error)))
    assert [error for _, error in seen] == result.error_history.tolist()
    assert seen[-1][0] <= result.n_iter
    kb.sinkhorn(a, b, costs, epsilon=0.05, progress=True)
    assert "marginal error" in capsys.readouterr().err

    def stop(sweeps, error):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        kb.sinkhorn(a, b, costs, epsilon=0.05, progress=stop)


def test_plot(rng):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    a, b, costs = clouds(rng, 10, 12)
    history, plan = kb.sinkhorn(a, b, costs, epsilon=0.05).plot()
    assert plan.images[0].get_array().shape == (10, 12)
    assert len(history.lines[0].get_xdata()) > 1
    matplotlib.pyplot.close("all")


def test_plot_names_what_it_needs(monkeypatch):
    result = kb.sinkhorn(None, None, COST, epsilon=0.1)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ModuleNotFoundError, match=r"plot needs matplotlib: pip install 'kullback\[plot\]'"):
        result.plot()


def test_a_result_survives_pickling(backend):
    result = kb.sinkhorn(None, None, COST, epsilon=0.1)
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.plan(), result.plan())
    assert repr(again) == repr(result)


# Bits ---------------------------------------------------------------------------------------------


def everything(result):
    return [
        result.f,
        result.g,
        result.error_history,
        result.plan(),
        result.apply(np.arange(len(result.g), dtype=float)),
        result.apply(np.arange(len(result.f), dtype=float), transposed=True),
        np.array([result.value, result.transport_cost, result.marginal_error, result.n_iter]),
    ]


def assert_same_bits(actual, expected, where):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one.view(np.uint8), other.view(np.uint8), err_msg=where)


@pytest.mark.parametrize("method", ["sinkhorn", "accelerated", "newton"])
def test_bits_do_not_depend_on_the_number_of_threads(native, method, rng):
    a, b, costs = clouds(rng, 700, 450)
    for dtype in (np.float32, np.float64):
        one, *others = (
            everything(kb.sinkhorn(a, b, costs.astype(dtype), epsilon=0.02, method=method, threads=threads))
            for threads in (1, 2, 3)
        )
        for other in others:
            assert_same_bits(other, one, f"{method} {dtype}")


def test_bits_do_not_depend_on_the_instruction_set(native, rng):
    from kullback._core import _native

    cases = []
    for shape in ((1, 1), (5, 3), (17, 40), (33, 16)):
        a, b, costs = clouds(rng, *shape)
        costs[0, 1:3] = np.inf if shape[0] > 5 else costs[0, 1:3]
        cases += [(a, b, costs.astype(dtype), reach) for dtype in (np.float32, np.float64) for reach in (None, 0.4)]
    results = {}
    try:
        for isa in _native.available_isas():
            _native.set_isa(isa)
            results[isa] = [
                everything(kb.sinkhorn(a, b, costs, epsilon=epsilon, reach=reach, method=method))
                for a, b, costs, reach in cases
                for epsilon, method in ((0.1, "sinkhorn"), (0.01, "accelerated"), (0.01, "newton"))
            ]
            if isa != "scalar":
                log = _native.sinkhorn(*cases[8][:3], 0.05, (np.inf, np.inf), 1e-6, 500, "log", None, False, 1, None)
                results[isa].append([log[0], log[1]])
    finally:
        _native.set_isa("auto")
    for isa, found in results.items():
        for actual, expected in zip(found, results["scalar"], strict=False):
            assert_same_bits(actual, expected, isa)


MATRIX = """
    import numpy as np
    import kullback as kb
    costs = np.random.default_rng(0).random((3000, 3000)).astype(np.float32)
    print("ready", flush=True)
    kb.sinkhorn(None, None, costs, epsilon=1e-5, method="sinkhorn", max_iter=10**9)
    """
CLOUDS = """
    import numpy as np
    import kullback as kb
    x, y = np.random.default_rng(0).random((2, 100_000, 3))
    print("ready", flush=True)
    kb.sinkhorn_points(x, y, epsilon=1e-3, max_iter=10**9)
    """


@pytest.mark.parametrize("script", [MATRIX, CLOUDS], ids=["matrix", "clouds"])
def test_ctrl_c(native, script):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"KULLBACK_BACKEND": "native"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(1.0)
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=TIMEOUT)
    finally:
        child.kill()
    assert time.monotonic() - start < 5.0
    assert "KeyboardInterrupt" in errors


def test_a_fork_after_threads_were_used(native):
    script = """
    import os
    import numpy as np
    import kullback as kb
    costs = np.random.default_rng(0).random((600, 600))
    expected = kb.sinkhorn(None, None, costs, epsilon=0.1, threads=2).f.tobytes()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if kb.sinkhorn(None, None, costs, epsilon=0.1, threads=2).f.tobytes() == expected else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
