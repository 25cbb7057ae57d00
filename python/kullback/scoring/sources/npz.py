"""Members of ``.npz`` archives: stored ones are mapped like a ``.npy`` file, deflated ones are decoded as a stream.

The archive is not trusted. Names and sizes come from its directory, which is read by `zipfile`; a member is never
unpickled and never extracted, its announced size is held against what its compressed bytes could hold at most, and
only a few MiB of it are in memory at a time.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, reason_of
from ..fingerprints import fingerprint
from .mapping import MappedFile
from .npy import HEADER_LIMIT, MAGIC, NpySource, parse_header
from .streamed_rows import PIECE_BYTES, Piece, StreamedRows, in_pieces

__all__ = ["ZIP_MAGIC", "open_npz"]

ZIP_MAGIC = b"PK\x03\x04"

# Deflate cannot do better than 258 bytes from two bits.
_BEST_RATIO = 1032
_DIRECTORY_LIMIT = 16 << 20
_SKIP = 1 << 20


def open_npz(file: MappedFile, kind: str, member: str | None) -> NpySource | DeflatedNpySource:
    """Open a member of an archive.

    Parameters
    ----------
    file : MappedFile
        The archive.
    kind : str
        What the numbers are, as `Source.kind`.
    member : str, optional
        Name of the array, as in `numpy.load`; the only one by default.

    Raises
    ------
    InputError
        If the archive is broken, there is no such member, or it is not an array of rows.
    """
    path = file.path
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.start_dir < file.size - _DIRECTORY_LIMIT:
                raise InputError(f"{path} has a directory of more than {_DIRECTORY_LIMIT >> 20} MiB")
            info = _choose(archive, path, member)
            name = f"{path}::{info.filename.removesuffix('.npy')}"
            _check(info, name)
            if info.compress_type == zipfile.ZIP_STORED:
                start = _data_offset(file, info, name)
                return NpySource(file, kind, start, start + info.file_size, name)
            return DeflatedNpySource(file, kind, info, name)
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError, OSError) as error:
        raise InputError(f"{path} is not a whole .npz archive: {reason_of(error)}") from None


def _choose(archive: zipfile.ZipFile, path: object, member: str | None) -> zipfile.ZipInfo:
    infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")}
    if not infos:
        raise InputError(f"{path} is a zip archive without any .npy member (a PyTorch file?); expected a .npz archive")
    if member is None and len(infos) > 1:
        names = ", ".join(list(infos)[:10]) + (", …" if len(infos) > 10 else "")
        raise InputError(f"{path} holds {len(infos)} arrays ({names}); choose one with {path}::NAME")
    wanted = next(iter(infos)) if member is None else member.removesuffix(".npy")
    if wanted not in infos:
        raise InputError(f"{path} has no array {wanted!r}; it holds {', '.join(list(infos)[:10])}")
    return infos[wanted]


def _check(info: zipfile.ZipInfo, name: str) -> None:
    if info.flag_bits & 1:
        raise InputError(f"{name} is encrypted; expected a plain .npz archive")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = zipfile.compressor_names.get(info.compress_type, str(info.compress_type))  # type: ignore[attr-defined]
        raise InputError(f"{name} is compressed by {method}; expected stored or deflated, as NumPy writes")
    most = info.compress_size * (1 if info.compress_type == zipfile.ZIP_STORED else _BEST_RATIO)
    if info.file_size > most:
        raise InputError(
            f"{name} announces {info.file_size} bytes, more than {info.compress_size} stored bytes can hold"
        )


def _data_offset(file: MappedFile, info: zipfile.ZipInfo, name: str) -> int:
    """Return where the bytes of a stored member begin, which only its local header tells."""
    head = file.bytes(info.header_offset, info.header_offset + 30) if info.header_offset >= 0 else b""
    if len(head) < 30 or not head.startswith(ZIP_MAGIC):
        raise InputError(f"{name} has no local header where the directory of the archive says")
    start = info.header_offset + 30 + sum(struct.unpack_from("<HH", head, 26))
    if start + info.file_size > file.size:
        raise InputError(f"{name} is truncated: its {info.file_size} bytes reach beyond the end of the archive")
    return int(start)


class DeflatedNpySource(StreamedRows):
    """Rows of a deflated ``.npy`` member, decoded in order.

    Parameters
    ----------
    file : MappedFile
        The archive.
    kind : str
        What the numbers are.
    info : ZipInfo
        The member.
    name : str
        What messages call it.
    """

    format = "npz"

    def __init__(self, file: MappedFile, kind: str, info: zipfile.ZipInfo, name: str) -> None:
        self._file = file
        self._info = info
        self._archive = zipfile.ZipFile(file.path)
        try:
            with self._archive.open(info) as member:
                head = member.read(HEADER_LIMIT)
            if not head.startswith(MAGIC):
                raise InputError(f"{name} is not a NumPy array")
            header = parse_header(head, name)
            numbers = header.check_rows(kind, name)
            n_rows, vocab_size = math.prod(header.shape[:-1]), header.shape[-1]
            if header.offset + n_rows * vocab_size * numbers.stored.itemsize != info.file_size:
                raise InputError(
                    f"{name} announces shape {header.shape} of {numbers.name}, which is not the "
                    f"{info.file_size - header.offset} bytes that it holds"
                )
        except BaseException:
            self._archive.close()
            raise
        row_bytes = vocab_size * numbers.stored.itemsize
        super().__init__(
            name, kind, numbers, n_rows, vocab_size, 2 * min(max(PIECE_BYTES, row_bytes), n_rows * row_bytes)
        )
        self.shape = header.shape
        self._offset = header.offset
        self._rows_per_group = math.prod(header.shape[1:-1]) if len(header.shape) > 2 else 0

    def _stream(self, row: int) -> Iterator[Piece]:
        try:
            with self._archive.open(self._info) as member:
                _skip(member, self._offset + row * self.row_bytes)
                yield from in_pieces(member.read, row, self.n_rows, self.vocab_size, self.numbers.stored)
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
            reason = "its compressed data ends too early" if isinstance(error, EOFError) else reason_of(error)
            raise InputError(f"{self.name} cannot be decoded: {reason}") from None

    def groups(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the index on the first axis if the array has three axes or more."""
        return np.arange(start, stop, dtype=np.int64) // self._rows_per_group if self._rows_per_group else None

    def describe(self) -> dict[str, Any]:
        """Return format, shape, dtype and sizes."""
        return {
            "format": self.format,
            "file_bytes": self._file.size,
            "compressed_bytes": self._info.compress_size,
            "shape": list(self.shape),
            "dtype": self.numbers.name,
            "rows": self.n_rows,
            "announced_rows": self.announced_rows,
            "vocab_size": self.vocab_size,
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return size and digest of the archive, and the member."""
        return {**fingerprint(self._file.path), "member": self._info.filename}

    def close(self) -> None:
        """Close the archive."""
        super().close()
        self._archive.close()
        self._file.close()


def _skip(member: IO[bytes], n_bytes: int) -> None:
    while n_bytes > 0:
        skipped = len(member.read(min(n_bytes, _SKIP)))
        if not skipped:
            raise EOFError
        n_bytes -= skipped
