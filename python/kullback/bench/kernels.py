"""The calls that are timed: name, arguments, and the exponentials that none of them can avoid."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

import kullback as kb

from . import truth
from .checks import WrongValueError, check, promised
from .data import Data

__all__ = ["PARAMETERS", "call_of", "check_kernels", "exponentials", "sides"]

PARAMETERS: dict[str, dict[str, float]] = {"alpha": {"alpha": truth.ALPHA}, "renyi": {"order": truth.ORDER}}
"""Options of the names that need one."""

_WITHOUT_LOGARITHM = {
    "total_variation",
    "squared_hellinger",
    "hellinger",
    "chi2",
    "neyman_chi2",
    "triangular_discrimination",
    "bhattacharyya",
    "cauchy_schwarz",
    "fisher_rao",
    "acceptance_rate",
}


def sides(name: str) -> int:
    """Return how many rows the call of that name reads for each result."""
    return 1 if name == "entropy" else 2


def exponentials(name: str, kind: str) -> int:
    """Return how many exponentials each column of a row (or pair of rows) needs at least.

    Logits and log-probabilities: one for each side, to normalise it. Probabilities and weights: none, but a logarithm,
    which counts as much, for the divergences that are defined by one.
    """
    if kind in ("logits", "log_probs"):
        return sides(name)
    return int(name not in _WITHOUT_LOGARITHM)


def call_of(name: str, data: Data, *, rows: int | None = None, threads: int = 1) -> Callable[[], Any]:
    """Return the call of that name on the first rows (all by default), ready to be timed."""
    part = slice(rows)
    p, q, kind = data.p[part], data.q[part], data.plan.kind
    if name == "entropy":
        return partial(kb.entropy, p, input=kind, threads=threads)  # type: ignore[arg-type]
    if name == "compare":
        return partial(kb.compare, p, q, input=kind, targets=data.targets[part], threads=threads)  # type: ignore[arg-type]
    options: Any = {"input": kind, "threads": threads, **PARAMETERS.get(name, {})}
    return partial(kb.divergence, name, p, q, **options)


def check_kernels(
    names: Iterable[str], data: Data, *, threads: int, progress: Callable[[float], None] | None = None
) -> dict[str, float]:
    """Hold every value of every call against the truth, and return the worst relative error of each.

    Raises
    ------
    WrongValueError
        If a value is further off than the library promises, or there is nothing to hold it against.
    """
    wanted = list(names)
    if unknown := [name for name in wanted if name not in (*truth.NAMES, "compare")]:
        raise WrongValueError(f"there is no independent formula for {', '.join(unknown)}, so that it cannot be checked")
    plan, distinct = data.plan, slice(data.plan.distinct)
    exact = truth.values([n for n in wanted if n != "compare"], data.p[distinct], data.q[distinct], plan.kind)
    tolerance = promised(plan.dtype, plan.noise)
    errors = {}
    for number, name in enumerate(wanted):
        found = call_of(name, data, threads=threads)()
        if name == "compare":
            errors[name] = _check_compare(found, data, tolerance)
        else:
            errors[name] = check(name, found, data.repeated(exact[name]), tolerance)
        if progress is not None:
            progress((number + 1) / len(wanted))
    return errors


def _check_compare(found: kb.Comparison, data: Data, tolerance: float) -> float:
    distinct = slice(data.plan.distinct)
    exact = truth.columns(found, data.p[distinct], data.q[distinct], data.targets[distinct], data.plan.kind)
    worst = 0.0
    for name, column in found.items():
        true = data.repeated(exact[name])
        if name == "delta_prob":
            # A difference of two probabilities is as accurate as they are, and may be far below both.
            scale = np.exp(found["log_prob_p"])
            column, true = 1 + column / scale, 1 + true / scale
        elif name.startswith("log_prob"):
            # What counts is the probability: as accurate as promised if its logarithm is so beside 1.
            column, true = column - 1, true - 1
        worst = max(worst, check(f"compare()[{name!r}]", column, true, tolerance))
    return worst
