"""The divergences from their textbook formulas in 80-digit arithmetic, slow and without tricks."""

from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np

_CONTEXT = mpmath.mp.clone()
_CONTEXT.dps = 80

Numbers = Sequence[Any]


def distribution(row: np.ndarray, kind: str, temperature: float = 1.0) -> Numbers:
    """Normalise one row of numbers, each taken as exactly the number that it is."""
    numbers = [_CONTEXT.mpf(float(number)) for number in row]
    if kind in ("logits", "log_probs"):
        top = max(numbers)
        numbers = [_CONTEXT.exp((number - top) / _CONTEXT.mpf(temperature)) for number in numbers]
    mass = _CONTEXT.fsum(numbers)
    return [number / mass for number in numbers]


def value(metric: str, p: Numbers, q: Numbers) -> float:
    """Evaluate one divergence, by registry name or as in ``renyi:order=2``, or an entropy of p."""
    name, _, option = metric.partition(":")
    if not option:
        return float(_FORMULAS[name](p, q))
    number = float(option.partition("=")[2])
    return float(_WITH_PARAMETER[name](p, q, _CONTEXT.mpf(number)))


def _kl(p: Numbers, q: Numbers) -> Any:
    if any(b == 0 < a for a, b in zip(p, q, strict=True)):
        return _CONTEXT.inf
    return _CONTEXT.fsum(a * _CONTEXT.log(a / b) for a, b in zip(p, q, strict=True) if a)


def _mixture(p: Numbers, q: Numbers, weight: Any) -> Numbers:
    return [weight * a + (1 - weight) * b for a, b in zip(p, q, strict=True)]


def _js(p: Numbers, q: Numbers, weight: Any = 0.5) -> Any:
    middle = _mixture(p, q, weight)
    return weight * _kl(p, middle) + (1 - weight) * _kl(q, middle)


def _chi2(p: Numbers, q: Numbers) -> Any:
    if any(b == 0 < a for a, b in zip(p, q, strict=True)):
        return _CONTEXT.inf
    return _CONTEXT.fsum((a - b) ** 2 / b for a, b in zip(p, q, strict=True) if b)


def _power_sum(p: Numbers, q: Numbers, order: Any) -> Any:
    terms = []
    for a, b in zip(p, q, strict=True):
        if a == b == 0:
            continue
        if (a == 0 and order < 0) or (b == 0 and order > 1):
            return _CONTEXT.inf
        if a and b:
            terms.append(_CONTEXT.exp(order * _CONTEXT.log(a) + (1 - order) * _CONTEXT.log(b)))
    return _CONTEXT.fsum(terms)


def _alpha(p: Numbers, q: Numbers, alpha: Any) -> Any:
    if alpha in (0, 1):
        return _kl(p, q) if alpha == 1 else _kl(q, p)
    return (_power_sum(p, q, alpha) - 1) / (alpha * (alpha - 1))


def _renyi(p: Numbers, q: Numbers, order: Any) -> Any:
    if order == 0:
        return -_log(_CONTEXT.fsum(b for a, b in zip(p, q, strict=True) if a))
    if order == 1:
        return _kl(p, q)
    if _CONTEXT.isinf(order):
        return max(_CONTEXT.log(a / b) if b else _CONTEXT.inf for a, b in zip(p, q, strict=True) if a)
    return _log(_power_sum(p, q, order)) / (order - 1)


def _cauchy_schwarz(p: Numbers, q: Numbers) -> Any:
    pq, pp, qq = (_CONTEXT.fsum(a * b for a, b in zip(x, y, strict=True)) for x, y in ((p, q), (p, p), (q, q)))
    return -_log(pq**2 / (pp * qq))


def _log(x: Any) -> Any:
    return _CONTEXT.log(x) if x else -_CONTEXT.inf


def _renyi_entropy(p: Numbers, _: Numbers, order: Any) -> Any:
    if order == 1:
        return _entropy(p, _)
    if _CONTEXT.isinf(order):
        return -_CONTEXT.log(max(p))
    return _CONTEXT.log(_CONTEXT.fsum(a**order for a in p if a)) / (1 - order)


def _tsallis_entropy(p: Numbers, _: Numbers, order: Any) -> Any:
    if order == 1:
        return _entropy(p, _)
    if _CONTEXT.isinf(order):
        return 0
    return (1 - _CONTEXT.fsum(a**order for a in p if a)) / (order - 1)


def js_of_many(rows: Sequence[Numbers], weights: Sequence[Any]) -> float:
    """Evaluate the Jensen-Shannon divergence of several distributions; the weights are normalised."""
    shares = [_CONTEXT.mpf(weight) / _CONTEXT.fsum(weights) for weight in weights]
    middle = [_CONTEXT.fsum(w * x for w, x in zip(shares, column, strict=True)) for column in zip(*rows, strict=True)]
    return float(_CONTEXT.fsum(w * _kl(row, middle) for w, row in zip(shares, rows, strict=True) if w))


def _squared_hellinger(p: Numbers, q: Numbers) -> Any:
    return _CONTEXT.fsum((_CONTEXT.sqrt(a) - _CONTEXT.sqrt(b)) ** 2 for a, b in zip(p, q, strict=True)) / 2


def _entropy(p: Numbers, _: Numbers) -> Any:
    return -_CONTEXT.fsum(a * _CONTEXT.log(a) for a in p if a)


_FORMULAS: dict[str, Callable[[Numbers, Numbers], Any]] = {
    "kl": _kl,
    "reverse_kl": lambda p, q: _kl(q, p),
    "js": _js,
    "js_distance": lambda p, q: _CONTEXT.sqrt(_js(p, q)),
    "skew_kl": lambda p, q: _kl(p, _mixture(p, q, _CONTEXT.mpf(0.1))),
    "jeffreys": lambda p, q: _kl(p, q) + _kl(q, p),
    "total_variation": lambda p, q: _CONTEXT.fsum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2,
    "squared_hellinger": _squared_hellinger,
    "hellinger": lambda p, q: _CONTEXT.sqrt(_squared_hellinger(p, q)),
    "chi2": _chi2,
    "neyman_chi2": lambda p, q: _chi2(q, p),
    "triangular_discrimination": lambda p, q: _CONTEXT.fsum(
        (a - b) ** 2 / (a + b) for a, b in zip(p, q, strict=True) if a + b
    ),
    "bhattacharyya": lambda p, q: -_log(_power_sum(p, q, _CONTEXT.mpf(0.5))),
    "cauchy_schwarz": _cauchy_schwarz,
    "fisher_rao": lambda p, q: 2 * _CONTEXT.acos(min(1, _power_sum(p, q, _CONTEXT.mpf(0.5)))),
    "acceptance_rate": lambda p, q: _CONTEXT.fsum(min(a, b) for a, b in zip(p, q, strict=True)),
    "cross_entropy": lambda p, q: _entropy(p, q) + _kl(p, q),
    "entropy": _entropy,
}
_WITH_PARAMETER: dict[str, Callable[[Numbers, Numbers, Any], Any]] = {
    "js": _js,
    "skew_kl": lambda p, q, alpha: _kl(p, _mixture(p, q, alpha)),
    "alpha": _alpha,
    "renyi": _renyi,
    "renyi_entropy": _renyi_entropy,
    "tsallis_entropy": _tsallis_entropy,
}
