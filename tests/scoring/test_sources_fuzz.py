"""Damaged files of every format: each is scored, or refused with one sentence; nothing crashes, hangs or fills memory.

The work is done in one process for each format, so that a crash is seen, and so that its memory can be measured.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import formats
import helpers
import numpy as np
import pytest

N_FILES = 1000 if helpers.SLOW else 100
MEMORY = 200e6  # bytes that a process may take beyond what it needs for whole files

LIES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def damaged(content, rng):
    """Truncate, flip bits, write a large or small number over something, or swap and repeat pieces."""
    content = bytearray(content)
    # Headers and footers are short beside the numbers, and are where the danger is.
    ends = rng.random() < 0.7
    for _ in range(int(rng.integers(1, 4))):
        size = len(content)
        if not size:
            break
        place = int(rng.integers(0, min(size, 400)) if ends else rng.integers(0, size))
        place = size - 1 - place if ends and rng.random() < 0.4 else place
        sort = rng.integers(0, 6)
        if sort == 0:
            del content[place:]
        elif sort <= 2:
            content[place] ^= 1 << int(rng.integers(0, 8))
        elif sort == 3:
            width = int(rng.choice([1, 2, 4, 8]))
            lie = LIES[int(rng.integers(len(LIES)))] & ((1 << 8 * width) - 1)
            content[place : place + width] = lie.to_bytes(width, "little")
        elif sort == 4:
            digits = [index for index in range(min(size, 2000)) if 0x30 <= content[index] <= 0x39]
            if digits:
                content[digits[int(rng.integers(len(digits)))]] = 0x30 + int(rng.integers(10))
        else:
            content[place:place] = content[place : place + int(rng.integers(1, 200))]
    return bytes(content)


def damage_in_place(path, rng):
    """Damage a file, or one or two files of a store, and return what they were."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    chosen = [files[int(rng.integers(len(files)))] for _ in range(int(rng.integers(1, 3)))]
    before = {file: file.read_bytes() for file in chosen}
    for file in before:
        if path.is_dir() and rng.random() < 0.1:
            file.unlink()
        else:
            file.write_bytes(damaged(before[file], rng))
    return before


def run(name, folder, n_files, seed):
    """Score so many damaged files of one format, and print what became of them."""
    from kullback.scoring import InputError, OutputError, score

    folder = Path(folder)
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(40, 60)).astype(np.float32)
    reference = formats.write("npy", folder, rows)
    if name == "npy":
        (folder / "sub").mkdir()
    path = write(name, folder / "sub" if name == "npy" else folder, rows)
    outcomes = {"scored": 0, "refused": 0}
    score(reference, path, folder / "warm", metrics="kl", threads=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(n_files):
        saved = damage_in_place(path, rng)
        try:
            score(reference, path, folder / "out", metrics="kl", threads=1, overwrite=True)
            outcomes["scored"] += 1
        except (InputError, OutputError) as error:
            outcomes["refused"] += 1
            assert "\n" not in str(error), str(error)
            assert 20 < len(str(error)) < 1500, str(error)
        except Exception as error:
            raise AssertionError(f"file {number}: {type(error).__name__}: {error}") from error
        for file, content in saved.items():
            file.write_bytes(content)
    outcomes["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps(outcomes))


def write(name, folder, rows):
    if name == "llama.cpp":
        from conftest import encode_file

        path = folder / "file.kld"
        path.write_bytes(encode_file(rows, np.arange(81) % 60, 81))
        return path
    return formats.write(name, folder, rows)


@pytest.mark.parametrize("name", [*formats.NAMES, "llama.cpp"])
def test_damaged_files(tmp_path, name):
    command = [sys.executable, "-X", "faulthandler", __file__, name, str(tmp_path), str(N_FILES), "7"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert outcomes["scored"] + outcomes["refused"] == N_FILES
    assert outcomes["refused"] > N_FILES // 10, outcomes
    assert outcomes["memory"] < MEMORY, outcomes


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
