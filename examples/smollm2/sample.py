"""A few rows of logits in a small file: rounded to a grid, candidates as differences to the reference.

The file is a compressed NumPy archive. Each array of logits has two planes of bytes, because the rare high bytes and
the noisy low ones compress better apart::

    round(64 · logit), minus the same of the reference if it is a candidate  →  zigzag  →  high bytes, low bytes
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 64
"""Grid points per unit of logit. Rounding both sides adds about 1/(12 · 64²) = 2e-5 nats to a Kullback-Leibler
divergence: 1.5 % of that of Q8_0, nothing to that of Q4_0."""


def pack(path: Path, logits: Mapping[str, NDArray[Any]], targets: NDArray[np.int64]) -> None:
    """Write ``logits`` (name to (row, vocabulary); the first is the reference) and the rows' target tokens."""
    arrays: dict[str, NDArray[Any]] = {"targets": targets.astype(np.int32)}
    reference: NDArray[np.int32] | None = None
    for name, values in logits.items():
        grid = np.rint(values.astype(np.float64) * STEPS).astype(np.int32)
        arrays[name] = _planes(grid if reference is None else grid - reference)
        reference = grid if reference is None else reference
    np.savez_compressed(path, allow_pickle=False, **arrays)


def unpack(path: Path) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
    """Return the float32 logits by name, the reference first, and the target tokens of a packed file."""
    logits: dict[str, NDArray[np.float32]] = {}
    reference: NDArray[np.int32] | None = None
    with np.load(path) as archive:
        for name in (name for name in archive.files if name != "targets"):
            grid = _numbers(archive[name])
            grid = grid if reference is None else grid + reference
            reference = grid if reference is None else reference
            logits[name] = (grid / STEPS).astype(np.float32)
        return logits, archive["targets"].astype(np.int64)


def _planes(numbers: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the high and the low bytes of 16-bit zigzag codes, in which 0, -1, 1, -2 become 0, 1, 2, 3."""
    codes = (numbers << 1) ^ (numbers >> 31)
    if codes.min() < 0 or codes.max() > 0xFFFF:
        raise ValueError(f"logits beyond ±{0x8000 / STEPS:g} do not fit into the sample format")
    return np.stack([codes >> 8, codes & 0xFF]).astype(np.uint8)


def _numbers(planes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Undo `_planes`."""
    high, low = planes.astype(np.int32)
    codes = high << 8 | low
    numbers: NDArray[np.int32] = (codes >> 1) ^ -(codes & 1)
    return numbers
