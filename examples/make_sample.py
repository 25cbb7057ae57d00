"""Make ``examples/sample/logits.npz`` from the logits of a full run of ``demo.py``.

``python examples/demo.py --out demo``, then ``python examples/make_sample.py demo/logits``.
"""

import argparse
from pathlib import Path

import numpy as np
from demo import SAMPLE
from smollm2 import sample

NAMES = ("reference", "q8_0", "q4_0")
LIMIT = 2_000_000


def main() -> None:
    """Pick evenly spaced rows, pack them, and say how large the file is."""
    parser = argparse.ArgumentParser(description="Pack a few rows of the demo's logits into the committed sample.")
    parser.add_argument("logits", type=Path, help="folder with reference.npy, q8_0.npy, q4_0.npy and targets.npy")
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--out", type=Path, default=SAMPLE)
    arguments = parser.parse_args()

    targets = np.load(arguments.logits / "targets.npy")
    rows = np.arange(1, arguments.rows + 1) * len(targets) // arguments.rows - 1
    logits = {name: np.load(arguments.logits / f"{name}.npy", mmap_mode="r")[rows] for name in NAMES}
    sample.pack(arguments.out, logits, targets[rows])

    size = arguments.out.stat().st_size
    print(f"{arguments.out}: {len(rows)} rows of {len(NAMES)} models, {size:,} bytes (limit {LIMIT:,})")
    if size > LIMIT:
        raise SystemExit(f"{size:,} bytes are too many; use fewer --rows")


if __name__ == "__main__":
    main()
