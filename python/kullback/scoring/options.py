"""What a run was asked to do: the options that decide its numbers, checked before a file is opened."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import UsageError
from .sources import KINDS, RawLayout
from .top_k_rule import TAILS

__all__ = [
    "DEFAULT_MEMORY",
    "ENGINES",
    "RULES",
    "TAILS",
    "Options",
    "check_engine",
    "normalise_metrics",
    "parse_memory",
    "parse_raw",
]

DEFAULT_MEMORY = "512MiB"
ENGINES = ("local", "ray")
RULES = ("exact", "llama.cpp")

_COUNTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True)
class Options:
    """Options that change the result, and are therefore part of a run's identity.

    Parameters
    ----------
    metrics : tuple of str, optional
        Columns to compute; None means all.
    vocab_size : int, optional
        Use only so many columns of every file.
    temperature : float
        Divides the logits.
    group_size : int, optional
        Rows per group, instead of the chunks that a file has by itself.
    kind : str
        What the numbers of the files are; llama.cpp files say it themselves.
    kld_rule : str
        ``"exact"``, or ``"llama.cpp"`` for the numbers that its own tool prints.
    raw : RawLayout, optional
        How files without a format are read.
    tail : str, optional
        Take files that list top tokens, and what becomes of the mass outside the lists.

    Raises
    ------
    UsageError
        If a value is out of range or two options contradict each other.
    """

    metrics: tuple[str, ...] | None = None
    vocab_size: int | None = None
    temperature: float = 1.0
    group_size: int | None = None
    kind: str = "logits"
    kld_rule: str = "exact"
    raw: RawLayout | None = None
    tail: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("vocab_size", self.vocab_size), ("group_size", self.group_size)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1; got {value}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"temperature must be a positive finite number; got {self.temperature}")
        if self.kind not in KINDS:
            raise UsageError(f"input must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if self.kld_rule not in RULES:
            raise UsageError(f"kld_rule must be one of {', '.join(RULES)}; got {self.kld_rule!r}")
        if self.metrics is not None and not self.metrics:
            raise UsageError("metrics must name at least one column")
        if self.tail is not None:
            if self.tail not in TAILS:
                raise UsageError(f"tail must be one of {', '.join(TAILS)}; got {self.tail!r}")
            if self.kld_rule != "exact":
                raise UsageError("the llama.cpp rule needs full rows; leave tail out")
            if self.temperature != 1:
                raise UsageError("lists of top tokens cannot be brought to another temperature; leave it at 1")
            if self.metrics is not None:
                raise UsageError("lists of top tokens give a fixed set of columns; leave metrics out")
        if self.kld_rule == "llama.cpp":
            if self.temperature != 1:
                raise UsageError("the llama.cpp rule has no temperature; leave temperature at 1")
            if self.vocab_size is not None:
                raise UsageError("the llama.cpp rule uses the whole vocabulary; leave vocab_size out")
            if self.metrics is not None:
                raise UsageError("the llama.cpp rule has a fixed set of columns; leave metrics out")

    def to_dict(self) -> dict[str, Any]:
        """Return the options ready for JSON."""
        fields = asdict(self)
        for name in ("raw", "tail"):  # absent by default, so that older runs are still recognised
            if fields[name] is None:
                del fields[name]
        fields["metrics"] = None if self.metrics is None else list(self.metrics)
        return fields


def normalise_metrics(metrics: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return metric names as a tuple without duplicates, from a sequence or a comma-separated string."""
    if metrics is None:
        return None
    names = metrics.split(",") if isinstance(metrics, str) else list(metrics)
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))


def parse_raw(dtype: str | None, shape: str | Sequence[int] | None, offset: int = 0) -> RawLayout | None:
    """Return how files of bare numbers are read, from a type, a shape such as ``"-1,32000"`` and bytes to skip.

    Raises
    ------
    UsageError
        If only one of type and shape is given, or they make no sense.
    """
    if dtype is None and shape is None and offset == 0:
        return None
    if dtype is None or shape is None:
        raise UsageError("files of bare numbers need both dtype and shape (--dtype, --shape)")
    try:
        sizes = tuple(int(size) for size in (shape.split(",") if isinstance(shape, str) else shape))
    except (TypeError, ValueError):
        raise UsageError(f"shape must be sizes such as 1000,32000 or -1,32000; got {shape!r}") from None
    if not sizes or min(sizes[1:], default=1) < 1 or (sizes[0] < 1 and (sizes[0] != -1 or len(sizes) == 1)):
        raise UsageError(f"shape must have positive sizes, the first of several may be -1; got {shape!r}")
    if offset < 0:
        raise UsageError(f"offset must be at least 0; got {offset}")
    names = ("float64", "float32", "float16", "bfloat16")
    if dtype.lstrip("<>") not in (*names, "f8", "f4", "f2", *_COUNTS):
        raise UsageError(f"dtype must be one of {', '.join(names)}; got {dtype!r}")
    return RawLayout(dtype, sizes, offset)


def check_engine(engine: str, ray_address: str | None) -> None:
    """Refuse an engine that this version does not have, and an address that the engine has no use for.

    Raises
    ------
    UsageError
        Naming the engines there are.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine must be one of {', '.join(ENGINES)}; got {engine!r}")
    if ray_address is not None and engine != "ray":
        raise UsageError(f"ray_address is for the engine ray; got {ray_address!r} with the engine {engine}")


def parse_memory(memory: int | str) -> int:
    """Return a number of bytes from ``"512MiB"``, ``"2G"``, ``"1.5 GB"`` (all powers of 1024) or an integer.

    Raises
    ------
    UsageError
        If it is not a positive size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", str(memory).upper())
    if match is None or (size := int(float(match[1]) * (1 << _UNITS[match[2]]))) < 1:
        raise UsageError(f"memory must be a size such as 512MiB or 2GiB; got {memory!r}")
    return size
