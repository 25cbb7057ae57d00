"""Damages files of every format and scores them: the process that test_sources_fuzz.py starts and watches."""

import json
import resource
import sys
from pathlib import Path

import formats
import numpy as np

from kullback.scoring import InputError, OutputError, score
from kullback.scoring.inputs import Inputs
from kullback.scoring.options import Options
from kullback.scoring.plan import make_plan
from kullback.scoring.rules import Comparer

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


def compare(reference, path, options):
    """Do what `score` does with its inputs, without the files that it writes."""
    with Inputs(reference, [path], None, options) as inputs:
        plan = make_plan(inputs, 512 << 20)
        comparer = Comparer(inputs, options, 1)
        (source,) = inputs.candidates.values()
        for start in range(0, inputs.n_rows, 16):
            stop = min(start + 16, inputs.n_rows)
            p, q = inputs.reference.read(start, stop), source.read(start, stop)
            comparer.compare(source, p, q, inputs.targets(start, stop), start)
            source.groups(start, stop)
        assert plan.n_rows == inputs.n_rows
        inputs.fingerprints()
        json.dumps(source.describe())


def run(name, folder, n_files, seed):
    """Score so many damaged files of one format, and print what became of them."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(40, 60)).astype(np.float32)
    reference = formats.write("npy", folder, rows)
    if name == "npy":
        (folder / "sub").mkdir()
    path = formats.write(name, folder / "sub" if name == "npy" else folder, rows)
    outcomes = {"scored": 0, "refused": 0}
    chosen = {"tail": "bucket"} if name in formats.LISTS else {"metrics": ("kl",)}
    score(reference, path, folder / "warm", threads=1, **chosen)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(n_files):
        saved = damage_in_place(path, rng)
        try:
            if number % 10:
                compare(reference, path, Options(**chosen))
            else:
                score(reference, path, folder / "out", threads=1, overwrite=True, **chosen)
            outcomes["scored"] += 1
        except (InputError, OutputError) as error:
            outcomes["refused"] += 1
            if "\n" in str(error) or not 20 < len(str(error)) < 1500:
                raise AssertionError(f"{name} {number}: not a sentence: {str(error)[:1000]!r}") from None
        except Exception as error:
            raise AssertionError(f"{name} {number}: {type(error).__name__}: {str(error)[:500]}") from None
        for file, content in saved.items():
            file.write_bytes(content)
    outcomes["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"format": name, **outcomes}), flush=True)


if __name__ == "__main__":
    for format_name in sys.argv[4:]:
        run(format_name, Path(sys.argv[1]) / format_name, int(sys.argv[2]), int(sys.argv[3]))
