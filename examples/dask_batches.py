"""Distributions in a Parquet dataset, compared by Dask with `kb.score_batch`, a file a task.

    python examples/dask_batches.py [FOLDER]

Needs `pip install 'kullback[score]' 'dask[dataframe]'`. Any engine that hands out Arrow batches does the same; with
Spark it is `frame.mapInArrow(lambda batches: map(kb.score_batch, batches), schema)`.
"""

import sys
import tempfile
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import kullback as kb

METRICS = ["kl", "js", "top1_p", "top1_q", "rank_q"]
N_FILES, N_ROWS, VOCAB_SIZE = 4, 64, 8_000


def lists(rows: np.ndarray) -> pa.Array:
    """Turn (rows, vocabulary) into a column with a FixedSizeList a row; nothing is copied."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def write_dataset(folder: Path) -> None:
    """Write what an inference job would: logits of two models, the passage of each position, the token that came."""
    rng = np.random.default_rng(0)
    for number in range(N_FILES):
        p = (rng.normal(size=(N_ROWS, VOCAB_SIZE)) * 3).astype(np.float32)
        q = p + rng.normal(size=p.shape).astype(np.float32) * np.float32(0.1 * (number + 1))
        keys = {"row": pa.array(range(number * N_ROWS, (number + 1) * N_ROWS)), "group": pa.array([number] * N_ROWS)}
        target = {"target": pa.array(rng.integers(VOCAB_SIZE, size=N_ROWS))}
        pq.write_table(pa.table({**keys, "p": lists(p), "q": lists(q), **target}), folder / f"{number}.parquet")


def score_file(file: Path) -> pd.DataFrame:
    """Compare the rows of a file, sixteen at a time, in the process of a Dask worker."""
    batches = pq.ParquetFile(file).iter_batches(batch_size=16)
    return pa.Table.from_batches([kb.score_batch(batch, metrics=METRICS) for batch in batches]).to_pandas()


def main(folder: Path) -> None:
    """Write a dataset, compare it, and print the mean of every passage."""
    write_dataset(folder)
    files = sorted(folder.glob("*.parquet"))
    empty = pq.ParquetFile(files[0]).schema_arrow.empty_table()
    columns = kb.score_batch(empty, metrics=METRICS).to_pandas()  # of no rows: what Dask has to know beforehand
    frame = dd.from_map(score_file, files, meta=columns)
    frame["same_top"] = frame["top1_p"] == frame["top1_q"]
    means = frame.groupby("group")[["kl", "js", "same_top", "rank_q"]].mean()
    print(means.compute(scheduler="processes", num_workers=2).sort_index().to_string())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
