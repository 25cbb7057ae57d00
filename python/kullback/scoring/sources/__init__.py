"""One file per format, each a `Source`; `open_source` chooses among them by the first bytes of a file."""

from __future__ import annotations

from .base import IN_FLIGHT, Source
from .llama_cpp import LlamaSource
from .location import Location
from .npy import NpySource, read_token_ids
from .opening import KINDS, open_source
from .raw import RawLayout
from .top_k_source import TopKSource, holds_top_k

__all__ = [
    "IN_FLIGHT",
    "KINDS",
    "LlamaSource",
    "Location",
    "NpySource",
    "RawLayout",
    "Source",
    "TopKSource",
    "holds_top_k",
    "open_source",
    "read_token_ids",
]
