"""Byte layout of the files that ``llama-perplexity --kl-divergence-base`` and two of its forks write.

All are little-endian, without padding between the parts: magic, header, tokens, then rows of
``float32 scale, float32 min_log_prob, n_vocab x uint16 code`` (+ one pad code if `n_vocab` is odd).

============== ======================================= =====================================================
magic          header after the magic                  rows
============== ======================================= =====================================================
``_logits_``   u32 n_ctx, i32 n_vocab, i32 n_chunk     n_ctx - 1 - n_ctx/2 per chunk: the second half of it
``_logits2``   the same                                the same; code 0 is an exact -inf
``_logits_v2`` u32 n_ctx, i32 n_vocab, i32 stride,     eval_len - 1 per window, which is all of it; windows
               i32 eval_len, i32 n_windows             overlap by eval_len - stride tokens
============== ======================================= =====================================================

The first eight bytes of ``_logits_v2`` are upstream's magic: read naively its n_ctx has 0x3276 ("v2") in the low
half. Every size below is a Python integer, so no product overflows.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

__all__ = ["MAGIC", "MAGIC_EXACT_ZERO", "MAGIC_WINDOWS", "Layout", "parse_layout"]

MAGIC = b"_logits_"
MAGIC_EXACT_ZERO = b"_logits2"
MAGIC_WINDOWS = b"_logits_v2"


@dataclass(frozen=True)
class Layout:
    """Where the parts of a file lie.

    Attributes
    ----------
    variant : str
        ``"_logits_"``, ``"_logits2"`` or ``"_logits_v2"``.
    n_ctx, vocab_size, n_chunks : int
        As in the header; `n_chunks` is what the writer planned, not what it completed.
    chunk_stride : int
        Tokens from the start of a chunk to the start of the next.
    first_target : int
        Position within a chunk of the first row's target token.
    rows_per_chunk : int
        Scored positions of a chunk.
    tokens_offset, n_tokens : int
        Byte offset and number of the int32 tokens.
    """

    variant: str
    n_ctx: int
    vocab_size: int
    n_chunks: int
    chunk_stride: int
    first_target: int
    rows_per_chunk: int
    tokens_offset: int
    n_tokens: int

    @property
    def rows_offset(self) -> int:
        """Byte offset of the first row."""
        return self.tokens_offset + 4 * self.n_tokens

    @property
    def row_codes(self) -> int:
        """Width of a row in uint16, its two floats and its pad included."""
        return 2 * ((self.vocab_size + 1) // 2) + 4

    @property
    def row_bytes(self) -> int:
        """Width of a row in bytes."""
        return 2 * self.row_codes

    @property
    def n_rows(self) -> int:
        """Rows of the complete file."""
        return self.n_chunks * self.rows_per_chunk

    @property
    def file_bytes(self) -> int:
        """Size of the complete file."""
        return self.rows_offset + self.n_rows * self.row_bytes


def _parse_chunks(head: bytes, variant: str) -> Layout:
    n_ctx, vocab_size, n_chunks = struct.unpack_from("<Iii", head, 8)
    return Layout(
        variant=variant,
        n_ctx=n_ctx,
        vocab_size=vocab_size,
        n_chunks=n_chunks,
        chunk_stride=n_ctx,
        first_target=n_ctx // 2 + 1,
        rows_per_chunk=n_ctx - 1 - n_ctx // 2,
        tokens_offset=20,
        n_tokens=n_ctx * n_chunks,
    )


def _parse_windows(head: bytes) -> Layout:
    n_ctx, vocab_size, stride, eval_len, n_windows = struct.unpack_from("<Iiiii", head, 10)
    return Layout(
        variant="_logits_v2",
        n_ctx=n_ctx,
        vocab_size=vocab_size,
        n_chunks=n_windows,
        chunk_stride=stride,
        first_target=1,
        rows_per_chunk=eval_len - 1,
        tokens_offset=30,
        n_tokens=(n_windows - 1) * stride + eval_len,
    )


def _choose(head: bytes, size: int) -> Layout | None:
    """Return the layout that the magic names, or None if the header is cut off."""
    if head.startswith(MAGIC_WINDOWS) and len(head) >= 30:
        # A genuine upstream file whose n_ctx happens to spell "v2" is told by its size, to the byte.
        upstream = _parse_chunks(head, "_logits_")
        return upstream if upstream.file_bytes == size else _parse_windows(head)
    if len(head) < 20:
        return None
    return _parse_chunks(head, "_logits2" if head.startswith(MAGIC_EXACT_ZERO) else "_logits_")


def parse_layout(head: bytes, size: int, path: Path) -> Layout:
    """Read the header and hold it against the file size.

    Parameters
    ----------
    head : bytes
        First bytes of the file, 30 or more unless the file is shorter.
    size : int
        File size in bytes.
    path : Path
        For the messages.

    Returns
    -------
    Layout
        With at least one whole row within the file.

    Raises
    ------
    InputError
        If a count makes no sense or not even one row is there.
    """
    layout = _choose(head, size)
    if layout is None:
        raise InputError(f"{path} is truncated within its header ({size} bytes): there is no row to score")
    name = f"{path} ({layout.variant} file)"
    if layout.vocab_size < 1 or layout.n_chunks < 1 or layout.rows_per_chunk < 1 or layout.chunk_stride < 1:
        raise InputError(
            f"{name} has a broken header: n_ctx {layout.n_ctx}, n_vocab {layout.vocab_size}, "
            f"chunks {layout.n_chunks}, rows per chunk {layout.rows_per_chunk}"
        )
    if size < layout.rows_offset + layout.row_bytes:
        where = "its tokens" if size < layout.rows_offset else "its first row"
        raise InputError(
            f"{name} is truncated within {where}: {size} bytes, but n_ctx {layout.n_ctx}, n_vocab {layout.vocab_size} "
            f"and {layout.n_chunks} chunks put the first row at bytes {layout.rows_offset} to "
            f"{layout.rows_offset + layout.row_bytes}"
        )
    return layout
