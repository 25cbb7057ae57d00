"""Tensors of safetensors files, mapped: eight bytes of length, a JSON header of that length, then the numbers.

The header is small enough to be read by its rules: it is an object of (dtype, shape, data_offsets), whose ranges must
cover the rest of the file without gap or overlap, each as long as its shape and dtype say. All of that is checked with
Python's integers before anything is mapped, so no number in a header can make this reader allocate or read outside.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..errors import InputError, reason_of
from .mapped_rows import MappedRows
from .mapping import MappedFile
from .numbers import number_type_by_name

__all__ = ["SafetensorsSource", "is_safetensors", "natural"]

# The format allows 100 MB; a header of logits has a few hundred bytes for each tensor.
_HEADER_LIMIT = 16 << 20

# Types that can be rows: what NumPy calls each.
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
}


@dataclass(frozen=True)
class _Tensor:
    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    stop: int


def natural(name: str) -> list[Any]:
    """Return a sort key by which ``row.9`` comes before ``row.10``."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name)]


def is_safetensors(head: bytes) -> bool:
    """Tell whether a file begins like a safetensors file: a plausible length, then a JSON object."""
    return len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


def _parse(file: MappedFile) -> dict[str, _Tensor]:
    path = file.path
    (length,) = struct.unpack("<Q", file.bytes(0, 8))
    if length > file.size - 8:
        raise InputError(f"{path} is truncated: its header of {length} bytes reaches beyond its {file.size} bytes")
    if length > _HEADER_LIMIT:
        raise InputError(f"{path} has a header of {length} bytes; expected {_HEADER_LIMIT} at most")
    try:
        header = json.loads(file.bytes(8, 8 + length).decode("utf-8"), object_pairs_hook=_without_duplicates)
        if not isinstance(header, dict):
            raise ValueError("it is not an object")
        header.pop("__metadata__", None)
        tensors = {name: _parse_tensor(name, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} has a broken safetensors header: {reason_of(error)}") from None
    end = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != end:
            raise InputError(
                f"{path} has a broken safetensors header: tensor {tensor.name!r} begins at {tensor.start}, not {end}"
            )
        end = tensor.stop
    if end != file.size - 8 - length:
        short = "truncated" if end > file.size - 8 - length else "broken"
        raise InputError(
            f"{path} is {short}: its header announces {end} bytes of data but {file.size - 8 - length} follow it"
        )
    return {name: _moved(tensor, 8 + length) for name, tensor in tensors.items()}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name occurs twice")
    return entries


def _parse_tensor(name: str, entry: dict[str, Any]) -> _Tensor:
    type_name, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(type_name, str) or not all(type(size) is int and size >= 0 for size in (*shape, start, stop)):
        raise ValueError(f"tensor {name!r} has a size that is not a count")
    bits = re.search(r"\d+", type_name)  # of one number; a type of the future may say it otherwise
    if bits and math.prod(shape) * int(bits[0][:3]) != 8 * (stop - start):
        raise ValueError(f"tensor {name!r} of shape {shape} and type {type_name} cannot have {stop - start} bytes")
    return _Tensor(name, type_name, tuple(shape), start, stop)


def _moved(tensor: _Tensor, offset: int) -> _Tensor:
    return _Tensor(tensor.name, tensor.type, tensor.shape, tensor.start + offset, tensor.stop + offset)


def _choose(tensors: dict[str, _Tensor], path: object, member: str | None) -> list[_Tensor]:
    """Return the tensors that are meant, in natural order of their names."""
    names = sorted(tensors, key=natural)
    listed = ", ".join(f"{name} {list(tensors[name].shape)}" for name in names[:8]) + (", …" if len(names) > 8 else "")
    if member is not None:
        chosen = [name for name in names if name == member] or [name for name in names if fnmatchcase(name, member)]
        if not chosen:
            raise InputError(f"{path} has no tensor {member!r}; it holds {listed or 'none'}")
    else:
        chosen = [name for name in names if len(tensors[name].shape) > 1 and tensors[name].type in _TYPES]
        chosen = [name for name in chosen if "F" in tensors[name].type] or chosen
        if not chosen:
            raise InputError(
                f"{path} holds no tensor with at least two axes, (rows, vocabulary); it holds {listed or 'none'}"
            )
    first = tensors[chosen[0]]
    for name in chosen:
        tensor = tensors[name]
        if len(tensor.shape) < 2:
            raise InputError(f"{path}: tensor {name!r} has shape {list(tensor.shape)}; expected (rows, vocabulary)")
        if tensor.type not in _TYPES:
            raise InputError(f"{path}: tensor {name!r} holds {tensor.type}; expected F64, F32, F16 or BF16")
        if (tensor.shape[-1], tensor.type) != (first.shape[-1], first.type):
            raise InputError(
                f"{path} holds tensors that are not rows of one array ({listed}); choose with {path}::NAME, where * "
                "stands for any characters"
            )
    return [tensors[name] for name in chosen]


class SafetensorsSource(MappedRows):
    """Rows of one tensor, or of several of the same width one after another.

    Parameters
    ----------
    file : MappedFile
        The mapped file.
    kind : str
        What the numbers are, as `Source.kind`.
    member : str, optional
        Name of the tensor, or a pattern with ``*`` for several; by default every tensor of floating-point numbers with
        two axes or more.

    Raises
    ------
    InputError
        If the header is broken or lies, or the tensors are not rows of one array.
    """

    format = "safetensors"

    def __init__(self, file: MappedFile, kind: str, member: str | None = None) -> None:
        self._member = member
        tensors = _choose(_parse(file), file.path, member)
        name = str(file.path) if member is None else f"{file.path}::{member}"
        numbers = number_type_by_name(_TYPES[tensors[0].type], kind, name)
        vocab_size = tensors[0].shape[-1]
        rows = [math.prod(tensor.shape[:-1]) for tensor in tensors]
        stretches = [(tensor.start, n_rows) for tensor, n_rows in zip(tensors, rows, strict=True) if n_rows]
        if not stretches or not vocab_size:
            raise InputError(f"{name} has shape {list(tensors[0].shape)}: there is no row to score")
        super().__init__(file, name, kind, numbers, vocab_size, stretches)
        self._tensors = tensors
        if len(tensors) == 1 and len(tensors[0].shape) > 2:
            self._rows_per_group = math.prod(tensors[0].shape[1:-1])

    def describe(self) -> dict[str, Any]:
        """Return format, tensors, dtype and sizes."""
        one = self._tensors[0]
        facts = (
            {"tensor": one.name, "shape": list(one.shape)}
            if len(self._tensors) == 1
            else {"tensors": len(self._tensors)}
        )
        return {**super().describe(), **facts}

    def fingerprint(self) -> dict[str, Any]:
        """Return size and digest of the file, and the tensors."""
        return {**super().fingerprint(), "member": self._member}
