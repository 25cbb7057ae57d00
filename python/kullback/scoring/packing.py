"""Log-probabilities in 16 bits: a row becomes its maximum, a step, and one code for each token.

``log p = maximum + step * (code - 65535)``, and code 0 stands for an exact -inf. The step is the row's whole finite
range divided by 65534 or a little more, so nothing is lifted to a floor, and codes are counted from the top, so that
the most probable token is exact and those near it lose nothing to rounding in float32. Rounding moves a
log-probability by up to half a step; decoded rows are normalised again, which leaves a KL of about step²/24 at most:
1e-8 nats for a row that spans 32 nats. A token more than 128 nats below the best one (p < 1e-55: it was masked with a
large number) would take the precision from all others; it is lifted to the lowest of them, or to 48 nats below the
best one if that is lower, where a hundred thousand such tokens have a mass of 1e-16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST_CODE", "decode_rows", "encode_rows"]

LARGEST_CODE = 65535
_STEPS = LARGEST_CODE - 1
# Steps that are tried, over the smallest possible, and the log-probability above which a token's rounding counts.
_STRETCHES = np.linspace(1.0, 1.01, 64)
_PROBABLE = np.log(1e-3)
_MASKED = -128.0
_MASK = -48.0


def _log_values(row: NDArray[Any], kind: str) -> NDArray[np.float64]:
    values = row.astype(np.float64)
    if kind in ("probs", "weights"):
        with np.errstate(divide="ignore", invalid="ignore"):  # a negative number becomes NaN, and the row undefined
            np.log(values, out=values)
    return values


def encode_rows(rows: NDArray[Any], kind: str) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Encode rows.

    Parameters
    ----------
    rows : ndarray
        (rows, vocabulary), of the stated kind.
    kind : str
        What the numbers are; they need not be normalised.

    Returns
    -------
    codes : ndarray of uint16
    scales : ndarray of float32
        (rows, 2): maximum and step. A row that is no distribution (NaN, +inf, or nothing but -inf) gets an infinite
        maximum.
    """
    codes = np.zeros(rows.shape, np.uint16)
    scales = np.zeros((len(rows), 2), np.float32)
    scales[:, 0] = np.inf
    for number, row in enumerate(rows):  # row by row, so that the passes below run in the processor's cache
        values = _log_values(row, kind)
        largest = values.max()
        if not np.isfinite(largest):  # NaN among them
            continue
        values -= largest
        maximum = np.float32(-np.log(np.exp(values).sum()))
        finite = values > -np.inf
        lowest = values.min() if finite.all() else values[finite].min()
        if lowest < _MASKED:
            lowest = min(values[values >= _MASKED].min(), _MASK)
            np.maximum(values, lowest, out=values)
        step = _best_step(values, lowest, maximum) if lowest < 0 else np.float32(0)
        if step > 0:
            values /= step
        np.rint(values, out=values)
        values += LARGEST_CODE
        np.clip(values, 1, LARGEST_CODE, out=values)
        values[~finite] = 0
        codes[number] = values
        scales[number] = maximum, step
    return codes, scales


def _best_step(values: NDArray[np.float64], lowest: float, maximum: np.float32) -> np.float32:
    """Choose the step, at most 1 % above the smallest, that rounds the probable tokens best.

    To second order the cost is half the variance of the rounding errors under p, and most of p is on a few tokens. Of
    64 steps one happens to have them near its multiples, which about halves the cost.
    """
    # Rounded up, so that the lowest value has a code.
    smallest = np.nextafter(np.float32(-lowest / _STEPS), np.float32(np.inf))
    steps = (smallest * _STRETCHES).astype(np.float32)
    probable = values[values > _PROBABLE - maximum]
    p = np.exp(probable + maximum)
    sizes = steps[:, np.newaxis].astype(np.float64)
    errors = probable - np.rint(probable / sizes) * sizes
    total = p.sum()
    cost = (p * errors**2).sum(axis=1) - (p * errors).sum(axis=1) ** 2 / max(total, 1e-300)
    cost += max(1.0 - total, 0.0) * sizes[:, 0] ** 2 / 12.0  # what the others cost on average
    return np.float32(steps[cost.argmin()])


def decode_rows(codes: NDArray[np.uint16], scales: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Decode rows into log-probabilities that sum to one but for rounding; rows without a distribution become NaN."""
    for row, (maximum, step) in enumerate(scales):
        if not np.isfinite(maximum) or not np.isfinite(step):
            out[row] = np.nan
            continue
        np.subtract(codes[row], np.float32(LARGEST_CODE), out=out[row], dtype=np.float32)
        with np.errstate(over="ignore"):
            out[row] *= step
        out[row] += maximum
        out[row][codes[row] == 0] = -np.inf
