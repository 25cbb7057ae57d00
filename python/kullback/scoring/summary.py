"""Summary of a comparison: what llama.cpp prints, for every column, with infinite and NaN rows counted and kept apart.

The definitions, with n rows, a = -log_prob_p and b = -log_prob_q (nats):

=============================== ======================================================================================
perplexity_p, perplexity_q      exp(mean a), exp(mean b); error: perplexity times the standard error of the mean
log_perplexity_ratio            mean b - mean a; error: sqrt(SE_a^2 + SE_b^2 - 2 Cov), the rows being paired
perplexity_ratio                exp of it; error: ratio times its error
perplexity_difference           perplexity_q - perplexity_p; error: sqrt(u_p^2 + u_q^2 - 2 PPL_p PPL_q Cov)
log_perplexity_correlation      Pearson correlation of a and b over rows
rms_delta_prob                  sqrt(mean delta_prob^2); error: SE(mean delta_prob^2) / (2 rms)
same_top                        share of rows with top1_p = top1_q; error: sqrt(s (1 - s) / (n - 1))
any other column                mean with standard error, extremes and percentiles
=============================== ======================================================================================

SE and Cov are those of means (divided by n - 1); llama.cpp prints 0 for fewer than 11 rows, this gives NaN for one
row only. A perplexity uses the rows in which both log-probabilities are finite; its `over_all` uses all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .buckets import Bucket, by_class, by_top1_prob
from .statistics import (
    Bootstrap,
    Distribution,
    Estimate,
    Floats,
    covariance_of_means,
    describe,
    standard_error,
)
from .token_texts import TokenTexts

__all__ = ["N_BOOTSTRAP", "SEED", "Summary", "json_safe", "statistic_names", "summarise"]

N_BOOTSTRAP = 2000
SEED = 0

# Token ids and keys: numbers without a mean.
_LABELS = frozenset({"row", "group", "target", "top1_p", "top1_q"})

_PERPLEXITIES = ("perplexity_p", "perplexity_q", "log_perplexity_ratio", "perplexity_ratio", "perplexity_difference")
_OF_LOG_PROBS = (*_PERPLEXITIES, "log_perplexity_correlation")


def json_safe(value: Any) -> Any:
    """Return a value with NaN and infinities as the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.

    JSON has no such numbers, and null would not tell them apart; these spellings are read back by ``float()``.
    """
    if isinstance(value, Mapping):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


@dataclass(frozen=True)
class Summary(Mapping[str, "Distribution | Estimate"]):
    """Statistics of a comparison, by name: a `Distribution` for a column, an `Estimate` for the rest.

    Attributes
    ----------
    n_rows : int
        Rows.
    n_groups : int, optional
        Groups that the bootstrap drew from.
    n_bootstrap, seed : int
        Replicates (0 without groups) and seed of the bootstrap.
    statistics : dict
        The statistics.
    buckets : dict of str to tuple of Bucket
        The divergences of some of the rows: by ``"top1_prob_p"`` and, if texts of tokens are known, ``"token_class"``.
    """

    n_rows: int
    n_groups: int | None
    n_bootstrap: int
    seed: int
    statistics: dict[str, Distribution | Estimate]
    buckets: dict[str, tuple[Bucket, ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Distribution | Estimate:
        """Return a statistic by name."""
        return self.statistics[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.statistics)

    def __len__(self) -> int:
        """Return the number of statistics."""
        return len(self.statistics)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as dictionaries that `json.dumps` takes; see `json_safe` for NaN and infinities."""
        fields: dict[str, Any] = {
            "n_rows": self.n_rows,
            "n_groups": self.n_groups,
            "n_bootstrap": self.n_bootstrap,
            "seed": self.seed,
            "statistics": {name: asdict(item) for name, item in self.statistics.items()},
        }
        if self.buckets:
            fields["buckets"] = {by: [bucket.to_dict() for bucket in buckets] for by, buckets in self.buckets.items()}
        return dict(json_safe(fields))

    def __str__(self) -> str:
        """Return a table of plain text."""
        from .table import plain_text

        return plain_text(self)


class _Summariser:
    """The columns of one comparison and, if there are groups, the bootstrap over them."""

    def __init__(
        self, columns: Mapping[str, NDArray[Any]], bootstrap: Bootstrap | None, token_texts: TokenTexts | None
    ) -> None:
        self._columns = columns
        self._bootstrap = bootstrap
        self._token_texts = token_texts

    def _with_groups(
        self, estimate: Estimate, columns: list[Floats], rows: NDArray[np.bool_], statistic: Callable[..., Floats]
    ) -> Estimate:
        return estimate if self._bootstrap is None else self._bootstrap.apply(estimate, columns, rows, statistic)

    def column(self, name: str) -> Floats:
        """Return a column as float64; NaN where an integer column says that the row is unknown (-1)."""
        values = np.asarray(self._columns[name]).reshape(-1)
        floats = values.astype(np.float64, copy=False)
        if values.dtype.kind in "iu":
            floats[values < 0] = np.nan
        return floats

    def distribution(self, values: Floats, among: NDArray[np.bool_] | None = None) -> Distribution:
        """Describe the values of a column, or of its rows `among`."""
        rows = np.isfinite(values) if among is None else np.isfinite(values) & among
        result = describe(values if among is None else values[among])
        return replace(result, mean=self._with_groups(result.mean, [values[rows]], rows, lambda mean: mean))

    def perplexity(self) -> dict[str, Distribution | Estimate]:
        all_a, all_b = -self.column("log_prob_p"), -self.column("log_prob_q")
        rows = np.isfinite(all_a) & np.isfinite(all_b)
        known = ~(np.isnan(all_a) | np.isnan(all_b))
        a, b = all_a[rows], all_b[rows]
        n = int(rows.sum())
        if n == 0:
            return {}
        with np.errstate(invalid="ignore", over="ignore"):
            mean_a, mean_b = float(a.mean()), float(b.mean())
            over_a, over_b = float(all_a[known].mean()), float(all_b[known].mean())
            error_a, error_b, covariance = standard_error(a), standard_error(b), covariance_of_means(a, b)
            p, q, ratio = (float(np.exp(x)) for x in (mean_a, mean_b, mean_b - mean_a))
            error = math.sqrt(max(error_a**2 + error_b**2 - 2 * covariance, 0.0)) if n > 1 else math.nan
            u_p, u_q = p * error_a, q * error_b
            u_difference = math.sqrt(max(u_p**2 + u_q**2 - 2 * p * q * covariance, 0.0)) if n > 1 else math.nan
            over_p, over_q, over_ratio = (float(np.exp(x)) for x in (over_a, over_b, over_b - over_a))
            spread = error_a * error_b
            correlation = min(covariance / spread, 1.0) if spread > 0 else math.nan
        estimates = {
            "perplexity_p": (Estimate(p, u_p, over_p, n), lambda a, b, *_: np.exp(a)),
            "perplexity_q": (Estimate(q, u_q, over_q, n), lambda a, b, *_: np.exp(b)),
            "log_perplexity_ratio": (Estimate(mean_b - mean_a, error, over_b - over_a, n), lambda a, b, *_: b - a),
            "perplexity_ratio": (Estimate(ratio, ratio * error, over_ratio, n), lambda a, b, *_: np.exp(b - a)),
            "perplexity_difference": (
                Estimate(q - p, u_difference, over_q - over_p, n),
                lambda a, b, *_: np.exp(b) - np.exp(a),
            ),
            "log_perplexity_correlation": (Estimate(correlation, math.nan, correlation, n), _correlation),
        }
        # Second moments are taken about the overall means, where nothing cancels; a shift changes no correlation.
        moments = [a - mean_a, b - mean_b]
        moments += [moments[0] ** 2, moments[1] ** 2, moments[0] * moments[1]]
        columns = {"log_perplexity_correlation": moments}
        return {
            name: self._with_groups(estimate, columns.get(name, [a, b]), rows, statistic)
            for name, (estimate, statistic) in estimates.items()
        }

    def rms_delta_prob(self) -> Estimate:
        values = self.column("delta_prob")
        rows = np.isfinite(values)
        squares = values[rows] ** 2
        rms = float(np.sqrt(squares.mean())) if squares.size else math.nan
        error = standard_error(squares) / (2 * rms) if rms > 0 else (0.0 if squares.size > 1 else math.nan)
        return self._with_groups(Estimate(rms, error, rms, int(squares.size)), [squares], rows, np.sqrt)

    def same(self) -> Floats:
        """Return for each row 1 if both sides have one top token, 0 if not, NaN if a side has none."""
        p, q = (np.asarray(self._columns[name]).reshape(-1) for name in ("top1_p", "top1_q"))
        return np.where((p >= 0) & (q >= 0), (p == q).astype(np.float64), np.nan)

    def same_top(self, same: Floats, among: NDArray[np.bool_] | None = None) -> Estimate:
        """Return the share of rows with one top token, or of the rows `among`."""
        rows = ~np.isnan(same) if among is None else ~np.isnan(same) & among
        n = int(rows.sum())
        share = float(same[rows].mean()) if n else math.nan
        error = math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else math.nan
        return self._with_groups(Estimate(share, error, share, n), [same[rows]], rows, lambda mean: mean)

    def buckets(self, same: Floats | None) -> dict[str, list[tuple[Bucket, NDArray[np.bool_]]]]:
        """Return the buckets, without divergences as yet, and which rows are in each."""
        divided: dict[str, Iterable[tuple[dict[str, Any], NDArray[np.bool_]]]] = {}
        if "top1_prob_p" in set(self._columns):
            divided["top1_prob_p"] = by_top1_prob(self.column("top1_prob_p"))
        if self._token_texts is not None:
            divided["token_class"] = by_class(self._token_texts.codes(self._tokens()))
        return {
            by: [
                (Bucket(int(rows.sum()), **called, same_top=None if same is None else self.same_top(same, rows)), rows)
                for called, rows in parts
            ]
            for by, parts in divided.items()
        }

    def _tokens(self) -> NDArray[Any]:
        """Return the token of each row: the one that followed it if that is known, or else the reference's top one."""
        tokens = self._columns.get("target", self._columns.get("top1_p"))
        if tokens is None:
            raise ValueError("token_texts needs the column target or top1_p to know the token of a row")
        return np.asarray(tokens)


def _is_divergence(column: str) -> bool:
    """Tell divergences, also the bounds of those of top-k lists, from other columns."""
    from .._core.registry import divergence_names

    name = column.partition(":")[0].removesuffix("_low").removesuffix("_high")
    # The cross-entropy is not 0 between equals: it is the entropy, with the divergence added.
    return name in divergence_names() and name != "cross_entropy"


def statistic_names(columns: Iterable[str]) -> dict[str, bool]:
    """Return the names that a summary of these columns has, and whether each is a whole `Distribution`."""
    columns = list(columns)
    names: dict[str, bool] = {}
    if {"log_prob_p", "log_prob_q"} <= set(columns):
        names |= dict.fromkeys(_OF_LOG_PROBS, False)
    if {"top1_p", "top1_q"} <= set(columns):
        names["same_top"] = False
    if "delta_prob" in columns:
        names["rms_delta_prob"] = False
    return names | {name: True for name in columns if name not in _LABELS}


def _correlation(a: Floats, b: Floats, aa: Floats, bb: Floats, ab: Floats) -> Floats:
    return (ab - a * b) / np.sqrt((aa - a * a) * (bb - b * b))


def summarise(
    columns: Mapping[str, NDArray[Any]],
    groups: NDArray[Any] | None = None,
    *,
    n_bootstrap: int = N_BOOTSTRAP,
    seed: int = SEED,
    token_texts: TokenTexts | None = None,
) -> Summary:
    """Summarise the columns of a comparison.

    Parameters
    ----------
    columns : mapping of str to ndarray
        Per-row columns, by the names that `kullback.compare` gives them. Columns are taken one or two at a time.
    groups : ndarray, optional
        Chunk or document of each row; adds errors and 95 % intervals by bootstrap over groups.
    n_bootstrap : int, default 2000
        Replicates.
    seed : int, default 0
        Seed of the bootstrap.
    token_texts : TokenTexts, optional
        Adds buckets by class of the token: of the column ``target``, or else ``top1_p``.

    Returns
    -------
    Summary
        Perplexities first (if the target log-probabilities are there), then agreement, then every column.

    Raises
    ------
    ValueError
        If there are no columns or `groups` does not have one number per row.
    """
    names = [name for name in columns if name not in _LABELS]
    if not list(columns):
        raise ValueError("columns is empty: expected at least one column of a comparison")
    n_rows = int(np.size(columns[next(iter(names or columns))]))
    bootstrap = None
    if groups is not None:
        groups = np.asarray(groups).reshape(-1)
        if groups.size != n_rows:
            raise ValueError(f"groups must have one entry per row: expected {n_rows}, got {groups.size}")
        bootstrap = Bootstrap(groups, n_bootstrap, seed)
    summariser = _Summariser(columns, bootstrap, token_texts)
    statistics: dict[str, Distribution | Estimate] = {}
    if {"log_prob_p", "log_prob_q"} <= set(columns):
        statistics |= summariser.perplexity()
    same = summariser.same() if {"top1_p", "top1_q"} <= set(columns) else None
    if same is not None:
        statistics["same_top"] = summariser.same_top(same)
    if "delta_prob" in columns:
        statistics["rms_delta_prob"] = summariser.rms_delta_prob()
    divided = summariser.buckets(same)
    for name in names:  # each column is read once, for all rows and for every bucket
        values = summariser.column(name)
        statistics[name] = summariser.distribution(values)
        if _is_divergence(name):
            for bucket, rows in (item for parts in divided.values() for item in parts):
                bucket.statistics[name] = summariser.distribution(values, rows)
    buckets = {by: tuple(bucket for bucket, _ in parts) for by, parts in divided.items()}
    if bootstrap is None:
        return Summary(n_rows, None, 0, seed, statistics, buckets)
    return Summary(n_rows, bootstrap.n_groups, bootstrap.n_replicates, seed, statistics, buckets)
