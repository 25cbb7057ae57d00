"""What the benchmarks hold values against: the formulas over whole rows, without cancellation and without kullback.

Everything is computed in one floating-point type, float64 or (where it is wider) ``numpy.longdouble``. Each divergence
is a sum of non-negative terms in t = ln(q/p), so that a KL of 1e-11 keeps its digits too.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Truth:
    """One row of p and q, normalised.

    Parameters
    ----------
    x, y : ndarray
        Finite logits, or positive probabilities.
    kind : {"logits", "probs"}
        Which of the two.
    dtype : type
        Floating-point type of the arithmetic.
    """

    def __init__(self, x: Array, y: Array, kind: str = "logits", dtype: type[Any] = np.float64) -> None:
        self.x, self.y = x.astype(dtype), y.astype(dtype)
        if kind == "probs":
            self.x, self.y = np.log(self.x), np.log(self.y)
        self.lse_p, self.lse_q = _log_sum_exp(self.x), _log_sum_exp(self.y)
        self.p, self.q = np.exp(self.x - self.lse_p), np.exp(self.y - self.lse_q)
        self.t = (self.y - self.x) - (self.lse_q - self.lse_p)

    def value(self, name: str) -> float:
        """Return one divergence, by registry name."""
        return float(_FORMULAS[name](self))

    def columns(self, target: int, top_k: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
        """Return every default column of ``kullback.compare``."""
        found = {name: self.value(name) for name in _FORMULAS if name != "js_distance"}
        for side, numbers, lse in (("p", self.x, self.lse_p), ("q", self.y, self.lse_q)):
            mine = numbers[target]
            found[f"entropy_{side}"] = float(np.sum(np.exp(numbers - lse) * (lse - numbers)))
            found[f"top1_{side}"] = int(np.argmax(numbers))
            found[f"log_prob_{side}"] = float(mine - lse)
            found[f"rank_{side}"] = int(1 + np.sum(numbers > mine) + np.sum(numbers[:target] == mine))
        found["cross_entropy"] = found["entropy_p"] + found["kl"]
        found["delta_prob"] = float(self.p[target] * np.expm1(self.t[target]))
        best = [_largest(numbers, max(top_k)) for numbers in (self.x, self.y)]
        for k in top_k:
            found[f"overlap_{k}"] = len(set(best[0][:k]) & set(best[1][:k])) / k
        return found


def values(
    name: str, p: Array, q: Array, kind: str = "logits", dtype: type[Any] = np.float64
) -> npt.NDArray[np.float64]:
    """Return one divergence of every row."""
    return np.array(_over_rows(lambda row: Truth(p[row], q[row], kind, dtype).value(name), len(p)))


def all_columns(p: Array, q: Array, targets: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """Return every default column of ``kullback.compare`` for every row of logits."""
    rows = _over_rows(lambda row: Truth(p[row], q[row]).columns(int(targets[row])), len(p))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _over_rows(function: Callable[[int], Any], n_rows: int) -> list[Any]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, range(n_rows)))


def _log_sum_exp(x: Array) -> Any:
    top = x.max()
    return top + np.log(np.exp(x - top).sum())


def _largest(x: Array, k: int) -> list[int]:
    """Columns of the k largest numbers, the largest and of equal ones the first before the others."""
    columns = np.flatnonzero(x >= np.partition(x, -k)[-k])
    order = np.argsort(-x[columns], kind="stable")[:k]
    return [int(column) for column in columns[order]]


def _phi(t: Array) -> Array:
    """e^t - 1 - t, by its series where the difference would cancel."""
    near = np.clip(t, -0.5, 0.5)
    series = np.ones_like(t)
    for n in range(18, 2, -1):
        series = 1 + series * near / n
    return np.asarray(np.where(np.abs(t) < 0.5, near * near / 2 * series, np.expm1(t) - t))


def _js_terms(truth: Truth) -> Array:
    """m/2 ((1 + a) ln(1 + a) + (1 - a) ln(1 - a)) with a = tanh(t/2) and m = (p + q)/2."""
    a = np.tanh(truth.t / 2)
    square = np.minimum(a * a, 1 / 16)
    series = np.zeros_like(a)
    for k in range(15, 0, -1):
        series = series * square + 1 / a.dtype.type(k * (2 * k - 1))
    far = (1 + a) * np.log1p(a) + (1 - a) * np.log1p(-a)
    return np.asarray((truth.p + truth.q) / 4 * np.where(a * a < 1 / 16, square * series, far))


_FORMULAS: dict[str, Callable[[Truth], Any]] = {
    "kl": lambda row: np.sum(row.p * _phi(row.t)),
    "reverse_kl": lambda row: np.sum(row.q * _phi(-row.t)),
    "js": lambda row: np.sum(_js_terms(row)),
    "js_distance": lambda row: np.sqrt(np.sum(_js_terms(row))),
    "jeffreys": lambda row: np.sum(row.p * np.expm1(row.t) * row.t),
    "total_variation": lambda row: np.sum(row.p * np.abs(np.expm1(row.t))) / 2,
    "squared_hellinger": lambda row: np.sum(row.p * np.expm1(row.t / 2) ** 2) / 2,
}
