"""``kullback bench``, as click sees it: it parses, measures and prints; nothing is decided here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..scoring.options import normalise_metrics
from ..scoring.summary import json_safe
from .settings import DTYPES, KINDS, Plan, Settings

__all__ = ["bench"]


@click.command()
@click.option("--rows", type=int, metavar="N", help="Rows of each side; by default 256, or fewer to fit --memory.")
@click.option("--vocab-size", type=int, metavar="N", help="Columns (128256).")
@click.option("--threads", type=int, metavar="N", help="Threads; all processors by default.")
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="float32", help="Type of the rows (float32).")
@click.option("--input", "kind", type=click.Choice(KINDS), default="logits", help="What the numbers are (logits).")
@click.option("--names", metavar="NAME,…", help="Divergences, entropy, compare; all by default.")
@click.option("--noise", type=float, default=0.3, metavar="S", help="Spread of the difference between the sides (0.3).")
@click.option("--seconds", type=float, metavar="S", help="Time for the kernels, and again for other libraries (10).")
@click.option("--memory", metavar="SIZE", help="Memory of all arrays (1GiB, or half of what the machine has).")
@click.option("--no-peers", is_flag=True, help="Leave other libraries out.")
@click.option("--quick", is_flag=True, help="Tiny sizes: a test that it runs, not a measurement.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw a chart: .png, .svg or .pdf.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def bench(names: str | None, no_peers: bool, plot: Path | None, quiet: bool, as_json: bool, **options: object) -> None:
    """Measure the kernels beside this machine's limits.

    Random rows p, and q = p + noise. Every value is first held against float64 arithmetic that shares no code with the
    kernels; a wrong one stops the run. Then all calls, and two probes of the machine, are timed in rounds of changing
    order; a number is the median over rounds.

    "of limit" is the share of what the machine allows: the time in which it reads the input once, or the time in which
    it computes the exponentials that no method avoids (one for each logit or log-probability; for probabilities and
    weights one logarithm a pair, where the divergence has one), whichever is longer, divided by the time of the call.
    Both rates come from the same rounds, with the same threads and instruction set. Where p and q are close, a kernel
    may do with fewer exponentials and come out above 100 %.

    Other libraries (scipy, numba, torch, jax, numkong, simsimd, fastjsd) are measured on the first rows if they are
    installed; what is off by more than 1 % is shown, but not timed.
    """
    from .measure import measure, need_native_release

    chosen = normalise_metrics(names)
    settings = Settings(names=chosen, peers=not no_peers, **options)  # type: ignore[arg-type]
    need_native_release()
    plan = settings.plan()
    if plot is not None:
        from .chart import check_plot

        check_plot(plot)
    if not quiet:
        click.echo(_announcement(plan), err=True)
    try:
        with _show_progress(quiet) as progress:
            report = measure(settings, progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; nothing was kept") from None
    if plot is not None:
        from .chart import draw

        draw(report, plot)
    if as_json:
        click.echo(json.dumps(json_safe(report), indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    from .table import renderables

    # Not a terminal: no width to fit into, so that nothing is cut off in logs.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for part in renderables(report):
        console.print(part)
    if plot is not None:
        click.echo(f"chart in {plot}")


def _announcement(plan: Plan) -> str:
    size = f"{plan.rows:,} rows of {plan.columns:,} {plan.dtype} {plan.kind}"
    libraries = "; other libraries load on top of that" if plan.peer_rows else ""
    return f"kullback: {size} a side, {plan.bytes_needed / (1 << 20):,.0f} MiB of arrays{libraries}"


@contextmanager
def _show_progress(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Show phase and share on a terminal; logs get the announcement only."""
    if quiet or not sys.stderr.isatty():
        yield lambda _phase, _share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda phase, share: bar.update(task, description=phase, completed=share)
