"""Does the cost of a number depend on the shape it comes in?

Rows from eight columns to a million at a constant number of numbers, and histograms: a million rows of 64 bins. Run by
``compare_peers.py --section shapes``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import harness

from kullback.bench import peers
from kullback.bench.checks import check
from kullback.bench.data import Data
from kullback.bench.kernels import call_of, check_kernels
from kullback.bench.settings import Plan
from kullback.bench.timing import interleave
from kullback.bench.truth import values

NAMES = ("kl", "js", "compare")
NUMBERS = 1 << 24  # of either side: 64 MiB
VOCABULARIES = (1_000, 4_000, 16_000, 32_000, 64_000, 128_256, 256_000, 1_000_000)
COLUMNS = (8, 12, 16, 24, 32, 48, 64, 100, 128, 192, 256, 512)
BASE = 128_256  # the row length that others are compared with
ROUNDS = 5
BINS, HISTOGRAMS, SMALL_HISTOGRAMS = 64, 1_000_000, 2_000
HISTOGRAM_NAMES = ("kl", "js", "jeffreys")


def by_length(lengths: Sequence[int], kind: str, threads: int, numbers: int) -> list[dict[str, Any]]:
    """Return the time of a pair of numbers at each length, and how many times that of a row of 128,256 it is."""
    contestants: dict[str, Callable[[], object]] = {}
    pairs = {}
    for length in dict.fromkeys((*lengths, BASE)):
        data = Data(Plan.of(max(1, numbers // length), length, kind=kind))
        check_kernels(NAMES, data, threads=threads)
        pairs[length] = data.plan.pairs
        contestants |= {f"{name} {length}": call_of(name, data, threads=threads) for name in NAMES}
    timings = interleave(contestants, ROUNDS)
    found = []
    for length in lengths:
        entry: dict[str, Any] = {"columns": length, "rows": pairs[length] // length, "kind": kind}
        for name in NAMES:
            scale = pairs[BASE] / pairs[length]
            entry[name] = {
                "ns_per_pair": 1e9 * timings.median(f"{name} {length}") / pairs[length],
                "times_linear": scale * timings.ratio(f"{name} {length}", f"{name} {BASE}"),
            }
        found.append(entry)
    return found


def histograms(threads: int, rows: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the time of divergences of histograms, with SciPy's beside it if it is among `names` and installed."""
    found = []
    scipy = peers.load("scipy", 1) if "scipy" in names else None
    for dtype in ("float32", "float64"):
        for kind in ("probs", "weights"):
            data = Data(Plan.of(rows, BINS, dtype=dtype, kind=kind, threads=threads))
            errors = check_kernels(HISTOGRAM_NAMES, data, threads=threads)
            counts = sorted({1, threads})
            contestants: dict[str, Callable[[], object]] = {
                f"{name} {n}": call_of(name, data, threads=n) for name in HISTOGRAM_NAMES for n in counts
            }
            for name, call in (scipy.calls(HISTOGRAM_NAMES, kind, data.p, data.q) if scipy else {}).items():
                distinct = slice(data.plan.distinct)
                exact = values([name], data.p[distinct], data.q[distinct], kind)[name]
                check(f"scipy {name}", call(), data.repeated(exact), peers.TOLERANCE)
                contestants[f"scipy {name}"] = call
            timings = interleave(contestants, 3)
            for name in HISTOGRAM_NAMES:
                seconds = timings.median(f"{name} {threads}")
                found.append(
                    {
                        "call": name,
                        "dtype": dtype,
                        "kind": kind,
                        "threads": threads,
                        "rows_per_s": rows / seconds,
                        "gb_per_s": (data.p.nbytes + data.q.nbytes) / seconds / 1e9,
                        "scaling": timings.ratio(f"{name} 1", f"{name} {threads}"),
                        "scipy_times": timings.ratio(f"scipy {name}", f"{name} 1") if scipy else None,
                        "worst_error": errors[name],
                    }
                )
            del data, contestants
    return found


def show_lengths(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the table over row lengths out."""
    header = ["columns", "rows", *(f"{name} {what}" for name in NAMES for what in ("ps/pair", "times"))]
    cells = [
        [
            f"{row['columns']:,}",
            f"{row['rows']:,}",
            *(
                cell
                for name in NAMES
                for cell in (f"{1e3 * row[name]['ns_per_pair']:,.0f}", f"{row[name]['times_linear']:.2f}")
            ),
        ]
        for row in rows
    ]
    return harness.table(header, cells)


def show_histograms(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the table of histograms out."""
    cells = [
        [
            f"{row['call']}, {row['dtype']} {row['kind']}",
            f"{row['rows_per_s'] / 1e6:.1f}",
            f"{row['gb_per_s']:.1f}",
            f"{row['scaling']:.2f}",
            "-" if row["scipy_times"] is None else f"{row['scipy_times']:.1f}",
            f"{row['worst_error']:.0e}",
        ]
        for row in rows
    ]
    return harness.table(["call", "million rows/s", "GB/s", "gain of threads", "SciPy takes", "worst error"], cells)


def measure_and_print(threads: int, *, quick: bool, names: Sequence[str]) -> dict[str, Any]:
    """Measure everything about shapes, printing each table as soon as it is there."""
    numbers = 1 << 18 if quick else NUMBERS
    report: dict[str, Any] = {}
    for title, kind, lengths in (
        ("vocabularies", "logits", VOCABULARIES[:-1] if quick else VOCABULARIES),
        ("columns", "logits", COLUMNS),
        ("columns_probs", "probs", COLUMNS),
    ):
        report[title] = by_length(lengths, kind, threads, numbers)
        print(f"\nThe same number of float32 {kind} in rows of other lengths, {threads} threads; times: a pair of")
        print(f"numbers takes so many times as long as one in a row of {BASE:,}")
        print(show_lengths(report[title]), flush=True)
    rows = SMALL_HISTOGRAMS if quick else HISTOGRAMS
    report["histograms"] = histograms(threads, rows, names)
    print(f"\n{rows:,} histograms of {BINS} bins, {threads} threads; SciPy takes so many times as long as one thread")
    print(show_histograms(report["histograms"]), flush=True)
    return report
