"""The progress of a run on standard error: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from .result import Progress as State

__all__ = ["show_progress"]

_SECONDS_BETWEEN_LINES = 10.0


class _Rate(ProgressColumn):
    """Bytes read a second, over the whole run: parts make the momentary rate jump."""

    def render(self, task: Task) -> Text:
        return Text(_rate(task.completed, task.finished_time or task.elapsed or 0.0), style="progress.data.speed")


def _rate(n_bytes: float, seconds: float) -> str:
    return f"{n_bytes / seconds / 1e9:.2f} GB/s" if seconds > 0 else "- GB/s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


@contextmanager
def show_progress(quiet: bool, done: str = "scored") -> Iterator[Callable[[State], None]]:
    """Show the states that the yielded function is called with, with rate and time left.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    done : str, default "scored"
        What has been done to the rows.

    Yields
    ------
    callable
        To be given to `kullback.score` as `progress`.
    """
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar(done) as update:
            yield update
    else:
        yield _lines(done)


@contextmanager
def _bar(done: str) -> Iterator[Callable[[State], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rows]} rows"),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(done, total=None, rows="0")

        def update(state: State) -> None:
            rows = f"{state.rows:,}/{state.total_rows:,}"
            progress.update(task, completed=state.bytes, total=state.total_bytes, rows=rows)

        yield update


def _lines(done: str = "scored") -> Callable[[State], None]:
    start = last = time.monotonic()

    def update(state: State) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _SECONDS_BETWEEN_LINES or not state.bytes:
            return
        last = now
        left = (now - start) * (state.total_bytes - state.bytes) / state.bytes
        share = 100 * state.bytes / state.total_bytes
        print(
            f"{done} {state.rows:,} of {state.total_rows:,} rows ({share:.0f} %), "
            f"{_rate(state.bytes, now - start)}, {_duration(left)} left",
            file=sys.stderr,
            flush=True,
        )

    return update
