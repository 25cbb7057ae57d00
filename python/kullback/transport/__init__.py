"""Optimal transport: exact on the line, entropic in general.

>>> from kullback.transport import wasserstein_1d
>>> wasserstein_1d([0, 1, 3], [5, 6, 8])
np.float64(5.0)
"""

from kullback.transport.barycenters import Barycenter, FreeBarycenter, barycenter, free_support_barycenter
from kullback.transport.divergence import SinkhornDivergence, sinkhorn_divergence
from kullback.transport.line import (
    MonotonePlan,
    QuantileGap,
    dominance_violation,
    emd_1d,
    quantile_gap,
    wasserstein_1d,
)
from kullback.transport.monge import monge_gap
from kullback.transport.points import PointsResult, sinkhorn_points
from kullback.transport.sliced import sliced_wasserstein

__all__ = [
    "Barycenter",
    "FreeBarycenter",
    "MonotonePlan",
    "PointsResult",
    "QuantileGap",
    "SinkhornDivergence",
    "barycenter",
    "dominance_violation",
    "emd_1d",
    "free_support_barycenter",
    "monge_gap",
    "quantile_gap",
    "sinkhorn_divergence",
    "sinkhorn_points",
    "sliced_wasserstein",
    "wasserstein_1d",
]
