"""What keeps a hostile Zarr store from running code, crashing a decoder or filling the memory.

Codecs are taken from a list: those that run nothing from the store and whose decoders refuse damaged bytes. (Blosc is
not among them: its decoder reads and writes out of bounds when its input is damaged.) A decoder writes as much as the
compressed bytes say, so before a chunk is decoded it is checked that they hold no more than a chunk.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Any

from ..errors import InputError

__all__ = ["check_chunk", "check_codecs", "chunk_compressor"]

_CODECS = {"bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zstd"}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_STEP = 1 << 20


def _codec_names(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        name = codec["name"] if isinstance(codec, dict) else codec
        yield name
        if name == "sharding_indexed":
            configuration = codec["configuration"]
            yield from _codec_names([*configuration["codecs"], *configuration["index_codecs"]])


def check_codecs(codecs: Any) -> None:
    """Raise a ValueError for codecs that are not read."""
    strange = sorted(set(_codec_names(codecs)) - _CODECS)
    if strange:
        advice = ", as Blosc's decoder is not safe for damaged files" if "blosc" in strange else ""
        raise ValueError(f"it uses the codecs {strange}; expected some of {sorted(_CODECS)}{advice}")


def chunk_compressor(codecs: Any) -> tuple[str | None, int]:
    """Return the codec that compresses whole chunks, if any, and how many bytes of checksum follow it."""
    names = [codec["name"] if isinstance(codec, dict) else codec for codec in codecs]
    compressors = [name for name in names if name in ("gzip", "zstd")]
    if len(compressors) > 1:
        raise ValueError(f"it compresses chunks more than once ({compressors})")
    if not compressors:
        return None, 0
    return compressors[0], 4 * names[names.index(compressors[0]) :].count("crc32c")


def check_chunk(content: bytes, compressor: str, checksum_bytes: int, limit: int, name: object) -> None:
    """Refuse a compressed chunk that holds more than `limit` bytes, without decoding it into memory.

    Raises
    ------
    InputError
        If it holds more.
    """
    content = content[: len(content) - checksum_bytes]
    if _decoded_size(content, compressor, limit) > limit:
        raise InputError(f"{name} has a chunk that holds more than the {limit} bytes of a chunk")


def _decoded_size(content: bytes, compressor: str, limit: int) -> int:
    """Return the decoded size, or any number above the limit; damaged bytes are left to the decoder to refuse."""
    if compressor == "gzip":
        decoder, size, rest = zlib.decompressobj(31), 0, content
        try:
            while rest and not decoder.eof and size <= limit:
                size += len(decoder.decompress(rest, _STEP))
                rest = decoder.unconsumed_tail
        except zlib.error:
            return size
        return limit + 1 if decoder.unused_data else size  # a second member
    size = 0
    announced = _zstd_size(content)
    if announced is not None and content.find(_ZSTD_MAGIC, 4) < 0:
        return announced
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(content), "zstd") as stream:
            while size <= limit and (piece := stream.read(_STEP)):
                size += len(piece)
    except (pa.ArrowException, OSError):
        return size
    return size


def _zstd_size(content: bytes) -> int | None:
    """Return the size that the header of a zstd frame announces, or None."""
    stream = io.BytesIO(content)
    if stream.read(4) != _ZSTD_MAGIC:
        return 0
    descriptor = stream.read(1)
    if not descriptor:
        return 0
    single_segment = descriptor[0] >> 5 & 1
    width = (1 if single_segment else 0, 2, 4, 8)[descriptor[0] >> 6]
    stream.read((0 if single_segment else 1) + (0, 1, 2, 4)[descriptor[0] & 3])
    if not width:
        return None
    return int.from_bytes(stream.read(width), "little") + (256 if width == 2 else 0)
