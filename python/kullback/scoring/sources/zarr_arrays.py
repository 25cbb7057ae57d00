"""Zarr version 3 arrays of shape (..., rows, vocabulary), in local folders and behind URLs, read chunk by chunk.

The metadata of a store is not trusted: codecs are checked before anything is decoded (`zarr_guard`), and chunks that
could not be decoded within bounded memory are refused. A chunk that is not there stands for the fill value in Zarr;
here it means that the writer did not come so far, as all rows of logits being equal would be a strange file: the
array is read up to the first missing chunk. Chunks are read from the store once and are decoded from the bytes that
were checked, whatever happens to the store meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, reason_of
from ..fingerprints import fingerprint_folder
from .base import Source
from .location import Location
from .numbers import number_type
from .streamed_rows import Piece, StreamedRows
from .zarr_guard import ChunkGuard

__all__ = ["ZarrRows", "ZarrSource", "fingerprint_store", "open_zarr"]

_METADATA_LIMIT = 16 << 20
_CHUNK_LIMIT = 1 << 31
_MOST_CHUNKS = 1 << 14
_MOST_IN_SHARD = 1 << 16

# Larger blocks are given back to the system when they are freed.
_KEPT_BY_ALLOCATOR = 32 << 20


def _refuse(name: object, error: BaseException) -> NoReturn:
    raise InputError(f"{name} cannot be read: {reason_of(error)}") from None


def _exists(store: Any, key: str) -> bool:
    from zarr.core.sync import sync

    return bool(sync(store.exists(key)))


def _read(store: Any, keys: Iterable[str]) -> list[Any]:
    """Return zarr's buffers of what is stored under keys, None where nothing is."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.common import concurrent_map
    from zarr.core.config import config
    from zarr.core.sync import sync

    asked = [(key, default_buffer_prototype()) for key in keys]
    return sync(concurrent_map(asked, store.get, config.get("async.concurrency")))


def _check_metadata(stored: Any, name: str) -> dict[str, Any]:
    """Return the metadata of a node, with the codecs of an array checked."""
    if stored is None:
        raise InputError(f"{name} holds no Zarr array or group of version 3 (there is no zarr.json)")
    try:
        if len(stored) > _METADATA_LIMIT:
            raise ValueError(f"its metadata have {len(stored)} bytes, more than {_METADATA_LIMIT}")
        metadata = json.loads(stored.to_bytes())
        if metadata["zarr_format"] != 3 or metadata["node_type"] not in ("array", "group"):
            raise ValueError(
                f"it is a {metadata['node_type']} of version {metadata['zarr_format']}; expected version 3"
            )
        if metadata["node_type"] == "array":
            ChunkGuard(metadata["codecs"])
        return cast("dict[str, Any]", metadata)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{name} has broken Zarr metadata: {reason_of(error)}") from None


def _open_store(location: Location) -> Any:
    try:
        import zarr
    except ModuleNotFoundError:
        message = "reading Zarr needs the package zarr; install it with: pip install 'kullback[zarr]'"
        raise ModuleNotFoundError(message, name="zarr") from None
    if not location.is_url:
        return zarr.storage.LocalStore(location.path, read_only=True)
    try:
        return zarr.storage.FsspecStore.from_url(location.place, read_only=True)
    except ModuleNotFoundError:
        message = "reading from URLs needs the package fsspec; install it with: pip install 'kullback[remote]'"
        raise ModuleNotFoundError(message, name="fsspec") from None
    except Exception as error:  # whatever a file system raises for a URL that it cannot open
        _refuse(location.place, error)


def open_zarr(location: Location, kind: str) -> Source:
    """Open an array, or what `kullback.LogitsWriter` wrote.

    Parameters
    ----------
    location : Location
        Folder or URL, and name of the array within a group.
    kind : str
        What the numbers are, as `Source.kind`.

    Raises
    ------
    InputError
        If there is no such array, or it does not hold rows.
    """
    store = _open_store(location)
    try:
        [stored] = _read(store, ["zarr.json"])
        metadata = _check_metadata(stored, location.place)
    except InputError:
        raise
    except Exception as error:  # whatever a remote file system raises
        _refuse(location.place, error)
    member = location.member or ""
    if metadata["node_type"] == "group" and not member:
        attributes = metadata.get("attributes")
        if isinstance(attributes, dict) and "kullback" in attributes:
            from .packed import PackedSource

            return PackedSource(store, location, attributes)
        members = _array_names(store)
        if len(members) != 1:
            found = ", ".join(members[:10]) or "none"
            raise InputError(
                f"{location.place} is a Zarr group with {len(members)} arrays ({found}); choose one with "
                f"{location.place}::NAME"
            )
        member = members[0]
    return ZarrSource(ZarrRows(store, member, location), kind)


def _array_names(store: Any) -> list[str]:
    """Return the names of the arrays that lie directly in a group."""
    import zarr

    try:
        group = zarr.open_group(store, mode="r")
        return sorted(name for name, _ in group.arrays())
    except Exception as error:  # the members of a hostile group may be anything
        _refuse(store, error)


class ZarrRows:
    """An array seen as rows, cut into bands: the rows that one row of chunks holds.

    Parameters
    ----------
    store : zarr store
        Opened for reading.
    member : str
        Path of the array in the store.
    location : Location
        For the messages.

    Attributes
    ----------
    name : str
    array : zarr.Array
    shape : tuple of int
    n_rows : int
        Rows before the first missing chunk.
    rows_per_band : int

    Raises
    ------
    InputError
        If the array is broken, empty, or its chunks are too large or too many.
    """

    def __init__(self, store: Any, member: str, location: Location) -> None:
        import zarr

        self.name = f"{location.place}::{member}" if member else location.place
        self.location = location
        self._store = store
        self._prefix = f"{member}/" if member else ""
        key = f"{self._prefix}zarr.json"
        [stored] = _read(store, [key])
        metadata = _check_metadata(stored, self.name)
        if metadata["node_type"] != "array":
            raise InputError(f"{self.name} is a Zarr group; expected an array")
        self._guard = ChunkGuard(metadata["codecs"])
        self._held = {key: stored}
        try:
            checked = zarr.storage.MemoryStore(self._held, read_only=True)
            self.array: Any = zarr.open_array(checked, path=member, mode="r", zarr_format=3)
            self.shape: tuple[int, ...] = tuple(self.array.shape)
            chunks = tuple(self.array.shards or self.array.chunks)
        except Exception as error:  # zarr raises many kinds for metadata that contradict themselves
            _refuse(self.name, error)
        if not all(size >= 1 for size in chunks) or len(chunks) != len(self.shape):
            raise InputError(f"{self.name} has chunks of shape {chunks}; expected sizes of at least 1")
        if math.prod(self.shape) == 0:
            raise InputError(f"{self.name} has shape {self.shape}: there is no row to score")
        self._cut(chunks)
        self.announced_rows = math.prod(self.shape[:-1]) if len(self.shape) > 1 else self.shape[0]
        self.n_rows = self._rows_present()
        if not self.n_rows:
            raise InputError(f"{self.name} announces shape {self.shape} but not even its first chunk is there")

    def _cut(self, chunks: tuple[int, ...]) -> None:
        """Find the axis along which chunks are cut into bands; before it, each index has bands of its own."""
        self._chunk = chunks
        row_axes = max(len(self.shape) - 1, 1)
        self._axis = next((axis for axis in range(row_axes) if chunks[axis] > 1), row_axes - 1)
        self._step = min(chunks[self._axis], self.shape[self._axis])
        self._rows_per_step = math.prod(self.shape[self._axis + 1 : row_axes])
        self.rows_per_band = self._step * self._rows_per_step
        self._grid = [range(math.ceil(size / chunk)) for size, chunk in zip(self.shape, chunks, strict=True)]
        itemsize = self.array.dtype.itemsize
        chunk_bytes, n_chunks = math.prod(chunks) * itemsize, math.prod(map(len, self._grid[self._axis + 1 :]))
        if chunk_bytes > _CHUNK_LIMIT:
            raise InputError(f"{self.name} has chunks of {chunk_bytes} bytes; expected {_CHUNK_LIMIT} at most")
        if n_chunks > _MOST_CHUNKS:
            raise InputError(f"{self.name} cuts a row into {n_chunks} chunks; expected {_MOST_CHUNKS} at most")
        n_inner = math.prod(chunks) // math.prod(self.array.chunks)
        if n_inner > _MOST_IN_SHARD:
            raise InputError(f"{self.name} cuts a shard into {n_inner} chunks; expected {_MOST_IN_SHARD} at most")
        width = self.shape[-1] if len(self.shape) > 1 else 1
        self.band_bytes = max(self.rows_per_band * width * itemsize, chunk_bytes * n_chunks)

    @property
    def memory(self) -> int:
        """Bytes that decoding a band takes: zarr holds it compressed, decoded and assembled.

        Measured; of blocks that are not too large the allocator keeps as much again.
        """
        return int(3 * self.band_bytes + 4 * min(self.band_bytes, _KEPT_BY_ALLOCATOR))

    def _place(self, band: int) -> tuple[list[int], int]:
        """Return the indices on the axes before the band's, and the band's number on its own."""
        place: list[int] = []
        band, last = divmod(band, len(self._grid[self._axis]))
        for axis in range(self._axis - 1, -1, -1):
            band, index = divmod(band, self.shape[axis])
            place.insert(0, index)
        return place, last

    def _chunks_of(self, band: int) -> dict[str, tuple[int, ...]]:
        """Return the keys of a band's chunks, and where each lies in the grid of chunks."""
        place, last = self._place(band)
        found = ((*place, last, *rest) for rest in product(*self._grid[self._axis + 1 :]))
        return {f"{self._prefix}{self.array.metadata.encode_chunk_key(where)}": where for where in found}

    def _is_present(self, band: int) -> bool:
        return all(_exists(self._store, key) for key in self._chunks_of(band))

    def _read_chunks(self, band: int) -> dict[str, Any]:
        """Return what is stored of a band's chunks, checked."""
        chunks = self._chunks_of(band)
        found = dict(zip(chunks, _read(self._store, chunks), strict=True))
        for key, stored in found.items():
            if stored is None:
                raise InputError(f"{self.name} lacks a chunk of row {self.band_start(band)}")
            used = [
                min(chunk, size - index * chunk)
                for index, chunk, size in zip(chunks[key], self._chunk, self.shape, strict=True)
            ]
            content = memoryview(stored.as_numpy_array())
            self._guard.check(content, self._chunk, used, self.array.dtype.itemsize)
        return found

    @property
    def n_bands(self) -> int:
        """Bands of the whole array."""
        return math.prod(self.shape[: self._axis]) * len(self._grid[self._axis])

    def band_start(self, band: int) -> int:
        """Return the first row of a band."""
        place, last = self._place(band)
        number = 0
        for axis, index in enumerate(place):
            number = number * self.shape[axis] + index
        return (number * self.shape[self._axis] + last * self._step) * self._rows_per_step

    def band_of(self, row: int) -> int:
        """Return the band that a row lies in."""
        number, step = divmod(row // self._rows_per_step, self.shape[self._axis])
        return number * len(self._grid[self._axis]) + step // self._step

    def _rows_present(self) -> int:
        """Find the first missing band by halving: writers go from the first row to the last."""
        if self._is_present(self.n_bands - 1):
            return self.announced_rows
        low, high = 0, self.n_bands - 1  # every band below `low` is there, `high` is not
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._is_present(middle) else (low, middle)
        return self.band_start(low)

    def read_band(self, band: int) -> NDArray[Any]:
        """Return the rows of a band, decoded."""
        place, last = self._place(band)
        try:
            chunks = self._read_chunks(band)
            self._held.update(chunks)
            try:
                decoded = self.array[(*place, slice(last * self._step, (last + 1) * self._step))]
            finally:
                for key in chunks:
                    del self._held[key]
            return np.ascontiguousarray(decoded).reshape((-1, self.shape[-1]) if len(self.shape) > 1 else -1)
        except InputError:
            raise
        except Exception as error:  # codecs raise what they like for damaged chunks
            raise InputError(
                f"{self.name} cannot be decoded at row {self.band_start(band)}: {reason_of(error)}"
            ) from None

    def stream(self, row: int) -> Iterator[Piece]:
        """Yield the bands from the one with `row` on, up to the last row that is there."""
        for band in range(self.band_of(row), self.n_bands):
            start = self.band_start(band)
            if start >= self.n_rows:
                return
            yield start, self.read_band(band)

    def fingerprint(self) -> dict[str, Any]:
        """Return number, size and digest of the files of the array, and the array."""
        return {**fingerprint_store(self.location, self._prefix), "member": self._prefix.rstrip("/")}


def fingerprint_store(location: Location, prefix: str = "") -> dict[str, Any]:
    """Return number, size and digest of the files of a store, or of one array in it."""
    if not location.is_url:
        root = location.path
        files = {str(file.relative_to(root)): file for file in (root / prefix).rglob("*") if file.is_file()}
        return fingerprint_folder({"zarr.json": root / "zarr.json", **files})
    digest = hashlib.blake2b(digest_size=16)
    try:
        from fsspec import url_to_fs

        file_system, root_path = url_to_fs(location.place)
        found = file_system.find(f"{root_path}/{prefix}".rstrip("/"), detail=True)
    except Exception as error:  # whatever a remote file system raises
        _refuse(location.place, error)
    for path, facts in sorted(found.items()):
        changed = [str(facts.get(key)) for key in ("size", "ETag", "LastModified", "mtime", "updated", "md5Hash")]
        digest.update(f"{path!r} {changed}\n".encode())
    size = sum(int(facts.get("size") or 0) for facts in found.values())
    return {"files": len(found), "size": size, "blake2b": digest.hexdigest()}


class ZarrSource(StreamedRows):
    """Rows of a Zarr array of real numbers.

    Parameters
    ----------
    rows : ZarrRows
        The array.
    kind : str
        What the numbers are, as `Source.kind`.

    Raises
    ------
    InputError
        If it does not hold rows of real numbers.
    """

    format = "zarr"

    def __init__(self, rows: ZarrRows, kind: str) -> None:
        name = rows.name
        if len(rows.shape) < 2:
            raise InputError(f"{name} has shape {rows.shape}; expected at least two axes, (rows, vocabulary)")
        numbers = number_type(np.dtype(rows.array.dtype).newbyteorder("="), kind, name)
        super().__init__(name, kind, numbers, rows.n_rows, rows.shape[-1], rows.memory)
        self._rows = rows
        self.announced_rows = rows.announced_rows
        if rows.n_rows < rows.announced_rows:
            self.warnings = (
                f"{name} is truncated: the {rows.n_rows} rows before its first missing chunk, of the "
                f"{rows.announced_rows} that it announces, are scored",
            )
        self._rows_per_group = math.prod(rows.shape[1:-1]) if len(rows.shape) > 2 else 0

    def _stream(self, row: int) -> Iterator[Piece]:
        return self._rows.stream(row)

    def groups(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the index on the first axis if the array has three axes or more."""
        return np.arange(start, stop, dtype=np.int64) // self._rows_per_group if self._rows_per_group else None

    def describe(self) -> dict[str, Any]:
        """Return format, shape, chunks, dtype and sizes."""
        array = self._rows.array
        return {
            "format": self.format,
            "shape": list(self._rows.shape),
            "chunks": list(array.shards or array.chunks),
            "dtype": self.numbers.name,
            "rows": self.n_rows,
            "announced_rows": self.announced_rows,
            "vocab_size": self.vocab_size,
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return number, size and digest of the files of the store."""
        return self._rows.fingerprint()
