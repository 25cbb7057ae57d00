"""Scoring of lists of top tokens: the numbers of compare_topk, one side full, groups by line, and what does not fit."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kullback as kb
from kullback.scoring import InputError, UsageError, cli, plan, score
from kullback.scoring.inputs import describe_file

N_ROWS, VOCAB_SIZE, ROWS_PER_LINE = 24, 50, 4
NAMES = ["kl", "reverse_kl", "js", "total_variation"]
TOLD = ["top1_p", "top1_q", "top1_prob_p", "top1_prob_q", "tail_mass_p", "tail_mass_q"]


def write_lines(path, lists, rows_per_line=ROWS_PER_LINE):
    """Write lists as vLLM answers: a prompt a line, the first position without a predecessor."""
    positions = [
        {str(token): {"logprob": float(log)} for token, log in zip(ids, logs, strict=True)}
        for ids, logs in zip(lists.ids, lists.log_probs, strict=True)
    ]
    prompts = [positions[start : start + rows_per_line] for start in range(0, len(positions), rows_per_line)]
    path.write_text("".join(json.dumps({"prompt_logprobs": [None, *prompt]}) + "\n" for prompt in prompts))


@pytest.fixture
def files(tmp_path):
    """Logits of both sides, their lists of 8 and 5 tokens, and those of the candidate as Parquet."""
    rng = np.random.default_rng(0)
    p = rng.normal(0, 3, (N_ROWS, VOCAB_SIZE))
    q = p + rng.normal(0, 0.3, p.shape)
    np.save(tmp_path / "p.npy", p)
    np.save(tmp_path / "q.npy", q)
    write_lines(tmp_path / "p.jsonl", kb.TopK.from_logits(p, 8))
    lists = kb.TopK.from_logits(q, 5)
    write_lines(tmp_path / "q.jsonl", lists)
    pq.write_table(pa.table({"ids": lists.ids.tolist(), "log_probs": lists.log_probs.tolist()}), tmp_path / "q.parquet")
    return tmp_path


def as_read(rows, k):
    """Lists as the files hold them, without the mass of the tail."""
    lists = kb.TopK.from_logits(rows, k)
    return kb.TopK(lists.ids, lists.log_probs, VOCAB_SIZE)


def read(folder, name="q"):
    table = pq.read_table(sorted((folder / name).glob("*.parquet")))
    return {column: table[column].to_numpy() for column in table.column_names}


@pytest.mark.parametrize("tail", ["bucket", "renormalize", "bounds"])
@pytest.mark.parametrize("candidate", ["q.jsonl", "q.parquet"])
def test_columns_are_those_of_compare_topk(files, tail, candidate, monkeypatch):
    monkeypatch.setattr(plan, "_PART_BYTES", 7 * 8 * 12)
    score(files / "p.jsonl", files / candidate, files / "out", vocab_size=VOCAB_SIZE, tail=tail)
    assert len(list((files / "out" / "q").glob("part-*"))) == 4
    found = read(files / "out")
    p, q = np.load(files / "p.npy"), np.load(files / "q.npy")
    expected = kb.compare_topk(as_read(p, 8), as_read(q, 5), tail=tail)
    suffixes = ("_low", "_high") if tail == "bounds" else ("",)
    assert list(found)[3:] == [*(name + suffix for name in NAMES for suffix in suffixes), *TOLD]
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    full = kb.compare(p, q)
    for name in ("top1_p", "top1_q"):
        np.testing.assert_array_equal(found[name], full[name])
    for name in ("top1_prob_p", "top1_prob_q"):
        np.testing.assert_allclose(found[name], full[name], rtol=1e-12)
    np.testing.assert_allclose(found["tail_mass_p"], as_read(p, 8).tail_mass)


def test_bucket_is_below_the_full_value_and_bounds_hold_it(files):
    p, q = np.load(files / "p.npy"), np.load(files / "q.npy")
    kl = kb.kl_divergence(p, q, input="logits")
    options = {"vocab_size": VOCAB_SIZE}
    score(files / "p.jsonl", files / "q.jsonl", files / "bucket", tail="bucket", **options)
    assert (read(files / "bucket")["kl"] <= kl).all()
    score(files / "p.jsonl", files / "q.npy", files / "bounds", tail="bounds", **options)
    bounds = read(files / "bounds")
    assert ((bounds["kl_low"] <= kl) & (kl <= bounds["kl_high"])).all()
    assert np.isfinite(bounds["kl_high"]).all()


@pytest.mark.parametrize("tail", ["bucket", "renormalize"])
def test_one_side_may_be_full_rows(files, tail):
    p, q = np.load(files / "p.npy"), np.load(files / "q.npy")
    score(files / "p.npy", files / "q.jsonl", files / "a", tail=tail)
    expected = kb.compare_topk(p, as_read(q, 5), tail=tail)
    np.testing.assert_array_equal(read(files / "a")["kl"], expected["kl"])
    np.testing.assert_array_equal(read(files / "a")["tail_mass_p"], np.zeros(N_ROWS))
    score(files / "p.jsonl", files / "q.npy", files / "b", tail=tail)
    expected = kb.compare_topk(as_read(p, 8), q, tail=tail)
    np.testing.assert_array_equal(read(files / "b")["js"], expected["js"])
    np.testing.assert_array_equal(read(files / "b")["top1_q"], q.argmax(axis=1))


def test_full_rows_of_probabilities_beside_lists(files):
    p = np.exp(np.load(files / "p.npy"))
    np.save(files / "p.npy", p / p.sum(axis=1, keepdims=True))
    score(files / "p.npy", files / "q.jsonl", files / "out", tail="bucket", input="probs")
    q = as_read(np.load(files / "q.npy"), 5)
    expected = kb.compare_topk(np.load(files / "p.npy"), q, input="probs")
    np.testing.assert_array_equal(read(files / "out")["kl"], expected["kl"])


def test_padded_full_rows_are_cut(files):
    q = np.load(files / "q.npy")
    np.save(files / "q.npy", np.hstack([q, np.full((N_ROWS, 14), 9.0)]))
    score(files / "p.jsonl", files / "q.npy", files / "wide", tail="bucket")  # the width of the full rows counts
    assert read(files / "wide")["top1_q"].max() >= 50
    score(files / "p.jsonl", files / "q.npy", files / "out", tail="bucket", vocab_size=VOCAB_SIZE)
    expected = kb.compare_topk(as_read(np.load(files / "p.npy"), 8), q)
    np.testing.assert_array_equal(read(files / "out")["kl"], expected["kl"])


def test_lines_are_groups(files):
    result = score(files / "p.jsonl", files / "q.jsonl", files / "out", vocab_size=VOCAB_SIZE, tail="bucket")
    assert result["q"].n_groups == N_ROWS // ROWS_PER_LINE
    assert read(files / "out")["group"].tolist() == [row // ROWS_PER_LINE for row in range(N_ROWS)]
    write_lines(files / "p.jsonl", kb.TopK.from_logits(np.load(files / "p.npy"), 8), rows_per_line=1)
    result = score(files / "p.jsonl", files / "q.jsonl", files / "single", vocab_size=VOCAB_SIZE, tail="bucket")
    assert result["q"].n_groups is None


def test_files_of_a_folder_follow_one_another(files):
    (files / "parts").mkdir()
    lines = (files / "q.jsonl").read_text().splitlines(keepends=True)
    (files / "parts" / "q-10.jsonl").write_text("".join(lines[2:]))
    (files / "parts" / "q-9.jsonl").write_text("".join(lines[:2]))
    options = {"vocab_size": VOCAB_SIZE, "tail": "bucket"}
    score(files / "p.jsonl", [files / "q.jsonl", files / "parts"], files / "out", **options)
    np.testing.assert_array_equal(read(files / "out", "parts")["kl"], read(files / "out")["kl"])
    score(files / "parts", files / "parts", files / "self", **options)
    assert read(files / "self", "parts")["group"].tolist() == [row // ROWS_PER_LINE for row in range(N_ROWS)]


def test_all_the_rest_of_a_run(files):
    """Floor, pairs, conditions and classes as with full rows; the same command again keeps the parts."""
    p = np.load(files / "p.npy")
    write_lines(files / "again.jsonl", kb.TopK.from_logits(p + 1e-3 * p[::-1], 8))
    write_lines(files / "r.jsonl", kb.TopK.from_logits(p + 1.0 * p[::-1], 6))
    (files / "texts.json").write_text(json.dumps([" a", "7"] * 25))
    np.save(files / "targets.npy", np.arange(N_ROWS))

    def run():
        candidates = [files / "q.jsonl", files / "r.jsonl"]
        return score(
            *(files / "p.jsonl", candidates, files / "out"),
            vocab_size=VOCAB_SIZE,
            tail="bucket",
            targets=files / "targets.npy",
            noise_floor=files / "again.jsonl",
            token_texts=files / "texts.json",
            fail_if=["kl > 1e-9", "tail_mass_p > 0.9"],
        )

    result = run()
    assert [pair.metric for pair in result.paired] == ["kl"]
    assert result.paired[0].better == "q"
    assert result.above_noise_floor["q"].above
    assert [outcome.expression for outcome in result.failed] == ["kl > 1e-9"] * 2
    classes = {bucket.name: bucket.n_rows for bucket in result["q"].buckets["token_class"]}
    assert classes == {"word_start": 12, "number": 12}
    assert sum(bucket.n_rows for bucket in result["q"].buckets["top1_prob_p"]) == N_ROWS
    assert "perplexity_p" not in result["q"]
    again = run()
    assert (again.parts_written, again.parts_kept) == (0, 3)
    assert "outside the list" in str(result)


def test_rows_without_tokens_and_with_nan(tmp_path):
    rows = [{"ids": [1, 2], "log_probs": [-0.5, -1.5]}, {"ids": [], "log_probs": []}, {"ids": [3], "log_probs": [-9.0]}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rows[2]["log_probs"] = [float("nan")]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    score(tmp_path / "p.jsonl", tmp_path / "q.jsonl", tmp_path / "out", vocab_size=9, tail="bucket")
    found = read(tmp_path / "out")
    assert found["kl"][0] == 0
    assert found["top1_p"].tolist() == [1, -1, -1]
    assert np.isnan(found["kl"][2])
    assert np.isnan(found["top1_prob_q"][1:]).all()
    assert found["tail_mass_p"][1] == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"vocab_size": VOCAB_SIZE}, InputError, r"p.jsonl is JSON, which can list top tokens if tail says"),
        ({"tail": "bucket"}, UsageError, "vocab_size is needed: files of top tokens do not say how many"),
        ({"tail": "bucket", "vocab_size": 20}, InputError, "outside the vocabulary of 20"),
        ({"tail": "best", "vocab_size": VOCAB_SIZE}, UsageError, "tail must be one of bucket, renormalize, bounds"),
        ({"tail": "bucket", "metrics": "kl"}, UsageError, "leave metrics out"),
        ({"tail": "bucket", "temperature": 2.0}, UsageError, "leave it at 1"),
        ({"tail": "bucket", "kld_rule": "llama.cpp"}, UsageError, "leave tail out"),
        ({"tail": "bucket", "vocab_size": VOCAB_SIZE, "fail_if": "perplexity_q > 1"}, UsageError, "no statistic"),
        ({"tail": "bounds", "vocab_size": VOCAB_SIZE, "fail_if": "kl > 1"}, UsageError, "did you mean 'kl_low'"),
        ({"tail": "bucket", "vocab_size": VOCAB_SIZE, "memory": 100}, InputError, "more than the memory allowed"),
    ],
)
def test_refusals(files, options, error, message):
    with pytest.raises(error, match=message):
        score(files / "p.jsonl", files / "q.jsonl", files / "out", **options)
    assert not (files / "out").exists()


def test_two_full_sides_have_no_tail(files):
    with pytest.raises(InputError, match=r"q.npy and the reference .*p.npy both hold full rows"):
        score(files / "p.npy", [files / "q.jsonl", files / "q.npy"], files / "out", tail="bucket")


def test_lists_that_are_no_distribution(files):
    (files / "q.jsonl").write_text(json.dumps({"ids": [1, 2], "log_probs": [-0.1, -0.2]}) + "\n")
    (files / "p.jsonl").write_text(json.dumps({"ids": [1], "log_probs": [-0.1]}) + "\n")
    with pytest.raises(InputError, match=r"q.jsonl, with rows counted from row 0 on: log_probs must have a mass"):
        score(files / "p.jsonl", files / "q.jsonl", files / "out", vocab_size=9, tail="bucket")


def test_without_tail_parquet_is_read_as_full_rows(files):
    with pytest.raises(InputError, match="5 columns but the reference"):
        score(files / "p.npy", files / "q.parquet", files / "out")


def test_inspect_tells_what_the_lists_hold(files):
    found = describe_file(files / "q.jsonl")
    assert found["format"] == "top-k"
    assert (found["rows"], found["tokens_listed"]) == (N_ROWS, 5)
    assert describe_file(files / "q.parquet")["format"] == "top-k"
    assert describe_file(files / "q.npy")["format"] == "npy"


def test_the_command(files, capsys):
    arguments = ["score", files / "p.jsonl", files / "q.jsonl", "--out", files / "out", "--vocab-size", VOCAB_SIZE]
    with pytest.raises(SystemExit) as caught:
        cli.main([str(item) for item in [*arguments, "--tail", "bucket", "--quiet", "--json"]])
    assert caught.value.code == 0
    stored = json.loads(capsys.readouterr().out)
    assert stored["tail"] == "bucket"
    assert stored["vocab_size"] == VOCAB_SIZE
