"""Divergences between the distributions of huge vocabularies: fast, exact to the last digits, never negative.

>>> import kullback as kb
>>> round(float(kb.kl_divergence([2.0, 1.0, 0.0], [2.1, 1.0, 0.0], input="logits")), 6)
0.001101
"""

from typing import TYPE_CHECKING, Any

from kullback._core.backend import info, set_num_threads, use_backend, version
from kullback._core.registry import divergence, divergence_names
from kullback.comparison import Comparison, compare
from kullback.divergences import (
    cross_entropy,
    entropy,
    hellinger_distance,
    jeffreys_divergence,
    js_distance,
    js_divergence,
    kl_divergence,
    squared_hellinger,
    total_variation,
)
from kullback.estimators import SampledKL, sampled_kl
from kullback.gradients import value_and_grad
from kullback.topk import TopK, compare_topk

if TYPE_CHECKING:
    from kullback.scoring import score

__version__ = version()

__all__ = [
    "Comparison",
    "SampledKL",
    "TopK",
    "compare",
    "compare_topk",
    "cross_entropy",
    "divergence",
    "divergence_names",
    "entropy",
    "hellinger_distance",
    "info",
    "jeffreys_divergence",
    "js_distance",
    "js_divergence",
    "kl_divergence",
    "sampled_kl",
    "score",
    "set_num_threads",
    "squared_hellinger",
    "total_variation",
    "use_backend",
    "value_and_grad",
]


def __getattr__(name: str) -> Any:
    """Import scoring when it is first used: reading files needs more than divergences do."""
    if name == "score":
        from kullback.scoring import score

        return score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, the lazy one included."""
    return sorted({*globals(), *__all__})
