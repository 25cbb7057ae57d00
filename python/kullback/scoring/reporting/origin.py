"""How the numbers were made: files, options, versions, and the command that makes them again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ..options import Options
from .gather import Run
from .words import visible

__all__ = ["command", "environment", "files"]

# Options of the manifest as flags; one that has its default is left out of the command.
_FLAGS = {
    "metrics": "--metrics",
    "vocab_size": "--vocab-size",
    "temperature": "--temperature",
    "group_size": "--group-size",
    "kind": "--input",
    "kld_rule": "--kld-rule",
    "tail": "--tail",
}
_DEFAULTS = Options()


def command(run: Run) -> str:
    """Return the commands that make the run and its page again, for a POSIX shell."""
    paths = _mapping(run.manifest.get("paths"))
    reference = str(paths.get("reference", run.summary.get("reference", "REFERENCE")))
    parts = ["kullback", "score", reference, *(scored.path for scored in run.candidates.values())]
    texts = run.manifest.get("token_texts")
    known = {"targets": paths.get("targets"), "noise-floor": paths.get("noise floor"), "token-texts": texts}
    for flag, path in known.items():
        if isinstance(path, str):
            parts += [f"--{flag}", path]
    for condition in dict.fromkeys(item.expression for item in run.thresholds):
        parts += ["--fail-if", condition]
    options = _mapping(_mapping(run.manifest.get("identity")).get("options"))
    for name, flag in _FLAGS.items():
        default = getattr(_DEFAULTS, name)
        value = options.get(name, default)
        if value != default:
            parts += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    raw = _mapping(options.get("raw"))
    if raw:
        parts += ["--dtype", str(raw.get("dtype")), "--shape", ",".join(map(str, raw.get("shape", ())))]
        if raw.get("offset"):
            parts += ["--offset", str(raw["offset"])]
    parts += ["--out", str(run.directory)]
    lines = (parts, ["kullback", "report", str(run.directory)])
    return "\n".join(visible(" ".join(shlex.quote(part) for part in line)) for line in lines)


def files(run: Run) -> list[tuple[str, str, str, str]]:
    """Return role, path, size and fingerprint of every input."""
    inputs = _mapping(_mapping(run.manifest.get("identity")).get("inputs"))
    paths = _mapping(run.manifest.get("paths"))
    found = []
    for role, facts in inputs.items():
        digest = str(_mapping(facts).get("blake2b", _mapping(facts).get("digest", "–")))
        size = _mapping(facts).get("size")
        # Of large files only samples are hashed, and the time of change is kept with them.
        how = "blake2b of 256 samples" if "mtime_ns" in _mapping(facts) else "blake2b"
        text = f"{size:,} bytes" if isinstance(size, int) else "–"
        found.append((visible(role), visible(str(paths.get(role, "–"))), text, visible(f"{how} {digest}")))
    return found


def environment(run: Run) -> list[tuple[str, str]]:
    """Return options, versions and machine as name and value."""
    identity = _mapping(run.manifest.get("identity"))
    library = _mapping(identity.get("library"))
    found = {
        "kullback": library.get("version"),
        "backend": library.get("backend"),
        "rows": f"{run.n_rows:,}",
        "vocabulary": run.summary.get("vocab_size"),
        **{f"option {name}": value for name, value in _mapping(identity.get("options")).items()},
        "columns": ", ".join(run.columns),
        **_mapping(run.manifest.get("environment")),
    }
    return [(visible(str(name)), _plain(value)) for name, value in found.items() if value is not None]


def _plain(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return visible(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
