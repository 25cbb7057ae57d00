"""What values are held against: the textbook sums over whole rows, without cancellation and without kullback's code.

Everything is computed in one floating-point type, float64 or (where it is wider) ``numpy.longdouble``. Each divergence
is a sum of non-negative terms in t = ln(q/p), so that a KL of 1e-11 keeps its digits too. Rows must have no zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ALPHA", "NAMES", "ORDER", "SKEW", "Truth", "columns", "values"]

Array = npt.NDArray[Any]

ALPHA, ORDER, SKEW = 0.5, 2.0, 0.1
"""The parameters of ``alpha``, ``renyi`` and ``skew_kl`` here."""
_BLOCK = 1 << 18  # numbers that are looked at together


class Truth:
    """One row of p and q, or several, normalised.

    Parameters
    ----------
    x, y : ndarray
        Finite logits or log-probabilities, or positive probabilities or weights; rows on the last axis.
    kind : {"logits", "log_probs", "probs", "weights"}
        Which of them.
    dtype : type
        Floating-point type of the arithmetic.
    """

    def __init__(self, x: Array, y: Array, kind: str = "logits", dtype: type[Any] = np.float64) -> None:
        self.x, self.y = x.astype(dtype), y.astype(dtype)
        if kind in ("probs", "weights"):
            self.x, self.y = np.log(self.x), np.log(self.y)
        self.lse_p, self.lse_q = _log_sum_exp(self.x), _log_sum_exp(self.y)
        self.p, self.q = np.exp(self.x - self.lse_p), np.exp(self.y - self.lse_q)
        self.t = (self.y - self.x) - (self.lse_q - self.lse_p)

    def value(self, name: str) -> Array:
        """Return one divergence of each row, by registry name."""
        return np.asarray(_FORMULAS[name](self))

    def column(self, name: str, targets: Array) -> Array:
        """Return one column of ``kullback.compare``."""
        if name in _FORMULAS:
            return self.value(name)
        if name.startswith("overlap_"):
            return self._overlap(int(name.removeprefix("overlap_")))
        what, side = name.rsplit("_", 1)
        numbers, lse = (self.y, self.lse_q) if side == "q" else (self.x, self.lse_p)
        mine = np.take_along_axis(numbers, targets[..., np.newaxis], axis=-1)
        if what == "entropy":
            return _sum(np.exp(numbers - lse) * (lse - numbers))
        if what == "top1":
            return np.asarray(np.argmax(numbers, axis=-1))
        if what == "top1_prob":
            return np.asarray(np.exp(numbers.max(axis=-1) - lse[..., 0]))
        if what == "log_prob":
            return np.asarray((mine - lse)[..., 0])
        if what == "rank":
            earlier = np.arange(numbers.shape[-1]) < targets[..., np.newaxis]
            return np.asarray(1 + ((numbers > mine) | ((numbers == mine) & earlier)).sum(axis=-1))
        if name == "delta_prob":
            at = targets[..., np.newaxis]
            return np.asarray(
                (np.take_along_axis(self.p, at, axis=-1) * np.expm1(np.take_along_axis(self.t, at, axis=-1)))[..., 0]
            )
        raise KeyError(name)

    def _overlap(self, k: int) -> Array:
        p, q = (order[..., :k] for order in self._orders)
        return np.asarray((p[..., :, np.newaxis] == q[..., np.newaxis, :]).sum(axis=(-2, -1)) / p.shape[-1])

    @cached_property
    def _orders(self) -> list[Array]:
        """Columns of each side, largest first; of equal ones the first before the others."""
        return [np.argsort(-numbers, axis=-1, kind="stable") for numbers in (self.x, self.y)]


def values(
    names: Iterable[str], p: Array, q: Array, kind: str = "logits", dtype: type[Any] = np.float64
) -> dict[str, Array]:
    """Return divergences of every row, by name.

    Parameters
    ----------
    names : iterable of str
        Among :data:`NAMES`.
    p, q : ndarray
        Shape (rows, columns).
    kind, dtype
        As for :class:`Truth`.
    """
    wanted = list(names)
    return _over_rows(lambda part: {n: Truth(p[part], q[part], kind, dtype).value(n) for n in wanted}, p.shape)


def columns(names: Iterable[str], p: Array, q: Array, targets: Array, kind: str = "logits") -> dict[str, Array]:
    """Return columns of ``kullback.compare`` for every row, by name."""
    wanted = list(names)

    def part_of(part: slice) -> dict[str, Array]:
        rows = Truth(p[part], q[part], kind)
        return {name: rows.column(name, targets[part]) for name in wanted}

    return _over_rows(part_of, p.shape)


def _over_rows(function: Callable[[slice], dict[str, Array]], shape: tuple[int, ...]) -> dict[str, Array]:
    n_rows, n_columns = shape
    step = max(1, _BLOCK // n_columns)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(function, (slice(start, start + step) for start in range(0, n_rows, step))))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _sum(terms: Array) -> Array:
    return np.asarray(np.sum(terms, axis=-1))


def _log_sum_exp(x: Array) -> Array:
    top = x.max(axis=-1, keepdims=True)
    return np.asarray(top + np.log(np.exp(x - top).sum(axis=-1, keepdims=True)))


def _phi(t: Array) -> Array:
    """e^t - 1 - t, by its series where the difference would cancel."""
    near = np.clip(t, -0.5, 0.5)
    series = np.ones_like(t)
    for n in range(18, 2, -1):
        series = 1 + series * near / n
    return np.asarray(np.where(np.abs(t) < 0.5, near * near / 2 * series, np.expm1(t) - t))


def _js(rows: Truth) -> Array:
    """Sum of m/2 ((1 + a) ln(1 + a) + (1 - a) ln(1 - a)) with a = tanh(t/2) and m = (p + q)/2."""
    a = np.tanh(rows.t / 2)
    square = np.minimum(a * a, 1 / 16)
    series = np.zeros_like(a)
    for k in range(15, 0, -1):
        series = series * square + 1 / a.dtype.type(k * (2 * k - 1))
    far = (1 + a) * np.log1p(a) + (1 - a) * np.log1p(-a)
    return _sum((rows.p + rows.q) / 4 * np.where(a * a < 1 / 16, square * series, far))


def _skew_kl(rows: Truth) -> Array:
    """KL(p || m) with m = SKEW p + (1 - SKEW) q: its log-ratio is ln(1 + (1 - SKEW)(e^t - 1))."""
    return _sum(rows.p * _phi(np.log1p((1 - SKEW) * np.expm1(rows.t))))


def _squared_hellinger(rows: Truth) -> Array:
    return _sum(rows.p * np.expm1(rows.t / 2) ** 2) / 2


def _power(rows: Truth, order: float) -> Array:
    """Sum of p^order q^(1 - order), less 1; every term is of one sign."""
    return _sum(rows.p * (np.expm1((1 - order) * rows.t) - (1 - order) * np.expm1(rows.t)))


def _cauchy_schwarz(rows: Truth) -> Array:
    """-2 ln cos of the angle between p and q, from the distance of the unit vectors."""
    norms = (np.sqrt((side * side).sum(axis=-1, keepdims=True)) for side in (rows.p, rows.q))
    p, q = (side / norm for side, norm in zip((rows.p, rows.q), norms, strict=True))
    return np.asarray(-2 * np.log1p(-_sum((p - q) ** 2) / 2))


_FORMULAS: dict[str, Callable[[Truth], Any]] = {
    "kl": lambda rows: _sum(rows.p * _phi(rows.t)),
    "reverse_kl": lambda rows: _sum(rows.q * _phi(-rows.t)),
    "js": _js,
    "js_distance": lambda rows: np.sqrt(_js(rows)),
    "skew_kl": _skew_kl,
    "jeffreys": lambda rows: _sum(rows.p * np.expm1(rows.t) * rows.t),
    "total_variation": lambda rows: _sum(rows.p * np.abs(np.expm1(rows.t))) / 2,
    "squared_hellinger": _squared_hellinger,
    "hellinger": lambda rows: np.sqrt(_squared_hellinger(rows)),
    "chi2": lambda rows: _sum(-rows.p * np.expm1(rows.t) * np.expm1(-rows.t)),
    "neyman_chi2": lambda rows: _sum(rows.p * np.expm1(rows.t) ** 2),
    "triangular_discrimination": lambda rows: _sum(rows.p * np.expm1(rows.t) ** 2 / (1 + np.exp(rows.t))),
    "alpha": lambda rows: _power(rows, ALPHA) / (ALPHA * (ALPHA - 1)),
    "renyi": lambda rows: np.log1p(_power(rows, ORDER)) / (ORDER - 1),
    "bhattacharyya": lambda rows: -np.log1p(-_squared_hellinger(rows)),
    "cauchy_schwarz": _cauchy_schwarz,
    "fisher_rao": lambda rows: 4 * np.arcsin(np.sqrt(_squared_hellinger(rows) / 2)),
    "acceptance_rate": lambda rows: _sum(np.minimum(rows.p, rows.q)),
    "cross_entropy": lambda rows: _sum(rows.p * (rows.lse_q - rows.y)),
    "entropy": lambda rows: _sum(rows.p * (rows.lse_p - rows.x)),
}

NAMES = tuple(_FORMULAS)
"""Names that have a formula here."""
