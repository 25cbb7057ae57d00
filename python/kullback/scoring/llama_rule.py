"""llama.cpp's own rule for the KL divergence and its companions, to reproduce the numbers that its tool prints.

With decoded base log-probabilities b (as stored, not normalised), candidate logits z and target t:

    log q_i = z_i - max z - log sum_j exp(z_j - max z)
    nll     = -log q_t              nll_base = -b_t
    KLD     = sum over i with b_i > -16 of e^(b_i) (b_i - log q_i)
    delta   = e^(-nll) - e^(-nll_base)

exponentials and terms in float32, sums in float64, results rounded to float32. Tokens at or below -16 nats are left
out, and what remains is not normalised, so this KLD may be slightly negative and is not a divergence; it is here for
comparison only.

A candidate that is itself a llama.cpp file holds log q_i already, and they are taken **as they stand**: normalising
them again would divide by the mass (up to 0.5 %) that the writer's 16-nat floor added to the tail. Measured on a
model's float32 and 8-bit files against what the tool printed for the live 8-bit model (PPL 30.960921, mean KLD
0.004703): as they stand 30.961008 and 0.004704; normalised 31.010427 and 0.006298.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLUMNS", "compare_rows"]

COLUMNS = ("kl", "top1_p", "top1_q", "top1_prob_p", "top1_prob_q", "log_prob_p", "log_prob_q", "delta_prob")
_IDS = ("top1_p", "top1_q")

_FLOOR = np.float32(-16.0)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    largest = logits.max()
    total = np.exp(logits - largest).sum(dtype=np.float64)
    shifted: NDArray[np.float32] = logits - largest - np.float32(np.log(total))
    return shifted


def compare_rows(
    base: NDArray[Any], candidate: NDArray[Any], targets: NDArray[np.int64], *, normalised: bool
) -> dict[str, NDArray[Any]]:
    """Compare a block of rows by llama.cpp's rule.

    Parameters
    ----------
    base : ndarray
        Decoded log-probabilities of the reference, (rows, vocabulary).
    candidate : ndarray
        Logits of the candidate, or its decoded log-probabilities.
    targets : ndarray
        The token that followed each row.
    normalised : bool
        Whether `candidate` holds log-probabilities already.

    Returns
    -------
    dict
        `COLUMNS`, one number per row; NaN and -1 for a row with NaN.
    """
    n_rows = len(base)
    columns: dict[str, NDArray[Any]] = {
        name: np.full(n_rows, -1, np.int64) if name in _IDS else np.full(n_rows, np.nan) for name in COLUMNS
    }
    # Row by row: the temporaries stay small and in the processor's cache.
    for row in range(n_rows):
        b = base[row].astype(np.float32, copy=False)
        z = candidate[row].astype(np.float32, copy=False)
        if np.isnan(b).any() or np.isnan(z).any() or z.max() in (np.inf, -np.inf):
            continue
        log_q = z if normalised else _log_softmax(z)
        kept = b > _FLOOR
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            terms = np.exp(b[kept]) * (b[kept] - log_q[kept])
            log_p_target, log_q_target = b[targets[row]], log_q[targets[row]]
            columns["delta_prob"][row] = np.exp(log_q_target) - np.exp(log_p_target)
        columns["kl"][row] = np.float32(terms.sum(dtype=np.float64))
        columns["log_prob_p"][row] = log_p_target
        columns["log_prob_q"][row] = log_q_target
        columns["top1_p"][row] = b.argmax()
        columns["top1_q"][row] = z.argmax()
        columns["top1_prob_p"][row] = np.exp(b.max())
        columns["top1_prob_q"][row] = np.exp(log_q.max())
    return columns
