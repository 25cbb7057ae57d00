r"""Every row of one matrix against every row of another: all divergences, or the nearest rows only."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from kullback._core import backend, metrics, reference, registry, validation
from kullback._core.metrics import Metric
from kullback._core.types import Array, ArrayLike, Kind, NanPolicy
from kullback._core.validation import Crossed, Problem, RowError, as_index

__all__ = ["nearest", "pairwise"]

Indices = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]

# Rows of p, and of q, whose values NumPy holds at once while it looks for the nearest.
_BLOCK = 256


def pairwise(
    p: ArrayLike,
    q: ArrayLike | None = None,
    /,
    *,
    metric: str = "js",
    input: Kind | tuple[Kind, Kind] = "probs",
    out: Array | None = None,
    temperature: float = 1.0,
    vocab_size: int | None = None,
    nan_policy: NanPolicy = "propagate",
    threads: int | None = None,
    **options: float,
) -> Array:
    r"""Compute one divergence of every row of p and every row of q.

    .. math:: D_{ij} = \mathrm{metric}(p_i, q_j)

    Zeros and infinities are those of the function of that name. A row that has a NaN, a +inf or no mass is a row, or a
    column, of NaN. Values are as accurate as the function's, those of close rows included, and the divergence of equal
    rows is exactly 0; where a matrix product would leave too few digits, a pair is computed by itself.

    Parameters
    ----------
    p : array_like
        Rows of the reference, shape (N, V).
    q : array_like, optional
        Rows of the candidate, shape (M, V); the default is `p` again, and a symmetric metric is then computed once a
        pair.
    metric : str, default "js"
        One of :func:`divergence_names`, or with a parameter ``"renyi:order=2"``.
    input : {"probs", "weights", "log_probs", "logits"} or a pair of them, default "probs"
        What the numbers are, as for :func:`kl_divergence`.
    out : ndarray of float64, optional
        Array of shape (N, M) to write to.
    temperature, vocab_size, nan_policy, threads
        As for :func:`kl_divergence`.
    **options
        The parameter of a metric that has one, under the name it has in the function.

    Returns
    -------
    ndarray of float64
        Shape (N, M), in nats; `out` if it was given.

    Raises
    ------
    ValueError
        If shapes, options or the metric's name do not fit, or a row is not a distribution of the stated kind.
    TypeError
        If an input does not hold real numbers in CPU memory, or `out` is no array of float64.

    Examples
    --------
    >>> import kullback as kb
    >>> rows = [[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]]
    >>> kb.pairwise(rows, metric="total_variation")
    array([[0. , 0.5, 1. ],
           [0.5, 0. , 0.5],
           [1. , 0.5, 0. ]])
    >>> kb.pairwise(rows[:1], rows, metric="kl").round(6)
    array([[0.      , 0.693147,      inf]])
    """
    problem = validation.crossed(
        p,
        q,
        input=input,
        temperature=temperature,
        vocab_size=vocab_size,
        nan_policy=nan_policy,
        threads=threads,
    )
    chosen = _chosen("pairwise", metric, options)
    shape = len(problem.p), len(_rows_of_q(problem))
    target = np.empty(shape) if out is None else _checked(out, shape)
    apart = target.flags.c_contiguous and target.flags.aligned and target.dtype.isnative
    apart = apart and not any(np.may_share_memory(target, rows) for rows in (problem.p, _rows_of_q(problem)))
    values = target if apart else np.empty(shape)
    undefined = backend.run(
        problem,
        partial(_native_pairwise, chosen, problem, values),
        partial(_reference_pairwise, chosen, problem, values),
    )
    problem.check_rows(*undefined)
    if values is not target:
        target[...] = values
    return target


def nearest(
    p: ArrayLike,
    q: ArrayLike,
    /,
    *,
    metric: str,
    k: int,
    input: Kind | tuple[Kind, Kind] = "probs",
    temperature: float = 1.0,
    vocab_size: int | None = None,
    nan_policy: NanPolicy = "propagate",
    threads: int | None = None,
    **options: float,
) -> tuple[Indices, Array]:
    r"""Find, for each row of p, the k rows of q with the smallest divergence from it.

    Smallest first; of equal values the smaller index first. Values are those of :func:`pairwise`, whose matrix is never
    held as a whole. NaN is larger than any number and never among the nearest: where fewer than `k` values are
    numbers, the rest of the indices is -1 and of the values NaN.

    Parameters
    ----------
    p : array_like
        Rows of the reference, shape (N, V).
    q : array_like
        Rows to be found, shape (M, V).
    metric : str
        As for :func:`pairwise`.
    k : int
        How many, at most M.
    input, temperature, vocab_size, nan_policy, threads, **options
        As for :func:`pairwise`.

    Returns
    -------
    indices : ndarray of int64
        Rows of q, shape (N, k).
    values : ndarray of float64
        Their divergences, shape (N, k), in nats.

    Raises
    ------
    ValueError, TypeError
        As :func:`pairwise`, and if `k` is not an integer from 1 to M.

    Examples
    --------
    >>> import kullback as kb
    >>> rows = [[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]]
    >>> indices, values = kb.nearest([[0.4, 0.4, 0.2]], rows, metric="total_variation", k=2)
    >>> indices, values.round(6)
    (array([[0, 1]]), array([[0.2, 0.3]]))
    """
    problem = validation.crossed(
        p,
        q,
        input=input,
        temperature=temperature,
        vocab_size=vocab_size,
        nan_policy=nan_policy,
        threads=threads,
    )
    chosen = _chosen("nearest", metric, options)
    k = as_index(k, "k", 1, len(_rows_of_q(problem)), " (the number of rows of q)")
    indices, values, undefined = backend.run(
        problem,
        partial(_native_nearest, chosen, problem, k),
        partial(_reference_nearest, chosen, problem, k),
    )
    problem.check_rows(*undefined)
    return indices, values


def _chosen(function: str, metric: str, options: dict[str, float]) -> Metric:
    """Read a metric whose parameter is an option, part of the name, or its default."""
    if not options:
        return metrics.parse(metric, "metric")
    if not registry.is_divergence(metric):
        raise validation.unknown_name("metric", metric, registry.divergence_names())
    parameter = registry.definitions()[metric].parameter
    for name in options:
        if parameter is None or name != parameter.name:
            raise TypeError(f"{function}() with metric={metric!r} got an unexpected keyword argument {name!r}")
    return Metric(metric, None if parameter is None else parameter.checked(options[parameter.name], metric))


def _rows_of_q(problem: Problem) -> npt.NDArray[Any]:
    return problem.p if problem.q is None else problem.q


def _checked(out: Any, shape: tuple[int, int]) -> Array:
    """Check the array to write to."""
    if not isinstance(out, np.ndarray) or out.dtype.newbyteorder("=") != np.float64:
        got = f"dtype {out.dtype}" if isinstance(out, np.ndarray) else f"a {type(out).__name__}"
        raise TypeError(f"out must be an ndarray of float64, got {got}")
    if out.shape != shape:
        raise ValueError(f"out must have the shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")
    return out


def _native_pairwise(metric: Metric, problem: Crossed, out: Array, module: Any) -> tuple[Rows, Rows]:
    q = None if problem.is_one else problem.q
    kinds = problem.kind_p, problem.kind_q
    undefined = module.pairwise(
        metric.name, problem.p, q, *kinds, metric.parameter, problem.temperature, problem.threads, out
    )
    return np.asarray(undefined[0], np.intp), np.asarray(undefined[1], np.intp)


def _native_nearest(metric: Metric, problem: Crossed, k: int, module: Any) -> tuple[Indices, Array, tuple[Rows, Rows]]:
    kinds = problem.kind_p, problem.kind_q
    indices, values, undefined = module.nearest(
        metric.name, problem.p, problem.q, *kinds, metric.parameter, problem.temperature, problem.threads, k
    )
    rows = np.asarray(undefined[0], np.intp), np.asarray(undefined[1], np.intp)
    return indices.reshape(-1, k), values.reshape(-1, k), rows


def _reference_pairwise(metric: Metric, problem: Crossed, out: Array) -> tuple[Rows, Rows]:
    """Fill the matrix line by line."""
    undefined = _undefined(problem, "p"), _undefined(problem, "q")
    for i, line in enumerate(out):
        line[...] = _line(metric, problem, i, slice(None))
    return undefined


def _reference_nearest(metric: Metric, problem: Crossed, k: int) -> tuple[Indices, Array, tuple[Rows, Rows]]:
    """Keep the k smallest of each line, block by block of q."""
    undefined = _undefined(problem, "p"), _undefined(problem, "q")
    n, m = len(problem.p), len(_rows_of_q(problem))
    indices, values = np.full((n, k), -1, np.int64), np.full((n, k), np.nan)
    for i in range(n):
        best = np.empty(0, np.int64), np.empty(0)
        for start in range(0, m, _BLOCK):
            line = _line(metric, problem, i, slice(start, start + _BLOCK))
            found = np.concatenate([best[0], np.arange(start, start + len(line))]), np.concatenate([best[1], line])
            order = np.argsort(found[1], kind="stable")[:k]
            best = found[0][order], found[1][order]
        valid = np.count_nonzero(~np.isnan(best[1]))
        indices[i, :valid], values[i, :valid] = best[0][:valid], best[1][:valid]
    return indices, values, undefined


def _line(metric: Metric, problem: Crossed, row: int, columns: slice) -> Array:
    """Compute one row of p against some of q."""
    rows = _rows_of_q(problem)[columns]
    line = np.broadcast_to(problem.p[row], rows.shape)
    kinds = problem.kind_p, problem.kind_q
    return reference.evaluate(metric.body, Problem(line, rows, *kinds, problem.temperature, False, problem.threads))


def _undefined(problem: Crossed, argument: str) -> Rows:
    """Check the rows of one side; return those that are no distributions."""
    rows, kind = (problem.p, problem.kind_p) if argument == "p" else (_rows_of_q(problem), problem.kind_q)
    alone = Problem(rows, None, kind, kind, problem.temperature, False, 0)
    try:
        return np.flatnonzero(np.isnan(reference.evaluate(lambda block: np.zeros(len(block.probs)), alone)))
    except RowError as error:
        reason, _, row, column, value = error.args
        raise RowError(reason, argument, row, column, value) from None
