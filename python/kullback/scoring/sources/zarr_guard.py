"""What keeps a hostile Zarr store from running code, crashing a decoder or filling the memory.

Codecs are taken from a list: those that run nothing from the store and whose decoders refuse damaged bytes. (Blosc is
not among them: its decoder reads and writes out of bounds when its input is damaged.) A decoder writes as much as the
compressed bytes say, so before a chunk is decoded it is checked that they hold no more than a chunk. What a shard lacks
would be decoded as the fill value, so it is checked that it lacks nothing.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["ChunkGuard"]

_CODECS = {"bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zstd"}
_INDEX_CODECS = (["bytes"], ["bytes", "crc32c"])
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_STEP = 1 << 20
_CRC_BYTES = 4
_NOT_STORED = 2**64 - 1


def _name(codec: Any) -> str:
    return str(codec["name"] if isinstance(codec, dict) else codec)


def _all_names(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        yield _name(codec)
        if _name(codec) == "sharding_indexed":
            configuration = codec["configuration"]
            yield from _all_names([*configuration["codecs"], *configuration["index_codecs"]])


class ChunkGuard:
    """What the codecs of an array allow to check in a stored chunk, or in the chunks of a stored shard.

    Parameters
    ----------
    codecs : list
        From the array's metadata.

    Raises
    ------
    ValueError
        For codecs that are not read.
    KeyError, TypeError
        For metadata of another form.
    """

    def __init__(self, codecs: Any) -> None:
        strange = sorted(set(_all_names(codecs)) - _CODECS)
        if strange:
            advice = ", as Blosc's decoder is not safe for damaged files" if "blosc" in strange else ""
            raise ValueError(f"it uses the codecs {strange}; expected some of {sorted(_CODECS)}{advice}")
        self._inner_shape: tuple[int, ...] | None = None
        names = [_name(codec) for codec in codecs]
        if names == ["sharding_indexed"]:
            configuration = codecs[0]["configuration"]
            self._inner_shape = tuple(int(size) for size in configuration["chunk_shape"])
            self._read_index_codecs(configuration)
            names = [_name(codec) for codec in configuration["codecs"]]
        if "sharding_indexed" in names:
            raise ValueError(
                f"it combines sharding with other codecs or shards ({names}); expected one level of shards"
            )
        compressors = [name for name in names if name in ("gzip", "zstd")]
        if len(compressors) > 1:
            raise ValueError(f"it compresses chunks more than once ({compressors})")
        self._compressor = compressors[0] if compressors else None
        self._checksum_bytes = _CRC_BYTES * names[names.index(compressors[0]) :].count("crc32c") if compressors else 0

    def _read_index_codecs(self, configuration: Any) -> None:
        codecs = configuration["index_codecs"]
        if [_name(codec) for codec in codecs] not in _INDEX_CODECS:
            raise ValueError(f"it stores the index of its shards by {codecs}; expected bytes, with crc32c or without")
        endian = codecs[0]["configuration"]["endian"] if isinstance(codecs[0], dict) else "little"
        self._index_type = np.dtype({"little": "<u8", "big": ">u8"}[endian])
        self._index_checksum_bytes = _CRC_BYTES * (len(codecs) - 1)
        self._index_at_end = {"start": False, "end": True}[configuration.get("index_location", "end")]

    def check(self, content: memoryview, chunk: Sequence[int], used: Sequence[int], itemsize: int) -> None:
        """Check what can be checked before the bytes are decoded.

        Parameters
        ----------
        content : memoryview
            As stored under the key of the chunk or shard.
        chunk : sequence of int
            Its shape.
        used : sequence of int
            The part of it that lies within the array.
        itemsize : int
            Bytes of a number.

        Raises
        ------
        ValueError
            If chunks hold more than they may, or are missing from a shard.
        """
        if self._inner_shape is None:
            self._check_size(content, math.prod(chunk) * itemsize)
            return
        counts = [size // inner for size, inner in zip(chunk, self._inner_shape, strict=True)]
        index_bytes = 16 * math.prod(counts)
        stored = index_bytes + self._index_checksum_bytes
        if len(content) < stored:
            raise ValueError(f"a shard has {len(content)} bytes; expected at least {stored}, the size of its index")
        start = len(content) - stored if self._index_at_end else 0
        index = np.frombuffer(content, self._index_type, index_bytes // 8, start).reshape((*counts, 2))
        needed = tuple(slice(math.ceil(size / inner)) for size, inner in zip(used, self._inner_shape, strict=True))
        for offset, length in index[needed].reshape(-1, 2).tolist():
            if offset == length == _NOT_STORED:
                raise ValueError("a shard lacks some of its chunks")
            if offset + length > len(content):
                raise ValueError(f"a shard of {len(content)} bytes has a chunk that ends at byte {offset + length}")
            self._check_size(content[offset : offset + length], math.prod(self._inner_shape) * itemsize)

    def _check_size(self, content: memoryview, limit: int) -> None:
        """Refuse a compressed chunk that holds more than `limit` bytes, without decoding it into memory."""
        if self._compressor is None:
            return
        compressed = bytes(content[: len(content) - self._checksum_bytes])
        if _decoded_size(compressed, self._compressor, limit) > limit:
            raise ValueError(f"a chunk holds more than the {limit} bytes of a chunk")


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
