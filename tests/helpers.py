"""What several test modules share: backends, tolerances, one comparison that raises, and random rows."""

import dataclasses
import importlib.util
import os
from collections.abc import Iterable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

import kullback as kb
from kullback._core import registry

NATIVE = importlib.util.find_spec("kullback._core._native") is not None
BACKENDS = ("numpy", "native")
SLOW = os.environ.get("KULLBACK_TEST_PROFILE", "fast") == "slow"

KINDS = ("probs", "weights", "log_probs", "logits")
DTYPES: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}
#: A value of every parameter that has no default, for the tests that go through all names.
PARAMETERS = {"alpha": "alpha=0.3", "renyi": "order=2", "renyi_entropy": "order=2", "tsallis_entropy": "order=0.5"}
ENTROPIES = ["entropy", "renyi_entropy:order=2", "tsallis_entropy:order=0.5"]
#: Every metric of two distributions, written as for `compare`; then the entropies.
METRICS = [f"{name}:{PARAMETERS[name]}" if name in PARAMETERS else name for name in kb.divergence_names()]
NAMES = [*METRICS, *ENTROPIES]
#: Square roots, whose errors near 0 are those of what is under them.
ROOTS = ("js_distance", "hellinger", "fisher_rao")

# The promises of the numerics page: relative error of values from 1e-13 to 1e3.
SMALLEST = 1e-13
RELATIVE_ERROR = {"numpy": 1e-12, "float64": 1e-12, "float32": 1e-6}


def tolerance(backend: str, *arrays: np.ndarray) -> float:
    """Promised relative error: NumPy and anything with a float64 input, or float32 lanes."""
    wide = any(np.asarray(array).dtype.itemsize == 8 for array in arrays)
    return RELATIVE_ERROR["numpy" if backend == "numpy" else "float64" if wide else "float32"]


def floor_of(name: str) -> float:
    """Smallest value with a promised relative error; a square root inherits the floor of what is under it."""
    return SMALLEST ** (0.5 if name in ROOTS else 1.0)


def assert_close(actual: Any, expected: Any, rtol: float, name: str = "", where: str = "") -> None:
    """Raise unless dtype, shape, NaN, infinities and values agree; below the floor both must be negligible."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    what = f"{name} {where}"
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    assert actual.dtype == np.float64, f"{what}: dtype {actual.dtype}"
    negligible = np.abs(expected) < floor_of(name)
    both = negligible & (np.abs(actual) < 2 * floor_of(name))
    np.testing.assert_allclose(
        np.where(both, 0.0, actual), np.where(both, 0.0, expected), rtol=rtol, atol=0.0, equal_nan=True, err_msg=what
    )


def evaluate(name: str, p: Any, q: Any, **options: Any) -> Any:
    """Evaluate a name, its parameter written as for `compare`; the entropies take p alone."""
    name, _, option = name.partition(":")
    if option:
        parameter, _, number = option.partition("=")
        options[parameter] = float(number)
    if name in kb.divergence_names():
        return kb.divergence(name, p, q, **options)
    kind = options.pop("input", "probs")
    return getattr(kb, name)(p, input=kind if isinstance(kind, str) else kind[0], **options)


def outcome(name: str, p: Any, q: Any, **options: Any) -> Any:
    """Return the value, or the type and message of the exception."""
    try:
        return evaluate(name, p, q, **options)
    except Exception as error:
        return type(error), str(error)


def random_rows(rng: np.random.Generator, shape: Sequence[int], kind: str, dtype: Any, spread: float = 3.0) -> Any:
    """Draw rows of one kind, normalised where the kind asks for it as well as the dtype can."""
    logits = rng.normal(size=shape) * spread
    if kind == "logits":
        return logits.astype(dtype)
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    if kind == "log_probs":
        return log_probs.astype(dtype)
    return (np.exp(log_probs) * (1.0 if kind == "probs" else 37.0)).astype(dtype)


def as_kind(probs: Any, kind: str) -> np.ndarray:
    """Write probabilities as numbers of another kind."""
    probs = np.asarray(probs, dtype=np.float64)
    if kind in ("probs", "weights"):
        return probs if kind == "probs" else 3.0 * probs
    with np.errstate(divide="ignore"):
        return np.log(probs) + (0.0 if kind == "log_probs" else 17.25)


def definitions(names: Iterable[str] = NAMES) -> list[registry.Definition]:
    """Look definitions up, in the order of the names."""
    return [definition_of(name) for name in names]


def definition_of(name: str) -> registry.Definition:
    """Look up the definition of a name, its parameter filled in."""
    return dataclasses.replace(registry.definitions()[name.partition(":")[0]], name=name)
