"""The rows that are compared: a reference, and a candidate some noise away from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..scoring.errors import UsageError
from .settings import Plan

__all__ = ["SPREAD", "Data"]

Array = npt.NDArray[Any]

SPREAD = 3.0
"""Standard deviation of the reference's logits."""
_SEED = 20240711
_LARGEST_WEIGHT = 11.0  # e^11 and e^-9.5 are normal float16 numbers
_SMALLEST_WEIGHT = -9.5


class Data:
    """Rows p and q, C-contiguous and allocated together.

    Parameters
    ----------
    plan : Plan
        Shape, type, kind and noise.

    Attributes
    ----------
    p, q : ndarray
        Shape (rows, columns); row i equals row i + `distinct`.
    targets : ndarray of int64
        A column for each row.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        rng = np.random.default_rng(_SEED)
        shape = plan.distinct, plan.columns
        drawn: Any = np.float64 if plan.dtype == "float64" else np.float32
        logits_p = rng.standard_normal(shape, drawn) * drawn(SPREAD)
        logits_q = logits_p + rng.standard_normal(shape, drawn) * drawn(plan.noise)
        self._both = np.empty((2, plan.rows, plan.columns), _numpy_type(plan.dtype))
        for side, logits in zip(self._both, (logits_p, logits_q), strict=True):
            rows = _as_kind(logits, plan.kind).astype(side.dtype)
            for start in range(0, plan.rows, plan.distinct):
                part = side[start : start + plan.distinct]
                part[:] = rows[: len(part)]
        self.p, self.q = self._both
        self.targets = self.repeated(rng.integers(plan.columns, size=plan.distinct))

    def repeated(self, values: Array) -> Array:
        """Return what belongs to the distinct rows for all rows."""
        return np.asarray(values[np.arange(self.plan.rows) % self.plan.distinct])

    def to_read(self) -> npt.NDArray[np.float32]:
        """Return float32 numbers that take as many bytes as both sides: themselves if they are float32."""
        flat = self._both.reshape(-1)
        return flat if flat.dtype == np.float32 else np.ones(max(1, flat.nbytes // 4), np.float32)


def _numpy_type(name: str) -> Any:
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ModuleNotFoundError:  # NumPy has no bfloat16 of its own
        raise UsageError("dtype bfloat16 needs the package ml_dtypes; install it with: pip install ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)


def _as_kind(logits: Array, kind: str) -> Array:
    """Write the distributions of rows of logits as numbers of a kind."""
    if kind == "logits":
        return logits
    top = logits.max(axis=-1, keepdims=True).astype(np.float64)
    if kind == "weights":
        return np.asarray(np.exp(np.clip(logits - top + _LARGEST_WEIGHT, _SMALLEST_WEIGHT, None)))
    log_probs = logits - (top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True)))
    return np.asarray(log_probs if kind == "log_probs" else np.exp(log_probs))
