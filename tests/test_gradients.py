"""value_and_grad: finite differences in 60 digits, JAX, close rows, zeros, hostile input."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from helpers import BACKENDS, DTYPES, KINDS, NATIVE, assert_close, random_rows

import kullback as kb
from kullback import gradients
from kullback._core import forces, reference, validation

CASES = [
    ("kl", {}),
    ("reverse_kl", {}),
    ("jeffreys", {}),
    ("total_variation", {}),
    ("squared_hellinger", {}),
    ("hellinger", {}),
    ("cross_entropy", {}),
    *(("js", {"weight": weight}) for weight in (0.5, 0.1, 0.999)),
    *(("skew_kl", {"alpha": alpha}) for alpha in (0.0, 0.1, 0.9)),
    *(("alpha", {"alpha": alpha}) for alpha in (-1.5, 0.0, 1e-9, 0.3, 0.5, 0.7, 1.0, 2.0)),
]
SIDES = ("p", "q")


def textbook(name, p, q, xp, **options):
    """Evaluate the formula without tricks; `xp` has log, sqrt and fsum."""

    def kl(a, b):
        return xp.fsum([x * (xp.log(x) - xp.log(y)) for x, y in zip(a, b, strict=True)])

    def mixed(weight):
        return [weight * x + (1 - weight) * y for x, y in zip(p, q, strict=True)]

    pairs = list(zip(p, q, strict=True))
    alpha = options.get("alpha")
    if name == "alpha" and alpha not in (0.0, 1.0):
        alpha = mpmath.mpf(alpha) if xp is mpmath else alpha
        return (xp.fsum([x**alpha * y ** (1 - alpha) for x, y in pairs]) - 1) / (alpha * (alpha - 1))
    if name == "js":
        weight = mpmath.mpf(options["weight"]) if xp is mpmath else options["weight"]
        return weight * kl(p, mixed(weight)) + (1 - weight) * kl(q, mixed(weight))
    if name == "skew_kl":
        return kl(p, mixed(mpmath.mpf(alpha) if xp is mpmath else alpha))
    hellinger = xp.fsum([(xp.sqrt(x) - xp.sqrt(y)) ** 2 for x, y in pairs]) / 2
    return {
        "kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "alpha": lambda: kl(p, q) if alpha == 1.0 else kl(q, p),
        "jeffreys": lambda: kl(p, q) + kl(q, p),
        "total_variation": lambda: xp.fsum([abs(x - y) for x, y in pairs]) / 2,
        "squared_hellinger": lambda: hellinger,
        "hellinger": lambda: xp.sqrt(hellinger),
        "cross_entropy": lambda: -xp.fsum([x * xp.log(y) for x, y in pairs]),
    }[name]()


def softmax(logits):
    weights = [mpmath.exp(x) for x in logits]
    return [w / mpmath.fsum(weights) for w in weights]


def exact(name, x, y, wrt, **options):
    """Return value and central differences, with steps of 1e-30 at 90 digits."""

    def value(step, column):
        rows = {"p": [mpmath.mpf(float(v)) for v in x], "q": [mpmath.mpf(float(v)) for v in y]}
        rows[wrt][column] += step
        return textbook(name, softmax(rows["p"]), softmax(rows["q"]), mpmath, **options)

    with mpmath.workdps(90):
        step = mpmath.mpf(10) ** -30
        gradient = [float((value(step, i) - value(-step, i)) / (2 * step)) for i in range(len(x))]
        return float(value(0, 0)), np.array(gradient)


def close_to(actual, expected, rtol=1e-12):
    """Compare with a tolerance relative to the largest coordinate of the row: the mean of h has an error of its own."""
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("wrt", SIDES)
@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("scale", [3.0, 1e-3, 1e-6])
def test_finite_differences_in_extended_precision(rng, name, options, wrt, scale):
    x = rng.normal(size=5) * 2.0
    y = x + scale * rng.normal(size=5)
    # The temperature divides first, in float64; its chain rule is the other factor.
    expected_value, expected = exact(name, x / 1.7, y / 1.7, wrt, **options)
    for backend in BACKENDS if NATIVE else BACKENDS[:1]:
        with kb.use_backend(backend):
            value, gradient = kb.value_and_grad(name, x, y, wrt=wrt, temperature=1.7, **options)
        assert_close(value, np.float64(expected_value), 1e-12, name)
        close_to(gradient, expected / 1.7)


@pytest.mark.parametrize("wrt", SIDES)
@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[1].get("alpha") != 1e-9])
def test_jax_autodiff(rng, name, options, wrt):
    class Numpy:
        log, sqrt = staticmethod(jnp.log), staticmethod(jnp.sqrt)
        fsum = staticmethod(lambda terms: jnp.sum(jnp.stack(terms)))

    def function(x, y):
        return textbook(name, list(jax.nn.softmax(x)), list(jax.nn.softmax(y)), Numpy, **options)

    x, y = rng.normal(size=(2, 9)) * 2.0
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(function, argnums=SIDES.index(wrt))(jnp.asarray(x), jnp.asarray(y))
        value, gradient = np.asarray(value), np.asarray(gradient)
    for backend in BACKENDS if NATIVE else BACKENDS[:1]:
        with kb.use_backend(backend):
            got, got_gradient = kb.value_and_grad(name, x, y, wrt=wrt, **options)
        np.testing.assert_allclose(got, value, rtol=1e-11)
        close_to(got_gradient, gradient, 1e-11)


def parts(name, p, q, wrt="q", input="logits", temperature=1.0, axis=-1, vocab_size=None, **options):
    """Return the largest of b (|h| + |mean h|) of each row: a coordinate is the difference of such numbers."""
    problem = validation.two_sided(p, q, input=input, temperature=temperature, axis=axis, vocab_size=vocab_size)
    force, _ = gradients._chosen(name, wrt, gradients._parameter(name, options))
    with np.errstate(all="ignore"):
        pair = reference.load(problem, slice(0, problem.n_rows))
        sides = forces.mirrored(pair) if wrt == "p" else pair
        terms = np.abs(forces.weighted(sides, force))
        if name == "cross_entropy" and wrt == "p":
            terms = np.nan_to_num(sides.q.probs * (pair.q.depth + np.log1p(pair.q.rest)))
        largest = (terms + sides.q.probs * terms.sum(axis=-1, keepdims=True)).max(axis=-1)
        return largest.reshape(*problem.leading, 1)


def assert_parity(name, p, q, rtol, **options):
    """Run one call on both backends; gradients are compared relative to what their coordinates are differences of."""
    actual, moved = kb.value_and_grad(name, p, q, **options)
    with kb.use_backend("numpy"):
        expected, gradient = kb.value_and_grad(name, p, q, **options)
    what = f"{name} {options}"
    assert_close(actual, expected, rtol, name, what)
    assert moved.dtype == gradient.dtype
    moved, gradient = moved.astype(np.float64), gradient.astype(np.float64)
    np.testing.assert_array_equal(np.isfinite(moved), np.isfinite(gradient), err_msg=what)
    kept = np.isfinite(gradient)
    scale = parts(name, p, q, **options)
    if name == "hellinger":
        # A square root has no direction where there is nothing under it.
        kept &= (expected > 1e-6)[..., np.newaxis]
        scale = scale / np.where(expected > 1e-6, expected, 1.0)[..., np.newaxis]
    error = np.where(kept, np.abs(moved - gradient), 0.0) / np.maximum(np.where(np.isfinite(scale), scale, 1.0), 1e-13)
    assert error.max(initial=0.0) <= rtol, f"{what}: {error.max()}"


DTYPE_PAIRS = [
    ("float64", "float64"),
    ("float32", "float32"),
    ("float16", "float32"),
    ("bfloat16", "bfloat16"),
    ("float64", "float16"),
]


@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize("kinds", [("logits", "logits"), ("weights", "weights"), ("log_probs", "probs")], ids="-".join)
def test_backends_agree(native, kinds, dtypes, rng):
    rtol = 1e-11 if "float64" in dtypes else 1e-6
    for width in (1, 33, 1200):
        p, q = (random_rows(rng, (2, width), kind, DTYPES[dtype]) for kind, dtype in zip(kinds, dtypes, strict=True))
        for (name, options), wrt in itertools.product(CASES, SIDES):
            temperature = 0.7 if kinds == ("logits", "logits") and width > 1 else 1.0
            assert_parity(name, p, q, rtol, wrt=wrt, input=kinds, temperature=temperature, **options)


@pytest.mark.parametrize("noise", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_backends_agree_on_close_rows(native, noise, dtype, rng):
    x = random_rows(rng, (2, 3000), "logits", np.float64)
    x, y = x.astype(dtype), (x + rng.normal(size=x.shape) * noise).astype(dtype)
    for (name, options), wrt in itertools.product(CASES, SIDES):
        # In float64 the log-ratio itself is only known to 1e-15.
        rtol = 1e-6 if dtype == "float32" else 1e-12 + 1e-14 / noise
        assert_parity(name, x, y, rtol, wrt=wrt, **options)


@pytest.mark.parametrize("wrt", SIDES)
def test_a_nearly_certain_row_keeps_its_digits(native, rng, wrt):
    """All coordinates come from the mass outside one token, float32 lanes or not."""
    x, y = (rng.normal(size=(3, 500)).astype(np.float32) for _ in range(2))
    x[:, 7], y[:, 7] = 22.0, 20.0
    for name in ("total_variation", "squared_hellinger", "reverse_kl", "js", "jeffreys", "kl"):
        with kb.use_backend("numpy"):
            expected = kb.value_and_grad(name, x.astype(np.float64), y.astype(np.float64), wrt=wrt)[1]
        gradient = kb.value_and_grad(name, x, y, wrt=wrt)[1]
        scale = np.abs(expected).max(axis=-1, keepdims=True)
        assert scale.max() < 1e-4
        np.testing.assert_allclose(gradient / scale, expected / scale, rtol=0.0, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_backends_agree_on_zeros_infinities_and_nan(native, kind, dtype, rng):
    p, q = (random_rows(rng, (24, 45), "weights", np.float64) for _ in range(2))
    for rows in (p, q):
        rows[rng.random(rows.shape) < 0.05] = 0.0
        rows[rng.random(rows.shape[0]) < 0.1] = 0.0
    shared = rng.random(p.shape[0]) < 0.5
    q[shared] = np.where(p[shared] == 0.0, 0.0, q[shared])
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind in ("probs", "log_probs"):
            p, q = (rows / rows.sum(axis=-1, keepdims=True) for rows in (p, q))
        if kind in ("logits", "log_probs"):
            p, q = np.log(p), np.log(q)
        p, q = p.astype(DTYPES[dtype]), q.astype(DTYPES[dtype])
    for rows in (p, q):
        rows[3, 7], rows[8, 44], rows[9, 0] = np.nan, np.inf, np.nan
    for (name, options), wrt in itertools.product(CASES, SIDES):
        assert_parity(name, p, q, 1e-11 if dtype == "float64" else 1e-6, wrt=wrt, input=kind, **options)


def test_results_do_not_depend_on_threads_or_instruction_set(native, rng):
    from kullback._core import _native

    x = (rng.normal(size=(3, 530_001)) * 3.0).astype(np.float32)
    y = (x + rng.normal(size=x.shape)).astype(np.float32)
    calls = [("kl", {}), ("js", {}), ("js", {"weight": 0.2}), ("alpha", {"alpha": 0.3})]
    expected = [kb.value_and_grad(name, x, y, threads=1, **options) for name, options in calls]
    best = _native.isa()
    try:
        for isa, threads in [("scalar", 1), *((isa, 3) for isa in _native.available_isas())]:
            _native.set_isa(isa)
            for (name, options), (value, gradient) in zip(calls, expected, strict=True):
                rows = slice(None) if isa != "scalar" else slice(0, 1)
                got = kb.value_and_grad(name, x[rows], y[rows], threads=threads, **options)
                np.testing.assert_array_equal(got[0], value[rows])
                np.testing.assert_array_equal(got[1], gradient[rows])
    finally:
        _native.set_isa(best)


def test_strides_and_broadcasting(native, rng):
    x, y = rng.normal(size=(2, 6, 4, 50))
    for p, q, options in [
        (x[::-1, ::2, ::-1], y[:, 1::2, ::-1], {}),
        (x.transpose(2, 0, 1), y.transpose(2, 0, 1), {"axis": 0}),
        (x, y[0, 0], {}),
        (x[0, :1], y[:1], {"vocab_size": 31}),
    ]:
        if "axis" not in options:
            assert_parity("js", p, q, 1e-11, **options)
        actual = kb.value_and_grad("reverse_kl", p, q, **options)
        with kb.use_backend("numpy"):
            expected = kb.value_and_grad("reverse_kl", p, q, **options)
        for got, wanted in zip(actual, expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-16)


def test_native_and_python_know_the_same_names(native):
    from kullback._core import _native

    assert sorted(_native.gradient_names()) == sorted(gradients._SUPPORTED)


def test_the_error_is_that_of_p_if_both_sides_are_faulty(backend):
    for wrt in SIDES:
        with pytest.raises(ValueError, match="p must not hold negative weights"):
            kb.value_and_grad("js", [[1.0, -1.0]], [[-1.0, 1.0]], wrt=wrt, input="weights")


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "jeffreys", "total_variation", "squared_hellinger"])
def test_value_is_that_of_the_divergence(backend, rng, name):
    x, y = rng.normal(size=(2, 3, 1, 40)) * 3.0
    y = np.broadcast_to(y, (3, 2, 40))
    value, gradient = kb.value_and_grad(name, x, y)
    assert_close(value, kb.divergence(name, x, y, input="logits"), 1e-12, name)
    assert gradient.shape == (3, 2, 40)


def test_hand_values(backend):
    # p = (1/2, 1/2), q = (1/4, 3/4).
    p, q = [0.5, 0.5], [0.25, 0.75]
    half = np.array([-1.0, 1.0])
    expected = {
        "kl": 0.25 * half,
        "reverse_kl": 3 / 16 * np.log(3.0) * half,
        "total_variation": 3 / 16 * half,
    }
    for name, gradient in expected.items():
        np.testing.assert_allclose(kb.value_and_grad(name, p, q, input="probs")[1], gradient, rtol=1e-14)


@pytest.mark.parametrize("wrt", SIDES)
@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] != "cross_entropy"])
def test_equal_rows_have_no_gradient(backend, name, options, wrt):
    x = np.array([[0.5, -3.0, 2.0, -np.inf]])
    value, gradient = kb.value_and_grad(name, x, x, wrt=wrt, **options)
    assert value == 0.0
    assert (gradient == 0.0).all()


def test_zeros_infinities_and_nan(backend):
    some, none = [0.0, 0.0, -np.inf], [0.0, 0.0, 0.0]
    value, gradient = kb.value_and_grad("kl", none, some)
    assert value == np.inf
    np.testing.assert_allclose(gradient, [1 / 6, 1 / 6, -1 / 3], rtol=1e-15)
    value, gradient = kb.value_and_grad("reverse_kl", some, none)
    assert value == np.inf
    assert np.isnan(gradient).all()
    bounded = [case for case in CASES if case[0] in ("js", "total_variation", "squared_hellinger", "hellinger")]
    for (name, options), wrt, (x, y) in itertools.product(bounded, SIDES, [(some, none), (none, some)]):
        value, gradient = kb.value_and_grad(name, x, y, wrt=wrt, **options)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert abs(gradient.sum()) < 1e-15
        if (y if wrt == "q" else x)[2] == -np.inf:
            assert abs(gradient[2]) == 0.0
    for bad in ([np.nan, 0.0, 0.0], [np.inf, 0.0, 0.0], [-np.inf] * 3):
        value, gradient = kb.value_and_grad("js", [none, none], [bad, none])
        assert np.isnan(value[0])
        assert np.isnan(gradient[0]).all()
        assert value[1] == 0.0
        with pytest.raises(ValueError, match="the result is NaN for row 1"):
            kb.value_and_grad("js", [none, none], [none, bad], nan_policy="raise")


def test_dtypes_kinds_and_axes(backend, rng):
    x, y = rng.normal(size=(2, 5, 4))
    for dtype, expected in [("f8", "f8"), ("f4", "f4"), ("f2", "f4")]:
        assert kb.value_and_grad("kl", x, y.astype(dtype))[1].dtype == expected
    assert kb.value_and_grad("kl", x.astype("f2"), y, wrt="p")[1].dtype == np.float32
    assert kb.value_and_grad("kl", [1, 2], [2, 1])[1].dtype == np.float64
    value, gradient = kb.value_and_grad("js", x, y)
    across = kb.value_and_grad("js", x.T, y.T, axis=0)
    np.testing.assert_array_equal(across[0], value)
    np.testing.assert_array_equal(across[1], gradient.T)
    probs = kb.value_and_grad("js", np.exp(x), np.exp(y), input="weights")
    np.testing.assert_allclose(probs[1], gradient, rtol=1e-12, atol=1e-16)
    cut = kb.value_and_grad("js", x, y, vocab_size=3)[1]
    assert cut.shape == (5, 3)
    assert kb.value_and_grad("js", x[:0], y[:0])[1].shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("renyi",), {}, ValueError, "name must be one of kl, reverse_kl, .*, got 'renyi'"),
        (("kl",), {"wrt": "r"}, ValueError, "wrt must be"),
        (("kl",), {"alpha": 1.0}, TypeError, "kl takes no option of its own, got alpha"),
        (("js",), {"alpha": 1.0}, TypeError, "js takes weight, got alpha"),
        (("js",), {"weight": 1.5}, ValueError, "weight must be between 0 and 1, got 1.5"),
        (("skew_kl",), {"alpha": np.nan}, ValueError, "alpha must be between 0 and 1, got nan"),
        (("alpha",), {}, TypeError, "alpha needs alpha="),
        (("alpha",), {"alpha": np.inf}, ValueError, "alpha must be finite, got inf"),
        (("alpha",), {"alpha": "1"}, TypeError, "alpha must be a number, got '1'"),
        (
            ("kl",),
            {"input": "probs"},
            ValueError,
            "p must not hold negative probabilities, got -1 in the row, column 1",
        ),
        (("kl",), {"temperature": 0.0}, ValueError, "temperature must be"),
    ],
)
def test_hostile_input(backend, arguments, options, error, message):
    with pytest.raises(error, match=message):
        kb.value_and_grad(*arguments, [0.0, -1.0], [0.0, 1.0], **options)
