"""The same rows written in every format, each by that format's own library."""

import json

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

# Files that list the most probable tokens of each row.
LISTS = ("lists.jsonl", "prompts.jsonl", "lists.parquet")


def fixed_size_lists(rows):
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])


def write_arrow(path, rows, *, stream=False, compression=None, batch=7):
    table = pa.table({"id": np.arange(len(rows)), "logits": fixed_size_lists(rows)})
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=batch)


def write_lists(path, rows, k=8):
    """Write the k most probable tokens of each row: one row a line, a prompt of four a line (as vLLM does), a table."""
    lists = kb.TopK.from_logits(rows, k)
    ids, log_probs = lists.ids.tolist(), lists.log_probs.tolist()
    if path.suffix == ".parquet":
        pq.write_table(
            pa.table({"ids": ids, "log_probs": log_probs}), path, row_group_size=16, write_page_checksum=True
        )
        return
    pairs = list(zip(ids, log_probs, strict=True))
    if path.name.endswith("lists.jsonl"):
        lines = [{"ids": row_ids, "log_probs": logs} for row_ids, logs in pairs]
    else:
        rows = [{str(i): {"logprob": log} for i, log in zip(*pair, strict=True)} for pair in pairs]
        lines = [{"prompt_logprobs": [None, *rows[start : start + 4]]} for start in range(0, len(rows), 4)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


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
    elif name in LISTS:
        write_lists(path, rows)
    else:
        with kb.LogitsWriter(path, rows.shape[1], measure=False) as writer:
            writer.write(rows)
    return path
