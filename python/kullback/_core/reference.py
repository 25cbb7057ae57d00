r"""The NumPy arithmetic: rows of any kind become a normalised pair, and every divergence is one sum over it.

A :class:`Pair` holds the normalised rows p and q and their log-ratio t = ln q - ln p. An f-divergence is
:math:`\sum_i p_i\, g(t_i)` with a generator g >= 0 and g(0) = g'(0) = 0, so that no term cancels another. Where t > 0
it is taken from q's side, :math:`q\,\tilde g(-t)` with :math:`\tilde g(s) = e^s g(-s)`: only e^s with s <= 0 is ever
evaluated, nothing overflows, and a probability that underflows still counts through its logarithm.

Accuracy rests on t. When p and q agree to ten digits, t is what the other six say, so it is formed from error-free
differences, and the normaliser is corrected by the exact condition that the rows of q - p sum to 0.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kullback._core import extended
from kullback._core.arrays import as_float32, as_float64
from kullback._core.lazy import lazy
from kullback._core.types import Array, Kind
from kullback._core.validation import NORMALISATION_TOLERANCE, Problem, RowError

Generator = Callable[[Array], Array]

# Elements of a block of rows: its temporaries of float64 stay in the cache, and below 64 MB for rows of half a million.
_BLOCK = 1 << 17


@dataclass(eq=False)
class Rows:
    """One distribution a row. ``log_total`` is the logarithm of the mass of `values`, as an unevaluated sum."""

    kind: Kind
    values: Array
    """The numbers given, as float64; harmless ones in rows that are not defined."""
    defined: npt.NDArray[np.bool_]
    """Whether the row is a distribution, shape (rows, 1)."""
    probs: Array
    depth: Array
    """ln(largest probability / probability), so 0 at the largest and +inf where the probability is 0."""
    rest: Array
    """Mass outside the first maximum over the mass of that maximum, shape (rows, 1)."""
    log_total: tuple[Array, Array]

    @property
    def is_linear(self) -> bool:
        """Whether the values are probabilities or weights rather than logarithms."""
        return self.kind in ("probs", "weights")

    def logs(self) -> tuple[Array, Array]:
        """Return the logarithms of the values, as pairs to twice the precision."""
        return extended.log(self.values) if self.is_linear else (self.values, np.zeros_like(self.values))

    def log_probs(self) -> Array:
        """Return the logarithms of the probabilities; finite where those underflow."""
        return -(self.depth + np.log1p(self.rest))

    def entropy(self) -> Array:
        """Return H = ln(total / largest) + sum p ln(largest / p), exact also when H is almost 0."""
        weighted = np.multiply(self.probs, self.depth, out=np.zeros_like(self.probs), where=self.probs > 0.0)
        return np.asarray(np.log1p(self.rest[:, 0]) + weighted.sum(axis=-1))


@dataclass(eq=False)
class Pair:
    """Normalised rows of both sides with their log-ratio t = ln q - ln p; t = 0 where both are 0."""

    p: Rows
    q: Rows
    t: Array

    @property
    def defined(self) -> npt.NDArray[np.bool_]:
        """Whether both rows are distributions, shape (rows, 1)."""
        return self.p.defined & self.q.defined

    @lazy
    def larger(self) -> Array:
        """The larger of the two probabilities."""
        return np.maximum(self.p.probs, self.q.probs)

    @lazy
    def log_larger(self) -> Array:
        """Its logarithm."""
        return np.where(self.t > 0.0, self.q.log_probs(), self.p.log_probs())

    @lazy
    def below(self) -> Array:
        """ln(smaller / larger) = -|t| <= 0."""
        return -np.abs(self.t)

    def difference(self) -> Array:
        """Return q - p, to the relative accuracy of t."""
        return np.copysign(self.larger * np.expm1(self.below), self.t)

    def total(self, generator: Generator, mirrored: Generator | None = None) -> Array:
        """Sum p g(t) over each row, given g(s) and e^s g(-s) for s <= 0; symmetric divergences need only one."""
        terms = generator(self.below)
        if mirrored is not None:
            terms = np.where(self.t > 0.0, mirrored(self.below), terms)
        # An infinite term counts even if the probability it stands beside has underflowed.
        weighted = np.multiply(self.larger, terms, out=terms, where=np.isfinite(terms))
        return np.asarray(weighted.sum(axis=-1))


# phi(x) = x^2/2 (1 + x/3 + x^2/12 + ...), to below an ulp for |x| <= 1/2, highest power first.
_PHI = [2.0 / math.factorial(n) for n in range(16, 1, -1)]
# psi2(a) = a^2 (1 + a^2/6 + a^4/15 + ...), to below an ulp for a^2 <= 1/16.
_PSI2 = [1.0 / (k * (2 * k - 1)) for k in range(13, 0, -1)]


def phi(s: Array) -> Array:
    """e^s - 1 - s for s <= 0: +inf at -inf; by its series near 0, where the difference would cancel."""
    near = np.maximum(s, -0.5)
    return np.where(s > -0.5, 0.5 * near * near * phi_over_half_square(near), np.expm1(s) - s)


def phi_over_half_square(s: Array) -> Array:
    """Evaluate the series 2 phi(s)/s^2 for |s| <= 1/2."""
    return _horner(_PHI, s)


def phi_mirrored(s: Array) -> Array:
    """e^s phi(-s) = 1 - e^s + s e^s for s <= 0: 1 at -inf."""
    near = np.maximum(s, -0.5)
    far = np.maximum(s, -800.0)  # s e^s is 0 from there on, not NaN
    power = np.exp(far)
    return np.where(s > -0.5, power * (0.5 * near * near) * phi_over_half_square(-near), far * power + (1.0 - power))


def psi2(s: Array) -> Array:
    """(1 + a) ln(1 + a) + (1 - a) ln(1 - a) at a = tanh(s / 2), for s <= 0: 2 ln 2 at -inf."""
    square = np.tanh(0.5 * s) ** 2
    near = np.minimum(square, 0.0625)
    power = np.exp(s)  # 1 + |a| = 2 / (1 + e^s) and 1 - |a| = 2 e^s / (1 + e^s)
    logs = extended.LN2 - np.log1p(power) + power / (1.0 + power) * np.maximum(s, -800.0)
    return np.where(square < 0.0625, near * _horner(_PSI2, near), 2.0 * logs)


def _horner(coefficients: list[float], x: Array) -> Array:
    """Evaluate a polynomial in place, from its highest coefficient down."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total


def evaluate(definition: Callable[[Any], Array], problem: Problem) -> Array:
    """Apply a definition to every row, block by block; NaN for rows that are not distributions."""
    out = np.empty(problem.n_rows)
    for rows in row_blocks(problem):
        with np.errstate(all="ignore"):
            block = load(problem, rows)
            out[rows] = np.where(block.defined[:, 0], definition(block), np.nan)
    return out


def row_blocks(problem: Problem) -> Iterator[slice]:
    """Cut the flat rows into ranges whose temporaries stay small."""
    step = max(1, _BLOCK // problem.width)
    for start in range(0, problem.n_rows, step):
        yield slice(start, min(start + step, problem.n_rows))


def take(array: npt.NDArray[Any], rows: slice) -> npt.NDArray[Any]:
    """Return flat rows of an array with any leading shape as a matrix, without flattening the rest of it."""
    leading = array.shape[:-1]
    if len(leading) == 1:
        return array[rows]
    return np.asarray(array[np.unravel_index(np.arange(rows.start, rows.stop), leading) if leading else np.newaxis])


def load(problem: Problem, rows: slice) -> Any:
    """Normalise a range of rows to a :class:`Pair`, or to :class:`Rows` if the problem has one side."""
    sides: list[tuple[str, npt.NDArray[Any], Kind]] = [("p", problem.p, problem.kind_p)]
    if problem.q is not None:
        sides.append(("q", problem.q, problem.kind_q))
    narrow = all(array.dtype != np.float64 for _, array, _ in sides)
    blocks = [(argument, take(array, rows), kind) for argument, array, kind in sides]
    faults = [fault for block in blocks for fault in _faults(*block)]
    if faults:
        # Of one row: p before q, negative before not normalised.
        row, reason, argument, column, value = min(faults, key=lambda fault: fault[0])
        raise RowError(reason, argument, rows.start + row, column, value)
    loaded = [_normalise(_scale(block, kind, problem.temperature, narrow), kind) for _, block, kind in blocks]
    return _pair(*loaded) if len(loaded) == 2 else loaded[0]


def _faults(argument: str, block: npt.NDArray[Any], kind: Kind) -> Iterator[tuple[int, str, str, int, float]]:
    """Yield the first row with a negative number and the first with a wrong mass."""
    values = as_float64(block)
    if kind in ("probs", "weights"):
        row, column = divmod(int(np.argmax(values < 0.0)), values.shape[-1])
        if values[row, column] < 0.0:
            yield row, "negative", argument, column, float(values[row, column])
    if kind in ("probs", "log_probs"):
        rows = _normalise(values, kind)
        mass = values.sum(axis=-1) if kind == "probs" else (rows.log_total[0] + rows.log_total[1])[:, 0]
        wrong = rows.defined[:, 0] & (np.abs(mass - (kind == "probs")) > NORMALISATION_TOLERANCE)
        if wrong.any():
            row = int(np.argmax(wrong))
            yield row, "normalisation", argument, -1, float(mass[row])


def _scale(block: npt.NDArray[Any], kind: Kind, temperature: float, narrow: bool) -> Array:
    """Widen a block; temperatures divide logarithms in the working precision, before anything else."""
    if temperature == 1.0 or kind in ("probs", "weights"):
        return as_float64(block)
    return as_float64(as_float32(block) / np.float32(temperature)) if narrow else as_float64(block) / temperature


def _normalise(given: Array, kind: Kind) -> Rows:
    """Turn numbers into distributions; a row that has a NaN, +inf or no mass becomes a harmless one, not defined."""
    top = given.max(axis=-1, keepdims=True)
    if kind in ("probs", "weights"):
        defined = (top > 0.0) & (top < np.inf)
        values = np.where(defined, given, 1.0)
        scaled, exponent = _scaled(values)
        top, rest = _split_off_first_top(scaled)
        total = scaled.sum(axis=-1, keepdims=True)
        log_total = np.log(total), exponent * np.float64(extended.LN2)
        return Rows(kind, values, defined, scaled / total, -np.log(scaled / top), rest / top, log_total)
    defined = np.isfinite(top)
    values, top = np.where(defined, given, 0.0), np.where(defined, top, 0.0)
    depth = top - values
    weights = np.exp(-depth)
    _, rest = _split_off_first_top(weights)
    return Rows(kind, values, defined, weights / (1.0 + rest), depth, rest, (top, np.log1p(rest)))


def _pair(p: Rows, q: Rows) -> Pair:
    t = _ratio_of_numbers(p, q) if p.is_linear and q.is_linear else _ratio_of_logs(p, q)
    return Pair(p, q, np.where(np.isnan(t), 0.0, t))


def _ratio_of_numbers(p: Rows, q: Rows) -> Array:
    """Take t from d = q P/Q - p where p and q are close, exact to its last digits; elsewhere from logarithms."""
    (x, _), (y, _) = _scaled(p.values), _scaled(q.values)
    mass = y.sum(axis=-1, keepdims=True)
    moved, low = extended.two_prod(y, np.broadcast_to(x.sum(axis=-1, keepdims=True) / mass, y.shape))
    d, error = extended.two_diff(moved, x)
    d += error + low
    d -= y * (d.sum(axis=-1, keepdims=True) / mass)  # what the rounding of P/Q left over
    near = np.abs(d) / np.maximum(x, moved)
    offset = sum(p.log_total) - sum(q.log_total)
    far = np.log(q.values) - np.log(p.values) + offset
    return np.where(near < 0.5, np.copysign(np.log1p(-np.minimum(near, 0.5)), d), far)


def _ratio_of_logs(p: Rows, q: Rows) -> Array:
    """Take t = (y - x) - c of logarithms x and y, with c = ln Q - ln P, in pairs; correct c once."""
    (x, x_low), (y, y_low) = p.logs(), q.logs()
    c, c_low = extended.two_diff(q.log_total[0], p.log_total[0])
    c, error = extended.two_sum(c, q.log_total[1] - p.log_total[1])
    c_low = c_low + error
    gap, gap_low = extended.two_diff(y, x)
    t, error = extended.two_diff(gap, c)
    t += error + (gap_low + (y_low - x_low) - c_low)
    # Newton's step on sum(q - p) = 0. It matters only where p and q are close, and is safe only there.
    pair = Pair(p, q, np.where(np.isnan(t), 0.0, t))
    shared = (pair.larger * np.exp(pair.below)).sum(axis=-1, keepdims=True)
    step = pair.difference().sum(axis=-1, keepdims=True) / shared
    return t - np.where(shared > 0.25, step, 0.0)


def _scaled(values: Array) -> tuple[Array, npt.NDArray[np.int32]]:
    """Bring the largest number of each row to [1/2, 1) by a power of two: exact, and no sum overflows."""
    exponent = np.frexp(values.max(axis=-1, keepdims=True))[1]
    return np.ldexp(values, -exponent), exponent


def _split_off_first_top(values: Array) -> tuple[Array, Array]:
    """Return the largest number of each row and the sum of the others."""
    first = np.argmax(values, axis=-1)[:, np.newaxis]
    top = np.take_along_axis(values, first, axis=-1)
    others = values.copy()
    np.put_along_axis(others, first, 0.0, axis=-1)
    return top, others.sum(axis=-1, keepdims=True)
