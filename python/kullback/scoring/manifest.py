"""The identity of a run: which inputs, which options, which code. Two runs with equal identities give equal files."""

from __future__ import annotations

import json
import platform
from typing import Any

from .inputs import Inputs
from .options import Options
from .plan import Plan

__all__ = ["SCHEMA_VERSION", "difference", "make_manifest"]

SCHEMA_VERSION = 1


def make_manifest(
    inputs: Inputs, options: Options, plan: Plan, columns: list[str], info: dict[str, Any]
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
    return {
        "schema_version": SCHEMA_VERSION,
        "identity": identity,
        "candidates": list(inputs.candidates),
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
