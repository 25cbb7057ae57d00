"""From finished parts to ``summary.json``: statistics of every candidate, and of the candidates against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .inputs import NOISE_FLOOR, Inputs
from .manifest import SCHEMA_VERSION
from .options import Options
from .output import RunDirectory
from .paired import Difference, FloorComparison, compare_pairs, compare_with_floor
from .statistics import Bootstrap
from .summary import N_BOOTSTRAP, SEED, Summary, json_safe, summarise
from .thresholds import Outcome, Threshold
from .token_texts import TokenTexts

__all__ = ["Conclusion", "conclude"]


@dataclass(frozen=True)
class Conclusion:
    """What came out of a run.

    Attributes
    ----------
    summaries : dict of str to Summary
        By candidate.
    noise_floor : Summary, optional
        Of the reference's second run.
    above_noise_floor : dict of str to FloorComparison
        By candidate.
    paired : tuple of Difference
        Of every two candidates.
    outcomes : tuple of Outcome
        Of every condition and candidate.
    warnings : tuple of str
        What the user has to know.
    """

    summaries: dict[str, Summary]
    noise_floor: Summary | None
    above_noise_floor: dict[str, FloorComparison]
    paired: tuple[Difference, ...]
    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...]


def conclude(
    inputs: Inputs,
    options: Options,
    directory: RunDirectory,
    n_parts: int,
    token_texts: TokenTexts | None,
    thresholds: tuple[Threshold, ...],
) -> Conclusion:
    """Summarise finished parts and write ``summary.json``.

    Parameters
    ----------
    inputs : Inputs
        The opened files.
    options : Options
        The run's options.
    directory : RunDirectory
        Where the parts are, all of them.
    n_parts : int
        Parts of each candidate.
    token_texts : TokenTexts, optional
        For buckets by class of the token.
    thresholds : tuple of Threshold
        Conditions under which the run counts as failed.
    """
    groups = inputs.groups(0, inputs.n_rows)
    columns = {name: directory.columns(name, n_parts) for name in inputs.compared}
    summaries = {name: summarise(columns[name], groups, token_texts=token_texts) for name in inputs.compared}
    noise_floor = summaries.pop(NOISE_FLOOR, None)
    bootstrap = None if groups is None else Bootstrap(groups, N_BOOTSTRAP, SEED)
    candidates = {name: columns[name] for name in summaries}
    above: dict[str, FloorComparison] = {}
    if noise_floor is not None and "kl" in noise_floor:
        floor = columns[NOISE_FLOOR]["kl"]
        above = {name: compare_with_floor(columns[name]["kl"], floor, bootstrap) for name in candidates}
    outcomes = [threshold.outcome(name, summaries[name]) for threshold in thresholds for name in candidates]
    left_out = [threshold.left_out(name, summaries[name]) for threshold in thresholds for name in candidates]
    conclusion = Conclusion(
        summaries,
        noise_floor,
        above,
        compare_pairs(candidates, bootstrap),
        tuple(outcomes),
        (*inputs.warnings, *(warning for warning in left_out if warning is not None)),
    )
    directory.write_json("summary.json", _as_json(conclusion, inputs, options))
    return conclusion


def _as_json(conclusion: Conclusion, inputs: Inputs, options: Options) -> dict[str, Any]:
    def described(name: str, summary: Summary) -> dict[str, Any]:
        return {"path": inputs.compared[name].name, **summary.to_dict()}

    candidates: Mapping[str, dict[str, Any]] = {
        name: described(name, summary) for name, summary in conclusion.summaries.items()
    }
    for name, comparison in conclusion.above_noise_floor.items():
        candidates[name]["above_noise_floor"] = asdict(comparison)
    content = {
        "schema_version": SCHEMA_VERSION,
        "reference": inputs.reference.name,
        "rows": inputs.n_rows,
        "vocab_size": inputs.vocab_size,
        "kld_rule": options.kld_rule,
        "tail": options.tail,
        "warnings": conclusion.warnings,
        "candidates": candidates,
    }
    if conclusion.noise_floor is not None:
        content["noise_floor"] = described(NOISE_FLOOR, conclusion.noise_floor)
    content["paired"] = [asdict(difference) for difference in conclusion.paired]
    content["thresholds"] = [asdict(outcome) for outcome in conclusion.outcomes]
    return dict(json_safe(content))
