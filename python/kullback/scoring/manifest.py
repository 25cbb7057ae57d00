"""The identity of a run: which inputs, which options, which code. Two runs with equal identities give equal files."""

from __future__ import annotations

import json
import platform
from typing import Any

from .inputs import NOISE_FLOOR, Inputs
from .options import Options
from .plan import Plan
from .token_texts import TokenTexts

__all__ = ["SCHEMA_VERSION", "difference", "make_manifest", "with_texts"]

SCHEMA_VERSION = 1


def make_manifest(
    inputs: Inputs,
    options: Options,
    plan: Plan,
    columns: list[str],
    info: dict[str, Any],
    token_texts: TokenTexts | None = None,
) -> dict[str, Any]:
    """Return the manifest of a run: its identity, and for the record its environment and file locations.

    Parameters
    ----------
    inputs : Inputs
        The opened files.
    options : Options
        The options that decide the numbers.
    plan : Plan
        Part boundaries.
    columns : list of str
        Computed columns.
    info : dict
        What `kullback.info` says.
    token_texts : TokenTexts, optional
        Texts of the tokens; they change the summary and no part.

    Returns
    -------
    dict
        Ready for JSON; ``identity`` is what a resumed run must have in common.
    """
    import numpy
    import pyarrow

    identity = {
        "inputs": inputs.fingerprints(),
        "options": options.to_dict(),
        "columns": columns,
        "rows": inputs.n_rows,
        "rows_per_part": plan.rows_per_part,
        "library": {"version": info.get("version"), "backend": info.get("backend")},
    }
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "identity": identity,
        "candidates": list(inputs.candidates),
        "noise_floor": NOISE_FLOOR if NOISE_FLOOR in inputs.compared else None,
        "paths": inputs.names(),
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "numpy": numpy.__version__,
            "pyarrow": pyarrow.__version__,
            "isa": info.get("isa"),
            "build_profile": info.get("build_profile"),
        },
    }
    return with_texts(manifest, None if token_texts is None else token_texts.record())


def with_texts(manifest: dict[str, Any], record: dict[str, Any] | None) -> dict[str, Any]:
    """Return a manifest with the record of the file of token texts, or without one, and all else as it was.

    ``token_texts`` is its path, and ``token_texts_record`` how it was read and its fingerprint.
    """
    rest = {name: value for name, value in manifest.items() if not name.startswith("token_texts")}
    return rest if record is None else {**rest, "token_texts": record["path"], "token_texts_record": record}


def _flatten(value: Any, name: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        prefix = f"{name}." if name else ""
        return {k: v for key, item in value.items() for k, v in _flatten(item, f"{prefix}{key}").items()}
    return {name: json.dumps(value)}


def difference(old: Any, new: dict[str, Any]) -> str | None:
    """Return what differs between two identities in a few words, or None if they are the same."""
    before, after = _flatten(old), _flatten(new)
    for name in [*after, *before]:
        if before.get(name) != after.get(name):
            return f"{name} was {before.get(name, 'absent')} and is {after.get(name, 'absent')}"
    return None
