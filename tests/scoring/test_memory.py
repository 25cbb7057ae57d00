"""Sources that are decoded in large pieces: the process stays within what --memory says, interpreter and all.

That pyarrow does not import pandas, which it does at many a turn, is part of it: 40 MiB for nothing.
"""

import subprocess
import sys

import formats
import numpy as np
import pyarrow as pa
import pytest
import zarr

import kullback as kb

CODE = """
import sys; from kullback.scoring import score
score(*sys.argv[1:], metrics='kl', memory='272MiB')
with open('/proc/self/status') as status:
    peak = next(line.split()[1] for line in status if line.startswith('VmHWM'))
print(peak, *({'pandas'} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write 64 MiB of logits, in pieces of 16 MiB where the format has any."""
    folder = tmp_path_factory.mktemp("large")
    rows = np.random.default_rng(0).normal(size=(1024, 16_384)).astype(np.float32)
    np.save(folder / "p.npy", rows)
    zarr.create_array(folder / "zarr", data=rows, chunks=(256, 16_384))
    with kb.LogitsWriter(folder / "packed", 16_384, measure=False) as writer:
        writer.write(rows)
    table = pa.table({"logits": formats.fixed_size_lists(rows)})
    with pa.ipc.new_file(folder / "arrow", table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table, max_chunksize=256)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("name", ["zarr", "packed", "arrow"])
def test_peak_memory(files, tmp_path, name):
    arguments = [sys.executable, "-c", CODE, files / "p.npy", files / name, tmp_path / "out"]
    done = subprocess.run(list(map(str, arguments)), check=True, capture_output=True, text=True)
    peak, *imported = done.stdout.split()
    assert int(peak) < 272 << 10
    assert not imported
