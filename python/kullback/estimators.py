"""Divergences estimated from samples, where only the log-probabilities of the sampled tokens are known."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kullback._core.arrays import as_array, as_float64
from kullback._core.reference import phi, phi_mirrored
from kullback._core.types import Array, ArrayLike, NanPolicy, Values
from kullback._core.validation import as_index, unknown_name

__all__ = ["SampledKL", "sampled_kl"]

_ESTIMATORS = ("k1", "k2", "k3")


@dataclass(frozen=True)
class SampledKL:
    """The result of :func:`sampled_kl`.

    Attributes
    ----------
    estimate : numpy.float64 or ndarray of float64
        Mean over the samples, in nats.
    standard_error : numpy.float64 or ndarray of float64
        Of the estimate; NaN where fewer than two samples or groups, or an estimate that is not finite, leave none.
    n_samples : int
        Samples in each mean.
    n_groups : int or None
        Groups that the standard error treats as independent; None without `groups`.
    """

    estimate: Values
    standard_error: Values
    n_samples: int
    n_groups: int | None


def sampled_kl(
    log_p: ArrayLike,
    log_q: ArrayLike,
    /,
    *,
    estimator: Literal["k1", "k2", "k3"] = "k3",
    groups: npt.ArrayLike | None = None,
    axis: int | None = None,
    nan_policy: NanPolicy = "propagate",
) -> SampledKL:
    r"""Estimate KL(p || q), in nats, from log-probabilities of tokens that were sampled from p.

    With :math:`r = \ln q - \ln p` at a sampled token, the mean over the samples of

    .. math:: k_1 = -r, \qquad k_2 = \tfrac12 r^2, \qquad k_3 = e^r - 1 - r.

    k1 and k3 are unbiased, k2 is not; k3 is never negative and has by far the smallest variance where p and q are
    close. A sample is +inf where q = 0, whatever the estimator, and NaN where p = 0 (no sample of p can be there), or a
    number is NaN or +inf. For KL(q || p) from samples of q exchange the two arguments.

    The standard error is :math:`\sqrt{\sum_i (k_i - \bar k)^2 / (n (n - 1))}`. It takes the samples as independent,
    which the tokens of one sequence are not; with `groups` (the sequence of each token) it is that of G clusters,
    :math:`\frac1n \sqrt{\frac{G}{G-1} \sum_g \bigl(\sum_{i \in g} (k_i - \bar k)\bigr)^2}`, the same number if each
    sample is a group of its own.

    Parameters
    ----------
    log_p, log_q : array_like
        Log-probabilities (or log-densities) of the same samples under p, which they were drawn from, and under q. The
        shapes broadcast. Arithmetic is float64 whatever the dtype.
    estimator : {"k1", "k2", "k3"}, default "k3"
        What is averaged.
    groups : array_like of int or str, optional
        Label of each sample, of a shape that broadcasts to that of the samples, or one label for each place along
        `axis`. Labels mean the same group wherever they stand.
    axis : int, optional
        Average over this axis only; the default is over all samples.
    nan_policy : {"propagate", "raise"}, default "propagate"
        Whether a mean without a value is NaN in the result or an error.

    Returns
    -------
    SampledKL
        With `estimate` and `standard_error`; scalars, or arrays of the remaining axes with `axis`.

    Raises
    ------
    ValueError
        If shapes or options do not fit, there are no samples, or a mean is NaN under ``nan_policy="raise"``.
    TypeError
        If an input does not hold real numbers in CPU memory.

    References
    ----------
    J. Schulman, "Approximating KL divergence", 2020. A. C. Cameron and D. L. Miller, "A practitioner's guide to
    cluster-robust inference", J. Hum. Resour. 50 (2015).

    Examples
    --------
    >>> import kullback as kb
    >>> result = kb.sampled_kl([-1.0, -2.0], [-1.5, -2.0])
    >>> round(float(result.estimate), 6), round(float(result.standard_error), 6)
    (0.053265, 0.053265)
    >>> float(kb.sampled_kl([-1.0, -2.0], [-1.5, -2.0], estimator="k1").estimate)
    0.25
    """
    if estimator not in _ESTIMATORS:
        raise unknown_name("estimator", estimator, _ESTIMATORS)
    if nan_policy not in ("propagate", "raise"):
        raise ValueError(f'nan_policy must be "propagate" or "raise", got {nan_policy!r}')
    of_p, of_q = as_float64(as_array(log_p, "log_p")), as_float64(as_array(log_q, "log_q"))
    try:
        of_p, of_q = np.broadcast_arrays(of_p, of_q)
    except ValueError:
        raise ValueError(
            f"log_p and log_q must have shapes that broadcast, got {of_p.shape} and {of_q.shape}"
        ) from None
    labels = None if groups is None else _labels(groups, of_p.shape, axis)
    if axis is not None:
        axis = as_index(axis, "axis", -of_p.ndim, of_p.ndim - 1)
        of_p, of_q = np.moveaxis(of_p, axis, -1), np.moveaxis(of_q, axis, -1)
        labels = None if labels is None else np.moveaxis(labels, axis, -1)
    leading = () if axis is None else of_p.shape[:-1]
    n_samples = of_p.size if axis is None else of_p.shape[-1]
    if n_samples == 0:
        raise ValueError(f"log_p and log_q must hold at least one sample, got shape {of_p.shape}")
    samples = _samples(of_p, of_q, estimator).reshape(-1, n_samples)
    with np.errstate(invalid="ignore", over="ignore"):
        estimate = samples.mean(axis=-1)
        rest = samples - estimate[:, np.newaxis]
    if nan_policy == "raise" and np.isnan(estimate).any():
        row = int(np.argmax(np.isnan(samples).any(axis=-1)))
        column = int(np.argmax(np.isnan(samples[row])))
        where = f"sample {column} of mean {row}"
        raise ValueError(f"the estimate is NaN: log_p or log_q holds a NaN or +inf, or log_p a -inf, at {where}")
    if labels is None:
        error = _standard_error(rest, n_samples, n_samples)
    else:
        names, members = np.unique(labels, return_inverse=True)
        members = members.reshape(-1, n_samples)
        occupied = np.count_nonzero(_by_group(np.ones(members.shape), members, names.size), axis=-1)
        error = _standard_error(_by_group(rest, members, names.size), occupied, n_samples)
    n_groups = None if labels is None else int(names.size)
    return SampledKL(estimate.reshape(leading)[()], error.reshape(leading)[()], n_samples, n_groups)


def _labels(groups: npt.ArrayLike, shape: tuple[int, ...], axis: int | None) -> npt.NDArray[Any]:
    """Give every sample its label."""
    labels = np.asarray(groups)
    if labels.dtype.kind not in "iubUS":
        raise TypeError(f"groups must hold integers or strings, got dtype {labels.dtype}")
    if axis is not None and labels.ndim == 1 and len(shape) > 1:
        place = as_index(axis, "axis", -len(shape), len(shape) - 1) % len(shape)
        labels = labels.reshape([-1 if i == place else 1 for i in range(len(shape))])
    try:
        return np.broadcast_to(labels, shape)
    except ValueError:
        raise ValueError(f"groups must broadcast to the shape {shape} of the samples, got {np.shape(groups)}") from None


def _samples(log_p: Array, log_q: Array, estimator: str) -> Array:
    """Evaluate the estimator at each sample; k3 through the series of phi where e^r - 1 - r would cancel."""
    with np.errstate(invalid="ignore", over="ignore"):
        impossible = ~(log_p > -np.inf) | (log_p == np.inf) | ~(log_q < np.inf)
        r = np.where(impossible, np.nan, log_q - log_p)
        if estimator == "k1":
            return -r
        if estimator == "k2":
            return 0.5 * r * r
        below = -np.abs(r)
        return np.where(r > 0.0, np.exp(r) * phi_mirrored(below), phi(below))


def _by_group(values: Array, members: npt.NDArray[np.intp], n_groups: int) -> Array:
    """Sum the rest of each row over each group."""
    rows = np.arange(len(values))[:, np.newaxis] * n_groups
    sums = np.bincount((rows + members).ravel(), weights=values.ravel(), minlength=len(values) * n_groups)
    return np.asarray(sums, np.float64).reshape(len(values), n_groups)


def _standard_error(sums: Array, count: npt.ArrayLike, n_samples: int) -> Array:
    independent = np.asarray(count, np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        correction = np.where(independent > 1.0, independent / (independent - 1.0), np.nan)
        return np.asarray(np.sqrt(correction * np.square(sums).sum(axis=-1)) / n_samples)
