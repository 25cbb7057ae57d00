"""The NumPy arithmetic of :class:`kullback.TopK` and :func:`kullback.compare_topk`, one pair of rows at a time.

docs/topk.md derives the bounds. Everything here follows it literally: levels by bisection, corners one by one.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kullback._core import validation
from kullback._core.arrays import as_float64
from kullback._core.reference import Rows, load, phi, phi_mirrored, psi2, row_blocks
from kullback._core.types import Array
from kullback._core.validation import Problem

NAMES = ("kl", "reverse_kl", "js", "total_variation")

#: A tail that is 1 less a list, and smaller than this share of what lies outside the largest, is but rounding.
FLOOR = 2.0**-49

_NONE = -math.inf


@dataclass(eq=False)
class Listed:
    """One row: ids in ascending order with their log-probabilities, normalised so that list and tail sum to 1."""

    ids: npt.NDArray[Any]
    logs: Array
    tail: float
    derived: bool = False
    """Whether the tail is 1 less the list, rather than known by itself."""
    rest: Array | None = None
    """Log-probabilities of all other tokens, where they are known: the row was a full one."""

    def smallest(self) -> float:
        """Return the smallest listed probability; no bound without a list, or where nothing is unseen."""
        return math.inf if self.rest is not None or not self.logs.size else math.exp(self.logs.min())


def listed(ids: npt.NDArray[Any], logs: Array, log_tail: float | None, vocab_size: int) -> Listed | None:
    """Normalise a list; None if it is no distribution."""
    if np.isnan(logs).any() or (log_tail is not None and math.isnan(log_tail)):
        return None
    kept = ids >= 0
    ids, logs = ids[kept], logs[kept]
    order = np.argsort(ids)
    ids, logs = ids[order], logs[order]
    slack, outside = one_less(logs)
    complete = ids.size == vocab_size
    derived = log_tail is None or complete
    if not derived:
        tail = math.exp(log_tail or 0.0)
        excess = tail - slack
    else:
        tail, excess = (slack, 0.0) if slack > FLOOR * outside and not complete else (0.0, -slack)
    if not -1.0 < excess < math.inf:
        return None
    return Listed(ids, logs - math.log1p(excess), tail / (1.0 + excess), derived)


def one_less(logs: Array) -> tuple[float, float]:
    """Return 1 less the mass of a list and 1 less its largest; only what lies outside the largest is rounded."""
    if not logs.size:
        return 1.0, 1.0
    top = int(np.argmax(logs))
    outside = -math.expm1(logs[top])
    return math.fsum([outside, *(-np.exp(np.delete(logs, top)))]), outside


def cut(logs: Array, ids: npt.NDArray[Any]) -> Listed:
    """Read a full row of log-probabilities at some ids."""
    outside = np.ones(logs.size, bool)
    outside[ids] = False
    rest = logs[outside]
    return Listed(ids, logs[ids], math.fsum(np.exp(rest)), False, rest)


@dataclass(eq=False)
class Known:
    """A matched pair. ``alone[side]`` are the log-probabilities of ids that only this side lists."""

    common: Array
    alone: tuple[Array, Array]
    tails: tuple[float, float]
    unseen: int
    moved: float | None
    """Sum of q - p over the ids that both list, if that is the more accurate way to the bucket."""

    @property
    def masses(self) -> tuple[float, float]:
        """Return the probability listed by one side alone, for each side."""
        return math.fsum(np.exp(self.alone[0])), math.fsum(np.exp(self.alone[1]))

    def bucket(self) -> Array:
        """Take everything that is not listed by both sides as one outcome."""
        p, q = (tail + mass for tail, mass in zip(self.tails, self.masses, strict=True))
        t = _log(q) - _log(p) if p > 0.0 or q > 0.0 else math.nan
        if self.moved is not None and abs(self.moved) < 0.5 * p:
            t = math.log1p(-self.moved / p)
        return np.asarray(self.common + _weighted(np.array([max(p, q)]), np.array([t])))


def match(p: Listed, q: Listed, vocab_size: int) -> Known:
    """Match two lists."""
    _, of_p, of_q = np.intersect1d(p.ids, q.ids, assume_unique=True, return_indices=True)
    from_, to = p.logs[of_p], q.logs[of_q]
    larger, t = np.exp(np.maximum(from_, to)), to - from_
    gains = np.where(np.isnan(t), 0.0, np.copysign(-larger * np.expm1(-np.abs(t)), t))
    moved = math.fsum(gains) if p.derived and q.derived else None
    unseen = max(vocab_size + of_p.size - p.ids.size - q.ids.size, 0)
    alone = np.delete(p.logs, of_p), np.delete(q.logs, of_q)
    return Known(_weighted(larger, t), alone, (p.tail, q.tail), unseen, moved)


@np.errstate(all="ignore")
def evaluate(p: Listed, q: Listed, vocab_size: int, tail: str) -> Array:
    """Return the four divergences, or their four lowest and four highest values."""
    if tail == "renormalize":
        wholes = [_whole(row) for row in (p, q)]
        if wholes[0] is None or wholes[1] is None:
            return np.full(4, np.nan)
        known = match(wholes[0], wholes[1], vocab_size)
        return known.common + _terms(known.alone[0], _NONE) + _terms(_NONE, known.alone[1])
    known = match(p, q, vocab_size)
    if tail == "bucket":
        return known.bucket()
    caps = math.inf, math.inf
    if tail == "sorted_bounds":
        first, second = (max(row.smallest(), row.tail / max(vocab_size - row.ids.size, 1)) for row in (p, q))
        caps = first, second
    for side, row in enumerate((p, q)):
        if row.rest is not None:
            known.alone = (row.rest, known.alone[1]) if side == 0 else (known.alone[0], row.rest)
            known.tails = (0.0, known.tails[1]) if side == 0 else (known.tails[0], 0.0)
            known.unseen = 0
    low = lowest(known, caps)
    return np.concatenate([low, np.maximum(low, highest(known, caps))])


def lowest(known: Known, caps: tuple[float, float]) -> Array:
    """Evaluate the best completion, which is the same for every divergence."""
    (a, b), (c, d) = known.tails, caps
    of_p, of_q = known.masses
    if math.isinf(c) and math.isinf(d):
        if known.unseen and a * b >= of_p * of_q:
            return known.bucket()
        return np.asarray(known.common + _terms(_log(a), _log(of_q)) + _terms(_log(of_p), _log(b)))
    x, y, shares = best_completion(np.exp(known.alone[0]), np.exp(known.alone[1]), known.tails, caps, known.unseen)
    beside = _terms(np.log(x), known.alone[1]) + _terms(known.alone[0], np.log(y))
    return np.asarray(known.common + beside + _terms(_log(shares[0]), _log(shares[1])))


def best_completion(
    p: Array, q: Array, tails: tuple[float, float], caps: tuple[float, float], n: int
) -> tuple[Array, Array, tuple[float, float]]:
    """Pour the tails out; return x beside q, y beside p, and the masses on the `n` tokens that neither side lists."""
    (a, b), (c, d) = tails, caps
    s, w = _level(q, c, a), _level(p, d, b)
    shares = 0.0, 0.0
    if n and (a <= 0.0 or b <= 0.0):
        shares = max(a - _poured(q, c, s).sum(), 0.0), max(b - _poured(p, d, w).sum(), 0.0)
    elif n and s * w > 1.0:
        low, high = max(1.0 / w, 1e-300), min(s, 1e300)
        for _ in range(200):
            r = math.sqrt(low) * math.sqrt(high)
            left = a - _poured(q, c, r).sum(), b - _poured(p, d, 1.0 / r).sum()
            low, high = (r, high) if left[0] > r * left[1] else (low, r)
        s, w, shares = r, 1.0 / r, (max(left[0], 0.0), max(left[1], 0.0))
        if shares[0] > n * c or shares[1] > n * d:
            if c <= r * d:
                s, w = _level(q, c, a - n * c), _level(np.append(p, np.full(n, c)), d, b)
                shares = n * c, n * min(d, w * c)
            else:
                s, w = _level(np.append(q, np.full(n, d)), c, a), _level(p, d, b - n * d)
                shares = n * min(c, s * d), n * d
    return _settled(q, c, s, a - shares[0]), _settled(p, d, w, b - shares[1]), shares


def highest(known: Known, caps: tuple[float, float]) -> Array:
    """Evaluate the worst completion: the largest of every pair of corners."""
    p, q = np.sort(known.alone[0]), np.sort(known.alone[1])
    corners = tuple(
        _corner(total, cap, beside.size + known.unseen)
        for total, cap, beside in zip(known.tails, caps, (q, p), strict=True)
    )
    if sum(map(len, corners)) <= known.unseen:
        # There is room for both tails beside nothing.
        alone = [_log(tail + mass) for tail, mass in zip(known.tails, known.masses, strict=True)]
        return np.asarray(known.common + _terms(alone[0], _NONE) + _terms(_NONE, alone[1]))
    best = np.zeros(4)
    for beside_q, x in _placings(corners[0], q.size, known.unseen):
        for beside_p, y in _placings(corners[1], p.size, known.unseen):
            apart = np.zeros(known.unseen)
            x_rest, y_rest = apart.copy(), apart.copy()
            x_rest[: len(x)], y_rest[known.unseen - len(y) :] = x, y[::-1]
            total = _terms(np.log(_padded(beside_q, q.size)), q) + _terms(p, np.log(_padded(beside_p, p.size)))
            total += _terms(np.log(x_rest), np.log(y_rest))
            best = np.maximum(best, total)
    # A corner keeps every other token empty, so an infinity was met if one is possible.
    return np.asarray(known.common + np.where(_infinite(known, corners), np.inf, best))


def _placings(corner: Array, known: int, n: int) -> Iterator[tuple[Array, Array]]:
    """Split a corner (largest first) into masses beside the smallest known tokens, and on the unlisted ones."""
    full = corner[:-1] if corner.size == 1 or (corner.size and corner[-1] < corner[0]) else corner
    rest = corner[full.size :]
    for i, with_rest in itertools.product(range(full.size + 1), (False, True) if rest.size else (False,)):
        beside = np.append(full[:i], rest if with_rest else [])
        apart = np.append(full[i:], [] if with_rest else rest)
        if beside.size <= known and apart.size <= n:
            yield beside, apart


def _corner(total: float, cap: float, tokens: int) -> Array:
    """Return as many masses at the cap as fit, and the remainder."""
    if total <= 0.0:
        return np.zeros(0)
    if total < cap:
        return np.array([total])
    full = min(math.floor(total / cap), tokens)
    rest = total - full * cap if full < tokens else 0.0
    return np.append(np.full(full, cap), [rest] if rest > 1e-12 * cap else [])


def _infinite(known: Known, corners: tuple[Array, ...]) -> npt.NDArray[np.bool_]:
    """Tell, for each divergence, whether a completion makes it infinite."""
    found = np.zeros(4, bool)
    for side in (0, 1):
        tail, alone = known.tails[side] > 0.0, known.alone[side]
        may_vanish = corners[1 - side].size < alone.size + known.unseen
        something = bool((alone > _NONE).any()) or (tail and known.unseen > 0)
        found[side] = (tail and bool((known.alone[1 - side] == _NONE).any())) or (may_vanish and something)
    return found


def _level(values: Array, cap: float, total: float) -> float:
    """Return the level s with sum min(cap, s values) = total; infinite if the caps hold less."""
    ordered = np.sort(values[values > 0.0])[::-1]
    if total <= 0.0:
        return 0.0
    suffix = np.cumsum(ordered[::-1])[::-1]
    clipped = np.concatenate([[0.0], np.full(max(ordered.size - 1, 0), cap)])[: ordered.size].cumsum()
    levels = (total - clipped) / suffix
    held = np.flatnonzero(levels * ordered <= cap)
    return float(levels[held[0]]) if held.size else math.inf


def _poured(values: Array, cap: float, level: float) -> Array:
    """Return min(cap, level values), 0 beside 0."""
    positive = values > 0.0
    return np.minimum(cap, np.multiply(values, level, out=np.zeros_like(values), where=positive))


def _settled(values: Array, cap: float, level: float, total: float) -> Array:
    """Pour a tail out; what nothing else has room for goes beside probabilities of 0."""
    poured = _poured(values, cap, level)
    left, empty = total - poured.sum(), np.flatnonzero(values == 0.0)
    if math.isinf(level) and empty.size and left > 1e-12 * total:
        poured[empty] = left / empty.size
    return poured


def _whole(row: Listed) -> Listed | None:
    """Take a list as a whole distribution."""
    less, _ = one_less(row.logs)
    return Listed(row.ids, row.logs - math.log1p(-less), 0.0, True) if less < 1.0 else None


def _padded(values: Array, size: int) -> Array:
    return np.concatenate([values, np.zeros(size - values.size)])


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else _NONE


def _terms(log_p: npt.ArrayLike, log_q: npt.ArrayLike) -> Array:
    """Sum f(p, q) for each of the four divergences."""
    p, q = np.broadcast_arrays(np.atleast_1d(log_p), np.atleast_1d(log_q))
    return _weighted(np.exp(np.maximum(p, q)), q - p)


def _weighted(larger: Array, t: Array) -> Array:
    """Sum the larger probability times each generator at t = ln q/p."""
    s = -np.abs(np.where(np.isnan(t), 0.0, t))
    down, up = phi(s), phi_mirrored(s)
    rows = [np.where(t > 0.0, up, down), np.where(t > 0.0, down, up)]
    rows += [(0.25 + 0.25 * np.exp(s)) * psi2(s), -0.5 * np.expm1(s)]
    terms = np.array(rows)
    # What is infinite counts even if the probability beside it has underflowed.
    weighted = np.multiply(larger, terms, out=terms, where=np.isfinite(terms))
    return np.asarray(weighted.sum(axis=-1))


def evaluate_rows(problem: Problem, lists: list[Any], vocab_size: int, rule: str) -> Array:
    """Run the NumPy definition, a pair of rows at a time."""
    values = np.full((problem.n_rows, 8 if rule.endswith("bounds") else 4), np.nan)
    for row in range(problem.n_rows):
        sides: list[Listed | None] = [None, None]
        for at, side in enumerate(lists):
            if side is not None:
                ids, logs, log_tail = side
                known = None if log_tail is None else float(log_tail[row])
                with np.errstate(invalid="ignore"):
                    sides[at] = listed(ids[row], as_float64(logs[row]), known, vocab_size)
        for at, side in enumerate(lists):
            if side is None:
                logs = _full_row(problem, "pq"[at], row)
                other = sides[1 - at]
                sides[at] = None if logs is None or other is None else cut(logs, other.ids)
        if sides[0] is not None and sides[1] is not None:
            values[row] = evaluate(sides[0], sides[1], vocab_size, rule)
    return values


def _full_row(problem: Problem, argument: str, row: int) -> Array | None:
    """Return the log-probabilities of a full row, None if it is no distribution."""
    array = problem.p if argument == "p" or problem.q is None else problem.q
    alone = Problem(array, None, problem.kind_p, problem.kind_p, 1.0, False, 1)
    try:
        with np.errstate(all="ignore"):
            rows: Rows = load(alone, slice(row, row + 1))
    except validation.RowError as error:
        reason, _, at, column, value = error.args
        raise validation.RowError(reason, argument, at, column, value) from None
    if not rows.defined[0, 0]:
        return None
    return np.asarray(-rows.depth[0] - np.log1p(rows.rest[0]))


def top_k(problem: Problem, k: int) -> Array:
    """Run the NumPy definition: ids, log-probabilities, and the logarithm of the mass of the rest."""
    found = np.full((problem.n_rows, 2 * k + 1), np.nan)
    for block in row_blocks(problem):
        with np.errstate(all="ignore"):
            rows: Rows = load(problem, block)
            order = np.argsort(-rows.values, axis=-1, kind="stable")
            logs = np.take_along_axis(-rows.depth - np.log1p(rows.rest), order, axis=-1)
            rest = np.log(np.exp(logs[:, k:] - logs[:, k : k + 1]).sum(axis=-1)) if k < problem.width else None
            tail = np.full(len(logs), -np.inf) if rest is None else np.where(np.isneginf(logs[:, k]), -np.inf, rest)
            tail = tail if rest is None else tail + logs[:, k]
            made = np.hstack([order[:, :k].astype(np.float64), logs[:, :k], tail[:, np.newaxis]])
            found[block] = np.where(rows.defined, made, np.nan)
    return found
