"""Has a kernel become more expensive? Instructions counted by valgrind, which no load on the machine can change.

    python benches/instructions.py [--update]

Every kernel of ``instructions.rs`` runs once and three times under callgrind; half the difference, over the pairs of
numbers, is what a pair costs. It is divided by what an exponential costs in the same build, so that a compiler that
spends a few instructions more everywhere moves little, and compared with ``instructions.json``. More than 10 % above
that is a failure; more than 10 % below asks for ``--update``, which writes the new numbers. Instructions are not time
(a division is one, and so is a load that misses every cache): this finds what should not have happened, ``make bench``
measures.

AVX2 throughout, as valgrind has no AVX-512; the build is that of ``cargo test``, where both already are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness

BASELINE = Path(__file__).with_suffix(".json")
TOLERANCE = 0.1
UNIT = "exp-logits-near-long"
REPEATS = (1, 3)


def build() -> str:
    """Build the program and return its path."""
    command = ["cargo", "test", "--quiet", "--no-run", "--bench", "instructions", "--message-format", "json"]
    done = subprocess.run(command, cwd=BASELINE.parent, stdout=subprocess.PIPE, text=True, check=True)
    messages = map(json.loads, done.stdout.splitlines())
    programs = (message["executable"] for message in messages if message.get("executable"))
    return str(next(program for program in programs if Path(program).name.startswith("instructions-")))


def instructions(program: str, kernel: str, repeats: int) -> int:
    """Count the instructions of the whole program."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, kernel, str(repeats)]
    environment = {**os.environ, "KULLBACK_ISA": "avx2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise RuntimeError(f"valgrind could not run {kernel}: {done.stderr.strip()}")
    return int(found[1])


def cost(program: str, kernel: str) -> float:
    """Return the instructions of one run of a kernel, without those before and after."""
    few, many = (instructions(program, kernel, repeats) for repeats in REPEATS)
    return (many - few) / (REPEATS[1] - REPEATS[0])


def measure(program: str) -> dict[str, float]:
    """Return the cost of every kernel but the exponential, in exponentials."""
    kernels = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        costs = dict(zip(kernels, pool.map(lambda kernel: cost(program, kernel), kernels), strict=True))
    unit = costs.pop(UNIT)
    return {kernel: instructions / unit for kernel, instructions in costs.items()}


def judge(found: dict[str, float], expected: dict[str, float]) -> tuple[list[list[str]], bool, bool]:
    """Return the table, whether a kernel is too expensive or missing, and whether one became cheap."""
    rows, worse, better = [], found.keys() != expected.keys(), False
    for kernel in sorted(found.keys() | expected.keys()):
        now, before = found.get(kernel), expected.get(kernel)
        change = "new" if before is None else "missing" if now is None else f"{100 * (now / before - 1):+.1f} %"
        if now is not None and before is not None:
            worse |= now > before * (1 + TOLERANCE)
            better |= now < before * (1 - TOLERANCE)
        rows.append([kernel, *("-" if x is None else f"{x:.2f}" for x in (before, now)), change])
    return rows, worse, better


def main(argv: Sequence[str] | None = None) -> int:
    """Count, print and judge."""
    parser = argparse.ArgumentParser(description="Count the instructions of kernels, in exponentials.")
    parser.add_argument("--update", action="store_true", help="write what was counted to instructions.json")
    arguments = parser.parse_args(argv)
    if platform.machine() not in ("x86_64", "AMD64"):
        print("instructions: the numbers on record are those of AVX2; this machine has another instruction set")
        return 0
    if shutil.which("valgrind") is None:
        print("instructions: valgrind is missing; install it with: apt-get install valgrind", file=sys.stderr)
        return 1
    found = measure(build())
    if arguments.update:
        content = {kernel: round(value, 3) for kernel, value in found.items()}
        BASELINE.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    rows, worse, better = judge(found, json.loads(BASELINE.read_text(encoding="utf-8")))
    print("Instructions of a pair of numbers, in instructions of an exponential\n")
    print(harness.table(["kernel", "on record", "now", "change"], rows))
    if worse:
        print(
            f"\ninstructions: a kernel costs over {TOLERANCE:.0%} more than on record, or the kernels differ from it;"
        )
        print("find out why, or put the new numbers on record with: python benches/instructions.py --update")
    elif better:
        print(
            f"\na kernel costs over {TOLERANCE:.0%} less: python benches/instructions.py --update puts that on record"
        )
    return int(worse)


if __name__ == "__main__":
    raise SystemExit(main())
