"""The commands of ``kullback``, as click sees them: they parse, call the library and print; nothing is decided here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class
from rich.console import Console
from rich.text import Text

from ..bench.command import bench
from .engine import score as run_score
from .help import COMPLETION_EXAMPLES, INSPECT_EXAMPLES, PACK_EXAMPLES, SCORE_EXAMPLES, PlainEpilog
from .inputs import describe_file
from .options import DEFAULT_MEMORY, ENGINES, RULES, TAILS, parse_raw
from .packer import pack as run_pack
from .progress import show_progress
from .reporting.command import report
from .sources import KINDS
from .summary import json_safe
from .table import rich_table
from .table_notes import notes

__all__ = ["COMPLETION_VARIABLE", "kullback"]

# Exit status of a run whose statistics meet a condition of --fail-if.
FAILED_GATE = 3

# Set by a shell that asks for completions.
COMPLETION_VARIABLE = "_KULLBACK_COMPLETE"

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

_DTYPE = click.option("--dtype", metavar="TYPE", help="Type of files of bare numbers, such as float16 or bfloat16.")
_SHAPE = click.option("--shape", metavar="N,…", help="Their shape, (…, rows, vocabulary); the first may be -1.")
_OFFSET = click.option("--offset", type=int, default=0, metavar="BYTES", help="Bytes before their first number.")


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from .._core.backend import version

        click.echo(f"kullback {version()}")
        context.exit()


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print it and exit."
)
@click.pass_context
def kullback(context: click.Context) -> None:
    """Divergences between next-token distributions."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@kullback.command(cls=PlainEpilog, epilog=SCORE_EXAMPLES)
@click.argument("reference", type=click.Path())
@click.argument("candidates", type=click.Path(), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory for the result.")
@click.option("--metrics", metavar="NAME,…", help="Columns to compute, as in kl,renyi:order=2; all by default.")
@click.option("--targets", type=click.Path(path_type=Path), help=".npy file with the token that followed each row.")
@click.option("--noise-floor", metavar="SOURCE", help="The reference's model run again: what noise alone gives.")
@click.option("--token-texts", type=click.Path(path_type=Path), help="tokenizer.json or list: KL by class of token.")
@click.option("--fail-if", multiple=True, metavar="COND", help="Exit with 3 on, say, 'kl.mean > 0.01'; repeatable.")
@click.option("--vocab-size", type=int, metavar="N", help="Use only the first N columns of every file.")
@click.option("--temperature", type=float, default=1.0, metavar="T", help="Divide logits by T.")
@click.option("--group-size", type=int, metavar="N", help="Rows per group, for the errors over groups.")
@click.option("--input", "kind", type=click.Choice(KINDS), default="logits", help="What the files hold.")
@_DTYPE
@_SHAPE
@_OFFSET
@click.option("--kld-rule", type=click.Choice(RULES), default="exact", help="llama.cpp: as its tool prints.")
@click.option("--tail", type=click.Choice(TAILS), help="Files list top tokens; what becomes of the others.")
@click.option("--engine", type=click.Choice(ENGINES), default="local", help="Where to run: here, or over Ray Data.")
@click.option("--ray-address", metavar="ADDRESS", help="Ray cluster; RAY_ADDRESS, or this machine alone, by default.")
@click.option("--threads", type=int, metavar="N", help="Threads; all processors, or 1 for each worker of Ray.")
@click.option("--memory", default=DEFAULT_MEMORY, metavar="SIZE", help=f"Memory to stay within ({DEFAULT_MEMORY}).")
@click.option("--overwrite", is_flag=True, help="Replace a run with other inputs or options.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@_JSON
def score(
    reference: str, candidates: tuple[str, ...], out: Path, kind: str, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Compare CANDIDATES with REFERENCE, row by row.

    Each is a file of distributions (.npy, .npz, safetensors, Parquet, Arrow, llama.cpp base logits, what kullback pack
    wrote, or with --tail lists of top tokens), a folder or quoted pattern of files whose rows follow one another, or a
    Zarr array, also behind a URL. FILE::NAME takes one array of several. The format is told by the first bytes, never
    by the name.

    The rows go to DIR/CANDIDATE/part-*.parquet, the statistics to DIR/summary.json. The same command again continues
    an interrupted run, and gives the same files as one that was not interrupted.
    """
    with show_progress(quiet) as progress:
        result = run_score(reference, candidates, out, input=kind, progress=progress, **options)
    for warning in result.warnings:
        click.echo(f"kullback: warning: {warning}", err=True)
    if as_json:
        _print_json(result.to_dict())
    else:
        console = _console()
        console.print(rich_table(result.summaries, result.noise_floor))
        for paragraph in notes(result):
            console.print(Text(paragraph), soft_wrap=True)
        kept = f" ({result.parts_kept} kept from before)" if result.parts_kept else ""
        console.print(Text(f"{result.parts_written + result.parts_kept} parts{kept} and summary.json in {out}"))
    for outcome in result.failed:
        click.echo(f"kullback: failed: {outcome}", err=True)
    if result.failed:
        raise click.exceptions.Exit(FAILED_GATE)


@kullback.command(cls=PlainEpilog, epilog=PACK_EXAMPLES)
@click.argument("source", type=click.Path())
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--input", "kind", type=click.Choice(KINDS), default="logits", help="What SOURCE holds.")
@_DTYPE
@_SHAPE
@_OFFSET
@click.option("--targets", type=click.Path(path_type=Path), help="Tokens to store, as in kullback score.")
@click.option("--model", metavar="NAME", help="Whose distributions these are, for the record.")
@click.option("--tokenizer", metavar="NAME", help="Whose tokens these are, for the record.")
@click.option("--memory", default=DEFAULT_MEMORY, metavar="SIZE", help=f"Memory to stay within ({DEFAULT_MEMORY}).")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@_JSON
def pack(source: str, out: Path, kind: str, quiet: bool, as_json: bool, **options: Any) -> None:
    """Store the distributions of SOURCE in 16 bits a token, as a Zarr group OUT that kullback score reads.

    A row keeps its whole range and its exact zeros. What the coding costs, KL(original ‖ packed), is measured and
    printed; it is about 1e-8 nats. SOURCE is what kullback score takes as a reference. The same command again continues
    an interrupted pack.
    """
    with show_progress(quiet, "packed") as progress:
        result = run_pack(source, out, input=kind, progress=progress, **options)
    for warning in result.warnings:
        click.echo(f"kullback: warning: {warning}", err=True)
    if as_json:
        _print_json(result.to_dict())
        return
    kept = f" ({result.rows_kept:,} kept from before)" if result.rows_kept else ""
    click.echo(f"{result.rows:,} rows{kept} of {result.vocab_size:,} tokens in {result.bytes:,} bytes in {out}")
    click.echo(f"KL(original ‖ packed): mean {result.mean_kl:.2e}, largest {result.max_kl:.2e} nats")
    if result.undefined_rows:
        click.echo(f"{result.undefined_rows:,} rows are no distribution (NaN or infinite) and are stored as such")


@kullback.command(cls=PlainEpilog, epilog=INSPECT_EXAMPLES)
@click.argument("files", type=click.Path(), nargs=-1, required=True)
@_DTYPE
@_SHAPE
@_OFFSET
@_JSON
def inspect(files: tuple[str, ...], dtype: str | None, shape: str | None, offset: int, as_json: bool) -> None:
    """Tell format, sizes and state of FILES without reading their rows.

    FILES are what kullback score takes. A truncated file is no failure here: its whole rows are counted, and a warning
    says what is missing.
    """
    raw = parse_raw(dtype, shape, offset)
    facts = [describe_file(file, raw) for file in files]
    if as_json:
        _print_json(facts[0] if len(facts) == 1 else facts)
        return
    for fact in facts:
        warnings = fact.pop("warnings")
        width = max(len(name) for name in fact)
        for name, value in fact.items():
            is_count = isinstance(value, int) and not isinstance(value, bool)
            click.echo(f"{name:<{width}}  {value:,}" if is_count else f"{name:<{width}}  {value}")
        for warning in warnings:
            click.echo(f"kullback: warning: {warning}", err=True)


kullback.add_command(bench)
kullback.add_command(report)


@kullback.command(cls=PlainEpilog, epilog=COMPLETION_EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and files in SHELL."""
    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(script(kullback, {}, "kullback", COMPLETION_VARIABLE).source())


def _console() -> Console:
    # Not a terminal: no width to fit into, so that nothing is cut off in logs.
    return Console() if sys.stdout.isatty() else Console(width=200)


def _print_json(content: Any) -> None:
    click.echo(json.dumps(json_safe(content), indent=2, ensure_ascii=False))
