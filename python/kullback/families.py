"""Divergences with more freedom than a number: any f-divergence, and the Jensen-Shannon divergence of many rows."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from kullback._core import backend, metrics, reference, registry, validation
from kullback._core.reference import Pair, phi, phi_mirrored
from kullback._core.types import Array, ArrayLike, Options, Values
from kullback._core.validation import Problem

__all__ = ["f_divergence", "js_divergence_many"]

Generator = Callable[[Array], npt.ArrayLike]

# Elements of a block of rows of every distribution.
_BLOCK = 1 << 17


def f_divergence(
    p: ArrayLike,
    q: ArrayLike,
    /,
    generator: str | Generator,
    *,
    limits: tuple[float, float] | None = None,
    **options: Unpack[Options],
) -> Values:
    r"""Compute an f-divergence given by its generator.

    .. math:: \sum_i q_i\, f\Bigl(\frac{p_i}{q_i}\Bigr)

    A term is 0 where p = q = 0, :math:`p \lim_{u \to \infty} f(u)/u` where q = 0, and :math:`q \lim_{u \to 0} f(u)`
    where p = 0. A callable is evaluated with NumPy in float64, whatever the backend, on blocks of rows; it sees u = p/q
    as a float64 number, so that for close rows its result has as many digits as f has near u = 1. A registry name has
    them all.

    Parameters
    ----------
    p, q : array_like
        Rows of the reference and of the candidate, as for :func:`kl_divergence`.
    generator : str or callable
        A name of :func:`divergence_names`, with its parameter as in ``"alpha:alpha=0.3"`` where it needs one; or a
        convex function f with f(1) = 0 that maps a float64 array of positive numbers to real numbers of its shape.
    limits : pair of float, optional
        The limits of f(u) as u goes to 0 and of f(u)/u as u grows, for a callable. By default the first is f(0), or f
        at 1e-300 if that is NaN; the second is read off f(u)/u at 1e30, 1e60 and 1e90, infinite unless its steps at
        least halve.
    **options
        The keyword options of :func:`kl_divergence`.

    Returns
    -------
    ndarray of float64, or numpy.float64
        One value a row; NaN for a row with a NaN, a +inf or no mass.

    Raises
    ------
    ValueError
        If the name is not known, f(1) is not 0, f is NaN at a positive number, or an input does not fit.
    TypeError
        If f is not callable, or does not return real numbers of the shape it was given.

    References
    ----------
    I. Csiszár, "Information-type measures of difference of probability distributions", Stud. Sci. Math. Hung. 2 (1967).

    Examples
    --------
    >>> import kullback as kb
    >>> import numpy as np
    >>> round(float(kb.f_divergence([0.5, 0.5], [0.25, 0.75], lambda u: u * np.log(u))), 6)
    0.143841
    >>> round(float(kb.f_divergence([0.5, 0.5], [0.25, 0.75], "kl")), 6)
    0.143841
    """
    if isinstance(generator, str):
        metric = metrics.parse(generator, "generator")
        if limits is not None:
            raise ValueError(f"limits are those of a callable, got {limits!r} with the name {generator!r}")
        parameter = registry.definitions()[metric.name].parameter
        given: Any = {parameter.name: metric.parameter} if parameter else {}
        return registry.divergence(metric.name, p, q, **given, **options)
    if not callable(generator):
        raise TypeError(f"generator must be a registry name or a callable, got {generator!r}")
    problem = validation.two_sided(p, q, **options)
    with np.errstate(all="ignore"):
        at_one = float(_values(generator, np.ones(1))[0])
        if not abs(at_one) <= 1e-12:
            raise ValueError(f"generator must be 0 at 1, got {at_one!r}")
        ends = _limits(generator) if limits is None else _checked_limits(limits)
    try:
        values = reference.evaluate(functools.partial(_f_divergence, generator, ends), problem)
    except validation.RowError as error:
        raise problem.row_error(*error.args) from None
    problem.check_defined(np.isnan(values))
    return values.reshape(problem.leading)[()]


def _f_divergence(generator: Generator, ends: tuple[float, float], pair: Pair) -> Array:
    ratio = np.exp(-pair.t)
    regular = (ratio > 0.0) & (ratio < math.inf)
    values = _values(generator, np.where(regular, ratio, 1.0))
    if np.isnan(values).any():
        where = float(np.where(regular, ratio, 1.0)[np.isnan(values)][0])
        raise ValueError(f"generator must not be NaN at positive numbers, got NaN at {where!r}")
    q_larger = pair.t > 0.0
    # From the larger side, beside which the smaller may have underflowed.
    factors = np.where(q_larger, values, values / np.where(regular, ratio, 1.0))
    factors = np.where(regular, factors, np.where(q_larger, ends[0], ends[1]))
    terms = np.multiply(pair.larger, factors, out=factors.copy(), where=np.isfinite(factors))
    total = terms.sum(axis=-1)
    # A convex f is never negative in sum: what is, is rounding.
    noise = 1e-12 * np.abs(terms).sum(axis=-1)
    return np.where((total < 0.0) & (total > -noise), 0.0, total)


def _values(generator: Generator, u: Array) -> Array:
    """Call the generator and check what it returns."""
    values = np.asarray(generator(u))
    if values.shape != u.shape or values.dtype.kind not in "fiu":
        raise TypeError(
            f"generator must return real numbers of the shape it is given, {u.shape}, "
            f"got dtype {values.dtype} and shape {values.shape}"
        )
    return values.astype(np.float64)


def _limits(generator: Generator) -> tuple[float, float]:
    """Read f(0) and the limit of f(u)/u off the generator."""
    at_zero, near_zero = (float(x) for x in _values(generator, np.array([0.0, 1e-300])))
    far = np.array([1e30, 1e60, 1e90])
    first, second, third = (float(x) for x in _values(generator, far) / far)
    settles = abs(third - second) <= 0.5 * abs(second - first)
    grows = math.inf if math.isnan(third) else math.copysign(math.inf, third)
    return near_zero if math.isnan(at_zero) else at_zero, third if settles else grows


def _checked_limits(limits: Any) -> tuple[float, float]:
    try:
        at_zero, at_infinity = (float(limit) for limit in limits)
    except (TypeError, ValueError):
        raise TypeError(f"limits must be a pair of numbers, got {limits!r}") from None
    if math.isnan(at_zero) or math.isnan(at_infinity):
        raise ValueError(f"limits must not be NaN, got {limits!r}")
    return at_zero, at_infinity


def js_divergence_many(p: ArrayLike, /, *, weights: npt.ArrayLike | None = None, **options: Unpack[Options]) -> Values:
    r"""Jensen-Shannon divergence of any number of distributions, in nats: between 0 and ln M.

    .. math:: \sum_m w_m\, \mathrm{KL}(p_m \| \bar p), \quad \bar p = \sum_m w_m\, p_m

    For two distributions it is `js_divergence`. A term is 0 where p_m = 0; it is never infinite. Each term is formed
    from differences to the largest of the distributions, and so keeps its digits where all of them are close.

    Parameters
    ----------
    p : array_like
        Distributions of shape (M, ..., V): the first axis counts those that are compared with each other.
    weights : array_like, optional
        M non-negative numbers, normalised to sum to 1; by default they are equal.
    **options
        The keyword options of :func:`entropy`.

    Returns
    -------
    ndarray of float64, or numpy.float64
        One value for each index of the axes between; NaN if one of the M rows has a NaN, a +inf or no mass.

    Raises
    ------
    ValueError
        If an array, a weight or an option does not fit.

    References
    ----------
    J. Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37 (1991).

    Examples
    --------
    >>> import kullback as kb
    >>> round(float(kb.js_divergence_many([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])), 6)
    0.462098
    >>> round(float(kb.js_divergence_many([[0.5, 0.5], [0.25, 0.75]], weights=[1, 3])), 6)
    0.026048
    """
    problem = validation.one_sided(p, **options)
    if problem.p.ndim < 2:
        raise ValueError(f"p must have the shape (M, ..., V), got {problem.p.shape}")
    shares = _shares(weights, problem.p.shape[0])
    leading = problem.leading[1:]
    values: Array = np.empty(0)
    if problem.n_rows:
        native, numpy = (
            functools.partial(_native_many, problem, shares),
            functools.partial(_numpy_many, problem, shares),
        )
        values = backend.run(problem, native, numpy)
    if problem.raise_nan and np.isnan(values).any():
        at = ", ".join(str(int(i)) for i in np.unravel_index(int(np.argmax(np.isnan(values))), leading))
        where = f"p[:, {at}]" if at else "p"
        raise ValueError(f"the result is NaN for the rows of {where}: one holds a NaN, an infinity or no mass")
    return values.reshape(leading)[()]


def _native_many(problem: Problem, shares: Sequence[float], module: Any) -> Array:
    values: Array = module.js_divergence_many(
        problem.p, problem.kind_p, list(shares), problem.temperature, problem.threads
    )
    return values


def _numpy_many(problem: Problem, shares: Sequence[float]) -> Array:
    values = np.empty(problem.n_rows // len(shares))
    for rows in _blocks(values.size, problem.width * len(shares)):
        with np.errstate(all="ignore"):
            pairs = _beside_first(problem, rows)
            defined = np.logical_and.reduce([pair.q.defined[:, 0] for pair in pairs])
            values[rows] = np.where(defined, _many(pairs, shares), np.nan)
    return values


def _shares(weights: npt.ArrayLike | None, count: int) -> Sequence[float]:
    if weights is None:
        return [1.0 / count] * count
    given = np.asarray(weights)
    if given.dtype.kind not in "fiu" or given.shape != (count,):
        raise ValueError(f"weights must be {count} numbers, one for each distribution, got {weights!r}")
    shares = given.astype(np.float64)
    if not (np.isfinite(shares).all() and (shares >= 0.0).all() and shares.any()):
        raise ValueError(f"weights must be finite, not negative and not all 0, got {weights!r}")
    shares /= shares.max()
    return [float(share) for share in shares / math.fsum(shares)]


def _blocks(n_rows: int, width: int) -> Iterator[slice]:
    step = max(1, _BLOCK // width)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def _beside_first(problem: Problem, rows: slice) -> list[Pair]:
    """Load rows of the first distribution beside those of each."""
    pairs: list[Pair] = []
    faults = []
    for m, of_m in enumerate(problem.p):
        beside = dataclasses.replace(problem, p=problem.p[0], q=of_m, kind_q=problem.kind_p)
        try:
            pairs.append(reference.load(beside, rows))
        except validation.RowError as error:
            reason, argument, row, column, value = error.args
            flat = row if argument == "p" else m * beside.n_rows + row
            faults.append((row, (reason, "p", flat, column, value)))
    if faults:
        raise validation.RowError(*min(faults, key=lambda fault: fault[0])[1])
    return pairs


def _many(pairs: list[Pair], shares: Sequence[float]) -> Array:
    # Logarithms relative to the first distribution, or their own where it is 0; then relative to the largest.
    present = pairs[0].p.probs > 0.0
    present |= np.isfinite(pairs[0].p.depth)
    logs = [np.where(present, pair.t, pair.q.log_probs()) for pair in pairs]
    top = np.maximum.reduce(logs)
    below = [np.where(np.isneginf(top), 0.0, log - top) for log in logs]
    larger = np.maximum.reduce([pair.q.probs for pair in pairs])
    some = [(share, s) for share, s in zip(shares, below, strict=True) if share > 0.0]
    mixed = sum(share * np.exp(s) for share, s in some)
    mean_gap = sum(share * -np.expm1(s) for share, s in some)
    total = np.zeros_like(top)
    for share, s in some:
        own, gap = np.exp(s), -np.expm1(s) - mean_gap  # mixed - own
        size, most = np.abs(gap), np.maximum(own, mixed)
        close = np.log1p(-np.minimum(size / most, 0.5))
        minus_log = np.where(size < 0.5 * most, close, np.log(np.minimum(own, mixed) / most))
        total += share * np.where(gap < 0.0, own * phi(minus_log), mixed * phi_mirrored(minus_log))
    return np.asarray((larger * total).sum(axis=-1))
