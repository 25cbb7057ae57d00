"""``kullback pack``: store what any source holds in 16 bits a token, and say what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import InputError, OutputError
from .inputs import StrPath
from .options import DEFAULT_MEMORY, Options, parse_memory, parse_raw
from .result import Progress
from .sources import Source, open_source, read_token_ids
from .writer import LogitsWriter

__all__ = ["PackResult", "pack"]

_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class PackResult:
    """What was packed, and what it cost.

    Attributes
    ----------
    path : Path
        The packed file.
    rows, vocab_size : int
        Its size.
    rows_kept : int
        Rows that an earlier, interrupted run had packed.
    undefined_rows : int
        Rows that are no distribution (NaN, +inf, or nothing but -inf).
    bytes, source_bytes : int
        Size of the packed rows on disk, and in the source.
    mean_kl, max_kl : float
        KL(original ‖ packed) over the rows of this run, in nats.
    warnings : tuple of str
        What the user has to know about the source.
    """

    path: Path
    rows: int
    vocab_size: int
    rows_kept: int
    undefined_rows: int
    bytes: int
    source_bytes: int
    mean_kl: float
    max_kl: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result ready for JSON."""
        return {**asdict(self), "path": str(self.path), "warnings": list(self.warnings)}


def pack(
    source: StrPath,
    out: StrPath,
    *,
    input: str = "logits",
    targets: StrPath | None = None,
    model: str | None = None,
    tokenizer: str | None = None,
    dtype: str | None = None,
    shape: str | Sequence[int] | None = None,
    offset: int = 0,
    memory: int | str = DEFAULT_MEMORY,
    progress: Callable[[Progress], None] | None = None,
) -> PackResult:
    """Store the distributions of a file in 16 bits a token, as `LogitsWriter` does.

    Parameters
    ----------
    source : path
        What to pack, as `kullback.score` takes it.
    out : path
        Folder to be made. If it holds an unfinished pack of the same source, that is continued.
    input : str, default "logits"
        What the numbers of the source are.
    targets : path, optional
        ``.npy`` file with the token that followed each row, to be stored as well.
    model, tokenizer : str, optional
        Whose distributions these are, for the record.
    dtype, shape, offset
        How a file without a format is read, as in `kullback.score`.
    memory : int or str, default "512MiB"
        Memory that the process is meant to stay within.
    progress : callable, optional
        Called with a `Progress` after every block.

    Returns
    -------
    PackResult

    Raises
    ------
    UsageError
        An option is wrong (a ValueError).
    InputError
        The source is bad (a ValueError).
    OutputError
        The folder holds something else or cannot be written (an OSError).

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import kullback as kb
    >>> folder = tempfile.mkdtemp()
    >>> np.save(f"{folder}/reference.npy", np.random.default_rng(0).normal(size=(20, 1000)) * 3)
    >>> result = kb.pack(f"{folder}/reference.npy", f"{folder}/reference.zarr")
    >>> result.rows, result.mean_kl < 1e-8
    (20, True)
    """
    raw = parse_raw(dtype, shape, offset)
    Options(kind=input, raw=raw)
    budget = parse_memory(memory)
    with closing(open_source(source, input, raw)) as opened:
        if opened.held_bytes > budget:
            raise InputError(
                f"{opened.name} is stored in pieces that take {opened.held_bytes} bytes to decode, more than the "
                f"memory allowed ({budget} bytes in all); raise memory (--memory)"
            )
        tokens = None if targets is None else read_token_ids(Path(targets))
        if tokens is not None and tokens.size not in {opened.n_rows, opened.announced_rows}:
            raise InputError(f"{targets} holds {tokens.size} token ids; expected one per row, {opened.n_rows}")
        origin = {"name": opened.name, **opened.fingerprint()}
        target = Path(out)
        writer = LogitsWriter(
            target,
            opened.vocab_size,
            input=opened.kind,
            model=model,
            tokenizer=tokenizer,
            metadata={"source": origin},
            append=(target / "zarr.json").is_file(),
        )
        with writer:
            kept = writer.n_rows
            if kept > opened.n_rows:
                raise OutputError(f"{out} holds {kept} rows already; expected {opened.n_rows} at most")
            _copy(opened, writer, tokens, min(int(budget * 0.25), _BLOCK_BYTES), progress or (lambda _: None))
    return PackResult(
        target,
        writer.n_rows,
        writer.vocab_size,
        kept,
        writer.n_undefined,
        sum(file.stat().st_size for file in target.rglob("*") if file.is_file()),
        opened.n_rows * opened.row_bytes,
        writer.mean_kl,
        writer.max_kl,
        opened.warnings,
    )


def _copy(
    source: Source, writer: LogitsWriter, tokens: Any, block_bytes: int, report: Callable[[Progress], None]
) -> None:
    first = writer.n_rows
    step = max(block_bytes // source.memory_per_row, 1)
    total = source.n_rows - first
    report(Progress(0, total, 0, total * source.row_bytes))
    for start in range(first, source.n_rows, step):
        stop = min(start + step, source.n_rows)
        rows = source.read(start, stop)
        targets = source.targets(start, stop) if tokens is None else tokens[start:stop]
        writer.write(rows, targets=targets, groups=source.groups(start, stop))
        del rows
        source.release(start, stop)
        done = stop - first
        report(Progress(done, total, done * source.row_bytes, total * source.row_bytes))
