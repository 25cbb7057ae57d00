"""What the terms of a report mean; p is the reference and q the candidate, in one row."""

from __future__ import annotations

from .gather import Run

__all__ = ["definitions", "metric_label", "metric_symbol", "unit"]

# Name in running text, symbol for axes and tables, and whether it is in nats.
_METRICS = {
    "kl": ("KL divergence", "KL", True),
    "reverse_kl": ("reverse KL divergence", "reverse KL", True),
    "js": ("Jensen-Shannon divergence", "JS", True),
    "jeffreys": ("Jeffreys divergence", "Jeffreys", True),
    "total_variation": ("total variation", "total variation", False),
    "squared_hellinger": ("squared Hellinger distance", "squared Hellinger", False),
}

_DEFINITIONS = {
    "kl": ("KL divergence", "Σ p ln(p/q) over the vocabulary, in nats: what coding with the candidate's distribution "
           "costs in place of the reference's. 0 if they are equal, infinite if the candidate gives 0 to a token that "
           "the reference does not."),
    "reverse_kl": ("reverse KL", "Σ q ln(q/p), in nats."),
    "js": ("Jensen-Shannon", "½ KL(p‖m) + ½ KL(q‖m) with m = (p + q)/2, in nats, at most ln 2 = 0.693."),
    "jeffreys": ("Jeffreys", "KL(p‖q) + KL(q‖p), in nats."),
    "total_variation": ("total variation", "½ Σ |p − q|, between 0 and 1."),
    "squared_hellinger": ("squared Hellinger", "½ Σ (√p − √q)², between 0 and 1."),
    "top1_p": ("same top token", "share of rows in which both give the highest probability to the same token, the "
               "first of equals."),
    "log_prob_p": ("perplexity ratio", "exp of the mean of ln p(target) − ln q(target): how many times as perplexed "
                   "by the text the candidate is. The rows are paired, so the interval is that of the difference."),
    "delta_prob": ("Δp", "q(target) − p(target): what the probability of the token that really followed gained or "
                   "lost. RMS Δp is the root of its mean square."),
}  # fmt: skip


def metric_label(name: str) -> str:
    """Return what a divergence is called in running text."""
    return _METRICS[name][0] if name in _METRICS else name


def metric_symbol(name: str) -> str:
    """Return what a divergence is called in a table."""
    return _METRICS[name][1] if name in _METRICS else name


def unit(name: str) -> str:
    """Return the unit after a number, with its space."""
    return " nats" if name in _METRICS and _METRICS[name][2] else ""


def definitions(run: Run) -> list[tuple[str, str]]:
    """Return the definitions of what a report shows."""
    shown = (run.metric, "top1_p", "log_prob_p", "delta_prob")
    found = [_DEFINITIONS[name] for name in shown if name in _DEFINITIONS and name in run.columns]
    if run.summary.get("kld_rule") == "llama.cpp":
        found.append(
            (
                "llama.cpp's rule",
                "KL as that tool prints it: stored rows as they stand, without normalising them, tokens at or below "
                "−16 nats left out. It is not exactly a divergence and may be slightly negative.",
            )
        )
    found.append(("mean", "over the rows in which the value is finite; infinite and undefined rows are counted."))
    found.append(("95 % interval", _interval_meaning(run)))
    if run.noise_floor is not None:
        found.append(
            (
                "noise floor",
                "the same comparison for a candidate that differs from the reference by nothing that matters: a "
                "candidate is above it if the interval of their difference lies above 0.",
            )
        )
    return found


def _interval_meaning(run: Run) -> str:
    if run.n_groups is not None and run.n_groups > 1:
        n = max(scored.n_bootstrap for scored in run.candidates.values())
        return (
            f"percentiles 2.5 and 97.5 of {n:,} bootstrap replicates that draw whole groups out of {run.n_groups:,}, "
            "for the rows of one passage are not independent."
        )
    return (
        "mean ± 1.96 standard errors, with rows taken as independent, which the rows of one passage are not: it is too "
        "narrow by an unknown factor. Score with groups (--group-size) for one that is not."
    )
