"""A finished run as records: what ``summary.json`` and ``manifest.json`` say, checked, with floats for their strings.

Both files may come from somebody else. Nothing in them is believed that would lead outside the directory, and what is
missing or of the wrong shape ends in one sentence.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..._core.registry import divergence_names
from ..errors import InputError, reason_of
from ..manifest import SCHEMA_VERSION
from ..paired import FloorComparison
from ..statistics import Distribution, Estimate
from ..thresholds import Outcome

__all__ = ["Bucket", "Paired", "Run", "Scored", "gather"]

Statistic = Distribution | Estimate

# What a report may be about, the most telling first; all are divergences that are 0 for equal rows.
_DIVERGENCES = ("kl", "reverse_kl", "js", "jeffreys", "total_variation", "squared_hellinger")
# Where only the most probable tokens are known, a column may be a bound of its divergence.
_BOUND = re.compile("_(low|high)$")
# Names in the registry of divergences that are none: they are not 0 for equal rows.
_NO_DIVERGENCE = {"acceptance_rate", "cross_entropy"}


@dataclass(frozen=True)
class Bucket:
    """Rows of one kind, such as those of one token class, and their statistics."""

    label: str
    n_rows: int
    statistics: Mapping[str, Statistic]


@dataclass(frozen=True)
class Scored:
    """The summary of a candidate, or of the noise floor."""

    name: str
    path: str
    n_rows: int
    n_groups: int | None
    n_bootstrap: int
    statistics: Mapping[str, Statistic]
    buckets: Mapping[str, Sequence[Bucket]]
    above: FloorComparison | None

    def estimate(self, name: str) -> Estimate | None:
        """Return a statistic, or the mean of a column."""
        found = self.statistics.get(name)
        return found.mean if isinstance(found, Distribution) else found

    def distribution(self, name: str) -> Distribution | None:
        """Return how a column is distributed."""
        found = self.statistics.get(name)
        return found if isinstance(found, Distribution) else None


@dataclass(frozen=True)
class Paired:
    """Two candidates row by row: the mean of b minus a."""

    a: str
    b: str
    metric: str
    difference: Estimate
    better: str | None
    confidence: float


@dataclass(frozen=True)
class Run:
    """Everything that a report says, but for what is in the rows themselves.

    Attributes
    ----------
    directory : Path
        Where it lies.
    summary, manifest : dict
        The two files as they stand.
    metric : str
        The divergence that the report is about: ``kl`` if it was computed.
    columns : tuple of str
        Computed columns.
    candidates : dict of str to Scored
        In the order given to the run.
    """

    directory: Path
    summary: Mapping[str, Any]
    manifest: Mapping[str, Any]
    metric: str
    columns: tuple[str, ...]
    n_rows: int
    rows_per_part: int
    candidates: Mapping[str, Scored]
    noise_floor: Scored | None
    paired: Sequence[Paired]
    thresholds: Sequence[Outcome]

    @property
    def n_groups(self) -> int | None:
        """Groups of the bootstrap."""
        return next(iter(self.candidates.values())).n_groups

    def nearest_first(self) -> list[Scored]:
        """Return the candidates by mean divergence; those with infinite rows come after those without."""

        def key(scored: Scored) -> tuple[bool, bool, float]:
            mean = scored.estimate(self.metric)
            if mean is None or math.isnan(mean.value):
                return True, True, math.inf
            return not math.isfinite(mean.over_all), False, mean.value

        return sorted(self.candidates.values(), key=key)


def gather(directory: Path) -> Run:
    """Read the two JSON files of a finished run.

    Parameters
    ----------
    directory : Path
        What ``kullback score --out`` was given.

    Returns
    -------
    Run
        Records; no rows are read.

    Raises
    ------
    InputError
        If this is no scoring run, an unfinished one, or one whose files are damaged.
    """
    if not directory.is_dir():
        raise InputError(f"{directory} is not a folder; expected the --out folder of kullback score")
    manifest = _read(directory, "manifest.json", f"{directory} is not the folder of a scoring run: it has no")
    summary = _read(directory, "summary.json", f"{directory} holds an unfinished run, which the same kullback score "
                    "command finishes: it has no")  # fmt: skip
    for name, content in (("manifest.json", manifest), ("summary.json", summary)):
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{directory / name} is of schema version {version!r}; this version of kullback reads {SCHEMA_VERSION}"
            )
    try:
        return _records(directory, summary, manifest)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        what = f"{type(error).__name__}: {reason_of(error)}"
        raise InputError(f"summary.json or manifest.json in {directory} is damaged ({what})") from None


def _read(directory: Path, name: str, missing: str) -> dict[str, Any]:
    path = directory / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{missing} {name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {reason_of(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: it holds no JSON object")
    return content


def _records(directory: Path, summary: Mapping[str, Any], manifest: Mapping[str, Any]) -> Run:
    identity = manifest["identity"]
    candidates = {name: _scored(name, item) for name, item in summary["candidates"].items()}
    if not candidates:
        raise InputError(f"{directory / 'summary.json'} lists no candidate")
    for name in candidates:
        if Path(name).name != name or name in {"", ".", ".."} or "\0" in name:
            raise InputError(f"{directory / 'summary.json'} names a candidate that is no folder of it: {name!r}")
    if list(candidates) != list(manifest["candidates"]):
        raise InputError(f"summary.json and manifest.json in {directory} list different candidates")
    columns = tuple(str(column) for column in identity["columns"])
    n_rows, rows_per_part = int(summary["rows"]), int(identity["rows_per_part"])
    if n_rows < 1 or rows_per_part < 1:
        raise ValueError(f"{n_rows} rows in parts of {rows_per_part}")
    floor = summary.get("noise_floor")
    return Run(
        directory,
        summary,
        manifest,
        _metric(directory, columns),
        columns,
        n_rows,
        rows_per_part,
        candidates,
        None if floor is None else _scored("noise floor", floor),
        [_paired(item) for item in summary.get("paired") or ()],
        [_outcome(item) for item in summary.get("thresholds") or ()],
    )


def _metric(directory: Path, columns: Sequence[str]) -> str:
    for name in _DIVERGENCES:
        if name in columns:
            return name
    known = {*divergence_names()} - _NO_DIVERGENCE
    others = [name for name in columns if _BOUND.sub("", name.partition(":")[0]) in known]
    if not others:
        raise InputError(
            f"{directory} was scored without a divergence (its columns are {', '.join(columns)}); score it again with "
            "kl among the --metrics"
        )
    return others[0]


def _scored(name: str, item: Mapping[str, Any]) -> Scored:
    buckets = {
        kind: [_bucket(entry) for entry in entries] for kind, entries in (item.get("buckets") or {}).items() if entries
    }
    above = item.get("above_noise_floor")
    groups = item.get("n_groups")
    return Scored(
        name,
        str(item.get("path", "")),
        int(item["n_rows"]),
        None if groups is None else int(groups),
        int(item.get("n_bootstrap") or 0),
        {key: _statistic(value) for key, value in item["statistics"].items()},
        buckets,
        None if not above else _floor_comparison(above),
    )


def _bucket(item: Mapping[str, Any]) -> Bucket:
    label = (
        str(item["name"]).replace("_", " ") if "name" in item else f"{float(item['low']):g} to {float(item['high']):g}"
    )
    return Bucket(label, int(item["n_rows"]), {key: _statistic(value) for key, value in item["statistics"].items()})


def _paired(item: Mapping[str, Any]) -> Paired:
    better = item.get("better")
    return Paired(
        str(item["a"]),
        str(item["b"]),
        str(item["metric"]),
        _estimate(item["difference"]),
        None if better is None else str(better),
        float(item.get("confidence", 0.95)),
    )


def _floor_comparison(item: Mapping[str, Any]) -> FloorComparison:
    difference = _estimate(item["difference"])
    return FloorComparison(str(item["metric"]), float(item["ratio"]), difference, bool(item["above"]))


def _outcome(item: Mapping[str, Any]) -> Outcome:
    return Outcome(str(item["expression"]), str(item["candidate"]), float(item["value"]), bool(item["failed"]))


def _statistic(item: Mapping[str, Any]) -> Statistic:
    return _distribution(item) if "mean" in item else _estimate(item)


def _distribution(item: Mapping[str, Any]) -> Distribution:
    return Distribution(
        mean=_estimate(item["mean"]),
        n_finite=int(item["n_finite"]),
        n_infinite=int(item["n_infinite"]),
        n_nan=int(item["n_nan"]),
        minimum=float(item["minimum"]),
        maximum=float(item["maximum"]),
        median=float(item["median"]),
        percentiles={str(percent): float(value) for percent, value in item["percentiles"].items()},
    )


def _estimate(item: Mapping[str, Any]) -> Estimate:
    # Later versions may say more about an estimate than this one shows.
    known = {field.name: field.default is None for field in fields(Estimate)}  # whether it may be absent
    found: dict[str, Any] = {
        name: None if value is None and known[name] else float(value) for name, value in item.items() if name in known
    }
    found["n_rows"] = int(item["n_rows"])
    return Estimate(**found)
