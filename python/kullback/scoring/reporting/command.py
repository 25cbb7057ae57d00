"""The command ``kullback report``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..help import REPORT_EXAMPLES, PlainEpilog
from .build import report as write_report

__all__ = ["report"]


@click.command(cls=PlainEpilog, epilog=REPORT_EXAMPLES)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path), help="The page; report.html in DIR by default.")
@click.option(
    "--token-texts", type=click.Path(path_type=Path), help="Text of each token: JSON list, tokenizer.json, lines."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of sentences.")
def report(directory: Path, html: Path | None, token_texts: Path | None, as_json: bool) -> None:
    """Write one HTML page about a finished run of kullback score in DIR.

    The page holds the verdict in sentences, tables with intervals, charts, the rows that moved most, and how the
    numbers were made. It is one file that needs no network and no script, follows the browser's light or dark theme,
    and prints.
    """
    result = write_report(directory, html, token_texts=token_texts)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2, ensure_ascii=False))
        return
    for sentence in result.verdict:
        click.echo(sentence)
    click.echo(f"report in {result.path} ({result.size:,} bytes)")
