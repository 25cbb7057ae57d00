"""The report of a run as tables for a terminal; `cells` and `peer_cells` decide what is shown, rich lays it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .environment import describe

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["HEADER", "PEER_HEADER", "cells", "description", "peer_cells", "renderables", "title"]

HEADER = ("call", "ms", "rows/s", "GB/s", "of limit", "limit", "worst error")
PEER_HEADER = ("library", "call", "threads", "GB/s", "of limit", "kullback is", "worst error")


def title(size: Mapping[str, Any]) -> str:
    """Say in one line what was measured."""
    threads = f"{size['threads']} thread{'s' * (size['threads'] > 1)}"
    return (
        f"{size['rows']:,} rows of {size['vocab_size']:,} {size['dtype']} {size['input']}, noise {size['noise']:g}, "
        f"{threads}"
    )


def description(report: Mapping[str, Any]) -> str:
    """Write everything but the tables: the machine, its limits, and what the rows were."""
    machine, size = report["machine"], report["size"]
    lines = [
        describe(report["environment"]),
        f"this machine reads {machine['read_gb_per_s']:.1f} GB/s and computes {machine['exp_g_per_s']:.2f} billion "
        f"exponentials a second, on {size['threads']} thread{'s' * (size['threads'] > 1)}",
    ]
    if size["quick"]:
        lines.append("tiny sizes: a test, not a measurement")
    return "\n".join(lines)


def cells(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each kernel, under :data:`HEADER`."""
    return [
        (
            kernel["name"],
            f"{1e3 * kernel['seconds']:.2f}",
            f"{kernel['rows_per_s']:,.0f}",
            f"{kernel['gb_per_s']:.1f}",
            f"{100 * kernel['fraction']:.0f} %",
            kernel["limit"],
            f"{kernel['worst_error']:.0e}",
        )
        for kernel in report["kernels"]
    ]


def peer_cells(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each call of another library, under :data:`PEER_HEADER`."""
    return [
        (
            f"{peer['peer']} {peer['version'] or ''}".rstrip(),
            peer["name"],
            str(peer["threads"]),
            *(
                (f"{peer['gb_per_s']:.2f}", f"{100 * peer['fraction']:.1f} %", f"{peer['times_kullback']:.1f}× as fast")
                if peer["timed"]
                else ("-", "-", "not timed: wrong")
            ),
            f"{peer['worst_error']:.0e}",
        )
        for peer in report["peers"]
    ]


def renderables(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield text and tables for a rich console."""
    from rich.text import Text

    size = report["size"]
    yield Text(description(report), style="dim")
    yield Text()
    yield _table(title(size), HEADER, cells(report), left=1)
    if report["peers"]:
        rows = f"{size['peer_rows']:,} of these rows"
        yield Text()
        caption = "kullback on as many threads"
        yield _table(f"Other libraries, {rows}; {caption}", PEER_HEADER, peer_cells(report), left=2)
    yield Text()
    yield Text(f"load average after the run: {report['load_average_after']}", style="dim")


def _table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]], left: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, pad_edge=False, header_style="bold", title=title, title_justify="left", title_style="bold cyan"
    )
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
