"""What a measurement depends on: machine, instruction set, threads, versions, load."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import kullback as kb

__all__ = ["describe", "environment", "load_average"]

_PACKAGES = ("numpy", "scipy", "numba", "torch", "jax", "ml_dtypes", "numkong", "simsimd", "fastjsd")


def environment() -> dict[str, Any]:
    """Describe the machine and the libraries."""
    return {
        "kullback": kb.info(),
        "cpu": _cpu_model(),
        "processors": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in _PACKAGES},
        "load_average": load_average(),
    }


def version(package: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def load_average() -> list[float] | None:
    """Return the load over 1, 5 and 15 minutes, where the system knows it."""
    return [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None


def describe(facts: Mapping[str, Any]) -> str:
    """Write :func:`environment` as a few lines of text."""
    info = facts["kullback"]
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items() if number)
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
