"""Arrow IPC files and streams, Feather among them: a column of lists of numbers, one list a row.

An IPC file is an IPC stream between two magic words, so both are read as a stream of messages over the mapped file.
Where the numbers are not compressed they lie in the file as they are, and the rows are read from there, as those of a
``.npy`` file; compressed batches are decoded one after another. A stream that breaks off is read up to its last whole
batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ..errors import InputError
from ..fingerprints import fingerprint
from .arrow import as_rows, choose_column, list_values, list_width, refuse, row_type
from .mapped_rows import MappedRows, Stretches
from .mapping import MappedFile
from .numbers import NumberType
from .streamed_rows import Piece, StreamedRows

__all__ = ["ARROW_MAGIC", "STREAM_MAGIC", "open_arrow"]

ARROW_MAGIC = b"ARROW1"
STREAM_MAGIC = b"\xff\xff\xff\xff"

_MOST_BATCHES = 1 << 20
_BATCH_LIMIT = 1 << 30


@dataclass(frozen=True)
class _Contents:
    """What one pass over the messages found."""

    column: str
    index: int
    schema: Any
    numbers: NumberType
    vocab_size: int
    lengths: list[int]  # rows of each batch that has any
    offsets: list[int] | None  # byte offset of the numbers of each, or None if they are compressed
    truncated: bool


def _messages(stream: Any, is_file: bool) -> Iterator[Any]:
    """Yield the messages of a stream until its end or the first broken one, which raises."""
    import pyarrow as pa

    stream.seek(8 if is_file else 0)
    reader = pa.ipc.MessageReader.open_stream(stream)
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _scan(file: MappedFile, buffer: Any, is_file: bool, kind: str, member: str | None, name: str) -> _Contents:
    import pyarrow as pa

    messages = _messages(pa.BufferReader(buffer), is_file)
    first = next(messages, None)
    if first is None or first.type != "schema":
        raise InputError(f"{name} does not begin with an Arrow schema")
    schema = pa.ipc.read_schema(first)
    index = choose_column(schema, file.path, member)
    numbers, width = row_type(schema.field(index).type, kind, name)
    lengths: list[int] = []
    offsets: list[int] = []
    compressed = truncated = False
    try:
        for message in messages:
            if message.type != "record batch":
                continue
            n_rows = pa.ipc.read_record_batch(message, pa.schema([])).num_rows
            if not n_rows:
                continue
            if len(lengths) == _MOST_BATCHES:
                raise InputError(
                    f"{name} has more than {_MOST_BATCHES} record batches; write it again with larger ones"
                )
            expected = n_rows * (width or 0) * numbers.stored.itemsize
            if expected > max(message.body.size if message.body else 0, _BATCH_LIMIT):
                raise InputError(
                    f"{name} has a compressed record batch of {expected} bytes, which can only be decoded as a whole; "
                    "write it again with fewer rows a batch"
                )
            if not compressed:
                column = pa.ipc.read_record_batch(message, schema).column(index)
                width = list_width(column, name) if width is None else width
                values = list_values(column, width, sum(lengths), name)
                address = values.buffers()[1].address + values.offset * numbers.stored.itemsize
                offset = address - buffer.address
                compressed = not 0 <= offset <= buffer.size - n_rows * width * numbers.stored.itemsize
                offsets.append(offset)
            lengths.append(n_rows)
    except (pa.ArrowInvalid, OSError):
        if not lengths:
            raise
        truncated = True
    if not lengths or not width:
        raise InputError(f"{name} holds no row to score")
    found = schema.field(index).name
    return _Contents(found, index, schema, numbers, width, lengths, None if compressed else offsets, truncated)


def open_arrow(file: MappedFile, kind: str, member: str | None = None) -> ArrowSource | CompressedArrowSource:
    """Open an Arrow IPC file or stream.

    Parameters
    ----------
    file : MappedFile
        The mapped file.
    kind : str
        What the numbers are, as `Source.kind`.
    member : str, optional
        Name of the column; the only one of lists of numbers by default.

    Raises
    ------
    InputError
        If the file is broken, or no column holds rows.
    """
    import pyarrow as pa

    name = str(file.path) if member is None else f"{file.path}::{member}"
    is_file = file.bytes(0, 6) == ARROW_MAGIC
    try:
        buffer = file.arrow_buffer()
        contents = _scan(file, buffer, is_file, kind, member, name)
        file.release(0, file.size)  # of compressed batches the first was read
        if contents.offsets is None:
            return CompressedArrowSource(file, kind, name, contents, is_file)
    except (pa.ArrowException, OSError, OverflowError, NotImplementedError, KeyError, UnicodeDecodeError) as error:
        refuse(name, error)
    return ArrowSource(file, kind, name, contents)


def _truncation(contents: _Contents, name: str) -> tuple[str, ...]:
    if not contents.truncated:
        return ()
    n_rows, n_batches = sum(contents.lengths), len(contents.lengths)
    return (f"{name} is truncated: the {n_rows} rows of its {n_batches} whole batches are scored",)


def _facts(contents: _Contents) -> dict[str, Any]:
    compressed = contents.offsets is None
    return {"column": contents.column, "batches": len(contents.lengths), "compressed": compressed}


class ArrowSource(MappedRows):
    """Rows of uncompressed record batches, as they lie in the mapped file."""

    format = "arrow"

    def __init__(self, file: MappedFile, kind: str, name: str, contents: _Contents) -> None:
        stretches = list(zip(contents.offsets or [], contents.lengths, strict=True))
        super().__init__(file, name, kind, contents.numbers, contents.vocab_size, stretches)
        self._contents = contents
        self.warnings = _truncation(contents, name)

    def groups(self, start: int, stop: int) -> None:
        """Return None: where one batch ends and the next begins means nothing."""

    def describe(self) -> dict[str, Any]:
        """Return format, column, dtype and sizes."""
        return {**super().describe(), **_facts(self._contents)}

    def fingerprint(self) -> dict[str, Any]:
        """Return size and digest of the file, and the column."""
        return {**super().fingerprint(), "member": self._contents.column}


class CompressedArrowSource(StreamedRows):
    """Rows of compressed record batches, each of which is decoded as a whole."""

    format = "arrow"

    def __init__(self, file: MappedFile, kind: str, name: str, contents: _Contents, is_file: bool) -> None:
        n_rows, width = sum(contents.lengths), contents.vocab_size
        largest = max(contents.lengths) * width * contents.numbers.stored.itemsize
        super().__init__(name, kind, contents.numbers, n_rows, width, 4 * largest)
        self.warnings = _truncation(contents, name)
        self._file = file
        self._contents = contents
        self._is_file = is_file
        self._stretches = Stretches(contents.lengths)

    def _stream(self, row: int) -> Iterator[Piece]:
        import pyarrow as pa

        start = 0
        try:
            # Read, not mapped: a file that is cut meanwhile is an error and not a crash.
            with pa.OSFile(str(self._file.path)) as file:
                for message in _messages(file, self._is_file):
                    if message.type != "record batch":
                        continue
                    n_rows = pa.ipc.read_record_batch(message, pa.schema([])).num_rows
                    if n_rows and start + n_rows > row:
                        yield start, self._decode(message, start)
                        # The piece is done with: memory has room for one, and the next message is read.
                        del message
                        pa.default_memory_pool().release_unused()
                    start += n_rows
        except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
            refuse(self.name, error)

    def _decode(self, message: Any, start: int) -> NDArray[Any]:
        import pyarrow as pa

        column = pa.ipc.read_record_batch(message, self._contents.schema).column(self._contents.index)
        return as_rows(list_values(column, self.vocab_size, start, self.name), self.vocab_size)

    def describe(self) -> dict[str, Any]:
        """Return format, column, dtype and sizes."""
        return {
            "format": self.format,
            "file_bytes": self._file.size,
            "dtype": self.numbers.name,
            "rows": self.n_rows,
            "announced_rows": self.announced_rows,
            "vocab_size": self.vocab_size,
            **_facts(self._contents),
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return size and digest of the file, and the column."""
        return {**fingerprint(self._file.path), "member": self._contents.column}

    def close(self) -> None:
        """Unmap the file."""
        super().close()
        self._file.close()
