"""Packed files: what the coding costs, exact zeros, crash-safety, appending, and the command."""

import json
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import zarr

import kullback as kb
from kullback.scoring import InputError, OutputError, UsageError, cli, packer, score, writer
from kullback.scoring.packing import decode_rows, encode_rows
from kullback.scoring.sources import open_source


def logits(shape=(40, 1000), dtype=np.float32, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * 3).astype(dtype)


def decoded(rows, kind="logits"):
    codes, scales = encode_rows(rows, kind)
    out = np.empty(rows.shape, np.float32)
    decode_rows(codes, scales, out)
    return out


def log_softmax(rows):
    rows = rows.astype(np.float64)
    return rows - np.logaddexp.reduce(rows, axis=-1, keepdims=True)


def read_all(path):
    source = open_source(path)
    return np.array(source.read(0, source.n_rows))


# The code -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.01, 1.0, 3.0])
def test_rounding_costs_what_the_head_of_the_file_says(spread):
    rows = (np.random.default_rng(0).normal(size=(20, 5000)) * spread).astype(np.float64)
    found = decoded(rows)
    steps = np.ptp(rows, axis=1, keepdims=True) / 65534
    assert np.all(np.abs(found - log_softmax(rows)) <= 0.5 * steps * 1.0101 + 4e-6)
    np.testing.assert_array_equal(found.argmax(axis=1), rows.argmax(axis=1))
    kl = kb.kl_divergence(rows, found, input="logits")
    assert np.all(kl <= 1.5 * steps[:, 0] ** 2 / 24 + 1e-12)
    if spread > 2:  # few tokens hold the mass, and the step suits them
        assert kl.mean() < 0.6 * (steps**2).mean() / 24


def test_kinds_zeros_and_masks():
    rows = logits((6, 50), np.float64)
    rows[0, 3:7] = -np.inf
    rows[1, 5] = -1e9  # a mask
    rows[2] = 7.25  # all equal
    rows[3, 1:] = -np.inf  # one token
    found = decoded(rows)
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(rows))
    assert found[1, 5] == pytest.approx(found[1].max() - 48)
    np.testing.assert_allclose(found[2], -np.log(50), rtol=1e-7)
    assert found[3, 0] == 0
    assert np.all(kb.kl_divergence(rows, found, input="logits") < 2e-8)
    rows, found = np.delete(rows, 1, axis=0), np.delete(found, 1, axis=0)
    probs = np.exp(log_softmax(rows))
    for kind, values in (("log_probs", log_softmax(rows)), ("probs", probs), ("weights", 7 * probs)):
        np.testing.assert_allclose(decoded(values, kind), found, atol=1e-3)


def test_rows_without_a_distribution_stay_so():
    rows = logits((4, 50))
    rows[0, 3], rows[1, 2], rows[2] = np.nan, np.inf, -np.inf
    found = decoded(rows)
    assert np.isnan(found).all(axis=1).tolist() == [True, True, True, False]


# The writer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_what_is_written_is_read(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(writer, "_CHUNK_BYTES", 7 * 2000)  # seven rows
    rows = logits((5, 8, 1000), dtype)
    with kb.LogitsWriter(tmp_path / "x", 1000, model="m", tokenizer="t", metadata={"a": 1}) as out:
        for number in range(5):
            out.write(rows[number], targets=np.arange(8) + number, groups=[number] * 8)
    assert (out.n_rows, out.n_undefined) == (40, 0)
    assert 0 < out.mean_kl < out.max_kl < 2e-8
    source = open_source(tmp_path / "x")
    np.testing.assert_array_equal(source.read(0, 40), decoded(rows.reshape(40, 1000)))
    np.testing.assert_array_equal(source.read(11, 25), decoded(rows.reshape(40, 1000))[11:25])
    assert source.targets(7, 10).tolist() == [7, 1, 2]
    assert source.groups(7, 10).tolist() == [0, 1, 1]
    facts = source.describe()
    assert (facts["model"], facts["tokenizer"], facts["metadata"]) == ("m", "t", {"a": 1})
    assert facts["mean_kl"] == out.mean_kl
    assert source.warnings == ()
    # Any reader of Zarr can decode it.
    group = zarr.open_group(tmp_path / "x", mode="r")
    maximum, step = group["scales"][:].T
    plain = maximum[:, None] + step[:, None] * (group["codes"][:].astype(np.float64) - 65535)
    np.testing.assert_allclose(plain, log_softmax(rows.reshape(40, 1000)), atol=1e-3)


def test_the_size_is_that_of_llama_cpp_or_less(tmp_path):
    rows = logits((256, 8000))
    with kb.LogitsWriter(tmp_path / "x", 8000) as out:
        out.write(rows, targets=np.arange(256))
    size = sum(file.stat().st_size for file in (tmp_path / "x").rglob("*") if file.is_file())
    assert size <= 256 * (2 * 8000 + 8)
    assert out.mean_kl <= 1e-8


def test_scoring_with_a_packed_reference(tmp_path):
    rows = logits()
    with kb.LogitsWriter(tmp_path / "p.zarr", 1000) as out:
        out.write(rows, targets=np.arange(40), groups=np.arange(40) // 8)
    np.save(tmp_path / "q.npy", rows)
    result = score(tmp_path / "p.zarr", tmp_path / "q.npy", tmp_path / "out")
    assert 0 < result["q"]["kl"].mean.value < 1e-8
    assert result["q"].n_groups == 5
    assert "perplexity_p" in result["q"]


def test_undefined_rows_are_counted(tmp_path):
    rows = logits((10, 50))
    rows[3, 0], rows[9] = np.nan, -np.inf
    with kb.LogitsWriter(tmp_path / "x", 50) as out:
        out.write(rows)
    assert (out.n_undefined, open_source(tmp_path / "x").describe()["undefined_rows"]) == (2, 2)
    assert np.isnan(read_all(tmp_path / "x")).all(axis=1).nonzero()[0].tolist() == [3, 9]
    with kb.LogitsWriter(tmp_path / "y", 50, input="probs") as out:
        out.write([[0.5, 0.5, *[0] * 48], [1.5, -0.5, *[0] * 48]])
    assert out.n_undefined == 1


def write_then_fail(out, rows):
    out.write(rows)
    out.write(rows[:, 1:])


def test_flush_makes_rows_readable_and_an_exception_keeps_them(tmp_path):
    rows = logits((10, 50))
    out = kb.LogitsWriter(tmp_path / "x", 50)
    out.write(rows[:4])
    with pytest.raises(InputError):
        open_source(tmp_path / "x")
    out.flush()
    np.testing.assert_array_equal(read_all(tmp_path / "x"), decoded(rows[:4]))
    out.write(rows[4:7])
    out.flush()
    source = open_source(tmp_path / "x")
    assert (source.n_rows, "was not closed" in source.warnings[0]) == (7, True)
    out.close()
    out.close()
    assert open_source(tmp_path / "x").warnings == ()
    with pytest.raises(UsageError, match="is closed"):
        out.write(rows)
    with pytest.raises(UsageError), kb.LogitsWriter(tmp_path / "y", 50) as out:
        write_then_fail(out, rows)
    source = open_source(tmp_path / "y")
    assert (source.n_rows, "was not closed" in source.warnings[0]) == (10, True)


@pytest.mark.parametrize("cut", [0, 1, 6, 7, 8, 21, 39])
def test_appending_gives_the_same_file(tmp_path, cut, monkeypatch):
    monkeypatch.setattr(writer, "_CHUNK_BYTES", 7 * 2000)
    rows = logits()
    options = {"model": "m", "measure": False}
    with kb.LogitsWriter(tmp_path / "whole", 1000, **options) as out:
        out.write(rows, targets=np.arange(40))
    first = kb.LogitsWriter(tmp_path / "x", 1000, **options)
    if cut:
        first.write(rows[:cut], targets=np.arange(cut))
        first.flush()
    del first
    with kb.LogitsWriter(tmp_path / "x", 1000, append=True, **options) as out:
        assert out.n_rows == cut
        out.write(rows[cut:], targets=np.arange(cut, 40))
    for name in ("", "whole"):
        assert open_source(tmp_path / (name or "x")).warnings == ()
    files = {file.relative_to(tmp_path / "whole") for file in (tmp_path / "whole").rglob("*") if file.is_file()}
    for file in files:
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_wrong_calls(tmp_path):
    out = kb.LogitsWriter(tmp_path / "x", 50)
    for rows, keys, message in (
        (np.zeros((2, 49)), {}, r"shape \(\.\.\., 50\); got \(2, 49\)"),
        (np.zeros((2, 50), complex), {}, "real numbers"),
        (np.zeros((2, 50)), {"targets": [1]}, "2 integers, one for each row"),
        (np.zeros((2, 50)), {"targets": [1.0, 2.0]}, "2 integers"),
        (np.zeros((2, 50)), {"targets": [1, 50]}, "from 0 to 49"),
    ):
        with pytest.raises(UsageError, match=message):
            out.write(rows, **keys)
    out.write(np.zeros((2, 50)), targets=[1, 2])
    for keys in ({}, {"targets": [1, 2], "groups": [1, 2]}):
        with pytest.raises(UsageError, match="for all rows or for none"):
            out.write(np.zeros((2, 50)), **keys)
    out.close()
    with pytest.raises(OutputError, match="exists; append=True"):
        kb.LogitsWriter(tmp_path / "x", 50)
    with pytest.raises(OutputError, match="vocabulary of 51"):
        kb.LogitsWriter(tmp_path / "x", 51, append=True)
    with pytest.raises(OutputError, match="has model None; got 'm'"):
        kb.LogitsWriter(tmp_path / "x", 50, model="m", append=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"exists|is not what"):
        kb.LogitsWriter(tmp_path / "file", 50, append=True)
    with pytest.raises(OutputError, match="cannot be written"):
        kb.LogitsWriter(tmp_path / "file" / "x", 50)
    for options in ({"vocab_size": 0}, {"vocab_size": 2.5}, {"input": "x"}, {"metadata": {"a": object()}}):
        with pytest.raises(UsageError):
            kb.LogitsWriter(tmp_path / "new", **{"vocab_size": 50, **options})
    assert not (tmp_path / "new").exists()


def test_full_disk(tmp_path, monkeypatch):
    import errno

    out = kb.LogitsWriter(tmp_path / "x", 50)
    out.write(logits((4, 50)))
    out.flush()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.storage.LocalStore, "set", full)
    out.write(logits((4, 50)))
    with pytest.raises(OutputError, match="the disk is full"):
        out.flush()
    monkeypatch.undo()
    assert open_source(tmp_path / "x").n_rows == 4


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


def test_pack(run, pair, tmp_path):
    np.save(tmp_path / "t.npy", np.arange(40))
    target = tmp_path / "p.zarr"
    arguments = ("pack", pair[0], target, "--targets", tmp_path / "t.npy", "--model", "m", "--tokenizer", "t")
    status, out, errors = run(*arguments)
    assert (status, errors) == (0, "")
    assert "40 rows of 60 tokens" in out
    assert "KL(original ‖ packed): mean" in out
    np.testing.assert_array_equal(read_all(target), decoded(np.load(pair[0])))
    status, out, _ = run("inspect", target)
    assert (status, "mean_kl" in out, "model" in out) == (0, True, True)
    status, out, _ = run("score", target, pair[1], "--out", tmp_path / "out")
    assert (status, "PPL reference" in out) == (0, True)
    status, out, _ = run(*arguments, "--json")  # nothing is left to do
    assert (status, json.loads(out)["rows_kept"]) == (0, 40)
    status, _, errors = run("pack", pair[1], target)
    assert (status, "has metadata" in errors) == (1, True)


def test_pack_of_a_llama_cpp_file_keeps_tokens_and_chunks(run, real_files, tmp_path):
    status, out, _ = run("pack", real_files[0], tmp_path / "x", "--json")
    facts = json.loads(out)
    assert (status, facts["mean_kl"] < 1e-8) == (0, True)
    assert facts["bytes"] <= facts["source_bytes"]
    source, packed = open_source(real_files[0]), open_source(tmp_path / "x")
    np.testing.assert_array_equal(packed.targets(0, 31), source.targets(0, 31))
    np.testing.assert_array_equal(packed.groups(0, 31), source.groups(0, 31))


def test_pack_that_was_interrupted_goes_on(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_CHUNK_BYTES", 7 * 120)

    class Stop(Exception):
        pass

    def progress(state):
        if state.rows >= 16:
            raise Stop

    monkeypatch.setattr(packer, "_BLOCK_BYTES", 8 * 240)
    with pytest.raises(Stop):
        kb.pack(pair[0], tmp_path / "x", progress=progress)
    result = kb.pack(pair[0], tmp_path / "x")
    assert (result.rows_kept, result.rows) == (16, 40)
    np.testing.assert_array_equal(read_all(tmp_path / "x"), decoded(np.load(pair[0])))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run, shell):
    status, out, errors = run("completion", shell)
    assert (status, errors) == (0, "")
    assert "_KULLBACK_COMPLETE" in out
    words = {"COMP_WORDS": "kullback in", "COMP_CWORD": "in" if shell == "fish" else "1"}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **words}
    environment["_KULLBACK_COMPLETE"] = f"{shell}_complete"
    command = [sys.executable, "-m", "kullback.scoring"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "inspect" in done.stdout
    assert "score" not in done.stdout


@pytest.mark.parametrize("command", ["score", "pack", "inspect", "completion"])
def test_help_has_examples_that_are_right(run, command, tmp_path):
    status, out, _ = run(command, "--help")
    assert (status, "Examples:" in out) == (0, True)
    from kullback.scoring.commands import kullback

    examples = [line.split() for line in out.splitlines() if line.startswith("    kullback ")]
    assert examples
    for words in examples:
        words = words[: words.index(">")] if ">" in words else words
        kullback.commands[words[1]].make_context(words[1], words[2:])  # raises for a wrong option
