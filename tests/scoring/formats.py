"""The same rows written in every format, each by that format's own library."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import zarr

import kullback as kb

# Formats whose numbers come back as they are; llama.cpp's and packed files round them.
EXACT = (
    "npy",
    "npz",
    "npz-deflated",
    "safetensors",
    "parquet",
    "parquet-list",
    "arrow",
    "arrow-stream",
    "arrow-zstd",
    "zarr",
    "zarr-sharded",
)
NAMES = (*EXACT, "packed")


def fixed_size_lists(rows):
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])


def write_arrow(path, rows, *, stream=False, compression=None, batch=7):
    table = pa.table({"id": np.arange(len(rows)), "logits": fixed_size_lists(rows)})
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=batch)


def write(name, folder, rows):
    """Write rows (rows, vocabulary) in a format and return where they are."""
    path = folder / f"file-{name}"
    if name == "npy":
        path = path.with_suffix(".npy")
        np.save(path, rows)
    elif name.startswith("npz"):
        path = path.with_suffix(".npz")
        (np.savez_compressed if name == "npz-deflated" else np.savez)(path, logits=rows)
    elif name == "safetensors":
        safetensors.numpy.save_file({"logits": np.ascontiguousarray(rows)}, path, metadata={"made by": "a test"})
    elif name == "parquet":
        table = pa.table({"id": np.arange(len(rows)), "logits": fixed_size_lists(rows)})
        pq.write_table(table, path, row_group_size=16, write_page_checksum=True)
    elif name == "parquet-list":
        pq.write_table(pa.table({"logits": pa.array(list(rows))}), path, row_group_size=16)
    elif name.startswith("arrow"):
        write_arrow(path, rows, stream=name == "arrow-stream", compression="zstd" if name == "arrow-zstd" else None)
    elif name == "zarr":
        zarr.create_array(path, data=rows, chunks=(8, 32), config={"write_empty_chunks": True})
    elif name == "zarr-sharded":
        zarr.create_array(path, data=rows, chunks=(4, rows.shape[1]), shards=(16, rows.shape[1]))
    elif name == "llama.cpp":
        from conftest import encode_file

        path.write_bytes(encode_file(rows, np.arange(2 * len(rows) + 1) % rows.shape[1], 2 * len(rows) + 1))
    else:
        with kb.LogitsWriter(path, rows.shape[1], measure=False) as writer:
            writer.write(rows)
    return path
