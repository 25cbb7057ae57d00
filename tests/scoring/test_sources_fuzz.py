"""Damaged files of every format: each is scored, or refused with one sentence; nothing crashes, hangs or fills memory.

The work is done in a process of its own (fuzz_worker.py), so that a crash is seen and memory can be measured.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import formats
import helpers
import pytest

N_FILES = 1000 if helpers.SLOW else 100
MEMORY = 200e6  # bytes that the process may take for damaged files beyond what whole ones need
NAMES = (*formats.NAMES, *formats.LISTS, "llama.cpp")


@pytest.fixture(scope="module")
def outcomes():
    """Damage and score the files of all formats, and return what became of them."""
    worker = Path(__file__).with_name("fuzz_worker.py")
    # In memory where that is possible: writing so many files takes longer than reading them.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        return damage(worker, folder)


def damage(worker, folder):
    command = [sys.executable, "-X", "faulthandler", str(worker), str(folder), str(N_FILES), "7", *NAMES]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=3600)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"after {[facts['format'] for facts in found]}: {done.stderr[-3000:]}"
    return {facts.pop("format"): facts for facts in found}


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files(outcomes, name):
    facts = outcomes[name]
    assert facts["scored"] + facts["refused"] == N_FILES
    assert facts["refused"] > N_FILES // 10, facts
    assert facts["memory"] < MEMORY, facts
