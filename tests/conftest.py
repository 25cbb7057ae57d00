"""Backends as a fixture, and the size of the random tests (KULLBACK_TEST_PROFILE=fast or slow)."""

import signal
from collections.abc import Iterator

import helpers
import hypothesis
import numpy as np
import pytest

import kullback as kb

# A shell that starts tests in the background has them ignore Ctrl-C, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "fast",
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "slow", hypothesis.settings.get_profile("fast"), max_examples=500, derandomize=False
)
hypothesis.settings.load_profile("slow" if helpers.SLOW else "fast")


@pytest.fixture(params=helpers.BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once with each backend."""
    if request.param == "native" and not helpers.NATIVE:
        pytest.skip("the native module is not built")
    with kb.use_backend(request.param):
        yield request.param


@pytest.fixture
def native() -> Iterator[None]:
    """Run the test with the native backend only."""
    if not helpers.NATIVE:
        pytest.skip("the native module is not built")
    with kb.use_backend("native"):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(20240711)
