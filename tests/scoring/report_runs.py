"""Finished runs to report on, small and of every kind, and what a later version may write into their summaries."""

import copy
import itertools
import json

import numpy as np

import kullback as kb

# A token text may hold anything: markup, quotes, template code, controls, text that turns the line around.
HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=http://example.org/x.png onerror=alert(2)>",
    "{{ 7 * 7 }}{% raw %}",
    "</style></title></svg><b>",
    "\x00\x1b[31m\n\t\x7f",
    "\u202eabc\u2066\u200b",
    "&lt;b&gt;",
]
HOSTILE_NAME = "<img src=x onerror=alert(3)>$x_1^2$&"


def make(folder, noises, *, rows=120, vocab=40, group=12, targets=True, change=None, names=None, metrics=None, seed=0):
    """Score candidates that differ from a reference by noise of the given sizes; return the run's directory."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    p = (rng.normal(size=(rows, vocab)) * rng.uniform(0.3, 5, (rows, 1))).astype(np.float32)
    np.save(folder / "reference.npy", p)
    np.save(folder / "targets.npy", rng.integers(vocab, size=rows))
    paths = []
    for number, noise in enumerate(noises):
        q = p + (noise * rng.normal(size=p.shape)).astype(np.float32)
        if change is not None:
            change(q)
        paths.append(folder / f"{names[number] if names else f'q{number}'}.npy")
        np.save(paths[-1], q)
    out = folder / "out"
    options = {"targets": folder / "targets.npy"} if targets else {}
    kb.score(folder / "reference.npy", paths, out, group_size=group, metrics=metrics, **options)
    return out


def estimate(value, low, high):
    """Return an estimate as it stands in ``summary.json``."""
    error = (high - low) / 4
    extra = {"group_standard_error": error, "low": low, "high": high}
    return {"value": value, "standard_error": error, "over_all": value, "n_rows": 50, **extra}


def distribution(value):
    """Return the distribution of a column as it stands in ``summary.json``."""
    percentiles = dict.fromkeys(["0.1", "1", "5", "10", "25", "50", "75", "90", "95", "99", "99.9"], value)
    counts = {"n_finite": 50, "n_infinite": 0, "n_nan": 0}
    ends = {"minimum": 0.0, "maximum": 3 * value, "median": value}
    return {"mean": estimate(value, 0.8 * value, 1.2 * value), **counts, **ends, "percentiles": percentiles}


def extend(out):
    """Add buckets, noise floor, paired comparisons and thresholds to a run's summary."""
    path = out / "summary.json"
    summary = json.loads(path.read_text())
    names = list(summary["candidates"])
    for candidate in summary["candidates"].values():
        mean = candidate["statistics"]["kl"]["mean"]["value"]
        edges = [0.0, 0.5, 0.9, 1.0]
        candidate["buckets"] = {
            "top1_prob_p": [
                {"low": low, "high": high, "n_rows": 40, "statistics": {"kl": distribution(mean * (2 - high))}}
                for low, high in itertools.pairwise(edges)
            ],
            "token_class": [
                {"name": name, "n_rows": 60, "statistics": {"kl": distribution(mean * factor)}}
                for name, factor in (("number", 2.0), ("<word>", 0.5))
            ],
        }
        difference = estimate(mean - 0.001, mean - 0.002, mean)
        above = {"metric": "kl", "ratio": mean / 0.001, "difference": difference, "above": mean > 0.002}
        candidate["above_noise_floor"] = above
    summary["noise_floor"] = copy.deepcopy(summary["candidates"][names[0]])
    summary["noise_floor"]["statistics"]["kl"] = distribution(0.001)
    summary["paired"] = [
        {"a": names[0], "b": names[1], "metric": "kl", "difference": estimate(0.02, 0.01, 0.03), "better": names[0],
         "confidence": 0.95},
        {"a": names[0], "b": names[1], "metric": "log_perplexity", "difference": estimate(0.001, -0.01, 0.01),
         "better": None, "confidence": 0.95},
    ]  # fmt: skip
    summary["thresholds"] = [
        {"expression": "kl.mean > 0.01", "candidate": names[0], "value": 0.0001, "failed": False},
        {"expression": "kl.mean > 0.01", "candidate": names[1], "value": "Infinity", "failed": True},
    ]
    path.write_text(json.dumps(summary))


def token_texts(folder, vocab=40):
    """Write the texts of tokens, hostile ones first, and return the file."""
    path = folder / "texts.json"
    path.write_text(json.dumps((HOSTILE + [f" word{number}" for number in range(vocab)])[:vocab]))
    return path
