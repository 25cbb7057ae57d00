"""Caches of top tokens: the shapes that servers and distillation tools write, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kullback.scoring import InputError, read_top_k

IDS = [[7, 9, 3], [1, 4], [8]]
LOGS = [[-0.5, -1.5, -2.5], [-0.25, -3.0], [-0.125]]


def check(found, ids=IDS, logs=LOGS):
    width = max(map(len, ids))
    wanted = [row + [-1] * (width - len(row)) for row in ids], [row + [-np.inf] * (width - len(row)) for row in logs]
    assert (found[0].dtype, found[1].dtype) == (np.int64, np.float64)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


def named(ids, logs, prefix=""):
    return {f"{prefix}{token}": log for token, log in zip(ids, logs, strict=True)}


SHAPES = {
    "rows": [{"ids": ids, "log_probs": logs} for ids, logs in zip(IDS, LOGS, strict=True)],
    "vllm prompt": [
        {
            "prompt_logprobs": [None]
            + [{k: {"logprob": v, "rank": 1} for k, v in named(*row).items()} for row in zip(IDS, LOGS, strict=True)]
        }
    ],
    "vllm prompt in choices": [
        {"choices": [{"prompt_logprobs": [None, {"7": {"logprob": -0.5}}]}]},
    ],
    "completions": [
        {"choices": [{"logprobs": {"top_logprobs": [named(*row, "token_id:") for row in zip(IDS, LOGS, strict=True)]}}]}
    ],
    "chat": [
        {
            "choices": [
                {
                    "logprobs": {
                        "content": [
                            {
                                "top_logprobs": [
                                    {"token": f"token_id:{t}", "logprob": v} for t, v in zip(*row, strict=True)
                                ]
                            }
                            for row in zip(IDS, LOGS, strict=True)
                        ]
                    }
                }
            ]
        }
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_json_lines(tmp_path, shape):
    path = tmp_path / "x.jsonl"
    path.write_text("\n\n".join(json.dumps(line) for line in SHAPES[shape]) + "\n")
    if shape == "vllm prompt in choices":
        check(read_top_k(path), [[7]], [[-0.5]])
    else:
        check(read_top_k(path))


@pytest.mark.parametrize("types", [(pa.int32(), pa.float32()), (pa.uint16(), pa.float16()), (pa.int64(), pa.float64())])
def test_parquet(tmp_path, types):
    columns = {"token_ids": pa.array(IDS, pa.list_(types[0])), "top_values": pa.array(LOGS, pa.list_(types[1]))}
    pq.write_table(pa.table({**columns, "text": ["a", "b", "c"]}), tmp_path / "x.parquet")
    check(read_top_k(tmp_path / "x.parquet"))
    check(read_top_k(tmp_path))
    pq.write_table(pa.table({**columns, "other": columns["token_ids"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"one column of lists of integers \(ids\); it holds token_ids"):
        read_top_k(tmp_path / "x.parquet")
    check(read_top_k(tmp_path / "x.parquet", ids="token_ids"))
    with pytest.raises(InputError, match="a column 'logs' of lists of log-probabilities"):
        read_top_k(tmp_path / "x.parquet", ids="token_ids", log_probs="logs")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"choices": [{"logprobs": {"top_logprobs": [{" Paris": -0.1}]}}]}', "by its text; ask the server for ids"),
        ('{"ids": [1, 2], "log_probs": [-0.5]}', "2 ids and 1 log-probabilities"),
        ('{"ids": [-2], "log_probs": [-0.5]}', "token id -2"),
        ('{"ids": ["a"], "log_probs": [-0.5]}', "holds no top tokens"),
        ('{"ids": [1e400], "log_probs": [-0.5]}', "holds no top tokens"),
        ('{"ids": [[1], [1, 2]], "log_probs": [-0.5]}', "holds no top tokens"),
        ('{"text": 1}', "expected ids, prompt_logprobs or choices"),
        ("7", "holds no top tokens"),
        ("[" * 100_000, "holds no top tokens"),
        ("not json", "line 1 holds no top tokens"),
        ('{"choices": []}', "holds no row"),
    ],
)
def test_lines_that_are_refused(tmp_path, line, message):
    (tmp_path / "x.jsonl").write_text(line)
    with pytest.raises(InputError, match=message) as caught:
        read_top_k(tmp_path / "x.jsonl")
    assert "\n" not in str(caught.value)


def test_damaged_caches(tmp_path):
    rng = np.random.default_rng(3)
    table = pa.table(
        {"ids": pa.array(IDS * 40, pa.list_(pa.int32())), "logs": pa.array(LOGS * 40, pa.list_(pa.float32()))}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(line) for line in SHAPES["rows"] * 9))
    for path in sorted(tmp_path.iterdir()):
        whole, refused = path.read_bytes(), 0
        for _ in range(150):
            content = bytearray(whole)
            for _ in range(3):
                content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
            path.write_bytes(content[: len(content) - int(rng.integers(3)) * 9])
            try:
                ids, logs = read_top_k(path)
            except InputError:
                refused += 1
            else:
                assert ids.shape == logs.shape
        assert refused > 20
