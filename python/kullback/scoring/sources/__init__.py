"""One file per format; the format is told by the first bytes of a file, never by its name."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .base import Source
from .llama_cpp import LlamaSource
from .llama_layout import MAGIC as LLAMA_MAGIC
from .llama_layout import MAGIC_EXACT_ZERO as LLAMA_MAGIC_EXACT_ZERO
from .mapping import MappedFile
from .npy import MAGIC as NPY_MAGIC
from .npy import NpySource, read_token_ids

__all__ = ["KINDS", "LlamaSource", "NpySource", "Source", "open_source", "read_token_ids"]

KINDS = ("logits", "log_probs", "probs", "weights")

# Formats that people are likely to try, so that the refusal can name them.
_FOREIGN = {
    b"PK\x03\x04": "a zip archive (.npz or a PyTorch file)",
    b"GGUF": "a GGUF model",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
}


def open_source(path: str | Path, kind: str = "logits") -> Source:
    """Open a file of rows.

    Parameters
    ----------
    path : str or Path
        A ``.npy`` file or a llama.cpp base-logits file.
    kind : str, default "logits"
        What the numbers of a ``.npy`` file are; llama.cpp files say it themselves.

    Returns
    -------
    Source
        To be closed by the caller.

    Raises
    ------
    InputError
        If the file is missing, unreadable, empty, foreign, or broken.
    """
    file = MappedFile(Path(path))
    try:
        head = file.bytes(0, 16)
        if head.startswith(NPY_MAGIC):
            return NpySource(file, kind)
        if head.startswith((LLAMA_MAGIC, LLAMA_MAGIC_EXACT_ZERO)):
            return LlamaSource(file)
        known = next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)
        found = known or f"a file that starts with {head[:8]!r}"
        raise InputError(f"{path} is {found}; expected a .npy file or a llama.cpp base-logits file")
    except BaseException:
        file.close()
        raise
