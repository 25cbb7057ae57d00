"""value_and_grad: finite differences in 60 digits, JAX, close rows, zeros, hostile input."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from helpers import assert_close

import kullback as kb

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
    x = rng.normal(size=6) * 2.0
    y = x + scale * rng.normal(size=6)
    value, gradient = kb.value_and_grad(name, x, y, wrt=wrt, temperature=1.7, **options)
    # The temperature divides first, in float64; its chain rule is the other factor.
    expected_value, expected = exact(name, x / 1.7, y / 1.7, wrt, **options)
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
    got, got_gradient = kb.value_and_grad(name, x, y, wrt=wrt, **options)
    np.testing.assert_allclose(got, value, rtol=1e-11)
    close_to(got_gradient, gradient, 1e-11)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "jeffreys", "total_variation", "squared_hellinger"])
def test_value_is_that_of_the_divergence(backend, rng, name):
    x, y = rng.normal(size=(2, 3, 1, 40)) * 3.0
    y = np.broadcast_to(y, (3, 2, 40))
    value, gradient = kb.value_and_grad(name, x, y)
    assert_close(value, kb.divergence(name, x, y, input="logits"), 1e-12, name)
    assert gradient.shape == (3, 2, 40)


def test_hand_values():
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
def test_equal_rows_have_no_gradient(name, options, wrt):
    x = np.array([[0.5, -3.0, 2.0, -np.inf]])
    value, gradient = kb.value_and_grad(name, x, x, wrt=wrt, **options)
    assert value == 0.0
    assert (gradient == 0.0).all()


def test_zeros_infinities_and_nan():
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


def test_dtypes_kinds_and_axes(rng):
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
def test_hostile_input(arguments, options, error, message):
    with pytest.raises(error, match=message):
        kb.value_and_grad(*arguments, [0.0, -1.0], [0.0, 1.0], **options)
