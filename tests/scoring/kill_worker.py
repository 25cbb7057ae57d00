"""Kills runs of `score` and writers with SIGKILL at random points and checks what is left: for test_faults.py.

It forks, and so has to be a process without threads: nothing runs in the parent but sleeping and checking files. What a
child needs has been imported before, so that kills hit the work and not the imports.
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import zarr
import zarr.codecs  # noqa: F401

import kullback as kb
from kullback.scoring import plan, score, writer
from kullback.scoring.packing import decode_rows, encode_rows

N_ROWS, VOCAB_SIZE = 210, 60
ROWS_PER_PART = 7

plan._PART_BYTES = ROWS_PER_PART * VOCAB_SIZE * 4
writer._CHUNK_BYTES = 8 * VOCAB_SIZE * 2


def in_child(task, delay=None):
    """Run a task in a child, kill it after so many seconds, and tell whether it was killed and how long it ran."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            task()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), f"the child ended with {code}"
    return code != 0, time.monotonic() - start


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


class ScoreFaults:
    """Runs of score with two candidates and a noise floor, in 30 parts each."""

    def __init__(self, folder, rows):
        self.inputs = folder / "p.npy", [folder / "q.npy", folder / "r.npy"]
        self.options = {"noise_floor": folder / "again.npy", "token_texts": folder / "texts.txt", "fail_if": "kl > 1"}
        for number, file in enumerate((self.inputs[0], *self.inputs[1], self.options["noise_floor"])):
            np.save(file, rows + np.float32(0.1 * number) * rows[::-1])
        self.options["token_texts"].write_text("\n".join(f"Ġ{token}" for token in range(VOCAB_SIZE)))
        self.finished = {}

    def task(self, out):
        options = {"metrics": "kl,top1_p,top1_prob_p", "group_size": 20, "threads": 1, **self.options}
        return lambda: score(*self.inputs, out, **options)

    def check(self, out):
        """Parts that are there are whole and stay as they are, and hold each row once."""
        found = {}
        for file in out.rglob("part-*.parquet"):
            start = int(file.stem.removeprefix("part-")) * ROWS_PER_PART
            rows = pq.ParquetFile(file).read(["row"], use_threads=False)["row"].to_pylist()
            assert rows == list(range(start, min(start + ROWS_PER_PART, N_ROWS))), file
            status = file.stat()
            found[str(file)] = (status.st_ino, status.st_mtime_ns)
        kept = {name: found.get(name) for name in self.finished if name.startswith(f"{out}/")}
        assert kept == {name: self.finished[name] for name in kept}, "a finished part was lost or made again"
        self.finished = found
        assert not (out / "summary.json").exists() or len(found) == 3 * N_ROWS // ROWS_PER_PART


class WriterFaults:
    """A writer that flushes at odd moments and says so."""

    def __init__(self, folder, rows):
        self.rows = rows
        self.said = folder / "said"

    def task(self, out):
        def run():
            with kb.LogitsWriter(out, VOCAB_SIZE, model="m", append=True, measure=False) as writing:
                while writing.n_rows < N_ROWS:
                    start = writing.n_rows
                    stop = min(start + 3 + start % 4, N_ROWS)
                    writing.write(self.rows[start:stop], targets=np.arange(start, stop) % VOCAB_SIZE)
                    if start % 3:
                        writing.flush()
                        self.said.write_text(f"{stop}\n")

        return run

    def check(self, out):
        """The rows that the writer said are on disk are there, and all that are there are right."""
        try:
            said = int(self.said.read_text())
        except (OSError, ValueError):  # killed while it was about to say something
            said = 0

        def read():
            from kullback.scoring.sources import open_source

            source = open_source(out)
            n_rows = source.n_rows
            assert n_rows >= said, (n_rows, said)
            codes, scales = encode_rows(self.rows[:n_rows], "logits")
            expected = np.empty((n_rows, VOCAB_SIZE), np.float32)
            decode_rows(codes, scales, expected)
            np.testing.assert_array_equal(source.read(0, n_rows), expected)
            np.testing.assert_array_equal(source.targets(0, n_rows), np.arange(n_rows) % VOCAB_SIZE)

        if said:
            in_child(read)


def main(folder, what, n_kills, seed):
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(N_ROWS, VOCAB_SIZE)) * 3).astype(np.float32)
    faults = {"score": ScoreFaults, "writer": WriterFaults}[what](folder, rows)
    _, seconds = in_child(faults.task(folder / "whole"))
    whole = contents(folder / "whole")
    kills = finished = 0
    out = folder / "out0"
    while kills < n_kills:
        (folder / "said").unlink(missing_ok=True)
        killed, _ = in_child(faults.task(out), delay=float(rng.uniform(0, 0.8 * seconds)))
        kills += killed
        if killed and out.exists():
            faults.check(out)
        elif not killed:
            assert contents(out) == whole
            finished += 1
            out = folder / f"out{finished}"
    in_child(faults.task(out))
    assert contents(out) == whole
    print(json.dumps({"kills": kills, "runs": finished + 1, "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
