"""The rule for rows that list only their most probable tokens: `kullback.compare_topk`, and what the lists tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .._core.types import Kind
    from ..topk import TopK

__all__ = ["TAILS", "columns", "compare_rows"]

TAILS = ("bucket", "renormalize", "bounds")
_DIVERGENCES = ("kl", "reverse_kl", "js", "total_variation")
_TOLD = ("top1_p", "top1_q", "top1_prob_p", "top1_prob_q", "tail_mass_p", "tail_mass_q")


def columns(tail: str) -> list[str]:
    """Return the names of the columns."""
    suffixes = ("_low", "_high") if tail == "bounds" else ("",)
    return [*(name + suffix for name in _DIVERGENCES for suffix in suffixes), *_TOLD]


def compare_rows(
    p: NDArray[Any],
    q: NDArray[Any],
    kinds: tuple[str, str],
    *,
    vocab_size: int,
    tail: str,
    threads: int | None,
) -> dict[str, NDArray[Any]]:
    """Compare a block of rows, at least one side of which is records of a `TopKSource`.

    Parameters
    ----------
    p, q : ndarray
        Records, or full rows, of which the first `vocab_size` columns are used.
    kinds : tuple of str
        What the numbers of full rows are.
    vocab_size : int
        Number of tokens there are.
    tail : str
        What becomes of the mass outside the lists, as in `kullback.compare_topk`.
    threads : int, optional
        Threads of the native backend.

    Returns
    -------
    dict
        The `columns`. A tail mass is what a list leaves out, 0 for full rows. A row without a value on either side is
        NaN, and -1 for ids.
    """
    from ..topk import TopK, compare_topk

    sides: list[Any] = []
    lists: list[TopK] = []
    for rows, kind in zip((p, q), kinds, strict=True):
        if rows.dtype.names:
            lists.append(TopK(rows["ids"], rows["log_probs"], vocab_size))
            sides.append(lists[-1])
        else:
            sides.append(rows[:, :vocab_size])
            lists.append(TopK.from_logits(sides[-1], 1, input=cast("Kind", kind), threads=threads))
    dense = next((kind for rows, kind in zip((p, q), kinds, strict=True) if not rows.dtype.names), "logits")
    compared = compare_topk(
        *sides,
        tail=cast("Literal['bucket', 'renormalize', 'bounds']", tail),
        input=cast("Kind", dense),
        threads=threads,
    )
    found = {name: np.asarray(compared[name]) for name in compared}
    undefined = np.isnan(next(iter(found.values())))
    for side, whole, top in zip("pq", sides, lists, strict=True):
        first = np.argmax(top.log_probs, axis=-1)[:, np.newaxis]
        ids = np.take_along_axis(top.ids, first, axis=-1)[:, 0].astype(np.int64)
        probabilities = np.exp(np.take_along_axis(top.log_probs, first, axis=-1)[:, 0].astype(np.float64))
        none = undefined | (ids < 0)
        found[f"top1_{side}"] = np.where(none, -1, ids)
        # Stored log-probabilities may come out a little above 0.
        found[f"top1_prob_{side}"] = np.where(none, np.nan, np.minimum(probabilities, 1.0))
        masses = np.asarray(whole.tail_mass) if isinstance(whole, TopK) else np.zeros(len(ids))
        found[f"tail_mass_{side}"] = np.where(undefined, np.nan, masses)
    return {name: found[name] for name in columns(tail)}
