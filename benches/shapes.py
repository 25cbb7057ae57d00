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

NAMES = {"logits": ("kl", "js", "compare"), "probs": ("kl", "js", "jeffreys")}
LONG_NUMBERS, SHORT_NUMBERS = 1 << 24, 1 << 21  # of either side: 64 and 8 MiB
VOCABULARIES = (1_000, 4_000, 16_000, 32_000, 64_000, 128_256, 256_000, 1_000_000)
COLUMNS = (8, 12, 16, 24, 32, 48, 64, 100, 128, 192, 256, 512)
BASE = 128_256  # the row length that others are compared with
ROUNDS, HISTOGRAM_ROUNDS = 4, 2
BINS, HISTOGRAMS, SMALL_HISTOGRAMS = 64, 1_000_000, 2_000
SHARE = 16  # of the rows, for the gain of threads
HISTOGRAM_TYPES = (("float32", "probs"), ("float64", "probs"), ("float32", "weights"))
HISTOGRAM_NAMES = ("kl", "js", "jeffreys")


def by_length(lengths: Sequence[int], kind: str, threads: int, numbers: int) -> list[dict[str, Any]]:
    """Return the time of a pair of numbers at each length, and how many times that of a row of 128,256 it is."""
    contestants: dict[str, Callable[[], object]] = {}
    names, pairs = NAMES[kind], {}
    for length in dict.fromkeys((*lengths, BASE)):
        data = Data(Plan.of(max(1, numbers // length), length, kind=kind))
        check_kernels(names, data, threads=threads)
        pairs[length] = data.plan.pairs
        contestants |= {f"{name} {length}": call_of(name, data, threads=threads) for name in names}
    timings = interleave(contestants, ROUNDS)
    found = []
    for length in lengths:
        entry: dict[str, Any] = {"columns": length, "rows": pairs[length] // length, "kind": kind}
        for name in names:
            scale = pairs[BASE] / pairs[length]
            entry[name] = {
                "ns_per_pair": 1e9 * timings.median(f"{name} {length}") / pairs[length],
                "times_linear": scale * timings.ratio(f"{name} {length}", f"{name} {BASE}"),
            }
        found.append(entry)
    return found


def histograms(threads: int, rows: int, libraries: Sequence[str]) -> list[dict[str, Any]]:
    """Return the time of divergences of histograms, with SciPy's beside it if it is wanted and installed."""
    found = []
    scipy = peers.load("scipy", 1) if "scipy" in libraries else None
    for dtype, kind in HISTOGRAM_TYPES:
        data = Data(Plan.of(rows, BINS, dtype=dtype, kind=kind, threads=threads))
        few, distinct = rows // SHARE, slice(data.plan.distinct)
        errors = check_kernels(HISTOGRAM_NAMES, data, threads=threads)
        contestants: dict[str, Callable[[], object]] = {}
        for name in HISTOGRAM_NAMES:
            contestants[f"{name} all"] = call_of(name, data, threads=threads)
            for count in (1, threads):
                contestants[f"{name} {count}"] = call_of(name, data, rows=few, threads=count)
        exact = values(HISTOGRAM_NAMES, data.p[distinct], data.q[distinct], kind)
        others = scipy.calls(HISTOGRAM_NAMES, kind, data.p, data.q) if scipy else {}
        for name, call in others.items():
            check(f"scipy {name}", call(), data.repeated(exact[name]), peers.TOLERANCE)
            contestants[f"scipy {name}"] = call
        timings = interleave(contestants, HISTOGRAM_ROUNDS)
        for name in HISTOGRAM_NAMES:
            seconds = timings.median(f"{name} all")
            found.append(
                {
                    "call": name,
                    "dtype": dtype,
                    "kind": kind,
                    "threads": threads,
                    "rows_per_s": rows / seconds,
                    "gb_per_s": (data.p.nbytes + data.q.nbytes) / seconds / 1e9,
                    "scaling": timings.ratio(f"{name} 1", f"{name} {threads}"),
                    "scipy_times": timings.ratio(f"scipy {name}", f"{name} all") if others else None,
                    "worst_error": errors[name],
                }
            )
    return found


def show_lengths(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the table over row lengths out."""
    names = NAMES[rows[0]["kind"]]
    header = ["columns", "rows", *(f"{name} {what}" for name in names for what in ("ps/pair", "times"))]
    cells = [
        [
            f"{row['columns']:,}",
            f"{row['rows']:,}",
            *(
                cell
                for name in names
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


def measure_and_print(threads: int, *, quick: bool, libraries: Sequence[str]) -> dict[str, Any]:
    """Measure everything about shapes, printing each table as soon as it is there."""
    report: dict[str, Any] = {}
    for title, kind, lengths, numbers in (
        ("vocabularies", "logits", VOCABULARIES, LONG_NUMBERS),
        ("columns", "logits", COLUMNS, SHORT_NUMBERS),
        ("columns_probs", "probs", COLUMNS, SHORT_NUMBERS),
    ):
        some = (lengths[0], BASE // 2, BASE) if title == "vocabularies" else lengths[::5]
        report[title] = by_length(some if quick else lengths, kind, threads, 1 << 17 if quick else numbers)
        print(f"\nThe same number of float32 {kind} in rows of other lengths, {threads} threads; times: a pair of")
        print(f"numbers takes so many times as long as one in a row of {BASE:,}")
        print(show_lengths(report[title]), flush=True)
    rows = SMALL_HISTOGRAMS if quick else HISTOGRAMS
    report["histograms"] = histograms(threads, rows, libraries)
    print(f"\n{rows:,} histograms of {BINS} bins, {threads} threads; SciPy, which has one, takes so many times as long")
    print(show_histograms(report["histograms"]), flush=True)
    return report
