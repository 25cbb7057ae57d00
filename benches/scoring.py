"""What does it cost to score files, beside the same comparison in memory; and over Ray, beside doing it here?

    python benches/scoring.py [--rows N] [--rounds N] [--metrics NAME,…] [--engines local,ray] [--copies N]
        [--folder DIR] [--quick]

Two .npy files of float32 logits, V = 128,256, are written to --folder, read once so that they lie in the page cache,
and removed at the end. `kb.compare` has them in memory; `kb.score` opens the files, compares, writes the parts and the
summary. All run in one process, in rounds of changing order. A cluster of Ray is up meanwhile, and its start is timed
apart; but its workers start with each run, which takes a second or two. So each engine also scores the candidate
--copies times over, and "a further candidate" is what each copy adds. Before anything is timed, the columns in the
parts are held against compare's, bit for bit.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

import kullback as kb
from kullback.bench.environment import describe, environment
from kullback.bench.timing import interleave
from kullback.scoring import ray_cluster

WIDTH = 128_256
DISTINCT = 250
ENGINES = ("local", "ray")


def write_files(folder: Path, rows: int, width: int) -> tuple[Path, Path]:
    """Write reference and candidate: rows of 3·normal, and the same with noise of 0.3.

    As most programs write: a file that was written through a mapping lies in the page cache in small pages, and mapping
    those again costs a sixth of the whole.
    """
    rng = np.random.default_rng(0)
    p = rng.normal(size=(min(rows, DISTINCT), width)).astype(np.float32) * np.float32(3)
    q = p + rng.normal(size=p.shape).astype(np.float32) * np.float32(0.3)
    paths = folder / "reference.npy", folder / "candidate.npy"
    for path, distinct in zip(paths, (p, q), strict=True):
        with path.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, rows, len(distinct)):
                distinct[: rows - start].tofile(file)
    return paths


def run(
    paths: tuple[Path, Path], out: Path, metrics: list[str] | None, engine: str, threads: int, copies: int = 1
) -> None:
    """Score from nothing; workers of Ray have one thread each."""
    shutil.rmtree(out, ignore_errors=True)
    candidates = [paths[1]] * copies
    kb.score(paths[0], candidates, out, metrics=metrics, engine=engine, threads=threads if engine == "local" else 1)


def counted(call: Callable[[], object], seconds: list[float]) -> Callable[[], object]:
    """Return a call that also notes the processor time of this process, which other programs disturb less."""

    def counting() -> None:
        begin = time.process_time()
        call()
        seconds.append(time.process_time() - begin)

    return counting


def check(expected: kb.Comparison, out: Path) -> None:
    """Stop unless the parts hold what compare returns, bit for bit."""
    table = pq.read_table(sorted((out / "candidate").glob("part-*.parquet")))
    for name, column in expected.items():
        if table[name].to_numpy().tobytes() != np.ascontiguousarray(column).tobytes():
            raise SystemExit(f"the column {name} of {out} is not compare's")


def measure(
    paths: tuple[Path, Path], p: NDArray[Any], q: NDArray[Any], options: argparse.Namespace, engines: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rate of every way, and its share of the rates it is held against."""
    threads, metrics = options.threads, options.metrics and options.metrics.split(",")
    compare = partial(kb.compare, p, q, metrics=metrics, threads=threads)
    contestants: dict[str, Callable[[], object]] = {"compare, in memory": compare}
    expected = compare()
    for engine in engines:
        out = paths[0].parent / engine
        for copies in sorted({1, options.copies}):
            way = f"score, {engine}" if copies == 1 else f"score, {engine}, {copies} candidates"
            contestants[way] = call = partial(run, paths, out, metrics, engine, threads, copies)
            call()
            check(expected, out)
    processor: dict[str, list[float]] = {way: [] for way in contestants}
    timings = interleave({way: counted(call, processor[way]) for way, call in contestants.items()}, options.rounds)
    seconds = dict(timings.seconds)
    sizes = {way: p.nbytes + q.nbytes * (options.copies if "candidates" in way else 1) for way in contestants}
    for engine in engines if options.copies > 1 else ():
        one, many = seconds[f"score, {engine}"], seconds[f"score, {engine}, {options.copies} candidates"]
        way = f"a further candidate, {engine}"
        seconds[way] = [(b - a) / (options.copies - 1) for a, b in zip(one, many, strict=True)]
        sizes[way] = q.nbytes
    found = []
    for way, times in seconds.items():
        entry: dict[str, Any] = {"way": way, "seconds": statistics.median(times), "fastest": min(times)}
        entry["gb_per_s"] = sizes[way] / entry["seconds"] / 1e9
        for key, base in {"of_compare": "compare, in memory", "of_local": way.replace(", ray", ", local")}.items():
            same = sizes.get(base) == sizes[way]
            ratios = [a / b for a, b in zip(seconds[base], times, strict=True)] if base in seconds and same else None
            entry[key] = ratios and statistics.median(ratios)
        if way in processor and "ray" not in way and entry["of_compare"] is not None:
            entry["processor_s"] = min(processor[way])
            entry["of_compare_processor"] = min(processor["compare, in memory"]) / entry["processor_s"]
        found.append(entry)
    return found


def show(rows: Sequence[dict[str, Any]], markdown: bool) -> str:
    """Lay the rates out."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    cells = [
        [
            row["way"],
            f"{row['seconds']:.2f}",
            f"{row['fastest']:.2f}",
            f"{row['gb_per_s']:.2f}",
            share(row["of_compare"]),
            share(row.get("of_compare_processor")),
            share(row["of_local"]),
        ]
        for row in rows
    ]
    header = ["", "s", "fastest, s", "GB/s", "of compare's rate", "in processor time", "of the local rate"]
    return harness.table(header, cells, markdown=markdown)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4184)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--copies", type=int, default=8, help="how often the candidate is scored to tell rate from start"
    )
    parser.add_argument("--threads", type=int, default=kb.info()["threads"], help="of all but Ray: its workers")
    parser.add_argument("--metrics", help="columns; all by default")
    parser.add_argument("--engines", default="local,ray")
    parser.add_argument("--folder", type=Path, help="where there is room for the files")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny files, to see that it works")
    options = parser.parse_args()
    width = 5_003 if options.quick else WIDTH
    rows = 64 if options.quick else options.rows
    engines = [engine for engine in ENGINES if engine in options.engines.split(",")]
    facts = environment()
    print(describe(facts))
    report: dict[str, Any] = {"environment": facts, "rows": rows, "columns": width, "metrics": options.metrics}
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="scoring-") as name:
        folder = Path(name)
        paths = write_files(folder, rows, width)
        p, q = (np.load(path) for path in paths)  # and so into the page cache
        if "ray" in engines:
            ray = ray_cluster.import_ray()
            metrics = options.metrics and options.metrics.split(",")
            begin = time.perf_counter()
            run(paths, folder / "first", metrics, "ray", options.threads)
            report["ray_with_its_cluster_s"] = time.perf_counter() - begin
            with ray_cluster.quiet(), ray_cluster.connected(ray, "local", options.threads):
                report["rates"] = measure(paths, p, q, options, engines)
        else:
            report["rates"] = measure(paths, p, q, options, engines)
    print(
        f"\n{rows:,} rows of {width:,} float32 logits, twice: {(p.nbytes + q.nbytes) / 1e9:.1f} GB in the page cache,"
    )
    print(f"{options.threads} threads, or so many workers of Ray; columns: {options.metrics or 'all'}")
    print(show(report["rates"], options.markdown))
    if "ray" in engines:
        print(f"score, ray, with the start and end of its cluster: {report['ray_with_its_cluster_s']:.2f} s")
    harness.write_json(options.json, report)


if __name__ == "__main__":
    sys.exit(main())
