"""The benchmark scripts run, check their values and report what their README says; no time is judged."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import oracle
import pytest

from kullback.bench import truth

BENCHES = Path(__file__).parents[1] / "benches"


def run(tmp_path, script, *options):
    """Run a script in tiny sizes; return what it printed and its JSON report."""
    report = tmp_path / "report.json"
    command = [sys.executable, str(BENCHES / script), "--quick", "--json", str(report), *options]
    environment = {**os.environ, "KULLBACK_BACKEND": "auto", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(report.read_text(encoding="utf-8"))


def check_environment(printed, environment):
    assert environment["kullback"]["version"] in printed
    assert environment["cpu"]
    assert environment["packages"]["numpy"] == np.__version__
    assert "load average before the run" in printed


def release_build():
    if not helpers.NATIVE:
        return False
    from kullback._core import _native

    return _native.build_profile() == "release"


needs_release = pytest.mark.skipif(not release_build(), reason="needs the native module, built for release")


@needs_release
def test_compare_peers(tmp_path):
    # numba would spend most of the test compiling.
    printed, report = run(tmp_path, "compare_peers.py", "--peers", "scipy,torch", "--section", "kl,peers,calls")
    check_environment(printed, report["environment"])
    assert report["size"]["quick"]
    assert {(row["noise"], row["threads"]) for row in report["kl"]} == {
        (n, t) for n in (0.05, 0.3, 1.0) for t in (1, 2)
    }
    for row in report["kl"]:
        assert 0 < row["kl"] < 1
        assert 0 <= row["worst_error"] < 1e-6
        assert row["fraction"] >= max(row["of_read"], row["of_exp"]) * (1 - 1e-12) > 0
        assert row["gb_per_s"] > 0
        assert row["exp_g_per_s"] > 0
    assert [(row["peer"], row["call"]) for row in report["peers"] if row["peer"] == "scipy" and row["timed"]] in (
        [("scipy", "kl"), ("scipy", "js")],
        [],
    )
    for row in report["peers"]:
        assert not row["timed"] or (row["gb_per_s"] > 0 and row["times_kullback"] > 0 and row["worst_error"] < 1e-2)
    calls = {row["call"] for row in report["calls"]}
    assert {"kl_divergence, float32 logits", "compare, every default column and targets"} < calls
    assert len(calls) == 6
    for row in report["calls"]:
        assert row["rows_per_s"] > 0
        assert row["times_kl"] > 0


@needs_release
def test_shapes(tmp_path):
    printed, report = run(tmp_path, "compare_peers.py", "--peers", "scipy", "--section", "shapes")
    shapes = report["shapes"]
    assert [row["columns"] for row in shapes["vocabularies"]][:2] == [1_000, 64_128]
    base = next(row for row in shapes["vocabularies"] if row["columns"] == 128_256)
    assert base["kl"]["times_linear"] == base["compare"]["times_linear"] == 1.0
    for title, names in (("columns", ("kl", "js", "compare")), ("columns_probs", ("kl", "js", "jeffreys"))):
        assert [row["columns"] for row in shapes[title]] == [8, 48, 256]
        for row in shapes[title]:
            assert row["rows"] == (1 << 17) // row["columns"]
            assert all(row[name]["ns_per_pair"] > 0 and row[name]["times_linear"] > 0 for name in names)
    assert {(row["dtype"], row["kind"]) for row in shapes["histograms"]} == {
        ("float32", "probs"),
        ("float64", "probs"),
        ("float32", "weights"),
    }
    for row in shapes["histograms"]:
        assert row["rows_per_s"] > 0
        assert row["worst_error"] < (1e-6 if row["dtype"] == "float32" else 1e-12)
        assert row["scipy_times"] is None or row["scipy_times"] > 0
    assert "2,000 histograms of 64 bins" in printed


@needs_release
def test_pairwise(tmp_path):
    printed, report = run(tmp_path, "pairwise.py", "--peers", "numkong,scipy,numpy")
    check_environment(printed, report["environment"])
    assert report["size"]["quick"]
    assert [entry["metric"] for entry in report["metrics"]] == ["kl", "js_distance"]
    for entry in report["metrics"]:
        ours, *others = entry["libraries"]
        assert ours["library"] == "kullback"
        assert ours["worst_error"] < 1e-6
        assert ours["times_kullback"] == 1.0
        assert all(other["pairs_per_s"] > 0 and other["times_kullback"] > 0 for other in others)


def test_compare_peers_refuses_an_unknown_peer():
    command = [sys.executable, str(BENCHES / "compare_peers.py"), "--quick", "--peers", "scipi"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "got scipi" in done.stderr


@pytest.mark.parametrize("markdown", [False, True])
def test_accuracy(tmp_path, markdown):
    printed, report = run(tmp_path, "accuracy.py", *(["--markdown"] if markdown else []))
    check_environment(printed, report["environment"])
    assert ("| true KL" in printed) == markdown
    for name in ("kl", "js"):
        true = [entry["true"] for entry in report[name]]
        assert true == sorted(true, reverse=True)
        assert 1e-2 < true[0] < 1
        assert 1e-12 < true[-1] < 1e-9
        for entry in report[name]:
            assert entry["methods"]["kullback"]["worst_error"] < 1e-6
            assert entry["methods"]["kullback"]["odd"] == ""
            assert len(entry["methods"]) >= 2
    distances = report["disjoint_js_distance"]
    assert distances["true"] == pytest.approx(math.sqrt(math.log(2)), rel=1e-15)
    assert distances["kullback"] == pytest.approx(distances["true"], rel=1e-6)


@pytest.mark.parametrize("noise", [1.0, 1e-2, 1e-5])
def test_the_truth_is_true(noise, rng):
    p = (rng.normal(size=300) * 4).astype(np.float32)
    q = (p + rng.normal(size=300) * noise).astype(np.float32)
    exact = oracle.distribution(p, "logits"), oracle.distribution(q, "logits")
    for dtype, rtol in ((np.float64, 1e-9), (np.longdouble, 1e-9 if np.finfo(np.longdouble).nmant < 60 else 1e-11)):
        row = truth.Truth(p, q, dtype=dtype)
        for name in ("kl", "reverse_kl", "js", "js_distance", "jeffreys", "total_variation", "squared_hellinger"):
            assert row.value(name) == pytest.approx(oracle.value(name, *exact), rel=rtol), name
    columns = truth.columns(
        ["entropy_p", "log_prob_q", "delta_prob", "rank_p", "top1_q", "top1_prob_q", "overlap_5", "kl"],
        *(side[np.newaxis] for side in (p, q)),
        np.array([7]),
    )
    assert columns["entropy_p"] == pytest.approx(oracle.value("entropy", exact[0], ()), rel=1e-12)
    assert columns["log_prob_q"] == pytest.approx(math.log(exact[1][7]), rel=1e-12)
    assert columns["delta_prob"] == pytest.approx(float(exact[1][7] - exact[0][7]), rel=1e-9)
    assert columns["rank_p"] == 1 + int((p > p[7]).sum())
    assert columns["top1_q"] == q.argmax()
    assert columns["top1_prob_q"] == pytest.approx(float(max(exact[1])), rel=1e-12)
    assert columns["overlap_5"] == len({*np.argsort(p)[-5:]} & {*np.argsort(q)[-5:]}) / 5
    probs = [np.array([[float(x) for x in side]]) for side in exact]
    for kind, rows in (("probs", probs), ("weights", [3 * side for side in probs])):
        if noise > 1e-4:
            assert truth.values(["kl"], *rows, kind=kind)["kl"] == pytest.approx(oracle.value("kl", *exact), rel=1e-9)


def test_instruction_counts_are_judged(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(BENCHES))
    import instructions

    record = {"kl": 2.0, "js": 5.0}
    for found, worse, better, change in (
        ({"kl": 2.0, "js": 5.4}, False, False, "+8.0 %"),
        ({"kl": 2.0, "js": 5.6}, True, False, "+12.0 %"),
        ({"kl": 2.0, "js": 4.0}, False, True, "-20.0 %"),
        ({"kl": 2.0}, True, False, "missing"),
    ):
        rows, *verdict = instructions.judge(found, record)
        assert verdict == [worse, better]
        assert rows[0][-1] == change

    # A program that takes 700 instructions to start and 40 for each repeat.
    monkeypatch.setattr(instructions, "instructions", lambda _program, kernel, repeats: 700 + repeats * len(kernel))
    assert instructions.cost("program", "k" * 40) == 40
    monkeypatch.setattr(instructions, "build", str)
    monkeypatch.setattr(instructions, "measure", lambda _: {"kl": 3.0, "js": 5.0})
    monkeypatch.setattr(instructions, "BASELINE", tmp_path / "record.json")
    monkeypatch.setattr(instructions.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(instructions.shutil, "which", lambda _: "valgrind")
    instructions.BASELINE.write_text(json.dumps(record))
    assert instructions.main([]) == 1
    assert "+50.0 %" in capsys.readouterr().out
    assert instructions.main(["--update"]) == 0
    assert json.loads(instructions.BASELINE.read_text()) == {"kl": 3.0, "js": 5.0}


def test_every_kernel_that_is_counted_is_on_record():
    source = (BENCHES / "instructions.rs").read_text(encoding="utf-8")
    counted = re.findall(r'^    \("(\w+)", Kind::', source, re.MULTILINE)
    record = json.loads((BENCHES / "instructions.json").read_text(encoding="utf-8"))
    assert counted[0] == "exp"
    assert sorted(kernel.split("-")[0] for kernel in record) == sorted(counted[1:])
    assert all(ratio > 1 for ratio in record.values())


def test_scoring(tmp_path):
    pytest.importorskip("pyarrow")
    printed, report = run(tmp_path, "scoring.py", "--engines", "local", "--rounds", "2", "--folder", str(tmp_path))
    check_environment(printed, report["environment"])
    ways = [row["way"] for row in report["rates"]]
    assert ways == ["compare, in memory", "score, local", "score, local, 8 candidates", "a further candidate, local"]
    assert all(row["seconds"] > 0 for row in report["rates"][:2])
    assert not list(tmp_path.glob("scoring-*"))


@needs_release
def test_sinkhorn(tmp_path):
    printed, report = run(tmp_path, "sinkhorn.py", "--threads", "1", "--peers", "none")
    check_environment(printed, report["environment"])
    assert report["iteration"]["milliseconds"] > 0
    assert len(report["problems"]) == 7
    for table in [*(problem["rows"] for problem in report["problems"]), report["batch"]]:
        assert table["kullback"]["error"] < 1.5e-6
        assert table["kullback"]["seconds"] > 0
