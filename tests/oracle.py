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


def value(name: str, p: Numbers, q: Numbers) -> float:
    """Evaluate one divergence, by registry name, or the entropy of p."""
    return float(_FORMULAS[name](p, q))


def _kl(p: Numbers, q: Numbers) -> Any:
    if any(b == 0 < a for a, b in zip(p, q, strict=True)):
        return _CONTEXT.inf
    return _CONTEXT.fsum(a * _CONTEXT.log(a / b) for a, b in zip(p, q, strict=True) if a)


def _js(p: Numbers, q: Numbers) -> Any:
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (_kl(p, middle) + _kl(q, middle)) / 2


def _squared_hellinger(p: Numbers, q: Numbers) -> Any:
    return _CONTEXT.fsum((_CONTEXT.sqrt(a) - _CONTEXT.sqrt(b)) ** 2 for a, b in zip(p, q, strict=True)) / 2


def _entropy(p: Numbers, _: Numbers) -> Any:
    return -_CONTEXT.fsum(a * _CONTEXT.log(a) for a in p if a)


_FORMULAS: dict[str, Callable[[Numbers, Numbers], Any]] = {
    "kl": _kl,
    "reverse_kl": lambda p, q: _kl(q, p),
    "js": _js,
    "js_distance": lambda p, q: _CONTEXT.sqrt(_js(p, q)),
    "jeffreys": lambda p, q: _kl(p, q) + _kl(q, p),
    "total_variation": lambda p, q: _CONTEXT.fsum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2,
    "squared_hellinger": _squared_hellinger,
    "hellinger": lambda p, q: _CONTEXT.sqrt(_squared_hellinger(p, q)),
    "cross_entropy": lambda p, q: _entropy(p, q) + _kl(p, q),
    "entropy": _entropy,
}
