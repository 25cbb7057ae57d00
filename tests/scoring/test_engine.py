"""The run: right numbers, whatever the memory; parts whole or absent; resuming; refusals before anything is written."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import kullback as kb
from kullback.scoring import InputError, OutputError, UsageError, output, plan, score


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Cut 60 columns of float32 into parts of 7 rows."""
    monkeypatch.setattr(plan, "_PART_BYTES", 7 * 60 * 4)


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def read_rows(directory, name="q"):
    return pq.read_table(sorted((directory / name).glob("*.parquet")))


class Stop(Exception):
    """Raised by a progress callback to break a run off."""


def stop_after(n_rows):
    def progress(state):
        if state.rows >= n_rows:
            raise Stop

    return progress


def test_columns_are_those_of_compare(pair, tmp_path):
    targets = np.arange(40) % 60
    np.save(tmp_path / "t.npy", targets)
    out = tmp_path / "out"
    result = score(*pair, out, targets=tmp_path / "t.npy", group_size=8)
    table = read_rows(out)
    expected = kb.compare(np.load(pair[0]), np.load(pair[1]), targets=targets)
    assert table.column_names == ["row", "group", "target", *expected]
    assert table["row"].to_pylist() == list(range(40))
    assert table["group"].to_pylist() == [row // 8 for row in range(40)]
    assert table["target"].to_pylist() == targets.tolist()
    for name in expected:
        np.testing.assert_array_equal(table[name].to_numpy(), expected[name])
    assert len(list((out / "q").glob("part-*.parquet"))) == 6
    assert (result.parts_written, result.parts_kept, list(result)) == (6, 0, ["q"])
    assert result["q"]["kl"].mean.value == expected["kl"].mean()
    stored = json.loads((out / "summary.json").read_text())
    assert stored["candidates"]["q"]["statistics"]["kl"]["mean"]["value"] == expected["kl"].mean()
    assert result["q"].n_groups == 5


def test_without_targets_and_groups_the_keys_are_null(pair, tmp_path):
    result = score(*pair, tmp_path / "out", metrics="kl,top1_p")
    table = read_rows(tmp_path / "out")
    assert table.column_names == ["row", "group", "target", "kl", "top1_p"]
    assert table["group"].null_count == table["target"].null_count == 40
    assert set(result["q"]) == {"kl"}


def test_bit_identical_for_any_memory_and_threads(pair, tmp_path):
    reference = None
    for number, options in enumerate([{}, {"memory": 1}, {"memory": "3KiB"}, {"memory": "8GiB", "threads": 3}]):
        out = tmp_path / f"out{number}"
        score(*pair, out, group_size=8, **options)
        found = contents(out)
        reference = reference or found
        assert found == reference


def test_several_candidates_of_several_formats(pair, tmp_path, encode):
    p = np.load(pair[0])
    tokens = np.random.default_rng(0).integers(0, 60, 80 * 2)
    (tmp_path / "base.kld").write_bytes(encode(p[:39], tokens, 80))
    np.save(tmp_path / "q.npy", np.load(pair[1])[:39])
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "sub" / "q.npy", p[:39])
    (tmp_path / "base.kld").write_bytes(encode(p[:39], tokens[:80], 80))
    out = tmp_path / "out"
    result = score(tmp_path / "base.kld", [tmp_path / "q.npy", tmp_path / "sub" / "q.npy"], out)
    assert list(result) == ["q", "q-2"]
    assert result["q"].n_groups == 1
    assert result["q-2"]["kl"].mean.value < 1e-6 < 1e-3 < result["q"]["kl"].mean.value
    assert read_rows(out, "q-2")["target"].to_pylist() == tokens[41:80].tolist()
    assert "q-2" in str(result)


@pytest.mark.parametrize("kind", ["probs", "weights", "log_probs"])
def test_kinds(pair, tmp_path, kind):
    logits = [np.load(path).astype(np.float64) for path in pair]
    probs = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in logits]
    for path, values in zip(pair, probs, strict=True):
        np.save(path, {"probs": values, "weights": values * 7, "log_probs": np.log(values)}[kind])
    result = score(*pair, tmp_path / "out", input=kind, metrics=["kl"])
    expected = kb.kl_divergence(*logits, input="logits").mean()
    assert result["q"]["kl"].mean.value == pytest.approx(expected, rel=1e-10)


def test_rows_that_are_not_what_input_says(pair, tmp_path):
    with pytest.raises(InputError, match=r"q.npy, with rows counted from row 0"):
        score(*pair, tmp_path / "out", input="probs")
    assert not list((tmp_path / "out").rglob("part-*"))


def test_infinite_and_undefined_rows_are_counted(tmp_path):
    p = np.random.default_rng(0).normal(size=(20, 60)).astype(np.float32)
    q = p + np.float32(0.5) * np.random.default_rng(1).normal(size=p.shape).astype(np.float32)
    q[3, 5], q[4, 0], q[7] = -np.inf, np.nan, -np.inf
    np.save(tmp_path / "p.npy", p)
    np.save(tmp_path / "q.npy", q)
    kl = score(tmp_path / "p.npy", tmp_path / "q.npy", tmp_path / "out")["q"]["kl"]
    assert (kl.n_finite, kl.n_infinite, kl.n_nan) == (17, 1, 2)
    assert np.isfinite(kl.mean.value)
    assert kl.mean.over_all == kl.maximum == np.inf
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert stored["candidates"]["q"]["statistics"]["kl"]["mean"]["over_all"] == "Infinity"


def test_resuming_gives_the_same_files(pair, tmp_path):
    score(*pair, tmp_path / "whole", group_size=8)
    out = tmp_path / "out"
    with pytest.raises(Stop):
        score(*pair, out, group_size=8, progress=stop_after(21))
    assert len(list((out / "q").iterdir())) == 3
    assert not (out / "summary.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "q").iterdir()}
    result = score(*pair, out, group_size=8, memory="1KiB", threads=2)
    assert (result.parts_kept, result.parts_written) == (3, 3)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    whole, resumed = contents(tmp_path / "whole"), contents(out)
    assert resumed == whole
    assert score(*pair, out, group_size=8).parts_written == 0
    assert contents(out) == whole


def test_resuming_after_a_kill(pair, tmp_path):
    out = tmp_path / "out"
    code = (
        "import os, signal, sys; from kullback.scoring import plan, score; plan._PART_BYTES = 7 * 60 * 4\n"
        "kill = lambda state: state.rows >= 14 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "score(*sys.argv[1:], progress=kill)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, pair), str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    (out / "q" / "part-000004.parquet.1.tmp").write_bytes(b"left over")
    assert score(*pair, out).parts_kept == 2
    score(*pair, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_damaged_or_missing_part_is_made_again(pair, tmp_path):
    out = tmp_path / "out"
    score(*pair, out)
    whole = contents(out)
    (out / "q" / "part-000001.parquet").write_bytes(b"PAR1 but not really")
    (out / "q" / "part-000003.parquet").unlink()
    assert score(*pair, out).parts_written == 2
    assert contents(out) == whole


@pytest.mark.parametrize("change", ["options", "input", "columns", "library"])
def test_another_run_is_refused_and_can_be_overwritten(pair, tmp_path, change, monkeypatch):
    out = tmp_path / "out"
    score(*pair, out)
    whole = contents(out)
    options = {}
    if change == "options":
        options = {"temperature": 2.0}
    elif change == "columns":
        options = {"metrics": ["kl"]}
    elif change == "input":
        q = np.load(pair[1])
        q[20, 30] += 1
        np.save(pair[1], q)
    else:
        from kullback._core import backend

        monkeypatch.setattr(backend, "info", lambda: {"version": "9.9", "backend": "numpy"})
    with pytest.raises(OutputError, match=r"other inputs or options.*--overwrite"):
        score(*pair, out, **options)
    assert contents(out) == whole
    assert score(*pair, out, overwrite=True, **options).parts_written == 6
    assert contents(out) != whole
    assert not list(out.rglob("*.tmp"))


def test_files_of_other_origin_are_never_touched(pair, tmp_path):
    out = tmp_path / "out"
    (out / "q").mkdir(parents=True)
    (out / "q" / "precious").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="not from a scoring run"):
            score(*pair, out, overwrite=overwrite)
    assert contents(out) == {"q/precious": b"mine"}
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written"):
        score(*pair, tmp_path / "file")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{")
    with pytest.raises(OutputError, match=r"damaged; use --overwrite"):
        score(*pair, tmp_path / "damaged")
    assert score(*pair, tmp_path / "damaged", overwrite=True).parts_written == 6


def test_overwriting_stays_within_the_directory(pair, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "part-000000.parquet").write_text("mine")
    out = tmp_path / "out"
    score(*pair, out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["candidates"] = ["../victim", str(victim), "..", "q"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    score(*pair, out, overwrite=True)
    assert (victim / "part-000000.parquet").read_text() == "mine"


def test_full_disk_leaves_finished_parts_only(pair, tmp_path, monkeypatch):
    out = tmp_path / "out"
    calls = []

    def failing(file_descriptor):
        calls.append(file_descriptor)
        if len(calls) > 8:  # two calls for each file: its content and its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(output.os, "fsync", failing)
    with pytest.raises(OutputError, match=r"part-000003.parquet cannot be written: the disk is full") as caught:
        score(*pair, out)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in (out / "q").iterdir()) == [f"part-{n:06d}.parquet" for n in range(3)]
    monkeypatch.undo()
    monkeypatch.setattr(plan, "_PART_BYTES", 7 * 60 * 4)
    assert score(*pair, out).parts_kept == 3


def test_truncated_reference_is_scored_with_a_warning(pair, tmp_path):
    content = pair[0].read_bytes()
    pair[0].write_bytes(content[: -60 * 4 * 3 - 1])
    result = score(*pair, tmp_path / "out")
    assert read_rows(tmp_path / "out").num_rows == result["q"].n_rows == 36
    assert any("p.npy is truncated: 36 whole rows of the 40" in warning for warning in result.warnings)
    assert any("q.npy: only its first 36 of 40 rows" in warning for warning in result.warnings)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"] == list(result.warnings)


def test_vocabularies_of_different_size(pair, tmp_path):
    q = np.load(pair[1])
    np.save(pair[1], np.pad(q, ((0, 0), (0, 4)), constant_values=-1000))
    with pytest.raises(InputError, match=r"64 columns.*has 60.*vocab_size \(--vocab-size 60\)"):
        score(*pair, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = score(*pair, tmp_path / "out", vocab_size=60)
    assert result["q"]["kl"].mean.value == kb.kl_divergence(np.load(pair[0]), q, input="logits").mean()
    with pytest.raises(InputError, match=r"vocab_size is 61 but .*p.npy has only 60"):
        score(*pair, tmp_path / "out2", vocab_size=61)


def test_inputs_that_do_not_fit(pair, tmp_path, encode):
    np.save(tmp_path / "short.npy", np.zeros((39, 60), np.float32))
    with pytest.raises(InputError, match=r"39 rows but the reference .* 40"):
        score(pair[0], tmp_path / "short.npy", tmp_path / "out")
    for values, message in (([0] * 39, "39 token ids; expected one per row, 40"), ([0] * 39 + [60], "row 39 is 60")):
        np.save(tmp_path / "t.npy", values)
        with pytest.raises(InputError, match=message):
            score(*pair, tmp_path / "out", targets=tmp_path / "t.npy")
    rows = np.zeros((2, 4))
    files = {
        "a": encode(rows, [0, 1, 2, 3, 0, 1], 6),
        "b": encode(rows, [0, 1, 2, 3, 0, 2], 6),
        "c": encode(rows, [0, 1, 2] * 2, 3),
        "d": encode(rows, [0, 1, 2, 3, 0, 9], 6),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for names, message in (("ab", "other tokens"), ("ac", "n_ctx 3 but the reference has 6"), ("dd", "is 9, outside")):
        with pytest.raises(InputError, match=message):
            score(tmp_path / names[0], tmp_path / names[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": ["nonsense"]},
        {"metrics": []},
        {"metrics": ["rank_p"]},  # needs targets
        {"temperature": 0},
        {"temperature": float("nan")},
        {"vocab_size": 0},
        {"group_size": 0},
        {"input": "nonsense"},
        {"input": "probs", "temperature": 2.0},
        {"kld_rule": "nonsense"},
        {"kld_rule": "llama.cpp", "metrics": ["kl"]},
        {"engine": "mpi"},
        {"ray_address": "auto"},
        {"threads": 0},
        {"memory": "lots"},
        {"memory": 0},
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(pair, tmp_path, options):
    with pytest.raises(UsageError) as caught:
        score(*pair, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_memory_sizes():
    from kullback.scoring.options import parse_memory

    assert parse_memory(1000) == parse_memory("1000") == 1000
    assert parse_memory("512MiB") == parse_memory("512 mb") == parse_memory("0.5G") == 1 << 29


def test_candidate_names_are_safe_and_distinct():
    from kullback.scoring.inputs import candidate_names

    paths = ["a/q.npy", "b/q.kld", "Q.npy", "..npy", "x/summary.json.npy", "ä b;c.npy", ".hidden"]
    names = candidate_names([Path(path) for path in paths])
    assert names[:3] == ["q", "q-2", "Q-3"]
    assert names[4] == "summary.json-2"
    assert len({name.lower() for name in names}) == len(names)
    assert all(name and not name.startswith(".") and name.isascii() and "/" not in name for name in names)


def test_large_blocks_are_not_kept(tmp_path):
    """Peak memory of a process that scores 2 x 480 MB (sparse) must stay far below that."""
    for name in "pq":
        with (tmp_path / f"{name}.npy").open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (120_000, 1000)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 480_000_000)
    code = (
        "import resource, sys; from kullback.scoring import rules, score; import numpy as np\n"
        "rules.Comparer.compare = lambda self, source, p, q, targets, start: {'kl': p.max(axis=1) + q.max(axis=1)}\n"
        "score(*sys.argv[1:], metrics='kl', memory='64MiB')\n"
        # On Linux ru_maxrss begins with the peak of the process that started this one: all of pytest.
        "lines = open('/proc/self/status') if sys.platform == 'linux' else ()\n"
        "own = [int(line.split()[1]) for line in lines if line.startswith('VmHWM:')]\n"
        "print(*own or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "p.npy"), str(tmp_path / "q.npy"), str(tmp_path / "out")]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert int(done.stdout) * 1024 < 400e6
