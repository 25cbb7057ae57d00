"""How fast is kullback, beside the machine's own limits and beside other libraries?

    python benches/compare_peers.py [--json FILE] [--quick]

Everything runs in one process, in interleaved rounds; numbers are medians over rounds. Each value is held against a
float64 truth before anything is timed. What the columns mean: benches/README.md.
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
import numpy as np
import numpy.typing as npt
import peers
import truth

import kullback as kb

try:
    from ml_dtypes import bfloat16
except ModuleNotFoundError:  # NumPy has no bfloat16 of its own
    bfloat16 = None

Array = npt.NDArray[Any]

NOISES = (0.05, 0.3, 1.0)
NOISE = 0.3  # of everything but the table over noises
SPREAD = 3.0
PROMISE = 1e-6
PEER_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Size:
    """How much work a run does."""

    vocabulary: int = 128_256
    rows: int = 256
    read: int = 320 << 20
    """float32 numbers of the array whose reading is timed: 1.25 GiB."""
    exp_repeats: int = 20_000
    rounds: int = 7


QUICK = Size(vocabulary=5_003, rows=6, read=1 << 20, exp_repeats=20, rounds=3)


class Data:
    """Float32 logits of a reference, of candidates at several distances from it, and their true KL."""

    def __init__(self, size: Size) -> None:
        rng = np.random.default_rng(20240711)
        shape = size.rows, size.vocabulary
        self.p = rng.standard_normal(shape, np.float32) * np.float32(SPREAD)
        self.q = {noise: self.p + rng.standard_normal(shape, np.float32) * np.float32(noise) for noise in NOISES}
        self.targets = rng.integers(size.vocabulary, size=size.rows)
        self.pairs = self.p.size
        self.kl = {noise: truth.values("kl", self.p, q) for noise, q in self.q.items()}

    def as_type(self, dtype: Any) -> tuple[Array, Array]:
        """Return p and q in another type."""
        return self.p.astype(dtype), self.q[NOISE].astype(dtype)

    def probabilities(self) -> tuple[Array, Array]:
        """Return p and q as float32 probabilities."""
        return softmax(self.p), softmax(self.q[NOISE])


def softmax(x: Array) -> Array:
    """Return float32 probabilities of rows of logits."""
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights)


def check(what: str, actual: Any, expected: Any, tolerance: float) -> float:
    """Return the worst relative error, and stop the benchmark if it is above the tolerance."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    scale = np.where(expected == 0, 1.0, np.abs(expected))
    error = float(np.max(np.abs(actual - expected) / scale))
    if not error <= tolerance:
        raise SystemExit(f"compare_peers: {what} is wrong: relative error {error:.2g}, allowed {tolerance:.2g}")
    return error


class Machine:
    """The two limits: reading memory, and computing exponentials in the first-level cache."""

    def __init__(self, size: Size) -> None:
        # The probe must be called directly: it is no part of the public interface.
        from kullback._core import _native

        self._native, self._repeats = _native, size.exp_repeats
        self._array = np.ones(size.read, np.float32)
        self._small = np.linspace(-5, 5, 4096, dtype=np.float32)
        check("read_rate", _native.read_rate(self._array, 1), size.read, 1e-6)
        check("exp_sum", _native.exp_sum(self._small, 3, 1), 3 * np.exp(self._small.astype(np.float64)).sum(), PROMISE)

    def probes(self, threads: int) -> dict[str, Callable[[], object]]:
        """Return the two measurements as contestants."""
        return {
            f"read {threads}": partial(self._native.read_rate, self._array, threads),
            f"exp {threads}": partial(self._native.exp_sum, self._small, self._repeats, threads),
        }

    def read_rate(self, seconds: float) -> float:
        """Bytes a second."""
        return self._array.nbytes / seconds

    def exp_rate(self, seconds: float, threads: int) -> float:
        """Exponentials a second; every thread does all repeats."""
        return self._small.size * self._repeats * threads / seconds


def kl_by_noise(data: Data, machine: Machine, threads: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """KL from float32 logits, as a share of what the machine allows."""
    contestants: dict[str, Callable[[], object]] = {}
    levels, errors = {}, {}
    for noise, q in data.q.items():
        exact = data.kl[noise]
        levels[noise] = float(exact.mean())
        for count in threads:
            call = partial(kb.kl_divergence, data.p, q, input="logits", threads=count)
            errors[noise] = check(f"kl_divergence at noise {noise}", call(), exact, PROMISE)
            contestants[f"kl {noise} {count}"] = call
    for count in threads:
        contestants |= machine.probes(count)
    timings = harness.interleave(contestants, rounds)
    found = []
    n_bytes = 2 * data.p.nbytes
    for noise in NOISES:
        for count in threads:
            read = machine.read_rate(timings.median(f"read {count}"))
            exps = machine.exp_rate(timings.median(f"exp {count}"), count)
            seconds = timings.median(f"kl {noise} {count}")
            floor = max(n_bytes / read, 2 * data.pairs / exps)
            found.append(
                {
                    "noise": noise,
                    "kl": levels[noise],
                    "threads": count,
                    "gb_per_s": n_bytes / seconds / 1e9,
                    "of_read_rate": n_bytes / read / seconds,
                    "of_roofline": floor / seconds,
                    "read_gb_per_s": read / 1e9,
                    "exp_g_per_s": exps / 1e9,
                    "worst_error": errors[noise],
                }
            )
    return found


def against_peers(data: Data, names: Sequence[str], threads: int, rounds: int) -> list[dict[str, Any]]:
    """KL from float32 logits by other libraries, in the same rounds as ours."""
    q, exact = data.q[NOISE], data.kl[NOISE]
    ours = {f"kullback {n}": partial(kb.kl_divergence, data.p, q, input="logits", threads=n) for n in (1, threads)}
    contestants: dict[str, Callable[[], object]] = dict(ours)
    entries = []
    for name in names:
        peer = peers.load(name, threads)
        if peer is None:
            entries.append({"peer": name, "installed": False})
            continue
        error = check(name, peer.run(data.p, q), exact, PEER_TOLERANCE)
        contestants[name] = partial(peer.run, data.p, q)
        entries.append({"peer": name, "installed": True, "threads": peer.threads, "worst_error": error})
    timings = harness.interleave(contestants, rounds)
    for entry in entries:
        if entry["installed"]:
            name = str(entry["peer"])
            entry["gb_per_s"] = 2 * data.p.nbytes / timings.median(name) / 1e9
            entry["times_kullback"] = timings.ratio(name, f"kullback {entry['threads']}")
    return entries


def other_calls(data: Data, threads: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Other calls on the same rows, as multiples of the time of KL from float32 logits."""
    q = data.q[NOISE]
    exact = truth.all_columns(data.p, q, data.targets)
    for name, column in kb.compare(data.p, q, targets=data.targets).items():
        # A difference of two probabilities is as accurate as they are, and may be far below both.
        scale = np.exp(exact["log_prob_p"]) if name == "delta_prob" else None
        found, true = (column, exact[name]) if scale is None else (1 + column / scale, 1 + exact[name] / scale)
        check(f"compare()[{name!r}]", found, true, PROMISE)
    calls: dict[str, tuple[int, Callable[..., object]]] = {
        "kl_divergence, float32 logits": (2 * data.p.nbytes, partial(kb.kl_divergence, data.p, q, input="logits")),
        "compare, every default column and targets": (
            2 * data.p.nbytes,
            partial(kb.compare, data.p, q, targets=data.targets),
        ),
        "js_divergence, float32 logits": (2 * data.p.nbytes, partial(kb.js_divergence, data.p, q, input="logits")),
    }
    check("js_divergence", kb.js_divergence(data.p, q, input="logits"), exact["js"], PROMISE)
    for dtype in filter(None, (bfloat16, np.float16)):
        name = f"kl_divergence, {np.dtype(dtype).name} logits"
        half = data.as_type(dtype)
        check(name, kb.kl_divergence(*half, input="logits"), truth.values("kl", *half), PROMISE)
        calls[name] = 2 * half[0].nbytes, partial(kb.kl_divergence, *half, input="logits")
    probs = data.probabilities()
    check("KL of probabilities", kb.kl_divergence(*probs), truth.values("kl", *probs, kind="probs"), PROMISE)
    calls["kl_divergence, float32 probabilities"] = 2 * probs[0].nbytes, partial(kb.kl_divergence, *probs)
    contestants = {f"{name} {n}": partial(call, threads=n) for name, (_, call) in calls.items() for n in threads}
    timings = harness.interleave(contestants, rounds)
    base = next(iter(calls))
    return [
        {
            "call": name,
            "threads": count,
            "rows_per_s": len(data.p) / timings.median(f"{name} {count}"),
            "gb_per_s": n_bytes / timings.median(f"{name} {count}") / 1e9,
            "times_kl": timings.ratio(f"{name} {count}", f"{base} {count}"),
        }
        for name, (n_bytes, _) in calls.items()
        for count in threads
    ]


def show(report: dict[str, Any]) -> None:
    """Print the report as tables."""
    size = report["size"]
    print(f"\nKL of {size['rows']} rows of {size['vocabulary']:,} float32 logits, q = p + noise")
    header = ["noise", "KL", "threads", "GB/s", "of read rate", "of roofline", "read GB/s", "exp G/s", "worst error"]
    rows = [
        [
            f"{row['noise']:g}",
            f"{row['kl']:.2e}",
            str(row["threads"]),
            f"{row['gb_per_s']:.1f}",
            f"{row['of_read_rate']:.2f}",
            f"{row['of_roofline']:.2f}",
            f"{row['read_gb_per_s']:.1f}",
            f"{row['exp_g_per_s']:.2f}",
            f"{row['worst_error']:.0e}",
        ]
        for row in report["kl"]
    ]
    print(harness.table(header, rows))
    print(
        f"\nThe same, noise {NOISE:g}, by other libraries; times: how many times as long as kullback on as many threads"
    )
    rows = [
        [
            row["peer"],
            str(row["threads"]),
            f"{row['gb_per_s']:.2f}",
            f"{row['times_kullback']:.1f}",
            f"{row['worst_error']:.0e}",
        ]
        if row["installed"]
        else [row["peer"], "not installed", "", "", ""]
        for row in report["peers"]
    ]
    print(harness.table(["library", "threads", "GB/s", "times", "worst error"], rows))
    print(f"\nOther calls, noise {NOISE:g}; times: how many times as long as KL from float32 logits")
    rows = [
        [
            row["call"],
            str(row["threads"]),
            f"{row['rows_per_s']:,.0f}",
            f"{row['gb_per_s']:.1f}",
            f"{row['times_kl']:.2f}",
        ]
        for row in report["calls"]
    ]
    print(harness.table(["call", "threads", "rows/s", "GB/s", "times"], rows))
    print(f"\nload average after the run: {report['load_average_after']}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run every benchmark and print the report."""
    parser = argparse.ArgumentParser(description="Time kullback beside the machine's limits and other libraries.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report there")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of this script, not a measurement")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="measure with 1 and with N threads (2)")
    parser.add_argument("--peers", default=",".join(peers.NAMES), metavar="NAME,…", help="libraries to compare with")
    arguments = parser.parse_args(argv)
    names = [name for name in arguments.peers.split(",") if name]
    if unknown := [name for name in names if name not in peers.NAMES]:
        parser.error(f"--peers knows {', '.join(peers.NAMES)}; got {', '.join(unknown)}")
    if arguments.threads < 1:
        parser.error(f"--threads must be at least 1; got {arguments.threads}")
    facts = harness.environment()
    print(harness.describe(facts), flush=True)
    if facts["kullback"]["backend"] != "native" or facts["kullback"]["build_profile"] != "release":
        print("compare_peers: needs the native module, built for release", file=sys.stderr)
        return 1
    size = QUICK if arguments.quick else Size()
    threads = sorted({1, arguments.threads})
    data = Data(size)
    report: dict[str, Any] = {
        "environment": facts,
        "size": {"rows": size.rows, "vocabulary": size.vocabulary, "rounds": size.rounds, "quick": arguments.quick},
        "kl": kl_by_noise(data, Machine(size), threads, size.rounds),
        "peers": against_peers(data, names, threads[-1], max(size.rounds - 2, 2)),
        "calls": other_calls(data, threads, size.rounds),
        "load_average_after": harness.load_average(),
    }
    show(report)
    harness.write_json(arguments.json, report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
