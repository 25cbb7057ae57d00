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
    acceptance_rate,
    alpha_divergence,
    bhattacharyya_distance,
    cauchy_schwarz_divergence,
    chi2_divergence,
    cross_entropy,
    entropy,
    f_divergence,
    fisher_rao_distance,
    hellinger_distance,
    jeffreys_divergence,
    js_distance,
    js_divergence,
    js_divergence_many,
    kl_divergence,
    neyman_chi2_divergence,
    renyi_divergence,
    renyi_entropy,
    skew_kl_divergence,
    squared_hellinger,
    total_variation,
    triangular_discrimination,
    tsallis_entropy,
)
from kullback.entropic import ConvergenceWarning, SinkhornResult, sinkhorn
from kullback.entropic_batch import SinkhornBatchResult, sinkhorn_batch
from kullback.estimators import SampledKL, sampled_kl
from kullback.gradients import value_and_grad
from kullback.pairwise import nearest, pairwise
from kullback.topk import TopK, compare_topk
from kullback.transport import sinkhorn_divergence, sinkhorn_points

if TYPE_CHECKING:
    from kullback.scoring import LogitsWriter, pack, report, score, score_batch

__version__ = version()

__all__ = [
    "Comparison",
    "ConvergenceWarning",
    "LogitsWriter",
    "SampledKL",
    "SinkhornBatchResult",
    "SinkhornResult",
    "TopK",
    "acceptance_rate",
    "alpha_divergence",
    "bhattacharyya_distance",
    "cauchy_schwarz_divergence",
    "chi2_divergence",
    "compare",
    "compare_topk",
    "cross_entropy",
    "divergence",
    "divergence_names",
    "entropy",
    "f_divergence",
    "fisher_rao_distance",
    "hellinger_distance",
    "info",
    "jeffreys_divergence",
    "js_distance",
    "js_divergence",
    "js_divergence_many",
    "kl_divergence",
    "nearest",
    "neyman_chi2_divergence",
    "pack",
    "pairwise",
    "renyi_divergence",
    "renyi_entropy",
    "report",
    "sampled_kl",
    "score",
    "score_batch",
    "set_num_threads",
    "sinkhorn",
    "sinkhorn_batch",
    "sinkhorn_divergence",
    "sinkhorn_points",
    "skew_kl_divergence",
    "squared_hellinger",
    "total_variation",
    "triangular_discrimination",
    "tsallis_entropy",
    "use_backend",
    "value_and_grad",
]

_LAZY = {"LogitsWriter", "pack", "report", "score", "score_batch"}


def __getattr__(name: str) -> Any:
    """Import scoring when it is first used: reading files needs more than divergences do."""
    if name in _LAZY:
        from kullback import scoring

        return getattr(scoring, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, the lazy one included."""
    return sorted({*globals(), *__all__})
