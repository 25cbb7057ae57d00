"""Size and digest of input files, cheaply: what tells whether a run that is continued still has the same inputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InputError

__all__ = ["fingerprint", "fingerprint_folder"]

_WHOLE = 64 << 20
_SAMPLES = 256
_SAMPLE_BYTES = 4096


def fingerprint(path: Path) -> dict[str, Any]:
    """Return size and digest of a file.

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


def fingerprint_folder(files: Mapping[str, Path]) -> dict[str, Any]:
    """Return number, size and digest of several files, by the same rule for all of them together.

    Parameters
    ----------
    files : mapping of str to Path
        By the name that identifies each.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        statuses = {name: path.stat() for name, path in sorted(files.items())}
        size = sum(status.st_size for status in statuses.values())
        names = list(statuses)
        for name, status in statuses.items():
            changed = "" if size <= _WHOLE else f" {status.st_mtime_ns}"
            digest.update(f"{name!r} {status.st_size}{changed}\n".encode())
        n_samples = len(names) if size <= _WHOLE else min(_SAMPLES, len(names))
        for sample in range(n_samples):
            name = names[sample * len(names) // n_samples]
            with files[name].open("rb") as file:
                while piece := file.read(1 << 20 if size <= _WHOLE else _SAMPLE_BYTES):
                    digest.update(piece)
                    if size > _WHOLE:
                        break
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror or error}") from None
    return {"files": len(names), "size": size, "blake2b": digest.hexdigest()}
