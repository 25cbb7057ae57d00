"""A value is held against another before its time counts."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["WrongValueError", "check", "promised", "worst_error"]

_FLOOR = 1e-13  # the smallest value whose digits are promised


class WrongValueError(ValueError):
    """A benchmark found a value that is wrong, and stopped (command line: exit status 1)."""


def worst_error(actual: Any, expected: Any) -> float:
    """Return the largest relative error; NaN if one of them is NaN."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - expected) / np.maximum(np.abs(expected), _FLOOR)
    return float(np.max(np.where(actual == expected, 0.0, error), initial=0.0))


def check(what: str, actual: Any, expected: Any, tolerance: float) -> float:
    """Return the worst relative error.

    Raises
    ------
    WrongValueError
        If it is above the tolerance.
    """
    error = worst_error(actual, expected)
    if not error <= tolerance:
        raise WrongValueError(f"{what} is wrong: relative error {error:.2g}, allowed {tolerance:.2g}")
    return error


def promised(dtype: str, noise: float) -> float:
    """Return the relative error that is allowed: the promise, and what float64 can tell of rows that close."""
    return (1e-12 if dtype == "float64" else 1e-6) + 1e-14 / noise
