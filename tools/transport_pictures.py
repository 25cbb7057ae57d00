"""Draws the pictures of docs/transport.md: plans between two histograms, and the sweeps each method takes, by epsilon.

    python tools/transport_pictures.py

Nothing but NumPy and kullback is needed: pictures are grey-scale PNG files written by hand.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

import kullback as kb

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
RATIOS = (0.2, 0.02, 0.002, 0.0002)
SIZE, ZOOM, GAP = 60, 3, 8


def plans() -> npt.NDArray[np.uint8]:
    """Lay plans between two histograms side by side, one for each ratio of epsilon to the range of the costs."""
    grid = np.linspace(0.0, 1.0, SIZE)
    a = np.exp(-0.5 * ((grid - 0.3) / 0.1) ** 2)
    b = 0.6 * np.exp(-0.5 * ((grid - 0.25) / 0.06) ** 2) + 0.4 * np.exp(-0.5 * ((grid - 0.75) / 0.06) ** 2)
    cost = (grid[:, np.newaxis] - grid) ** 2
    panels = []
    for ratio in RATIOS:
        plan = kb.sinkhorn(a / a.sum(), b / b.sum(), cost, epsilon=ratio).plan()
        shade = 255.0 * (1.0 - np.sqrt(plan / plan.max()))
        panels += [np.kron(shade, np.ones((ZOOM, ZOOM))), np.full((SIZE * ZOOM, GAP), 160.0)]
    return np.concatenate(panels[:-1], axis=1).astype(np.uint8)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode grey-scale pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def sweeps() -> str:
    """Count sweeps to an error of 1e-6 between two clouds of 300 points, as the rows of a Markdown table."""
    rng = np.random.default_rng(0)
    x, y = rng.random((300, 2)), rng.random((300, 2))
    lines = []
    for ratio in RATIOS:
        counts = []
        for method in ("sinkhorn", "accelerated", "newton", "auto"):
            epsilon = ratio * float(((x[:, np.newaxis] - y) ** 2).sum(axis=2).max())
            found = kb.sinkhorn_points(x, y, epsilon=epsilon, method=method, max_iter=50_000)
            counts.append(f"{found.n_iter:,}")
        lines.append(f"| {ratio:g} | " + " | ".join(counts) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "transport-epsilon.png").write_bytes(png(plans()))
    print(sweeps())
