"""The identity of a run: which inputs, which options, which code. Two runs with equal identities give equal files."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

from .errors import InputError
from .inputs import Inputs
from .options import Options
from .plan import Plan

__all__ = ["SCHEMA_VERSION", "difference", "fingerprint", "make_manifest"]

SCHEMA_VERSION = 1

_WHOLE = 64 << 20
_SAMPLES = 256
_SAMPLE_BYTES = 4096


def fingerprint(path: Path) -> dict[str, Any]:
    """Return size and digest of a file, cheaply.

    Up to 64 MiB the whole content is hashed. Of a larger file 256 evenly spaced pages are, the first and the last among
    them, together with the time of its last change: reading it all would cost as much as scoring it.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        ``size`` and ``blake2b``, and ``mtime_ns`` for a large file.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.blake2b(digest_size=16)
            if status.st_size <= _WHOLE:
                while piece := file.read(1 << 20):
                    digest.update(piece)
                return {"size": status.st_size, "blake2b": digest.hexdigest()}
            for sample in range(_SAMPLES):
                file.seek((status.st_size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    return {"size": status.st_size, "blake2b": digest.hexdigest(), "mtime_ns": status.st_mtime_ns}


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
        "inputs": {role: fingerprint(path) for role, path in inputs.paths().items()},
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
        "paths": {role: str(path) for role, path in inputs.paths().items()},
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
