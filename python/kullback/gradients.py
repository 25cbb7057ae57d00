"""The value of a divergence and its gradient with respect to logits, together."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kullback._core import backend, forces, reference, validation
from kullback._core.reference import Pair
from kullback._core.registry import definitions
from kullback._core.types import Array, ArrayLike, Kind, NanPolicy, Values
from kullback._core.validation import Problem

__all__ = ["value_and_grad"]

Force = forces.Force
#: Forces on q and on p, for each name; a parameter has been filled in.
_Forces = tuple[Force, Force]

_PLAIN: dict[str, _Forces] = {
    "kl": (forces.kl, forces.reverse_kl),
    "reverse_kl": (forces.reverse_kl, forces.kl),
    "jeffreys": (forces.jeffreys, forces.jeffreys),
    "total_variation": (forces.total_variation, forces.total_variation),
    "squared_hellinger": (forces.squared_hellinger, forces.squared_hellinger),
    "hellinger": (forces.squared_hellinger, forces.squared_hellinger),
    "cross_entropy": (forces.kl, forces.reverse_kl),
}
#: The forces of the names that have a parameter.
_WITH_PARAMETER: dict[str, Callable[[float], _Forces]] = {
    "js": lambda w: (forces.js(w), forces.js(1.0 - w)),
    "skew_kl": lambda a: (forces.skew_kl(a), forces.skew_kl_first(a)),
    "alpha": lambda a: (forces.alpha_divergence(a), forces.alpha_divergence(1.0 - a)),
}
_SUPPORTED = (*_PLAIN, *_WITH_PARAMETER)


def value_and_grad(
    name: str,
    p: ArrayLike,
    q: ArrayLike,
    /,
    *,
    wrt: Literal["p", "q"] = "q",
    input: Kind | tuple[Kind, Kind] = "logits",
    axis: int = -1,
    temperature: float = 1.0,
    vocab_size: int | None = None,
    nan_policy: NanPolicy = "propagate",
    threads: int | None = None,
    **options: float,
) -> tuple[Values, npt.NDArray[Any]]:
    r"""Compute a divergence of each row and its gradient with respect to the logits of one side.

    .. math:: \frac{\partial D}{\partial y_i} = \frac{q_i}{T} \Bigl(h_i - \sum_j q_j h_j\Bigr), \quad
              h_i = \frac{\partial D}{\partial q_i}, \quad q = \operatorname{softmax}(y / T)

    and the same with p. For KL(p || q) and the cross entropy it is (q - p)/T. It is evaluated through ln q - ln p:
    nothing cancels where p and q are close, and it is 0 where they are equal.

    Where the differentiated side has a probability of 0 (a logit of -inf), its coordinate is the limit as the logit
    falls: -p_i/T for KL(p || q), 0 for the bounded ones. A row whose gradient has no finite limit, as that of
    KL(q || p) where q > 0 = p, is NaN throughout beside its infinite value. Total variation takes the subgradient with
    sign(0) = 0; the Hellinger distance takes 0 where p = q. A row with a NaN, a +inf or no mass is NaN in both results.

    Values are as accurate as those of :func:`divergence`. A coordinate has an error of at most 1e-6 (1e-12 if an input
    is float64) of the largest :math:`q_i (|h_i| + \sum_j q_j |h_j|)` of its row, with h = 0 where p = q.

    Parameters
    ----------
    name : str
        ``kl``, ``reverse_kl``, ``js``, ``skew_kl``, ``jeffreys``, ``total_variation``, ``squared_hellinger``,
        ``hellinger``, ``alpha`` or ``cross_entropy``, as for :func:`divergence`.
    p, q : array_like
        Rows of the reference and of the candidate, shape (..., V), as for :func:`kl_divergence`.
    wrt : {"q", "p"}, default "q"
        The side whose logits are moved.
    input : {"probs", "weights", "log_probs", "logits"} or a pair of them, default "logits"
        What the numbers are; the logits of other kinds are the logarithms of the numbers.
    axis, temperature, vocab_size, nan_policy, threads
        As for :func:`kl_divergence`.
    **options
        ``weight`` of ``js`` (default 0.5, between 0 and 1), ``alpha`` of ``skew_kl`` (default 0.1, between 0 and 1) and
        of ``alpha`` (no default, any finite number).

    Returns
    -------
    value : ndarray of float64, or numpy.float64
        In nats, of the broadcast leading shape.
    gradient : ndarray
        Of the broadcast shape of the rows (of the first `vocab_size` columns), each row on the axis it came from. Of
        the dtype of the differentiated side if that is float32 or float64, float32 for narrower floats, otherwise
        float64.

    Raises
    ------
    ValueError
        If the name has no gradient here (the message lists those that have), shapes or options do not fit, or a row is
        not a distribution of the stated kind.
    TypeError
        If an input does not hold real numbers in CPU memory, or an option is not a number or not one of this name.

    Examples
    --------
    >>> import kullback as kb
    >>> value, gradient = kb.value_and_grad("kl", [0.0, 0.0], [0.0, 1.0])
    >>> round(float(value), 6)
    0.120115
    >>> gradient.round(6)
    array([-0.231059,  0.231059])
    """
    if name not in _SUPPORTED:
        raise validation.unknown_name("name", name, _SUPPORTED)
    if wrt not in ("p", "q"):
        raise ValueError(f'wrt must be "p" or "q", got {wrt!r}')
    number = _parameter(name, options)
    problem = validation.two_sided(
        p,
        q,
        axis=axis,
        input=input,
        temperature=temperature,
        vocab_size=vocab_size,
        nan_policy=nan_policy,
        threads=threads,
    )
    side = problem.p if wrt == "p" or problem.q is None else problem.q
    gradient = np.empty((problem.n_rows, problem.width), np.float64 if side.dtype == np.float64 else np.float32)
    values = np.empty(problem.n_rows)
    if problem.n_rows:
        arguments = name, number, wrt, problem, values, gradient
        backend.run(problem, functools.partial(_native, *arguments), functools.partial(_evaluate, *arguments))
    problem.check_defined(np.isnan(values))
    shaped = gradient.reshape((*problem.leading, problem.width))
    return values.reshape(problem.leading)[()], np.moveaxis(shaped, -1, axis)


def _native(
    name: str, number: float | None, wrt: str, problem: Problem, values: Array, gradient: npt.NDArray[Any], module: Any
) -> None:
    module.value_and_grad(
        name,
        problem.p,
        problem.q,
        problem.kind_p,
        problem.kind_q,
        number,
        wrt,
        problem.temperature,
        values,
        gradient.reshape(-1),
        problem.threads,
    )


def _evaluate(
    name: str, number: float | None, wrt: str, problem: Problem, values: Array, gradient: npt.NDArray[Any]
) -> None:
    """Run the NumPy definition: both results are written block by block."""
    force, value_of = _chosen(name, wrt, number)
    kind = problem.kind_p if wrt == "p" else problem.kind_q
    divisor = problem.temperature if kind in ("logits", "log_probs") else 1.0
    for rows in reference.row_blocks(problem):
        with np.errstate(all="ignore"):
            pair: Pair = reference.load(problem, rows)
            values[rows] = np.where(pair.defined[:, 0], value_of(pair), np.nan)
            moved = _gradient(name, wrt, pair, force, values[rows]) / divisor
            gradient[rows] = np.where(pair.defined, moved, np.nan)


def _gradient(name: str, wrt: str, pair: Pair, force: Force, value: Array) -> Array:
    sides = forces.mirrored(pair) if wrt == "p" else pair
    probs = sides.q.probs
    terms = forces.weighted(sides, force)
    if name == "cross_entropy" and wrt == "p":
        # The entropy adds -ln p to the h of KL: what is left is -ln q.
        depth = pair.q.depth + np.log1p(pair.q.rest)
        terms = np.multiply(probs, depth, out=np.zeros_like(probs), where=probs > 0.0)
    # The force of KL is b - a, whose sum is 0 exactly.
    mean = np.zeros_like(value)[:, np.newaxis] if force is forces.kl else terms.sum(axis=-1, keepdims=True)
    finite = np.isfinite(mean) & np.isfinite(terms).all(axis=-1, keepdims=True)
    gradient = np.where(finite, terms - probs * mean, np.nan)
    if name == "hellinger":
        distance = value[:, np.newaxis]
        gradient = np.where(distance > 0.0, gradient / np.where(distance > 0.0, 2.0 * distance, 1.0), 0.0)
    return gradient


def _chosen(name: str, wrt: str, number: float | None) -> tuple[Force, Callable[[Pair], Array]]:
    """Look up force and value of a name, its parameter filled in."""
    which, body = 0 if wrt == "q" else 1, definitions()[name].body
    if number is None:
        return _PLAIN[name][which], body
    return _WITH_PARAMETER[name](number)[which], functools.partial(_applied, body, number)


def _parameter(name: str, options: dict[str, float]) -> float | None:
    """Check the options of a name; None for a name that has no parameter."""
    parameter = definitions()[name].parameter
    unknown = [option for option in options if parameter is None or option != parameter.name]
    if unknown:
        takes = f"takes {parameter.name}" if parameter else "takes no option of its own"
        raise TypeError(f"{name} {takes}, got {', '.join(unknown)}")
    return None if parameter is None else parameter.checked(options.get(parameter.name), name)


def _applied(body: Callable[..., Array], number: float, pair: Pair) -> Array:
    return body(pair, number)
