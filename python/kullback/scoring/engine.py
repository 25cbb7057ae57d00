"""The run itself: plan the rows, read a block of every file, compare, write the part, at the end summarise the parts.

While one block is compared the next is read and decoded in other threads. All candidates are compared with a block
of the reference while it is in memory, so the reference is read once however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .conclusion import conclude
from .errors import UsageError
from .inputs import Inputs
from .manifest import make_manifest
from .options import DEFAULT_MEMORY, Options, check_engine, normalise_metrics, parse_memory, parse_raw
from .output import RunDirectory
from .plan import Part, Plan, make_plan
from .result import Progress, ScoreResult
from .rules import Comparer
from .sources import Source
from .summary import statistic_names
from .thresholds import check_names, parse_thresholds
from .token_texts import read_token_texts

__all__ = ["score"]

# Decoding takes a processor, and the comparison wants them too.
_MOST_READERS = 8

StrPath = str | PathLike[str]
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Block:
    """Rows `start` to `stop` of a part, and the candidates whose file of that part is missing."""

    part: Part
    start: int
    stop: int
    names: tuple[str, ...]


class _Run:
    """One pass over the rows that no finished part covers yet."""

    def __init__(self, inputs: Inputs, plan: Plan, comparer: Comparer, directory: RunDirectory) -> None:
        self._inputs = inputs
        self._comparer = comparer
        self._directory = directory
        parts = plan.parts()
        missing = [tuple(name for name in inputs.compared if not directory.has_part(name, part)) for part in parts]
        self.parts_missing = sum(len(names) for names in missing)
        self.parts_kept = len(parts) * len(inputs.compared) - self.parts_missing
        self._blocks = [
            _Block(part, start, stop, names)
            for part, names in zip(parts, missing, strict=True)
            if names
            for start, stop in plan.blocks(part)
        ]

    def _sources(self, block: _Block) -> list[Source]:
        return [self._inputs.reference, *(self._inputs.compared[name] for name in block.names)]

    def _size(self, block: _Block) -> tuple[int, int]:
        """Return rows and bytes of a block, over its files."""
        n_rows = block.stop - block.start
        return n_rows * len(block.names), n_rows * sum(source.row_bytes for source in self._sources(block))

    def execute(self, report: Callable[[Progress], None]) -> None:
        """Write every missing part."""
        total_rows, total_bytes = (sum(sizes) for sizes in zip((0, 0), *map(self._size, self._blocks), strict=True))
        rows = n_bytes = 0
        report(Progress(rows, total_rows, n_bytes, total_bytes))
        done: dict[str, list[Columns]] = {}  # of the part in hand, by candidate and block
        for block, (p, *candidates) in self._read_ahead():
            targets = self._inputs.targets(block.start, block.stop)
            for source in self._sources(block):
                source.check_whole()
            for name, q in zip(block.names, candidates, strict=True):
                source = self._inputs.compared[name]
                done.setdefault(name, []).append(self._comparer.compare(source, p, q, targets, block.start))
            for source in self._sources(block):
                source.release(block.start, block.stop)
            if block.stop == block.part.stop:
                self._write(block.part, done)
                done = {}
            more_rows, more_bytes = self._size(block)
            rows, n_bytes = rows + more_rows, n_bytes + more_bytes
            report(Progress(rows, total_rows, n_bytes, total_bytes))

    def _read_ahead(self) -> Iterator[tuple[_Block, list[NDArray[Any]]]]:
        """Yield each block with its arrays, reading the next one meanwhile, each file in a thread of its own."""
        n_readers = min(1 + len(self._inputs.compared), _MOST_READERS)
        with ThreadPoolExecutor(n_readers, thread_name_prefix="kullback-read") as readers:

            def submit(block: _Block) -> list[Future[NDArray[Any]]]:
                return [readers.submit(source.read, block.start, block.stop) for source in self._sources(block)]

            pending: tuple[_Block, list[Future[NDArray[Any]]]] | None = None
            for block in self._blocks:
                ready = None if pending is None else (pending[0], [future.result() for future in pending[1]])
                pending = (block, submit(block))
                if ready is not None:
                    yield ready
                    del ready
            if pending is not None:
                yield pending[0], [future.result() for future in pending[1]]

    def _write(self, part: Part, done: dict[str, list[Columns]]) -> None:
        keys = {
            "row": np.arange(part.start, part.stop, dtype=np.int64),
            "group": self._inputs.groups(part.start, part.stop),
            "target": self._inputs.targets(part.start, part.stop),
        }
        for name, blocks in done.items():
            columns = {column: np.concatenate([block[column] for block in blocks]) for column in blocks[0]}
            self._directory.write_part(name, part.number, keys, columns)


def score(
    reference: StrPath,
    candidates: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    metrics: str | Sequence[str] | None = None,
    targets: StrPath | None = None,
    noise_floor: StrPath | None = None,
    token_texts: StrPath | None = None,
    fail_if: str | Sequence[str] | None = None,
    vocab_size: int | None = None,
    temperature: float = 1.0,
    group_size: int | None = None,
    input: str = "logits",
    dtype: str | None = None,
    shape: str | Sequence[int] | None = None,
    offset: int = 0,
    kld_rule: str = "exact",
    tail: str | None = None,
    engine: str = "local",
    threads: int | None = None,
    memory: int | str = DEFAULT_MEMORY,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ScoreResult:
    """Compare files of distributions row by row, in bounded memory, and write the result to a directory.

    Rows are read in blocks that fit `memory`, whatever the size of the files. The summary at the end needs a few
    columns of 8 bytes a row.

    Parameters
    ----------
    reference : path
        A file, ``FILE::name`` for an array in it, a folder or pattern of files with further rows, or the URL of a Zarr
        array; the format is told by the first bytes.
    candidates : path or sequence of path
        One or more of these with the same rows.
    out : path
        Output directory. If it holds an unfinished run with the same inputs and options, that run is continued.
    metrics : sequence of str, optional
        Columns, as in `kullback.compare`; all by default.
    targets : path, optional
        ``.npy`` file with the token that followed each row. llama.cpp references know it themselves.
    noise_floor : path, optional
        The reference's model run a second time, which differs by noise only. It is scored apart from the candidates,
        and each is told how its mean KL stands to the floor's.
    token_texts : path, optional
        Texts of the tokens, as `kullback.scoring.read_token_texts` takes them: divergences are also given by class of
        the token. They change no part.
    fail_if : str or sequence of str, optional
        Conditions ``STATISTIC[.FIELD] OP NUMBER``, such as ``"kl.mean > 0.01"``, under which the run counts as failed
        (``result.failed``); a statistic that is NaN always does.
    vocab_size : int, optional
        Use only the first so many columns of every file (padded vocabularies). Needed where no file has full rows.
    temperature : float, default 1.0
        Divides logits and log-probabilities.
    group_size : int, optional
        Rows per group for the bootstrap; by default the file's chunks, or the first axis of an array of three or more.
    input : str, default "logits"
        What the numbers of the files are: ``"logits"``, ``"log_probs"``, ``"probs"`` or ``"weights"``.
    dtype : str, optional
        Files without a format are read as numbers of this type: ``"float64"``, ``"float32"``, ``"float16"`` or
        ``"bfloat16"``, little-endian.
    shape : sequence of int or str, optional
        Their shape, (..., rows, vocabulary); the first size may be -1.
    offset : int, default 0
        Bytes before their first number.
    kld_rule : {"exact", "llama.cpp"}, default "exact"
        ``"llama.cpp"`` reproduces that tool's own numbers, which are not exactly a divergence.
    tail : {"bucket", "renormalize", "bounds"}, optional
        Take files that list top tokens (JSON lines, Parquet), and what becomes of the mass outside the lists, as in
        `kullback.compare_topk`. One side may be full rows.
    engine : {"local"}, default "local"
        Where to run.
    threads : int, optional
        Threads of the native backend.
    memory : int or str, default "512MiB"
        Memory that the process is meant to stay within; it decides the block size and changes no digit.
    overwrite : bool, default False
        Replace a run with other inputs or options.
    progress : callable, optional
        Called with a `Progress` after every block.

    Returns
    -------
    ScoreResult
        Summaries by candidate; also in ``out/summary.json``, the rows in ``out/<candidate>/part-*.parquet``.

    Raises
    ------
    UsageError
        An option is wrong (a ValueError).
    InputError
        A file is bad or does not fit (a ValueError).
    OutputError
        The directory belongs to another run or cannot be written (an OSError).
    """
    from .._core.backend import info

    _require_pyarrow()
    check_engine(engine)
    raw = parse_raw(dtype, shape, offset)
    options = Options(
        normalise_metrics(metrics), vocab_size, float(temperature), group_size, input, kld_rule, raw, tail
    )
    budget = parse_memory(memory)
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1; got {threads}")
    places = [candidates] if isinstance(candidates, (str, PathLike)) else list(candidates)
    thresholds = parse_thresholds(fail_if)
    texts = None if token_texts is None else read_token_texts(token_texts)
    facts = info()
    with Inputs(reference, places, None if targets is None else Path(targets), options, noise_floor) as inputs:
        comparer = Comparer(inputs, options, threads)
        columns = comparer.columns()
        check_names(thresholds, statistic_names(columns), has_groups=inputs.groups(0, 1) is not None)
        if texts is not None and not inputs.has_targets and "top1_p" not in columns:
            raise UsageError("token_texts need targets or the column top1_p to know the token of a row")
        plan = make_plan(inputs, budget)
        directory = RunDirectory(Path(out), make_manifest(inputs, options, plan, columns, facts, texts), overwrite)
        run = _Run(inputs, plan, comparer, directory)
        run.execute(progress or (lambda _: None))
        found = conclude(inputs, options, directory, len(plan.parts()), texts, thresholds)
        return ScoreResult(
            Path(out),
            found.summaries,
            found.warnings,
            run.parts_kept,
            run.parts_missing,
            found.noise_floor,
            found.above_noise_floor,
            found.paired,
            found.outcomes,
        )


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        message = "scoring writes Parquet and needs the package pyarrow; install it with: pip install 'kullback[score]'"
        raise ModuleNotFoundError(message, name="pyarrow") from None
