"""Kills, and inputs that vanish or are cut: nothing finished is lost, nothing is double, one sentence is said."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import formats
import helpers
import numpy as np
import pytest

from kullback.scoring import InputError, plan, score

# Small files of these formats may be decoded as a whole before the first row is scored.
IN_MEMORY = ("npz-deflated", "parquet", "parquet-list", "packed")

N_KILLS = 50 if helpers.SLOW else 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("what", ["score", "writer"])
def test_killed_at_random_points(what):
    worker = Path(__file__).with_name("kill_worker.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        command = [sys.executable, "-W", "ignore", str(worker), folder, what, str(N_KILLS), "5"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout)["kills"] == N_KILLS


@pytest.mark.parametrize("name", [*formats.NAMES, "llama.cpp"])
def test_a_file_that_is_cut_while_it_is_read(tmp_path, name, monkeypatch):
    """What was scored before the cut stays; the rest is an error of one sentence, or was in memory already."""
    monkeypatch.setattr(plan, "_PART_BYTES", 4 * 600 * 4)
    rows = np.random.default_rng(0).normal(size=(200, 600)).astype(np.float32)
    reference = formats.write("npy", tmp_path, rows)
    (tmp_path / "sub").mkdir()
    path = formats.write(name, tmp_path / "sub", rows)

    def cut(state):
        if state.rows >= 40:
            files = path.rglob("c/**/*") if path.is_dir() else [path]
            for file in filter(Path.is_file, files):
                os.truncate(file, file.stat().st_size // 20)

    out, whole = tmp_path / "out", tmp_path / "whole"
    score(reference, path, whole, metrics="kl")
    if name in IN_MEMORY:
        with suppress(InputError):
            score(reference, path, out, metrics="kl", progress=cut, memory="64MiB")
    else:
        with pytest.raises(InputError, match=r"\A[^\n]*\Z"):
            score(reference, path, out, metrics="kl", progress=cut, memory=1 << 20)
    for part in sorted(out.rglob("part-*")):
        assert part.read_bytes() == (whole / part.relative_to(out)).read_bytes()
    parts = sorted(file.name for file in out.rglob("part-*"))
    assert parts == [f"part-{number:06d}.parquet" for number in range(len(parts))]
    assert len(parts) >= 10
    assert not list(out.rglob("*.tmp"))


def test_a_chunk_that_vanishes_while_it_is_read(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 60)).astype(np.float32)
    reference, path = formats.write("npy", tmp_path, rows), formats.write("zarr", tmp_path, rows)

    def remove(state):
        if state.rows:
            (path / "c" / "4" / "1").unlink(missing_ok=True)

    with pytest.raises(InputError, match="lacks a chunk of row 32"):
        score(reference, path, tmp_path / "out", progress=remove, memory=40_000)
