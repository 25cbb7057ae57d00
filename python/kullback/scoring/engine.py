"""The run itself: plan the rows, read a block of every file, compare, write the part, at the end summarise the parts.

All candidates are compared with a block of the reference while it is in memory, so the reference is read once however
many there are. Blocks overlap, so that the processors always have one to compare: one is read and decoded, the next
one's comparison is ready to take over what the last rows of the one before leave idle, and the last part is written.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
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
from .plan import Missing, Part, Plan, make_plan
from .result import Progress, ProgressCounter, ScoreResult
from .rules import Comparer
from .sources import IN_FLIGHT, Source
from .summary import statistic_names
from .thresholds import check_names, parse_thresholds
from .token_texts import read_token_texts

__all__ = ["Columns", "Run", "WritePart", "score"]

# Decoding takes a processor, and the comparison wants them too.
_MOST_READERS = 8

StrPath = str | PathLike[str]
Columns = dict[str, NDArray[Any]]
WritePart = Callable[[Part, str, Columns], None]


@dataclass(frozen=True)
class _Block:
    """Rows `start` to `stop` of a part, and the candidates whose file of that part is missing."""

    part: Part
    start: int
    stop: int
    names: tuple[str, ...]


class Run:
    """One pass over the rows of some parts, whose columns are handed to `write`, candidate by candidate.

    Parameters
    ----------
    inputs : Inputs
        The opened files.
    plan : Plan
        How parts are cut into blocks.
    comparer : Comparer
        The rule.
    missing : sequence of (Part, tuple of str)
        The parts, and the candidates whose columns are wanted.
    write : callable
        Receives a part, a candidate's name and its columns.
    """

    def __init__(
        self, inputs: Inputs, plan: Plan, comparer: Comparer, missing: Sequence[Missing], write: WritePart
    ) -> None:
        self._inputs = inputs
        self._comparer = comparer
        self._write = write
        self._blocks = [
            _Block(part, start, stop, names) for part, names in missing for start, stop in plan.blocks(part)
        ]

    def execute(self, progress: ProgressCounter) -> None:
        """Compare the rows of every part."""
        n_readers = min(1 + len(self._inputs.compared), _MOST_READERS)
        with (
            ThreadPoolExecutor(n_readers, thread_name_prefix="kullback-read") as readers,
            ThreadPoolExecutor(IN_FLIGHT - 1, thread_name_prefix="kullback-compare") as comparers,
            ThreadPoolExecutor(1, thread_name_prefix="kullback-write") as writer,
        ):
            in_flight: deque[tuple[_Block, Future[dict[str, Columns]]]] = deque()
            reads: list[Future[NDArray[Any]]] = []
            done: dict[str, list[Columns]] = {}  # of the part in hand, by candidate and block
            writing: deque[tuple[_Block, Future[None]]] = deque()  # the last part, with its last block

            def count(block: _Block) -> None:
                progress.add(block.stop - block.start, block.names)

            def finish_writing() -> None:
                while writing:
                    block, written = writing.popleft()
                    written.result()
                    count(block)  # not before: a part that has been counted is on disk

            def finish() -> None:
                nonlocal done
                block, compared = in_flight.popleft()
                for name, columns in compared.result().items():
                    done.setdefault(name, []).append(columns)
                for source in self._sources(block):
                    readers.submit(source.release, block.start, block.stop)
                if block.stop < block.part.stop:
                    count(block)
                    return
                finish_writing()
                writing.append((block, writer.submit(self._write_part, block.part, done)))
                done = {}

            for block in self._blocks:
                if len(in_flight) == IN_FLIGHT:
                    finish()
                wait(reads)  # a source reads one block at a time; what goes wrong is said in the order of the blocks
                reads = [readers.submit(source.read, block.start, block.stop) for source in self._sources(block)]
                context = contextvars.copy_context()  # which knows the backend
                in_flight.append((block, comparers.submit(context.run, self._compare, block, reads)))
            while in_flight:
                finish()
            finish_writing()

    def _sources(self, block: _Block) -> list[Source]:
        return [self._inputs.reference, *(self._inputs.compared[name] for name in block.names)]

    def _compare(self, block: _Block, reads: Sequence[Future[NDArray[Any]]]) -> dict[str, Columns]:
        p, *candidates = [read.result() for read in reads]
        targets = self._inputs.targets(block.start, block.stop)
        for source in self._sources(block):
            source.check_whole()
        return {
            name: self._comparer.compare(self._inputs.compared[name], p, q, targets, block.start)
            for name, q in zip(block.names, candidates, strict=True)
        }

    def _write_part(self, part: Part, blocks: dict[str, list[Columns]]) -> None:
        for name, found in blocks.items():
            columns = {column: np.concatenate([block[column] for block in found]) for column in found[0]}
            self._write(part, name, columns)


def _part_writer(inputs: Inputs, directory: RunDirectory) -> WritePart:
    def write(part: Part, name: str, columns: Columns) -> None:
        keys = {
            "row": np.arange(part.start, part.stop, dtype=np.int64),
            "group": inputs.groups(part.start, part.stop),
            "target": inputs.targets(part.start, part.stop),
        }
        directory.write_part(name, part.number, keys, columns)

    return write


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
    ray_address: str | None = None,
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
    engine : {"local", "ray"}, default "local"
        Where to run: in this process, or over Ray Data on the processors of a cluster. It changes no digit, and what
        one has begun the other may finish.
    ray_address : str, optional
        Address of the Ray cluster, by default ``RAY_ADDRESS`` or else a cluster of this machine's processors, which
        ends with the run. A process that is connected to a cluster already uses that one.
    threads : int, optional
        Threads of the native backend: all processors by default; with Ray, threads and processors of each worker, 1 by
        default.
    memory : int or str, default "512MiB"
        Memory that the process (with Ray, each worker) is meant to stay within; it decides the block size and changes
        no digit.
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
    check_engine(engine, ray_address)
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
        manifest = make_manifest(inputs, options, plan, columns, facts, texts)
        directory = RunDirectory(Path(out), manifest, overwrite)
        missing = directory.missing(plan.parts())
        n_missing = sum(len(names) for _, names in missing)
        counter = ProgressCounter(inputs, missing, progress)
        write = _part_writer(inputs, directory)
        if engine == "local":
            Run(inputs, plan, comparer, missing, write).execute(counter)
        elif missing:
            from .ray_engine import Job, execute

            seen = manifest["identity"]["inputs"]
            job = Job(reference, places, targets, noise_floor, options, plan, seen, facts, threads or 1)
            execute(job, missing, write, counter, ray_address)
        found = conclude(inputs, options, directory, len(plan.parts()), texts, thresholds)
        return ScoreResult(
            Path(out),
            found.summaries,
            found.warnings,
            len(plan.parts()) * len(inputs.compared) - n_missing,
            n_missing,
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
