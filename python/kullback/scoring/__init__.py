"""Offline scoring of files of distributions, in bounded memory: ``kullback score`` and `score`.

Data flows one way::

    sources/        rows of a file, whatever its format          (one file per format)
      │ open        inputs.py     all files of a run, checked against each other
      │ cut         plan.py       parts (the unit of resuming) and blocks (the unit of memory)
      │ compare     rules.py      kullback.compare, llama.cpp's rule (llama_rule.py), or top-k lists' (top_k_rule.py)
      │ write       output.py     Parquet parts, whole or not at all; manifest.py says whose they are
      │ summarise   summary.py    estimates with their errors (statistics.py), also of some rows only (buckets.py)
      ▼ conclude    conclusion.py candidates against each other and the noise floor (paired.py), gates (thresholds.py)

`ray_engine` does the middle three on other machines (ray_worker.py, ray_cluster.py). `batches` is the comparison alone,
for engines that hold the rows themselves.

`writer` and `packer` go the other way: they store reference distributions in 16 bits a token (packing.py), to be read
again by sources/packed.py. `reporting` makes a page of what `score` wrote.

`engine` drives it; `cli` and `commands` are the command line.
"""

from __future__ import annotations

from .batches import score_batch
from .engine import score
from .errors import InputError, OutputError, UsageError
from .packer import PackResult, pack
from .reporting import Report, report
from .result import Progress, ScoreResult
from .sources.top_k import read_top_k
from .summary import Summary, summarise
from .token_texts import TokenTexts, read_token_texts
from .writer import LogitsWriter

__all__ = [
    "InputError",
    "LogitsWriter",
    "OutputError",
    "PackResult",
    "Progress",
    "Report",
    "ScoreResult",
    "Summary",
    "TokenTexts",
    "UsageError",
    "pack",
    "read_token_texts",
    "read_top_k",
    "report",
    "score",
    "score_batch",
    "summarise",
]
