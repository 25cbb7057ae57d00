"""Caches of the most probable tokens: token ids and log-probabilities, from Parquet or from servers' JSON lines.

Rows may list different numbers of tokens; shorter ones are filled up with id -1 and log-probability -inf. What is read
is small beside full rows, and is returned as a whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrow_numbers import as_numpy
from ..errors import InputError, reason_of
from .arrow import refuse
from .location import Location
from .mapping import MappedFile
from .parquet import PARQUET_MAGIC

__all__ = ["TopKLists", "is_json_lines", "list_columns", "read_lists", "read_top_k"]

_LINE_LIMIT = 64 << 20
_MOST_TOKENS = 1 << 16
_BATCH = 1 << 14

Row = tuple[NDArray[np.int64], NDArray[np.float64]]


class TopKLists(NamedTuple):
    """Ids and log-probabilities of all rows on end, the length of each row, and its line, counted from 0."""

    ids: NDArray[np.int64]
    log_probs: NDArray[np.float64]
    lengths: NDArray[np.int64]
    lines: NDArray[np.int64]

    @property
    def width(self) -> int:
        """Most tokens that a row lists, at least 1."""
        return max(int(self.lengths.max()), 1)

    def part(self, start: int, stop: int) -> TopKLists:
        """Return some of the rows."""
        first = int(self.lengths[:start].sum())
        last = first + int(self.lengths[start:stop].sum())
        return TopKLists(
            self.ids[first:last], self.log_probs[first:last], self.lengths[start:stop], self.lines[start:stop]
        )

    def fill(self, ids: NDArray[Any], log_probs: NDArray[Any]) -> None:
        """Write the rows into arrays of shape (rows, width or more), shorter ones filled up with -1 and -inf."""
        listed = np.arange(ids.shape[1]) < self.lengths[:, np.newaxis]
        ids[...], log_probs[...] = -1, -np.inf
        ids[listed], log_probs[listed] = self.ids, self.log_probs


def read_top_k(
    place: str | os.PathLike[str], *, ids: str | None = None, log_probs: str | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read a cache of the most probable tokens.

    Parameters
    ----------
    place : path
        A Parquet file with a column of lists of ids and one of lists of log-probabilities, or JSON lines. A line is
        ``{"ids": [...], "log_probs": [...]}`` for one row, or a response of a server: vLLM's ``prompt_logprobs``, or
        the ``top_logprobs`` of completions or chats, with tokens named ``token_id:N`` (vLLM's
        ``return_tokens_as_token_ids``).
    ids, log_probs : str, optional
        Names of the Parquet columns; the only ones of lists of integers and of lists of floats by default.

    Returns
    -------
    ids : ndarray of int64
        (rows, k), -1 where a row lists fewer.
    log_probs : ndarray of float64
        (rows, k), -inf beside an id of -1.

    Raises
    ------
    InputError
        If the file is bad, or names tokens by their text.

    Examples
    --------
    >>> import tempfile
    >>> from kullback.scoring import read_top_k
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     _ = file.write('{"prompt_logprobs": [null, {"7": {"logprob": -0.5}, "9": {"logprob": -1.5}}]}')
    ...     file.flush()
    ...     read_top_k(file.name)
    (array([[7, 9]]), array([[-0.5, -1.5]]))
    """
    found = read_lists(Location.parse(place), ids, log_probs)
    shape = (len(found.lengths), found.width)
    all_ids, all_logs = np.empty(shape, np.int64), np.empty(shape)
    found.fill(all_ids, all_logs)
    return all_ids, all_logs


def read_lists(location: Location, ids: str | None = None, log_probs: str | None = None) -> TopKLists:
    """Read what `read_top_k` does, and which line of a file of JSON lines each row is from."""
    rows: list[Row] = []
    pieces: list[Row] = []
    lengths: list[int] = []
    lines: list[int] = []
    first_line = 0
    for path in location.files() or [location.path]:
        is_parquet = _head(path)[:4] == PARQUET_MAGIC
        line = 0
        for line, row in enumerate(_parquet_rows(path, ids, log_probs)) if is_parquet else _json_rows(path):
            rows.append(_checked(row, len(lengths), path))
            lengths.append(len(row[0]))
            lines.append(first_line + line)
            if len(rows) == _BATCH:  # an array of its own for each row takes several times the memory
                pieces.append(_joined(rows))
                rows = []
        first_line += line + 1
    if not lengths:
        raise InputError(f"{location.text} holds no row of tokens")
    return TopKLists(*_joined([*pieces, *rows]), np.array(lengths, np.int64), np.array(lines, np.int64))


def _joined(rows: list[Row]) -> Row:
    return np.concatenate([ids for ids, _ in rows]), np.concatenate([logs for _, logs in rows])


def _head(path: Path) -> bytes:
    file = MappedFile(path)
    try:
        return file.bytes(0, 16)
    finally:
        file.close()


def is_json_lines(path: Path) -> bool:
    """Tell whether a file starts as JSON does."""
    return _head(path).lstrip()[:1] in (b"{", b"[")


def list_columns(path: Path) -> bool:
    """Tell whether a file is Parquet with one column of lists of integers and one of lists of floats."""
    if _head(path)[:4] != PARQUET_MAGIC:
        return False
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        for fits in (pa.types.is_integer, pa.types.is_floating):
            _list_column(schema, None, fits, "", path)
    except (pa.ArrowException, OSError, ValueError):  # whoever reads its rows will say what is wrong
        return False
    return True


def _checked(row: Row, number: int, path: object) -> Row:
    ids, logs = row
    if len(ids) != len(logs):
        raise InputError(f"{path}: row {number} has {len(ids)} ids and {len(logs)} log-probabilities")
    if len(ids) > _MOST_TOKENS:
        raise InputError(f"{path}: row {number} lists {len(ids)} tokens; expected {_MOST_TOKENS} at most")
    if len(ids) and ids.min() < -1:
        raise InputError(f"{path}: row {number} has the token id {ids.min()}; expected 0 or more")
    return row


# Parquet --------------------------------------------------------------------------------------------------------------


def _parquet_rows(path: object, ids: str | None, log_probs: str | None) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(str(path), pre_buffer=False, page_checksum_verification=True) as file:
            id_column = _list_column(file.schema_arrow, ids, pa.types.is_integer, "integers (ids)", path)
            log_column = _list_column(file.schema_arrow, log_probs, pa.types.is_floating, "log-probabilities", path)
            for batch in file.iter_batches(batch_size=_BATCH, columns=[id_column, log_column], use_threads=False):
                batch.validate(full=True)
                for found, logs in zip(batch.column(id_column), batch.column(log_column), strict=True):
                    if not (found.is_valid and logs.is_valid) or found.values.null_count or logs.values.null_count:
                        raise InputError(f"{path} has a null among its tokens")
                    yield (
                        as_numpy(found.values).astype(np.int64),
                        as_numpy(logs.values).astype(np.float64),
                    )
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        refuse(path, error)


def _list_column(schema: Any, name: str | None, fits: Any, what: str, path: object) -> str:
    import pyarrow as pa

    def is_list(column: Any) -> bool:
        return bool(pa.types.is_list(column) or pa.types.is_large_list(column) or pa.types.is_fixed_size_list(column))

    found: list[str] = [field.name for field in schema if is_list(field.type) and fits(field.type.value_type)]
    if name is not None and name in found:
        return name
    if name is not None or len(found) != 1:
        listed = ", ".join(f"{field.name} ({field.type})" for field in list(schema)[:8]) or "none"
        wanted = f"a column {name!r}" if name is not None else "one column"
        raise InputError(f"{path} must have {wanted} of lists of {what}; it holds {listed}")
    return found[0]


# JSON -----------------------------------------------------------------------------------------------------------------


def _json_rows(path: Any) -> Iterator[tuple[int, Row]]:
    """Yield each row with the number of its line, from 0."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_LINE_LIMIT + 1):
                number += 1
                if len(line) > _LINE_LIMIT:
                    raise InputError(f"{path}: line {number} is longer than {_LINE_LIMIT >> 20} MiB")
                if not line.strip():
                    continue
                try:
                    for row in _rows_of(json.loads(line)):
                        yield number - 1, row
                except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                    raise InputError(f"{path}: line {number} holds no top tokens: {reason_of(error)}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def _rows_of(entry: Any) -> Iterator[Row]:
    """Yield the rows of a line, whichever of the known shapes it has."""
    if isinstance(entry, list):
        for position in entry:
            if position is not None:  # the first token of a prompt has no predecessor
                yield _row_of(position)
    elif "ids" in entry:
        yield (
            np.array(entry["ids"], dtype=np.int64).reshape(-1),
            np.array(entry["log_probs"], dtype=np.float64).reshape(-1),
        )
    elif entry.get("prompt_logprobs") is not None:
        yield from _rows_of(entry["prompt_logprobs"])
    elif "choices" in entry:
        for choice in entry["choices"]:
            if choice.get("prompt_logprobs") is not None:
                yield from _rows_of(choice["prompt_logprobs"])
            told = choice.get("logprobs") or {}
            if told.get("content") is not None:
                yield from _rows_of([token["top_logprobs"] for token in told["content"]])
            elif told.get("top_logprobs") is not None:
                yield from _rows_of(told["top_logprobs"])
    else:
        raise ValueError(f"expected ids, prompt_logprobs or choices, got the keys {list(entry)[:5]}")


def _row_of(position: Any) -> Row:
    """Return one position: a list of {token, logprob}, or an object from token to a number or to {logprob}."""
    if isinstance(position, list):
        pairs = [(token["token"], token["logprob"]) for token in position]
    else:
        pairs = [(token, told["logprob"] if isinstance(told, dict) else told) for token, told in position.items()]
    return (
        np.array([_token_id(token) for token, _ in pairs], dtype=np.int64),
        np.array([logprob for _, logprob in pairs], dtype=np.float64),
    )


def _token_id(token: str) -> int:
    digits = token.removeprefix("token_id:")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise ValueError(
            f"it names the token {token[:40]!r} by its text; ask the server for ids (return_tokens_as_token_ids)"
        )
    return int(digits)
