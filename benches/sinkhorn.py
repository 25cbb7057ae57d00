"""How fast is sinkhorn, beside POT, OTT-JAX, RegOT and the machine's own exp rate?

    python benches/sinkhorn.py [--json FILE] [--quick] [--threads N] [--only NAME]

POT, OTT-JAX and RegOT take part if they are installed (pip install POT ott-jax regot). Each contestant solves to an L1
error of both marginals of 1e-6 that this script measures itself, in float64, from the plan that was returned; one that
does not reach it within its iterations is shown with the error it left. How the numbers are made: benches/README.md.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import numpy.typing as npt

import kullback as kb
from kullback.bench import environment
from kullback.bench.timing import interleave

Array = npt.NDArray[Any]
Solver = Callable[[], Array]

TOLERANCE = 1e-6
MOST = 20_000
BLOCK = 4096
PARTS = (
    "iteration", "problems", "sixteen-0.01", "sixteen-0.002", "plane-0.1", "plane-0.01", "plane-0.001", "words-0.01",
    "words-0.001", "batch", "points",
)  # fmt: skip
POINTS_HEADER = ["points", "s", "CPU s", "sweeps", "ns a pair", "over quadratic", "peak MiB", "L1 error"]


class Problem:
    """Weights, costs over their maximum, and a regularisation."""

    def __init__(self, key: str, name: str, a: Array, b: Array, cost: Array, epsilon: float) -> None:
        self.key, self.name, self.a, self.b, self.cost, self.epsilon = key, name, a, b, cost, epsilon

    def widened(self) -> Problem:
        """The same in float64: float32 exponents of C / epsilon leave some solvers short of the tolerance."""
        return Problem(self.key, self.name, self.a, self.b, self.cost.astype(np.float64), self.epsilon)

    def error(self, plan: Array) -> float:
        """Measure the L1 error of both marginals."""
        plan = np.asarray(plan, np.float64)
        return float(np.abs(plan.sum(1) - self.a).sum() + np.abs(plan.sum(0) - self.b).sum())


def cloud(rng: np.random.Generator, n: int, dimension: int) -> Array:
    """Draw squared distances between two uniform clouds, over their maximum."""
    x, y = rng.random((2, n, dimension))
    cost = np.square(x[:, None] - y).sum(-1)
    return np.asarray(cost / cost.max())


def cosine(rng: np.random.Generator, n: int) -> Array:
    """Draw cosine distances in 64 dimensions, over their maximum."""
    x, y = rng.standard_normal((2, n, 64))
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    cost = 1.0 - x @ y.T
    return np.asarray(cost / cost.max())


def zipf(rng: np.random.Generator, n: int) -> Array:
    """Draw weights of a vocabulary."""
    weights = 1.0 / np.arange(1, n + 1)
    return np.asarray(rng.permutation(weights / weights.sum()))


def problems(rng: np.random.Generator, n: int, small: int) -> list[Problem]:
    """Return the problems of the table."""
    uniform, sixteen = np.full(n, 1.0 / n), cloud(rng, n, 16).astype(np.float32)
    plane, words, even = cloud(rng, small, 2), cosine(rng, small), np.full(small, 1.0 / small)
    left, right = zipf(rng, small), zipf(rng, small)
    return [
        Problem("sixteen-0.01", f"{n} x {n}, 16-d, float32", uniform, uniform, sixteen, 0.01),
        Problem("sixteen-0.002", f"{n} x {n}, 16-d, float32", uniform, uniform, sixteen, 0.002),
        Problem("plane-0.1", f"{small} x {small}, 2-d, float64", even, even, plane, 0.1),
        Problem("plane-0.01", f"{small} x {small}, 2-d, float64", even, even, plane, 0.01),
        Problem("plane-0.001", f"{small} x {small}, 2-d, float64", even, even, plane, 0.001),
        Problem("words-0.01", f"{small} x {small}, 64-d Zipf, float64", left, right, words, 0.01),
        Problem("words-0.001", f"{small} x {small}, 64-d Zipf, float64", left, right, words, 0.001),
    ]


def ours(problem: Problem, threads: int, method: Any = "auto") -> Solver:
    """Solve with kullback."""

    def run() -> Array:
        result = kb.sinkhorn(
            problem.a, problem.b, problem.cost, epsilon=problem.epsilon, threads=threads, method=method
        )
        return result.plan()

    return run


def pot(problem: Problem, method: str) -> Solver:
    """Solve with POT, to the tolerance its users would set: it stops on the L2 error of one marginal."""
    ot: Any = importlib.import_module("ot")
    a, b = (w.astype(problem.cost.dtype) for w in (problem.a, problem.b))
    if method == "emd":
        return lambda: np.asarray(ot.emd(problem.a, problem.b, problem.cost.astype(np.float64)))
    stop = TOLERANCE / np.sqrt(len(a))
    solve = functools.partial(ot.sinkhorn, a, b, problem.cost, problem.epsilon, method=method, stopThr=stop)
    # Its log solver takes 40 ms an iteration at n = 1000: more than so many would be a matter of minutes.
    most = 300 if method == "sinkhorn_log" else MOST
    return lambda: np.asarray(solve(numItermax=most, warn=False))


def ott(problem: Problem, **options: Any) -> Solver:
    """Solve with OTT-JAX, compiled before it is timed."""
    jax: Any = importlib.import_module("jax")
    # For all of JAX at once, and part of its momentum takes no float32 where it is on.
    double = problem.cost.dtype == np.float64
    jax.config.update("jax_enable_x64", bool(double))
    geometry: Any = importlib.import_module("ott.geometry.geometry")
    linear_problem: Any = importlib.import_module("ott.problems.linear.linear_problem")
    sinkhorn: Any = importlib.import_module("ott.solvers.linear.sinkhorn")
    if options.pop("anderson", False):
        acceleration: Any = importlib.import_module("ott.solvers.linear.acceleration")
        options["anderson"] = acceleration.AndersonAcceleration(memory=5, refresh_every=1)
    elif options.pop("momentum", False):
        acceleration = importlib.import_module("ott.solvers.linear.acceleration")
        options["momentum"] = acceleration.Momentum(start=100)
    cost = jax.numpy.asarray(problem.cost)
    a, b = (jax.numpy.asarray(w, cost.dtype) for w in (problem.a, problem.b))
    solver = sinkhorn.Sinkhorn(threshold=0.9 * TOLERANCE, max_iterations=MOST, **options)

    def solve(cost: Any, a: Any, b: Any) -> Any:
        geom = geometry.Geometry(cost_matrix=cost, epsilon=problem.epsilon)
        return solver(linear_problem.LinearProblem(geom, a=a, b=b)).matrix

    compiled = jax.jit(solve).lower(cost, a, b).compile()

    def run() -> Array:
        jax.config.update("jax_enable_x64", bool(double))
        return np.asarray(compiled(cost, a, b).block_until_ready())

    return run


def regot(problem: Problem, method: str) -> Solver:
    """Solve with RegOT, in float64, which is all it has."""
    solvers: Any = importlib.import_module("regot")
    solve = getattr(solvers, f"sinkhorn_{method}")
    cost = np.asfortranarray(problem.cost, np.float64)
    most = 1000 if method == "bcd" else 3000
    stop = 0.5 * TOLERANCE / np.sqrt(len(problem.a))

    def run() -> Array:
        try:
            return np.asarray(solve(cost, problem.a, problem.b, problem.epsilon, tol=stop, max_iter=most).plan)
        except RuntimeError:  # its line search gives up
            return np.full(cost.shape, np.nan)

    return run


def has(library: str, peers: bool) -> bool:
    """Tell whether another library takes part."""
    return peers and importlib.util.find_spec(library) is not None


def contestants(problem: Problem, threads: int, peers: bool) -> dict[str, Solver]:
    """Return every solver that is installed, by name."""
    found = {"kullback": ours(problem, threads)}
    # In both precisions where the costs are float32: what reaches the tolerance in float64 only counts too.
    forms = {"": problem} if problem.cost.dtype == np.float64 else {"": problem, " float64": problem.widened()}
    small = problem.cost.shape[0] <= 400
    for suffix, form in forms.items():
        if has("ot", peers):
            for method in ("sinkhorn", "sinkhorn_stabilized", "sinkhorn_log"):
                found[f"POT {method}{suffix}"] = pot(form, method)
        if has("ott", peers):
            found[f"OTT{suffix}"] = ott(form)
            found[f"OTT momentum{suffix}"] = ott(form, momentum=True)
            found[f"OTT Anderson{suffix}"] = ott(form, anderson=True)
            found[f"OTT kernel{suffix}"] = ott(form, lse_mode=False)
    if has("ot", peers) and small:
        found["POT emd (exact)"] = pot(problem, "emd")
    if has("regot", peers) and small:
        for method in ("bcd", "lbfgs_dual", "ssns", "splr"):
            found[f"RegOT {method}"] = regot(problem, method)
    return found


def measure(problem: Problem, threads: int, rounds: int, peers: bool, patience: float = 0.5) -> dict[str, Any]:
    """Check and time every contestant on a problem; slow ones once."""
    rows: dict[str, Any] = {}
    quick: dict[str, Solver] = {}
    for name, run in contestants(problem, threads, peers).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = time.perf_counter()
            plan = run()
            took = time.perf_counter() - start
            error = problem.error(plan)
            # A slow one is not called again.
            first = took if took > patience else interleave({name: run}, 1).median(name)
        if name == "kullback" and error > 1.5 * TOLERANCE:
            raise SystemExit(f"{problem.name}, epsilon {problem.epsilon}: kullback left an error of {error:.2g}")
        rows[name] = {"error": error, "seconds": first}
        if first < patience:
            quick[name] = run
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timings = interleave(quick, rounds)
    for name in quick:
        rows[name]["seconds"] = timings.median(name)
    for row in rows.values():
        row["times"] = row["seconds"] / rows["kullback"]["seconds"]
    return rows


def iteration(n: int, threads: int, rounds: int) -> dict[str, float]:
    """Time one fused log iteration in float32 beside exp alone: both in the same rounds."""
    from kullback._core import _native

    rng = np.random.default_rng(1)
    cost, weights = cloud(rng, n, 16).astype(np.float32), np.full(n, 1.0 / n)
    numbers = np.linspace(-10.0, 0.0, BLOCK, dtype=np.float32)
    few, many, repeats = 2, 22, n * n * 20 // BLOCK

    def sweeps(count: int) -> Callable[[], object]:
        arguments = (weights, weights, cost, 0.01, (np.inf, np.inf), 1e-15, count, "log", None, False, threads, None)
        return lambda: _native.sinkhorn(*arguments)

    timings = interleave(
        {"few": sweeps(few), "many": sweeps(many), "exp": lambda: _native.exp_sum(numbers, repeats, 1)}, rounds
    )
    seconds = [b - a for a, b in zip(timings.seconds["few"], timings.seconds["many"], strict=True)]
    shares = sorted(e / s for e, s in zip(timings.seconds["exp"], seconds, strict=True))
    best = min(timings.seconds["many"]) - min(timings.seconds["few"])
    return {
        "milliseconds": best / 20 * 1e3,
        "exponentials_per_second": 20 * n * n / best,
        "exp_rate": repeats * BLOCK / min(timings.seconds["exp"]),
        "share_of_exp_rate": shares[len(shares) // 2],
    }


def batches(count: int, size: int, threads: int, rounds: int, peers: bool) -> dict[str, Any]:
    """Time many small problems."""
    rng = np.random.default_rng(2)
    x, y = rng.random((2, count, size, 2))
    cost = np.square(x[:, :, None] - y[:, None]).sum(-1)
    cost /= cost.max(axis=(1, 2), keepdims=True)
    weights = np.full((count, size), 1.0 / size)

    def worst(plans: Array) -> float:
        rows, columns = plans.sum(2) - weights, plans.sum(1) - weights
        return float((np.abs(rows).sum(1) + np.abs(columns).sum(1)).max())

    def native() -> Any:
        return kb.sinkhorn_batch(None, None, cost, epsilon=0.05, threads=threads)

    rows: dict[str, Any] = {"kullback": {"seconds": interleave({"kullback": native}, rounds).median("kullback")}}
    rows["kullback"]["error"] = worst(np.asarray(native().plan()))
    if has("ot", peers):
        ot: Any = importlib.import_module("ot")
        batch: Any = importlib.import_module("ot.batch")

        def together() -> Array:
            return np.asarray(batch.solve_batch(cost, reg=0.05, a=weights, b=weights, max_iter=1000, tol=1e-7).plan)

        once = interleave({"batch": together}, 1).median("batch")
        rows["POT ot.batch"] = {"seconds": once, "error": worst(together())}
        part = max(1, count // 100)

        def loop() -> Array:
            solve = functools.partial(ot.sinkhorn, method="sinkhorn_log", stopThr=1e-7, warn=False)
            return np.array([solve(weights[i], weights[i], cost[i], 0.05) for i in range(part)])

        once = interleave({"loop": loop}, 1).median("loop") * count / part
        error = float(np.abs(loop().sum(1) - weights[:part]).sum(1).max())
        rows["POT sinkhorn_log, in a loop (of 1 %)"] = {"seconds": once, "error": error}
    for row in rows.values():
        row["times"] = row["seconds"] / rows["kullback"]["seconds"]
    return rows


POINTS = """
import json, resource, sys, time, warnings
import numpy as np
import kullback as kb
n, threads = int(sys.argv[1]), int(sys.argv[2])
x, y = np.random.default_rng(3).random((2, n, 3)).astype(np.float32)
start = time.perf_counter(), time.process_time()
result = kb.sinkhorn_points(x, y, epsilon=0.05, threads=threads)
print(json.dumps({
    "seconds": time.perf_counter() - start[0], "cpu_seconds": time.process_time() - start[1],
    "sweeps": result.n_iter, "error": result.marginal_error, "converged": result.converged,
    "mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def points(sizes: tuple[int, ...], threads: int) -> dict[str, Any]:
    """Solve between clouds of growing size, each in a process of its own whose peak memory is read."""
    rows: dict[str, Any] = {}
    for n in sizes:
        command = [sys.executable, "-c", POINTS, str(n), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout)
        row["nanoseconds"] = row["cpu_seconds"] / (row["sweeps"] * n * n) * 1e9
        first = next(iter(rows.items()), None)
        row["over_quadratic"] = (
            row["cpu_seconds"] / (first[1]["cpu_seconds"] * (n / int(first[0])) ** 2) if first else 1.0
        )
        rows[str(n)] = row
    return rows


def points_lines(rows: dict[str, Any]) -> list[list[str]]:
    """Write the sizes as cells."""
    return [
        [
            n,
            f"{row['seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            str(row["sweeps"]),
            f"{row['nanoseconds']:.2f}",
            f"{row['over_quadratic']:.2f}",
            f"{row['mebibytes']:.0f}",
            f"{row['error']:.1e}" + ("" if row["converged"] else " *"),
        ]
        for n, row in rows.items()
    ]


def lines(rows: dict[str, Any]) -> list[list[str]]:
    """Write rows of contestants as cells."""
    return [
        [
            name,
            f"{row['seconds'] * 1e3:.2f}",
            f"{row['times']:.1f}",
            f"{row['error']:.1e}" + (" (exact)" if "exact" in name else " *" if not row["error"] < 3e-6 else ""),
        ]
        for name, row in rows.items()
    ]


def main() -> None:
    """Run the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the whole report there")
    parser.add_argument("--quick", action="store_true", help="small sizes: only tests the script")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="threads of kullback")
    parser.add_argument("--peers", choices=("all", "none"), default="all", help="whether other libraries take part")
    parser.add_argument("--only", metavar="NAME", choices=PARTS, help=f"one part only: {', '.join(PARTS)}")
    options = parser.parse_args()
    rng = np.random.default_rng(20240711)
    peers = options.peers == "all"
    rounds = 3 if options.quick else 7
    report: dict[str, Any] = {"environment": environment.environment(), "problems": [], "threads": options.threads}
    print(environment.describe(report["environment"]), f"{options.threads} threads for kullback", sep="\n")
    if options.only in (None, "iteration"):
        found = iteration(128 if options.quick else 1024, 1, rounds)
        report["iteration"] = found
        print(
            f"\none fused log iteration, float32, 1 thread: {found['milliseconds']:.3f} ms, "
            f"{found['exponentials_per_second'] / 1e9:.2f} G exp/s, {found['share_of_exp_rate']:.2f} of the exp rate "
            f"({found['exp_rate'] / 1e9:.2f} G/s)"
        )
    header = ["", "ms", "times", "L1 error of the marginals"]
    if options.only not in ("iteration", "batch", "points"):
        for problem in problems(rng, 120 if options.quick else 1000, 60 if options.quick else 400):
            if options.only not in (None, "problems", problem.key):
                continue
            rows = measure(problem, options.threads, rounds, peers)
            report["problems"].append(
                {"key": problem.key, "name": problem.name, "epsilon": problem.epsilon, "rows": rows}
            )
            print(f"\n{problem.name}, epsilon {problem.epsilon}\n{harness.table(header, lines(rows))}")
        print("\n* did not reach the tolerance")
    if options.only in (None, "batch"):
        count = 100 if options.quick else 10_000
        report["batch"] = batches(count, 32, options.threads, rounds, peers)
        print(f"\n{count} problems of 32 x 32, float64, epsilon 0.05\n{harness.table(header, lines(report['batch']))}")
    if options.only in (None, "points"):
        report["points"] = points((200, 400) if options.quick else (5_000, 50_000), options.threads)
        print(
            f"\nclouds in space, float32, epsilon 0.05\n{harness.table(POINTS_HEADER, points_lines(report['points']))}"
        )
    print(f"\nload average after the run: {environment.load_average()}")
    harness.write_json(options.json, report)


if __name__ == "__main__":
    main()
