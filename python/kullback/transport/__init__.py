"""Optimal transport: exact on the line, entropic in general.

>>> from kullback.transport import wasserstein_1d
>>> wasserstein_1d([0, 1, 3], [5, 6, 8])
np.float64(5.0)
"""

from kullback.transport.line import (
    MonotonePlan,
    QuantileGap,
    dominance_violation,
    emd_1d,
    quantile_gap,
    wasserstein_1d,
)
from kullback.transport.sliced import sliced_wasserstein

__all__ = [
    "MonotonePlan",
    "QuantileGap",
    "dominance_violation",
    "emd_1d",
    "quantile_gap",
    "sliced_wasserstein",
    "wasserstein_1d",
]
