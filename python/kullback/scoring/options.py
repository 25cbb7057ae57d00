"""What a run was asked to do: the options that decide its numbers, checked before a file is opened."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import UsageError
from .sources import KINDS

__all__ = ["DEFAULT_MEMORY", "ENGINES", "RULES", "Options", "check_engine", "normalise_metrics", "parse_memory"]

DEFAULT_MEMORY = "512MiB"
ENGINES = ("local",)
RULES = ("exact", "llama.cpp")

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
        What the numbers of ``.npy`` files are.
    kld_rule : str
        ``"exact"``, or ``"llama.cpp"`` for the numbers that its own tool prints.

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
        fields["metrics"] = None if self.metrics is None else list(self.metrics)
        return fields


def normalise_metrics(metrics: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return metric names as a tuple without duplicates, from a sequence or a comma-separated string."""
    if metrics is None:
        return None
    names = metrics.split(",") if isinstance(metrics, str) else list(metrics)
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))


def check_engine(engine: str) -> None:
    """Refuse an engine that this version does not have.

    Raises
    ------
    UsageError
        Naming the engines there are.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r} is not available in this version; expected {', '.join(ENGINES)}")


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
