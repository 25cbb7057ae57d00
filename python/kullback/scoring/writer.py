"""`LogitsWriter`: reference log-probabilities, written batch by batch from an inference loop."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError, OutputError, UsageError
from .output import clear_errors
from .packing import decode_rows, encode_rows
from .sources import KINDS, open_source

if TYPE_CHECKING:
    from .._core.types import Kind

__all__ = ["LogitsWriter"]

StrPath = str | os.PathLike[str]

_DECODING = "log p = maximum + step * (code - 65535), scales holding (maximum, step); code 0 is -inf; then normalise"

_LEFTOVER = re.compile(r".+\.[0-9a-f]{32}\.partial")

# A chunk that is not there has not been written; zarr would leave out those of zeros.
_CONFIG: Any = {"write_empty_chunks": True}

# Codes that are lost when the process is killed, at most, unless `flush` is called.
_CHUNK_BYTES = 16 << 20
_CHUNK_ROWS = 4096
_KEY_CHUNK_ROWS = 8192


class LogitsWriter:
    """Writes distributions in 16 bits a token, to be a reference for `kullback.score`.

    Each row is coded on a scale of its own over its whole finite range, with exact zeros, which costs a KL divergence
    of about 1e-8 nats (`mean_kl` tells); a plain float16 costs a thousand times as much. The file is a Zarr version 3
    group with the arrays ``codes``, ``scales`` and, where they were given, ``targets`` and ``groups``, every chunk with
    a CRC-32C.

    Rows are on disk when a chunk of them is full, after `flush`, and after `close`. A process that is killed leaves a
    readable file with all rows that were on disk; ``append=True`` goes on after them.

    Parameters
    ----------
    path : path
        Folder to be made.
    vocab_size : int
        Columns.
    input : str, default "logits"
        What the numbers are: ``"logits"``, ``"log_probs"``, ``"probs"`` or ``"weights"``.
    model, tokenizer : str, optional
        Whose distributions these are, for the record.
    metadata : mapping, optional
        More for the record, ready for JSON.
    append : bool, default False
        Go on after the rows that an earlier, interrupted writer left in `path`, if there are any.
    measure : bool, default True
        Measure what the coding costs, by comparing every row with its decoded self.

    Attributes
    ----------
    n_rows : int
        Rows written so far, those in memory included.
    n_undefined : int
        Rows that are no distribution (NaN, +inf, or nothing but -inf); they are stored as such.
    mean_kl, max_kl : float
        KL(original ‖ stored) over the rows of this writer in nats; NaN without `measure`.

    Raises
    ------
    OutputError
        If `path` exists and `append` is not set, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import kullback as kb
    >>> folder = tempfile.mkdtemp()
    >>> rng = np.random.default_rng(0)
    >>> with kb.LogitsWriter(f"{folder}/reference.zarr", 1000, model="my-model") as writer:
    ...     for batch in range(3):
    ...         writer.write(rng.normal(size=(8, 1000)) * 3)
    >>> writer.n_rows, writer.mean_kl < 1e-8
    (24, True)
    """

    def __init__(
        self,
        path: StrPath,
        vocab_size: int,
        *,
        input: str = "logits",
        model: str | None = None,
        tokenizer: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        append: bool = False,
        measure: bool = True,
    ) -> None:
        if not isinstance(vocab_size, (int, np.integer)) or vocab_size < 1:
            raise UsageError(f"vocab_size must be an integer of at least 1; got {vocab_size!r}")
        if input not in KINDS:
            raise UsageError(f"input must be one of {', '.join(KINDS)}; got {input!r}")
        self.path = Path(path)
        self.vocab_size = int(vocab_size)
        self._kind = input
        self._measure = measure
        self._facts = {"model": model, "tokenizer": tokenizer, "metadata": dict(metadata or {})}
        try:
            json.dumps(self._facts, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"model, tokenizer and metadata must be ready for JSON: {error}") from None
        self._rows_per_chunk = min(max(_CHUNK_BYTES // (2 * self.vocab_size), 1), _CHUNK_ROWS)
        self._codes = np.empty((self._rows_per_chunk, self.vocab_size), np.uint16)
        self._scales = np.empty((self._rows_per_chunk, 2), np.float32)
        self._keys: dict[str, NDArray[np.int64]] = {}
        self._filled = self._flushed = 0  # rows of the chunk in memory, and how many of them are on disk
        self._chunk_start = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._kl_sum, self._kl_rows, self.max_kl = 0.0, 0, float("nan")
        self.n_undefined = 0
        self._key_names: tuple[str, ...] | None = None
        self._closed = False
        self._arrays: dict[str, Any] = {}
        self._create(append)

    # Files ------------------------------------------------------------------------------------------------------------

    def _create(self, append: bool) -> None:
        zarr = _import_zarr()
        exists = self.path.exists()
        if exists and self.path.is_dir():
            self._remove_leftovers()
            exists = any(self.path.iterdir())
        if exists and not append:
            raise OutputError(f"{self.path} exists; append=True goes on after its rows, another path begins anew")
        if exists and (self.path / "zarr.json").is_file():
            self._continue(zarr)
            return
        if exists:
            raise OutputError(f"{self.path} is not what a LogitsWriter left; expected one to append to")
        with clear_errors(self.path):
            self._group = zarr.create_group(zarr.storage.LocalStore(self.path), attributes=self._attributes())
            self._array("codes", (0, self.vocab_size), (self._rows_per_chunk, self.vocab_size), "uint16", 0)
            self._array("scales", (0, 2), (_KEY_CHUNK_ROWS, 2), "float32", float("nan"))

    def _remove_leftovers(self) -> None:
        """Remove what a writer that was killed had not yet given its name."""
        for pattern in ("", "*/", "*/c/", "*/c/*/"):
            for file in self.path.glob(f"{pattern}*.partial"):
                if _LEFTOVER.fullmatch(file.name):
                    file.unlink(missing_ok=True)

    def _array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str, fill_value: Any) -> None:
        from zarr.codecs import Crc32cCodec, ZstdCodec

        self._arrays[name] = self._group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill_value=fill_value,
            compressors=[ZstdCodec(level=1), Crc32cCodec()],
            config=_CONFIG,
        )

    def _continue(self, zarr: Any) -> None:
        """Take up what an earlier writer left: its rows are hashed again, its last chunk goes back into memory."""
        with clear_errors(self.path):
            self._group = zarr.open_group(zarr.storage.LocalStore(self.path), mode="r+")
            facts = self._group.attrs.asdict().get("kullback")
            if not isinstance(facts, dict) or facts.get("vocab_size") != self.vocab_size:
                raise OutputError(
                    f"{self.path} was not written for a vocabulary of {self.vocab_size}; expected one to append to"
                )
            mine = {key: value for key, value in self._facts.items() if value}
            other = next((key for key, value in mine.items() if facts.get(key) != value), None)
            if other:
                raise OutputError(f"{self.path} has {other} {facts.get(other)!r}; got {mine[other]!r}")
            for name, fill in (("codes", 0), ("scales", float("nan"))):
                if name not in self._group:  # killed while the group was being made
                    width = self.vocab_size if name == "codes" else 2
                    chunk = self._rows_per_chunk if name == "codes" else _KEY_CHUNK_ROWS
                    self._array(name, (0, width), (chunk, width), "uint16" if name == "codes" else "float32", fill)
            if self._group["codes"].chunks[0] != self._rows_per_chunk:
                raise OutputError(f"{self.path} was written by another version; expected one to append to")
            self._facts = {key: facts.get(key) for key in self._facts}
            for name in self._group.array_keys():
                self._arrays.setdefault(name, zarr.open_array(self._group.store, path=name, mode="r+", config=_CONFIG))
            n_rows = self._rows_on_disk()
            if n_rows:
                self._key_names = tuple(key for key in ("targets", "groups") if facts.get(key))
            for array in self._arrays.values():
                array.resize((min(n_rows, array.shape[0]), *array.shape[1:]))
            self._forget_scales(n_rows)
            self._set_attributes()
            for start in range(0, n_rows, self._rows_per_chunk):
                stop = min(start + self._rows_per_chunk, n_rows)
                self._chunk_start, self._filled = start, stop - start
                self._codes[: stop - start] = self._arrays["codes"][start:stop]
                self._scales[: stop - start] = self._arrays["scales"][start:stop]
                self._hash(0, stop - start)
                self.n_undefined += int(np.isinf(self._scales[: stop - start, 0]).sum())
            for key in self._key_names or ():
                self._keys[key] = np.empty(self._rows_per_chunk, np.int64)
                self._keys[key][: self._filled] = self._arrays[key][self._chunk_start : n_rows]
            self._flushed = self._filled
            if self._filled == self._rows_per_chunk:
                self._next_chunk()

    def _forget_scales(self, n_rows: int) -> None:
        """Wipe what the last chunk of `scales` may hold beyond the rows that are whole."""
        scales = self._arrays["scales"]
        scales.resize((-(-n_rows // _KEY_CHUNK_ROWS) * _KEY_CHUNK_ROWS, 2))
        scales[n_rows:] = np.nan
        scales.resize((n_rows, 2))

    def _rows_on_disk(self) -> int:
        try:
            source = open_source(self.path)
        except InputError:  # not one row
            return 0
        try:
            return source.n_rows
        finally:
            source.close()

    def _attributes(self, complete: bool = False) -> dict[str, Any]:
        facts: dict[str, Any] = {"version": 1, "decoding": _DECODING, "vocab_size": self.vocab_size, **self._facts}
        facts |= dict.fromkeys(self._key_names or (), True)
        facts["complete"] = complete
        if complete:
            facts |= {"rows": self.n_rows, "undefined_rows": self.n_undefined, "blake2b": self._digest.hexdigest()}
            if self._kl_rows:
                facts |= {"measured_rows": self._kl_rows, "mean_kl": self.mean_kl, "max_kl": self.max_kl}
        return {"kullback": facts}

    def _set_attributes(self, complete: bool = False) -> None:
        self._group.attrs.put(self._attributes(complete))

    # Rows -------------------------------------------------------------------------------------------------------------

    @property
    def n_rows(self) -> int:
        """Rows written so far, those in memory included."""
        return self._chunk_start + self._filled

    @property
    def mean_kl(self) -> float:
        """Mean KL(original ‖ stored) over the rows of this writer, in nats."""
        return self._kl_sum / self._kl_rows if self._kl_rows else float("nan")

    def write(self, rows: ArrayLike, *, targets: ArrayLike | None = None, groups: ArrayLike | None = None) -> None:
        """Write rows.

        Parameters
        ----------
        rows : array_like
            (..., vocab_size); leading axes are flattened. float64, float32, float16 or bfloat16.
        targets : array_like of int, optional
            The token that followed each row. Given always or never.
        groups : array_like of int, optional
            The passage that each row belongs to. Given always or never.

        Raises
        ------
        UsageError
            If the arrays have other shapes or types.
        OutputError
            If the disk is full or the folder cannot be written.
        """
        if self._closed:
            raise UsageError(f"{self.path} is closed; expected write() before close()")
        array = self._check_rows(rows)
        keys = self._check_keys(len(array), {"targets": targets, "groups": groups})
        done = 0
        while done < len(array):
            n_rows = min(len(array) - done, self._rows_per_chunk - self._filled)
            here = slice(self._filled, self._filled + n_rows)
            block = array[done : done + n_rows]
            self._codes[here], self._scales[here] = encode_rows(block, self._kind)
            for key, values in keys.items():
                self._keys[key][here] = values[done : done + n_rows]
            self._measure_block(block, here)
            self._filled += n_rows
            done += n_rows
            if self._filled == self._rows_per_chunk:
                self.flush()
                self._next_chunk()

    def _check_rows(self, rows: ArrayLike) -> NDArray[Any]:
        array = np.asarray(rows)
        if array.ndim < 1 or array.shape[-1] != self.vocab_size:
            raise UsageError(f"rows must have shape (..., {self.vocab_size}); got {array.shape}")
        if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
            raise UsageError(f"rows must be real numbers; got {array.dtype}")
        return array.reshape(-1, self.vocab_size)

    def _check_keys(self, n_rows: int, given: Mapping[str, ArrayLike | None]) -> dict[str, NDArray[Any]]:
        keys = {name: np.asarray(values).reshape(-1) for name, values in given.items() if values is not None}
        for name, values in keys.items():
            if values.size != n_rows or values.dtype.kind not in "iu":
                raise UsageError(
                    f"{name} must be {n_rows} integers, one for each row; got {values.size} {values.dtype}"
                )
        targets = keys.get("targets", np.zeros(0, np.int64))
        if targets.size and not (targets.min() >= 0 and targets.max() < self.vocab_size):
            raise UsageError(
                f"targets must be tokens from 0 to {self.vocab_size - 1}; got {targets.min()} to {targets.max()}"
            )
        if self._key_names is None and n_rows:
            self._key_names = tuple(keys)
            with clear_errors(self.path):
                for name in keys:
                    if name not in self._arrays:  # a writer that was killed may have got so far and no further
                        self._array(name, (0,), (_KEY_CHUNK_ROWS,), "int64", 0)
                    self._keys[name] = np.empty(self._rows_per_chunk, np.int64)
                self._set_attributes()
        if n_rows and tuple(keys) != self._key_names:
            raise UsageError(
                f"targets and groups must be given for all rows or for none; the first rows had {self._key_names}"
            )
        return keys

    def _measure_block(self, block: NDArray[Any], here: slice) -> None:
        scales = self._scales[here]
        self.n_undefined += int(np.isinf(scales[:, 0]).sum())
        if not self._measure:
            return
        from ..divergences import kl_divergence

        defined = np.isfinite(scales[:, 0])
        codes, block = self._codes[here][defined], block[defined]
        decoded = np.empty(block.shape, np.float32)
        decode_rows(codes, scales[defined], decoded)
        # Neither needs to be normalised.
        original: Kind = "weights" if self._kind in ("probs", "weights") else "logits"
        kl = np.atleast_1d(kl_divergence(block, decoded, input=(original, "logits")))
        if kl.size:
            self._kl_sum += float(kl.sum())
            self._kl_rows += kl.size
            self.max_kl = float(np.fmax(self.max_kl, kl.max()))

    def _hash(self, first: int, last: int) -> None:
        for row in range(first, last):
            self._digest.update(self._codes[row].astype("<u2", copy=False).data)
            self._digest.update(self._scales[row].astype("<f4", copy=False).data)

    def flush(self) -> None:
        """Put the rows in memory on disk; they are readable from then on, also if the process is killed.

        Raises
        ------
        OutputError
            If the disk is full or the folder cannot be written.
        """
        if self._flushed == self._filled:
            return
        start, stop = self._chunk_start, self.n_rows
        new = slice(self._flushed, self._filled)
        columns: dict[str, NDArray[Any]] = {"codes": self._codes[: self._filled]}
        columns |= {key: values[new] for key, values in self._keys.items()}
        with clear_errors(self.path):
            # `scales` goes last: a row is there when its maximum is, which is not a number before.
            for name, values in {**columns, "scales": self._scales[new]}.items():
                array = self._arrays[name]
                array.resize((stop, *array.shape[1:]))
                array[start if name == "codes" else start + self._flushed : stop] = values
        self._hash(self._flushed, self._filled)
        self._flushed = self._filled

    def _next_chunk(self) -> None:
        self._chunk_start += self._rows_per_chunk
        self._filled = self._flushed = 0

    def close(self) -> None:
        """Put all rows on disk and mark the file as complete.

        Raises
        ------
        OutputError
            If the disk is full or the folder cannot be written.
        """
        if self._closed:
            return
        self.flush()
        with clear_errors(self.path):
            self._set_attributes(complete=True)
        self._closed = True

    def __enter__(self) -> LogitsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        # The loop failed: keep what there is, and do not call it complete.
        with suppress(OSError):
            self.flush()
        self._closed = True


def _import_zarr() -> Any:
    try:
        import zarr
    except ModuleNotFoundError:
        message = "writing packed files needs the package zarr; install it with: pip install 'kullback[zarr]'"
        raise ModuleNotFoundError(message, name="zarr") from None
    return zarr
