"""The benchmark scripts run, check their values and report what their README says; no time is judged."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import oracle
import pytest

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


@pytest.mark.skipif(not release_build(), reason="needs the native module, built for release")
def test_compare_peers(tmp_path):
    # numba would spend most of the test compiling.
    printed, report = run(tmp_path, "compare_peers.py", "--peers", "scipy,torch")
    check_environment(printed, report["environment"])
    assert report["size"]["quick"]
    assert {(row["noise"], row["threads"]) for row in report["kl"]} == {
        (n, t) for n in (0.05, 0.3, 1.0) for t in (1, 2)
    }
    for row in report["kl"]:
        assert 0 < row["kl"] < 1
        assert 0 <= row["worst_error"] < 1e-6
        assert row["of_roofline"] >= row["of_read_rate"] > 0
        assert row["gb_per_s"] > 0
        assert row["exp_g_per_s"] > 0
    assert [row["peer"] for row in report["peers"]] == ["scipy", "torch"]
    for row in report["peers"]:
        assert not row["installed"] or (row["gb_per_s"] > 0 and row["times_kullback"] > 0 and row["worst_error"] < 1e-2)
    calls = {row["call"] for row in report["calls"]}
    assert {"kl_divergence, float32 logits", "compare, every default column and targets"} < calls
    assert len(calls) == 6
    for row in report["calls"]:
        assert row["rows_per_s"] > 0
        assert row["times_kl"] > 0


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
def test_the_truth_is_true(monkeypatch, noise, rng):
    monkeypatch.syspath_prepend(str(BENCHES))
    import truth

    p = (rng.normal(size=300) * 4).astype(np.float32)
    q = (p + rng.normal(size=300) * noise).astype(np.float32)
    exact = oracle.distribution(p, "logits"), oracle.distribution(q, "logits")
    for dtype, rtol in ((np.float64, 1e-9), (np.longdouble, 1e-9 if np.finfo(np.longdouble).nmant < 60 else 1e-11)):
        row = truth.Truth(p, q, dtype=dtype)
        for name in ("kl", "reverse_kl", "js", "js_distance", "jeffreys", "total_variation", "squared_hellinger"):
            assert row.value(name) == pytest.approx(oracle.value(name, *exact), rel=rtol), name
    columns = truth.Truth(p, q).columns(target=7)
    assert columns["entropy_p"] == pytest.approx(oracle.value("entropy", exact[0], ()), rel=1e-12)
    assert columns["log_prob_q"] == pytest.approx(math.log(exact[1][7]), rel=1e-12)
    assert columns["rank_p"] == 1 + int((p > p[7]).sum())
    probs = [np.array([float(x) for x in side]) for side in exact]
    if noise > 1e-4:
        value = truth.values("kl", *(side[np.newaxis] for side in probs), kind="probs")[0]
        assert value == pytest.approx(oracle.value("kl", *exact), rel=1e-9)


@pytest.mark.skipif(not release_build(), reason="needs the native module, built for release")
def test_sinkhorn(tmp_path):
    printed, report = run(tmp_path, "sinkhorn.py", "--threads", "1", "--peers", "none")
    check_environment(printed, report["environment"])
    assert report["iteration"]["milliseconds"] > 0
    assert len(report["problems"]) == 7
    for table in [*(problem["rows"] for problem in report["problems"]), report["batch"]]:
        assert table["kullback"]["error"] < 1.5e-6
        assert table["kullback"]["seconds"] > 0
