"""From a scoring run to its report: read, write the page beside its final name, rename."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..output import write_atomically
from ..summary import json_safe
from ..token_texts import read_token_texts
from .gather import Run, gather
from .intervals import interval
from .rows import Rows
from .verdict import give_verdict
from .worst import Texts

__all__ = ["Report", "report"]

_NEEDED = ("jinja2", "matplotlib", "pyarrow")


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes
    ----------
    path : Path
        The HTML file.
    size : int
        Its bytes.
    verdict : tuple of str
        What it says first, sentence by sentence.
    candidates : tuple of dict
        Name, mean divergence with interval, and the counts of infinite and undefined rows; the nearest first.
    """

    path: Path
    size: int
    verdict: tuple[str, ...]
    candidates: tuple[Mapping[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as what `json.dumps` takes."""
        return {
            "html": str(self.path),
            "bytes": self.size,
            "verdict": list(self.verdict),
            "candidates": [json_safe(candidate) for candidate in self.candidates],
        }


def report(
    directory: str | PathLike[str],
    html: str | PathLike[str] | None = None,
    *,
    token_texts: str | PathLike[str] | None = None,
) -> Report:
    """Write the report of a finished scoring run: one HTML page that needs no network, no script and no other file.

    The verdict stands first, in sentences; then the candidates with their intervals, how the divergence is spread over
    tokens, what became of the probability of the token that followed, the course along the position, the buckets and
    paired comparisons that the run made, the rows that moved most, and how the numbers were made. Memory does not grow
    with the rows, and every row is in every chart.

    Parameters
    ----------
    directory : path
        What `kullback.score` was given as `out`.
    html : path, optional
        The page; ``report.html`` in the directory by default. A file of that name is replaced.
    token_texts : path, optional
        Text of each token id, as `kullback.scoring.token_texts.read_token_texts` reads it; by default what the run
        was scored with.

    Returns
    -------
    Report
        Where the page is, and its verdict.

    Raises
    ------
    InputError
        If the directory is no finished run, or a file of it is missing or damaged (a ValueError).
    OutputError
        If the page cannot be written (an OSError).
    ModuleNotFoundError
        If a package of the extra ``report`` is missing; the message has the command that installs it.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, kullback as kb
    >>> folder = tempfile.TemporaryDirectory()
    >>> p, q, scores = (os.path.join(folder.name, name) for name in ("p.npy", "q.npy", "scores"))
    >>> np.save(p, np.zeros((2, 3)))
    >>> np.save(q, np.zeros((2, 3)))
    >>> _ = kb.score(p, q, scores)
    >>> print(kb.report(scores).verdict[0])
    q did not move: the KL divergence is exactly 0 in every row.
    >>> folder.cleanup()
    """
    _require_packages()
    from .page import render

    run = gather(Path(directory))
    path = run.directory / "report.html" if html is None else Path(html)
    if path.is_dir() or not path.absolute().parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"{path.parent} is not a folder"
        raise OutputError(f"{path} cannot be written: {reason}")
    texts = _texts(run, token_texts)
    verdict = give_verdict(run)
    # Lone surrogates, which a file name or a damaged token can hold, have no place in UTF-8.
    page = render(run, Rows(run), verdict, texts).encode("utf-8", "replace")
    write_atomically(path, lambda file: _write(file, page))
    return Report(path, len(page), tuple(verdict.sentences()), tuple(_figures(run)))


def _write(file: Any, content: bytes) -> None:
    file.write(content)


def _texts(run: Run, given: str | PathLike[str] | None) -> Texts | None:
    """Return the texts of tokens: those given, or those of the run if its file is still there."""
    if given is not None:
        return read_token_texts(Path(given))
    known = run.manifest.get("token_texts")
    if isinstance(known, Mapping):
        known = known.get("path")
    if isinstance(known, str) and Path(known).is_file():
        return read_token_texts(Path(known))
    return None


def _figures(run: Run) -> list[dict[str, Any]]:
    found = []
    for scored in run.nearest_first():
        mean, column = scored.estimate(run.metric), scored.distribution(run.metric)
        ends = None if mean is None else interval(mean)
        low, high = ends or (math.nan, math.nan)
        found.append(
            {
                "name": scored.name,
                "metric": run.metric,
                "mean": math.nan if mean is None else mean.value,
                "low": low,
                "high": high,
                "infinite_rows": 0 if column is None else column.n_infinite,
                "undefined_rows": 0 if column is None else column.n_nan,
            }
        )
    return found


def _require_packages() -> None:
    from importlib.util import find_spec

    for name in _NEEDED:
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f"a report needs the package {name}; install it with: pip install 'kullback[report]'", name=name
            )
