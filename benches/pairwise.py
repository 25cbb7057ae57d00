"""How fast are all pairs of rows, beside other libraries?

    python benches/pairwise.py [--json FILE] [--quick] [--rows N] [--peers NAME,…]

KL and Jensen-Shannon distance of every row of p and every row of q, float32 probabilities. Everything runs in one
process, in interleaved rounds; numbers are medians over rounds. Values are held against a float64 truth before anything
is timed. What the columns mean: benches/README.md.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
import numpy.typing as npt

import kullback as kb
from kullback.bench import environment, truth
from kullback.bench.timing import interleave

Array = npt.NDArray[Any]
Pairwise = Callable[[Array, Array], Array]

PEERS = ("numkong", "scipy", "fastjsd", "numpy")
PROMISE = 1e-6
PEER_TOLERANCE = 5e-2
SPREAD = 1.5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print the report."""
    parser = argparse.ArgumentParser(description="Time all pairs of rows beside other libraries.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report there")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of this script, not a measurement")
    parser.add_argument("--rows", type=int, default=512, metavar="N", help="rows of p and of q (512)")
    parser.add_argument("--vocabulary", type=int, default=32_768, metavar="V", help="length of a row (32768)")
    parser.add_argument(
        "--threads", type=int, default=2, metavar="N", help="threads of every library that has them (2)"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (3)")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAME,…", help="libraries to compare with")
    arguments = parser.parse_args(argv)
    names = [name for name in arguments.peers.split(",") if name]
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"--peers knows {', '.join(PEERS)}; got {', '.join(unknown)}")
    if min(arguments.rows, arguments.vocabulary, arguments.threads, arguments.rounds) < 1:
        parser.error("--rows, --vocabulary, --threads and --rounds must be at least 1")
    facts = environment.environment()
    print(environment.describe(facts), flush=True)
    if facts["kullback"]["backend"] != "native" or facts["kullback"]["build_profile"] != "release":
        print("pairwise: needs the native module, built for release", file=sys.stderr)
        return 1
    rows, vocabulary = (12, 500) if arguments.quick else (arguments.rows, arguments.vocabulary)
    p, q = data(rows, vocabulary)
    report = {
        "environment": facts,
        "size": {"rows": rows, "vocabulary": vocabulary, "rounds": arguments.rounds, "quick": arguments.quick},
        "metrics": [
            measure(metric, p, q, names, arguments.threads, arguments.rounds) for metric in ("kl", "js_distance")
        ],
        "load_average_after": environment.load_average(),
    }
    show(report)
    harness.write_json(arguments.json, report)
    return 0


def data(rows: int, vocabulary: int) -> tuple[Array, Array]:
    """Return float32 probabilities: half of q's rows are far from all of p's, half are close to one of them."""
    rng = np.random.default_rng(20240711)
    x = rng.standard_normal((rows, vocabulary), np.float32) * np.float32(SPREAD)
    y = rng.standard_normal((rows, vocabulary), np.float32) * np.float32(SPREAD)
    y[::2] = x[::2] + np.float32(1e-2) * y[::2]
    return _softmax(x), _softmax(y)


def _softmax(x: Array) -> Array:
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights)


def measure(metric: str, p: Array, q: Array, names: Sequence[str], threads: int, rounds: int) -> dict[str, Any]:
    """Check and time one metric by every library that has it."""
    some = np.unique(np.linspace(0, len(p) - 1, 4).astype(int))
    exact = np.array([[truth.values([metric], p[[i]], q[[j]], kind="probs")[metric][0] for j in some] for i in some])
    ours = partial(kb.pairwise, metric=metric, threads=threads)
    error = worst_error(ours(p[some], q[some]), exact)
    if not error <= PROMISE:
        raise SystemExit(f"pairwise: {metric} is wrong: relative error {error:.2g}, allowed {PROMISE:.2g}")
    contestants: dict[str, Callable[[], object]] = {"kullback": partial(ours, p, q)}
    entries = [{"library": "kullback", "threads": threads, "worst_error": error}]
    for name in names:
        peer = _PEERS.get((name, metric))
        if peer is None or importlib.util.find_spec(name) is None:
            continue
        run = peer(threads)
        # Close rows are beyond some of them: held to the far ones.
        found = np.asarray(run(p[some], q[some]), np.float64)
        far = exact > 0.1
        if not (far_error := worst_error(found[far], exact[far])) <= PEER_TOLERANCE:
            raise SystemExit(f"pairwise: {name} is wrong for {metric}: relative error {far_error:.2g}")
        contestants[name] = partial(run, p, q)
        entries.append({"library": name, "threads": threads, "worst_error": worst_error(found, exact)})
    timings = interleave(contestants, rounds)
    for entry in entries:
        name = str(entry["library"])
        entry["seconds"] = timings.median(name)
        entry["pairs_per_s"] = len(p) * len(q) / timings.median(name)
        entry["times_kullback"] = timings.ratio(name, "kullback")
    return {"metric": metric, "libraries": entries}


def worst_error(found: Array, exact: Array) -> float:
    """Return the largest relative error; infinite where a value is not finite."""
    errors = np.abs(np.asarray(found, np.float64) - exact) / exact
    return float(np.where(np.isnan(errors), np.inf, errors).max())


def _numkong(name: str, threads: int) -> Pairwise:
    cdist: Any = importlib.import_module("numkong").cdist

    def run(p: Array, q: Array) -> Array:
        # The library has no threads of its own for this: the rows are shared out among as many as the others use.
        parts = [part for part in np.array_split(p, threads) if len(part)]
        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate(list(pool.map(lambda part: np.asarray(cdist(part, q, name)), parts)))

    return run


def _scipy(_: int) -> Pairwise:
    distance: Any = importlib.import_module("scipy.spatial.distance")
    return lambda p, q: np.asarray(distance.cdist(p, q, "jensenshannon"))


def _fastjsd(threads: int) -> Pairwise:
    module: Any = importlib.import_module("fastjsd")
    if importlib.util.find_spec("numba") is not None:
        numba: Any = importlib.import_module("numba")
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    return lambda p, q: np.asarray(module.jsd_matrix(p, q, base=np.e))


def _product(_: int) -> Pairwise:
    """By a float64 matrix product of NumPy, without a guard for rows that are close."""

    def run(p: Array, q: Array) -> Array:
        wide, log_q = p.astype(np.float64), np.log(q.astype(np.float64))
        return np.asarray((wide * np.log(wide)).sum(axis=-1)[:, np.newaxis] - wide @ log_q.T)

    return run


_PEERS: dict[tuple[str, str], Callable[[int], Pairwise]] = {
    ("numkong", "kl"): partial(_numkong, "kullbackleibler"),
    ("numkong", "js_distance"): partial(_numkong, "jensenshannon"),
    ("scipy", "js_distance"): _scipy,
    ("fastjsd", "js_distance"): _fastjsd,
    ("numpy", "kl"): _product,
}


def show(report: dict[str, Any]) -> None:
    """Print the report as tables."""
    size = report["size"]
    for entry in report["metrics"]:
        rows, vocabulary = size["rows"], size["vocabulary"]
        print(f"\n{entry['metric']} of {rows} by {rows} rows of {vocabulary:,} float32 probabilities")
        lines = [
            [
                library["library"],
                f"{library['seconds']:.3f}",
                f"{library['pairs_per_s']:,.0f}",
                f"{library['times_kullback']:.1f}",
                f"{library['worst_error']:.0e}",
            ]
            for library in entry["libraries"]
        ]
        print(harness.table(["library", "seconds", "pairs/s", "times", "worst error"], lines))
    print(f"\nload average after the run: {report['load_average_after']}")


if __name__ == "__main__":
    raise SystemExit(main())
