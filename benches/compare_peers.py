"""How fast is kullback, beside the machine's own limits and beside other libraries?

    python benches/compare_peers.py [--section NAME,…] [--json FILE] [--quick]

Everything runs in one process, in rounds of changing order; numbers are medians over rounds. Each value is held against
a float64 truth before anything is timed. The parts are those of ``kullback bench``, which measures every divergence;
here are the questions around one of them. What the columns mean: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import harness
import shapes

from kullback.bench import WrongValueError, environment, peers
from kullback.bench.checks import check
from kullback.bench.data import Data
from kullback.bench.kernels import call_of, check_kernels, exponentials
from kullback.bench.machine import Machine
from kullback.bench.measure import Share, need_native_release
from kullback.bench.settings import Plan
from kullback.bench.timing import interleave
from kullback.bench.truth import values

NOISES = (0.05, 0.3, 1.0)
PAUSE = 0.01  # seconds: threads of OpenMP and XLA spin for a while after a call
NOISE = 0.3  # of everything but the table over noises
SECTIONS = ("kl", "peers", "calls", "shapes")

try:
    import ml_dtypes  # noqa: F401
except ModuleNotFoundError:  # NumPy has no bfloat16 of its own
    HALVES: tuple[str, ...] = ("float16",)
else:
    HALVES = ("bfloat16", "float16")


@dataclass(frozen=True)
class Size:
    """How much work a run does."""

    vocabulary: int = 128_256
    rows: int = 256
    rounds: int = 7

    def data(self, **options: Any) -> Data:
        """Draw rows; options are those of ``kullback.bench.Settings``."""
        return Data(Plan.of(self.rows, self.vocabulary, **options))


QUICK = Size(vocabulary=5_003, rows=6, rounds=3)


def kl_by_noise(size: Size, threads: Sequence[int]) -> list[dict[str, Any]]:
    """KL from float32 logits, as a share of what the machine allows."""
    found = []
    for noise in NOISES:
        data = size.data(noise=noise)
        error = check_kernels(["kl"], data, threads=threads[-1])["kl"]
        distinct = slice(data.plan.distinct)
        level = float(values(["kl"], data.p[distinct], data.q[distinct])["kl"].mean())
        n_bytes, pairs = data.p.nbytes + data.q.nbytes, data.p.size
        for count in threads:
            machine = Machine(data.to_read(), 2 * pairs, count)
            timings = interleave({"kl": call_of("kl", data, threads=count), **machine.probes}, size.rounds)
            share = Share(machine, timings)
            seconds = timings.median("kl")
            shares = share.of("kl", n_bytes, exponentials("kl", "logits") * pairs)
            rates = {"read_gb_per_s": share.read_rate / 1e9, "exp_g_per_s": share.exp_rate / 1e9}
            entry = {"noise": noise, "kl": level, "threads": count, "gb_per_s": n_bytes / seconds / 1e9}
            found.append(entry | shares | rates | {"worst_error": error})
    return found


def against_peers(size: Size, names: Sequence[str], threads: int) -> list[dict[str, Any]]:
    """KL and JS from float32 logits by other libraries, in the same rounds as ours."""
    data = size.data(noise=NOISE)
    wanted = ("kl", "js")
    check_kernels(wanted, data, threads=threads)
    distinct = slice(data.plan.distinct)
    exact = values(wanted, data.p[distinct], data.q[distinct])
    contestants: dict[str, Callable[[], object]] = {
        f"kullback {name} {n}": call_of(name, data, threads=n) for name in wanted for n in (1, threads)
    }
    entries: list[dict[str, Any]] = []
    for library in names:
        peer = peers.load(library, threads)
        if peer is None:
            entries.append({"peer": library, "call": "", "installed": False, "timed": False})
            continue
        for name, call in peer.calls(wanted, "logits", data.p, data.q).items():
            try:
                error = check(f"{library} {name}", call(), data.repeated(exact[name]), peers.TOLERANCE)
            except WrongValueError as wrong:
                entries.append({"peer": library, "call": name, "installed": True, "timed": False, "wrong": str(wrong)})
                continue
            contestants[f"{library} {name}"] = call
            entry: dict[str, Any] = {"peer": library, "call": name, "installed": True, "timed": True}
            entries.append(entry | {"threads": peer.threads, "worst_error": error})
    timings = interleave(contestants, size.rounds, pause=PAUSE)
    for entry in filter(lambda entry: entry["timed"], entries):
        name, contestant = entry["call"], f"{entry['peer']} {entry['call']}"
        entry["gb_per_s"] = (data.p.nbytes + data.q.nbytes) / timings.median(contestant) / 1e9
        entry["times_kullback"] = timings.ratio(contestant, f"kullback {name} {min(entry['threads'], threads)}")
    return entries


def other_calls(size: Size, threads: Sequence[int]) -> list[dict[str, Any]]:
    """Other calls on the same rows, as multiples of the time of KL from float32 logits."""
    logits = size.data(noise=NOISE)
    check_kernels(["kl", "compare", "js"], logits, threads=threads[-1])
    calls: dict[str, tuple[int, Callable[..., Callable[[], object]]]] = {}

    def add(title: str, name: str, data: Data) -> None:
        calls[title] = data.p.nbytes + data.q.nbytes, partial(call_of, name, data)

    add("kl_divergence, float32 logits", "kl", logits)
    add("compare, every default column and targets", "compare", logits)
    add("js_divergence, float32 logits", "js", logits)
    others = [*({"dtype": half} for half in HALVES), {"kind": "probs"}]
    for options in others:
        data = size.data(noise=NOISE, **options)
        check_kernels(["kl"], data, threads=threads[-1])
        what = "float32 probabilities" if "kind" in options else f"{options['dtype']} logits"
        add(f"kl_divergence, {what}", "kl", data)
    contestants = {f"{title} {n}": prepare(threads=n) for title, (_, prepare) in calls.items() for n in threads}
    timings = interleave(contestants, size.rounds)
    base = next(iter(calls))
    return [
        {
            "call": title,
            "threads": count,
            "rows_per_s": size.rows / timings.median(f"{title} {count}"),
            "gb_per_s": n_bytes / timings.median(f"{title} {count}") / 1e9,
            "times_kl": timings.ratio(f"{title} {count}", f"{base} {count}"),
        }
        for title, (n_bytes, _) in calls.items()
        for count in threads
    ]


def show_kl(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the table over noises out."""
    header = ["noise", "KL", "threads", "GB/s", "of read rate", "of limit", "read GB/s", "exp G/s", "worst error"]
    cells = [
        [
            f"{row['noise']:g}",
            f"{row['kl']:.2e}",
            str(row["threads"]),
            f"{row['gb_per_s']:.1f}",
            f"{row['of_read']:.2f}",
            f"{row['fraction']:.2f}",
            f"{row['read_gb_per_s']:.1f}",
            f"{row['exp_g_per_s']:.2f}",
            f"{row['worst_error']:.0e}",
        ]
        for row in rows
    ]
    return harness.table(header, cells)


def show_peers(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the table of other libraries out."""
    cells = [
        [
            f"{row['peer']} {row['call']}",
            str(row["threads"]),
            f"{row['gb_per_s']:.2f}",
            f"{row['times_kullback']:.1f}",
            f"{row['worst_error']:.0e}",
        ]
        if row["timed"]
        else [f"{row['peer']} {row['call']}", row.get("wrong", "not installed"), "", "", ""]
        for row in rows
    ]
    return harness.table(["library", "threads", "GB/s", "times", "worst error"], cells)


def show_calls(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the table of other calls out."""
    cells = [
        [
            row["call"],
            str(row["threads"]),
            f"{row['rows_per_s']:,.0f}",
            f"{row['gb_per_s']:.1f}",
            f"{row['times_kl']:.2f}",
        ]
        for row in rows
    ]
    return harness.table(["call", "threads", "rows/s", "GB/s", "times"], cells)


def run(arguments: argparse.Namespace, sections: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Measure the sections asked for, printing each as soon as it is there."""
    size = QUICK if arguments.quick else Size()
    threads = sorted({1, arguments.threads})
    report: dict[str, Any] = {
        "environment": environment.environment(),
        "size": {"rows": size.rows, "vocabulary": size.vocabulary, "rounds": size.rounds, "quick": arguments.quick},
    }
    print(environment.describe(report["environment"]), flush=True)
    if "kl" in sections:
        report["kl"] = kl_by_noise(size, threads)
        print(f"\nKL of {size.rows} rows of {size.vocabulary:,} float32 logits, q = p + noise")
        print(show_kl(report["kl"]), flush=True)
    if "peers" in sections:
        report["peers"] = against_peers(size, names, threads[-1])
        print(f"\nThe same rows, noise {NOISE:g}, by other libraries; times: how many times as long as kullback takes")
        print(show_peers(report["peers"]), flush=True)
    if "calls" in sections:
        report["calls"] = other_calls(size, threads)
        print(f"\nOther calls, noise {NOISE:g}; times: how many times as long as KL from float32 logits")
        print(show_calls(report["calls"]), flush=True)
    if "shapes" in sections:
        report["shapes"] = shapes.measure_and_print(threads[-1], quick=arguments.quick, libraries=names)
    report["load_average_after"] = environment.load_average()
    print(f"\nload average after the run: {report['load_average_after']}")
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks and print the report."""
    parser = argparse.ArgumentParser(description="Time kullback beside the machine's limits and other libraries.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report there")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of this script, not a measurement")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="measure with 1 and with N threads (2)")
    parser.add_argument("--peers", default=",".join(peers.NAMES), metavar="NAME,…", help="libraries to compare with")
    parser.add_argument("--section", default=",".join(SECTIONS), metavar="NAME,…", help="what to measure (everything)")
    arguments = parser.parse_args(argv)
    chosen = {}
    for option, known in (("peers", peers.NAMES), ("section", SECTIONS)):
        chosen[option] = [name for name in getattr(arguments, option).split(",") if name]
        if unknown := [name for name in chosen[option] if name not in known]:
            parser.error(f"--{option} knows {', '.join(known)}; got {', '.join(unknown)}")
    if arguments.threads < 1:
        parser.error(f"--threads must be at least 1; got {arguments.threads}")
    try:
        need_native_release()
        report = run(arguments, chosen["section"], chosen["peers"])
    except ValueError as error:
        print(f"compare_peers: {error}", file=sys.stderr)
        return 1
    harness.write_json(arguments.json, report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
