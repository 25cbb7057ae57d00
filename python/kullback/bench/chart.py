"""The report of a run as a bar chart: each kernel as a share of its limit, other libraries as marks beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..scoring.errors import OutputError, UsageError
from .table import title

__all__ = ["check_plot", "draw"]

_SUFFIXES = (".png", ".svg", ".pdf")
_BARS = {"read": "#2f6f8f", "exp": "#d08c3f"}
_LIMITS = {"read": "limited by reading", "exp": "limited by exponentials"}
_INK, _FAINT = "#263238", "#b0bec5"
_MARKS = {
    "scipy": ("o", "#7b3294"),
    "numba": ("s", "#c2185b"),
    "torch": ("^", "#e64a19"),
    "jax": ("D", "#388e3c"),
    "numkong": ("v", "#5d4037"),
    "simsimd": ("P", "#455a64"),
    "fastjsd": ("X", "#1565c0"),
}


def check_plot(path: Path) -> None:
    """Refuse a chart that could not be written, before anything is measured.

    Raises
    ------
    UsageError
        If the suffix is not one of the known formats, or matplotlib is missing.
    OutputError
        If there is no such folder.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"the chart's file must end in {', '.join(_SUFFIXES)}; got {path}")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise UsageError(
            "a chart needs the package matplotlib; install it with: pip install 'kullback[plot]'"
        ) from None
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path} cannot be written: {path.parent} is not a folder")


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw a report into a file, whose suffix says the format."""
    from matplotlib.figure import Figure

    kernels = report["kernels"][::-1]  # the first on top
    place = {kernel["name"]: number for number, kernel in enumerate(kernels)}
    figure = Figure(figsize=(9.6, 1.9 + 0.42 * len(kernels)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for limit in _BARS:
        chosen = [kernel for kernel in kernels if kernel["limit"] == limit]
        if chosen:
            where = [place[kernel["name"]] for kernel in chosen]
            shares = [kernel["fraction"] for kernel in chosen]
            axes.barh(where, shares, height=0.68, color=_BARS[limit], label=_LIMITS[limit], zorder=2)
    for kernel in kernels:
        _write(axes, kernel, place[kernel["name"]])
    _marks(axes, report["peers"], place)
    axes.axvline(1.0, color=_INK, linewidth=1.2, zorder=3)
    edge = max(1.04, 1.04 * max(kernel["fraction"] for kernel in kernels))
    axes.set_xlim(0, edge + (0.28 if report["peers"] else 0.04))
    _nearest(axes, report["peers"], place, edge)
    axes.set_ylim(-0.6, len(kernels) - 0.4)
    axes.set_yticks(range(len(kernels)), [kernel["name"].replace("_", " ") for kernel in kernels])
    axes.set_xticks([step / 5 for step in range(int(5 * edge) + 1)])
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.set_xlabel("share of what this machine allows (100 %: as fast as reading the input once, or its exponentials)")
    _style(axes)
    machine, environment = report["machine"], report["environment"]
    figure.suptitle(title(report["size"]), x=0.01, ha="left", fontsize=12, fontweight="bold", color=_INK)
    axes.set_title(
        f"{environment['cpu']}, {environment['kullback']['isa']}: reads {machine['read_gb_per_s']:.1f} GB/s, "
        f"{machine['exp_g_per_s']:.1f} G exponentials/s    kullback {environment['kullback']['version']}",
        loc="left",
        fontsize=8.5,
        color=_INK,
    )
    figure.legend(loc="outside lower left", ncols=5, frameon=False, fontsize=8.5)
    try:
        figure.savefig(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None


def _write(axes: Any, kernel: Mapping[str, Any], place: int) -> None:
    """Write rate and share into the end of a bar, or beside one that is too short."""
    text = f"{100 * kernel['fraction']:.0f} %  ·  {kernel['gb_per_s']:.1f} GB/s"
    inside = kernel["fraction"] > 0.3
    axes.annotate(
        text,
        (kernel["fraction"], place),
        xytext=(-6 if inside else 6, 0),
        textcoords="offset points",
        ha="right" if inside else "left",
        va="center",
        fontsize=8.5,
        color="white" if inside else _INK,
        zorder=5,
    )


def _marks(axes: Any, peers: list[Mapping[str, Any]], place: Mapping[str, int]) -> None:
    """Mark what other libraries reach, each on a level of its own inside the bar, so that none hides another."""
    timed = [peer for peer in peers if peer["timed"]]
    libraries = list(dict.fromkeys(peer["peer"] for peer in timed))
    for number, library in enumerate(libraries):
        level = 0.5 * ((number + 0.5) / len(libraries) - 0.5)
        mine = [peer for peer in timed if peer["peer"] == library]
        marker, color = _MARKS.get(library, ("o", _INK))
        axes.scatter(
            [peer["fraction"] for peer in mine],
            [place[peer["name"]] - level for peer in mine],
            s=44 if marker in "PX" else 34,
            marker=marker,
            color=color,
            edgecolors="white",
            linewidths=0.7,
            label=f"{library} {mine[0]['version'] or ''}".rstrip(),
            zorder=4,
        )


def _nearest(axes: Any, peers: list[Mapping[str, Any]], place: Mapping[str, int], edge: float) -> None:
    """Write beside each kernel how many times as fast it is as the fastest other library."""
    fastest: dict[str, Mapping[str, Any]] = {}
    for peer in filter(lambda peer: peer["timed"], peers):
        if peer["name"] not in fastest or peer["times_kullback"] < fastest[peer["name"]]["times_kullback"]:
            fastest[peer["name"]] = peer
    if fastest:
        axes.text(edge, len(place) - 0.45, "on as many threads:", va="center", fontsize=8.5, color=_INK, alpha=0.7)
    for name, peer in fastest.items():
        text = f"{peer['times_kullback']:.1f}× as fast as {peer['peer']}"
        axes.text(edge, place[name], text, va="center", fontsize=8.5, color=_INK)


def _style(axes: Any) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    axes.tick_params(axis="y", length=0, labelsize=9.5, labelcolor=_INK)
    axes.tick_params(axis="x", color=_FAINT, labelsize=8.5, labelcolor=_INK)
    axes.xaxis.label.set(size=8.5, color=_INK)
    axes.grid(axis="x", color=_FAINT, linewidth=0.6, alpha=0.6, zorder=0)
    axes.set_axisbelow(True)
