"""What both benchmark scripts share: the environment they print, interleaved timing, and tables."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import kullback as kb

_PACKAGES = ("numpy", "scipy", "numba", "torch", "ml_dtypes", "numkong", "simsimd")


class Timings:
    """Seconds of every contestant in every round.

    Parameters
    ----------
    seconds : mapping of str to sequence of float
        By contestant, one number a round.
    """

    def __init__(self, seconds: Mapping[str, Sequence[float]]) -> None:
        self.seconds = seconds

    def median(self, name: str) -> float:
        """Return the median time of one contestant."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, base: str) -> float:
        """Return how many times longer `name` takes than `base`: the median over rounds, as noise hits both."""
        return statistics.median(a / b for a, b in zip(self.seconds[name], self.seconds[base], strict=True))


def interleave(contestants: Mapping[str, Callable[[], object]], rounds: int) -> Timings:
    """Time callables in turn, one call each a round.

    Every callable runs once untimed; each round starts with the next one, so that none always follows the same other.
    """
    names = list(contestants)
    for name in names:
        contestants[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            begin = time.perf_counter()
            contestants[name]()
            seconds[name].append(time.perf_counter() - begin)
    return Timings(seconds)


def environment() -> dict[str, Any]:
    """Describe the machine and the libraries."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "kullback": kb.info(),
        "cpu": _cpu_model(),
        "processors": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
        "load_average": load_average(),
    }


def load_average() -> list[float] | None:
    """Return the load over 1, 5 and 15 minutes, where the system knows it."""
    return [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None


def describe(facts: Mapping[str, Any]) -> str:
    """Write :func:`environment` as a few lines of text."""
    info = facts["kullback"]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    return "\n".join(
        [
            f"kullback {info['version']} ({info['backend']}, {info['isa']}, {info['build_profile']} build, "
            f"{info['threads']} threads by default)",
            f"{facts['cpu']}, {facts['processors']} processors, {facts['platform']}",
            f"Python {facts['python']}, {packages}",
            f"load average before the run: {facts['load_average']}",
        ]
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Lay cells out in columns, the first aligned left and the others right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cells[0].ljust(widths[0]),
            *(cell.rjust(size) for cell, size in zip(cells[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

    rule = [("-" * widths[0]), *("-" * (size - 1) + ":" for size in widths[1:])]
    return "\n".join([line(header), *([line(rule)] if markdown else []), *map(line, rows)])


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write a report if a path was given."""
    if path is not None:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
