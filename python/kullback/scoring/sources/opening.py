"""Which reader a place gets: told by the first bytes of a file, never by its name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError, reason_of
from .base import Source
from .joined import JoinedSource
from .llama_cpp import LlamaSource
from .llama_layout import MAGIC as LLAMA_MAGIC
from .llama_layout import MAGIC_EXACT_ZERO as LLAMA_MAGIC_EXACT_ZERO
from .location import Location
from .mapping import MappedFile
from .npy import MAGIC as NPY_MAGIC
from .npy import NpySource
from .npz import ZIP_MAGIC, open_npz
from .raw import RawLayout, RawSource
from .safetensors import SafetensorsSource, is_safetensors, natural
from .top_k_source import TopKSource, holds_top_k

__all__ = ["KINDS", "open_source"]

KINDS = ("logits", "log_probs", "probs", "weights")

EXPECTED = "a .npy, .npz, safetensors, Parquet, Arrow or llama.cpp base-logits file, or a Zarr array"

# Formats that people are likely to try, so that the refusal can name them.
_FOREIGN = {
    b"GGUF": "a GGUF model",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"BZh": "a bzip2 file",
    b"FEA1": "a Feather file of version 1",
    b"{": "JSON, which can list top tokens if tail says what becomes of the others (--tail bucket)",
    b"\x80\x02": "a pickle, which is never loaded",
    b"\x80\x04": "a pickle, which is never loaded",
}

_INDEX_LIMIT = 16 << 20


def open_source(
    place: str | os.PathLike[str], kind: str = "logits", raw: RawLayout | None = None, *, top_k: bool = False
) -> Source:
    """Open what holds rows: a file, a part of one, several files, or a Zarr array.

    Parameters
    ----------
    place : str or path
        ``FILE``, ``FILE::name``, a folder or a pattern whose files are read one after another, or a URL.
    kind : str, default "logits"
        What the numbers are; llama.cpp files say it themselves.
    raw : RawLayout, optional
        How files without a format are read.
    top_k : bool, default False
        Take files that list top tokens for that, as a `TopKSource`; full rows are read as ever.

    Returns
    -------
    Source
        To be closed by the caller.

    Raises
    ------
    InputError
        If the place is missing, unreadable, empty, foreign, or broken.
    """
    location = Location.parse(place)
    if location.is_url or (location.path / "zarr.json").is_file():
        from .zarr_arrays import open_zarr

        return open_zarr(location, kind)
    if location.path.is_dir() and any((location.path / name).exists() for name in (".zarray", ".zgroup")):
        raise InputError(f"{location.place} is a Zarr store of version 2; expected version 3")
    if top_k and holds_top_k(location):
        return TopKSource(location)
    open_file = partial(_open_file, kind=kind, member=location.member, raw=raw)
    files = _indexed_files(location)
    if files is None:
        return open_file(location.path)
    if len(files) == 1:
        return open_file(files[0])
    return JoinedSource(location.text, files, open_file)


def _open_file(path: Path, kind: str, member: str | None, raw: RawLayout | None) -> Source:
    file = MappedFile(path)
    try:
        head = file.bytes(0, 16)
        reader = _reader(head)
        if reader is not None:
            return reader(file, kind, member)
        if member is not None:
            raise InputError(f"{path} is a file without named parts; expected its name without ::{member}")
        if head.startswith(NPY_MAGIC):
            return NpySource(file, kind)
        if head.startswith((LLAMA_MAGIC, LLAMA_MAGIC_EXACT_ZERO)):
            return LlamaSource(file)
        if raw is not None:
            return RawSource(file, kind, raw)
        known = next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)
        found = known or f"a file that starts with {head[:8]!r}"
        advice = "" if known else "; bare numbers need dtype and shape (--dtype, --shape)"
        raise InputError(f"{path} is {found}; expected {EXPECTED}{advice}")
    except BaseException:
        file.close()
        raise


def _reader(head: bytes) -> Callable[[MappedFile, str, str | None], Source] | None:
    """Return the reader of a format whose files have named parts."""
    if head.startswith(ZIP_MAGIC):
        return open_npz
    if is_safetensors(head):
        return SafetensorsSource
    if head.startswith(b"PAR1"):
        return _open_parquet
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return _open_arrow
    return None


def _open_parquet(file: MappedFile, kind: str, member: str | None) -> Source:
    from .parquet import ParquetSource

    return ParquetSource(file, kind, member)


def _open_arrow(file: MappedFile, kind: str, member: str | None) -> Source:
    from .arrow_ipc import open_arrow

    return open_arrow(file, kind, member)


def _indexed_files(location: Location) -> list[Path] | None:
    """Return the files that a place stands for, those of an index of shards among them; None for one file."""
    if not location.place.endswith(".index.json"):
        return location.files()
    path = location.path
    try:
        if path.stat().st_size > _INDEX_LIMIT:
            raise InputError(f"{path} has {path.stat().st_size} bytes; expected an index of {_INDEX_LIMIT} at most")
        index: Any = json.loads(path.read_text(encoding="utf-8"))
        shards = set(index["weight_map"].values())
        if not shards or not all(isinstance(name, str) and name == os.path.basename(name) for name in shards):
            raise ValueError("its weight_map must name files beside it")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not an index of safetensors shards: {reason_of(error)}") from None
    return [path.parent / name for name in sorted(shards, key=natural)]
