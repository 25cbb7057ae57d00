"""``kullback bench``: sizes that fit, values checked before they are timed, tables, JSON, charts; no time is judged."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import helpers
import numpy as np
import oracle
import pytest

import kullback as kb
from kullback.bench import Settings, WrongValueError, chart, checks, measure, peers, settings, truth
from kullback.bench.data import Data
from kullback.bench.kernels import PARAMETERS, check_kernels, exponentials
from kullback.bench.machine import Machine
from kullback.bench.settings import Plan
from kullback.bench.timing import Timings, interleave
from kullback.scoring import cli
from kullback.scoring.errors import UsageError

measuring = sys.modules["kullback.bench.measure"]
QUICK = ("bench", "--quick", "--seconds", "0.01", "--quiet")


def release_build():
    if not helpers.NATIVE:
        return False
    from kullback._core import _native

    return _native.build_profile() == "release"


needs_release = pytest.mark.skipif(not release_build(), reason="needs the native module, built for release")


@pytest.fixture
def run(capsys):
    """Run the command in this process and return status, output and errors."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


def one_sentence(errors):
    assert errors.startswith("kullback: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    return errors


# What is printed --------------------------------------------------------------------------------


@needs_release
def test_the_table_has_every_name_of_the_registry(run):
    status, out, errors = run(*QUICK, "--no-peers")
    assert (status, errors) == (0, "")
    first_words = [line.split()[0] for line in out.splitlines() if line.strip()]
    for name in (*kb.divergence_names(), "entropy", "compare"):
        assert name in first_words
    assert "of limit" in out
    assert f"numpy {np.__version__}" in out
    assert "load average after the run" in out
    assert "tiny sizes: a test, not a measurement" in out


@needs_release
def test_json_holds_what_was_measured(run):
    status, out, _ = run(*QUICK, "--no-peers", "--json", "--names", "js,kl,entropy", "--threads", "1", "--rows", "3")
    report = json.loads(out)
    assert status == 0
    assert [kernel["name"] for kernel in report["kernels"]] == ["js", "kl", "entropy"]
    assert (report["size"]["rows"], report["size"]["threads"], report["peers"]) == (3, 1, [])
    assert report["environment"]["kullback"]["isa"] == kb.info()["isa"]
    assert report["machine"]["rounds"] >= 3
    for kernel in report["kernels"]:
        read = 5003 * 4 * 3 * (1 if kernel["name"] == "entropy" else 2)
        assert kernel["gb_per_s"] * kernel["seconds"] * 1e9 == pytest.approx(read)
        assert kernel["rows_per_s"] * kernel["seconds"] == pytest.approx(3)
        assert kernel["fraction"] >= max(kernel["of_read"], kernel["of_exp"]) * (1 - 1e-12)
        assert kernel["worst_error"] < 1e-6


@needs_release
def test_memory_is_stated_before_anything_is_measured(run, monkeypatch):
    def fail(*_, **__):
        raise ValueError("measuring began")

    monkeypatch.setattr(measuring, "measure", fail)
    status, out, errors = run("bench", "--rows", "10", "--vocab-size", "1000", "--no-peers")
    assert (status, out) == (1, "")
    assert errors.splitlines() == [
        "kullback: 10 rows of 1,000 float32 logits a side, 0 MiB of arrays",
        "kullback: measuring began",
    ]


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "0"], "rows must be at least 1; got 0"),
        (["--vocab-size", "-4"], "vocab_size must be at least 1; got -4"),
        (["--threads", "0"], "threads must be from 1 to 1024; got 0"),
        (["--dtype", "int8"], "'int8' is not one of"),
        (["--input", "counts"], "'counts' is not one of"),
        (["--dtype", "float16", "--input", "probs"], "float16 cannot hold small probabilities"),
        (["--names", "kl,nonsense"], "got nonsense"),
        (["--names", ","], "names must name at least one kernel"),
        (["--noise", "0"], "noise must be from 1e-6 to 10; got 0"),
        (["--noise", "nan"], "noise must be from 1e-6 to 10; got nan"),
        (["--seconds", "-1"], "seconds must be above 0"),
        (["--memory", "lots"], "512MiB"),
        (["--rows", "1000", "--memory", "1MiB"], "and memory is 1 MiB; fewer rows"),
        (["--memory", "1KiB"], "1 rows of 128,256 columns need"),
        (["--plot", "chart.jpg"], "must end in .png, .svg, .pdf; got chart.jpg"),
    ],
)
@needs_release
def test_wrong_usage(run, arguments, message):
    status, out, errors = run("bench", *arguments)
    assert (status, out) == (2, "")
    assert message in one_sentence(errors)


@needs_release
def test_a_chart_that_cannot_be_written_is_refused_first(run, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: pytest.fail("measured in vain"))
    status, _, errors = run("bench", "--plot", tmp_path / "missing" / "chart.png")
    assert (status, "is not a folder" in one_sentence(errors)) == (1, True)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, _, errors = run("bench", "--plot", tmp_path / "chart.png")
    assert (status, "pip install 'kullback[plot]'" in one_sentence(errors)) == (2, True)


def test_numpy_is_not_measured(run):
    with kb.use_backend("numpy"):
        status, _, errors = run(*QUICK)
    assert (status, "need the native module" in one_sentence(errors)) == (1, True)


@needs_release
def test_a_wrong_value_stops_the_run(run, monkeypatch):
    right = kb.divergence
    monkeypatch.setattr(kb, "divergence", lambda *rows, **options: right(*rows, **options) * 1.002)
    monkeypatch.setattr(measuring, "interleave", lambda *_, **__: pytest.fail("a wrong value was timed"))
    status, out, errors = run(*QUICK, "--names", "js")
    assert (status, out) == (1, "")
    assert one_sentence(errors) == "kullback: js is wrong: relative error 0.002, allowed 1e-06\n"


@needs_release
def test_one_wrong_row_of_compare_stops_the_run(run, monkeypatch):
    right = kb.compare

    def wrong(*rows, **options):
        found = right(*rows, **options)
        found["rank_q"][-1] += 1
        return found

    monkeypatch.setattr(kb, "compare", wrong)
    status, _, errors = run(*QUICK, "--names", "compare")
    assert (status, "compare()['rank_q'] is wrong" in one_sentence(errors)) == (1, True)


def test_a_name_without_a_formula_is_refused(monkeypatch):
    monkeypatch.setattr(truth, "NAMES", ("js",))
    with pytest.raises(WrongValueError, match="no independent formula for kl"):
        check_kernels(["js", "kl"], Data(Settings(quick=True).plan()), threads=1)


@needs_release
def test_an_interruption_is_one_sentence():
    code = "import sys; from kullback.scoring.cli import main; main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, "bench", "--rows", "8", "--seconds", "600", "--no-peers"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        announcement = child.stderr.readline()
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        out, errors = child.communicate(timeout=60)
    assert announcement.startswith("kullback: 8 rows of 128,256 float32 logits a side, ")
    assert (child.returncode, out, errors) == (130, "", "kullback: interrupted; nothing was kept\n")


# Sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["40MiB", "300MiB", "1GiB"])
@pytest.mark.parametrize("dtype", list(settings.DTYPES))
def test_rows_are_chosen_to_fit(memory, dtype):
    plan = Settings(memory=memory, dtype=dtype).plan()
    budget = settings.parse_memory(memory)
    assert 1 <= plan.rows <= 256
    assert plan.bytes_needed <= budget
    if plan.rows < 256:
        with pytest.raises(UsageError, match=f"{plan.rows + 1} rows of 128,256 columns need"):
            Settings(memory=memory, dtype=dtype, rows=plan.rows + 1).plan()


def test_short_rows_are_more_rows():
    assert Settings(vocab_size=64).plan().pairs == pytest.approx(Settings().plan().pairs, rel=1e-3)
    assert Settings(quick=True).plan().pairs < 100_000


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_the_rows_take_the_memory_that_was_stated(dtype):
    plan = Plan.of(50, 3000, dtype=dtype, peers=False)
    data = Data(plan)
    arrays = data.p.nbytes + data.q.nbytes
    reading = data.to_read()
    assert reading.nbytes == arrays
    assert np.shares_memory(reading, data.p) == (dtype == "float32")
    assert arrays + (0 if dtype == "float32" else reading.nbytes) <= plan.bytes_needed


def test_rows_repeat_what_was_drawn():
    data = Data(Plan.of(10_000, 8))
    assert data.plan.distinct == 4096
    for array in (data.p, data.q, data.targets):
        np.testing.assert_array_equal(array[4096:8192], array[:4096])
    assert len(np.unique(data.p[:4096], axis=0)) == 4096
    values = data.repeated(np.arange(4096))
    assert (values[0], values[4096], values[9999]) == (0, 0, 9999 - 2 * 4096)


# float16 holds no probabilities as small as these; the command refuses them.
TYPES_AND_KINDS = {*itertools.product(settings.DTYPES, settings.KINDS)} - {("float16", "probs")}


@pytest.mark.parametrize(("dtype", "kind"), sorted(TYPES_AND_KINDS))
def test_every_type_of_every_kind_passes_its_check(dtype, kind):
    data = Data(Plan.of(6, 700, dtype=dtype, kind=kind))
    if kind == "probs":
        np.testing.assert_allclose(data.p.astype(np.float64).sum(axis=-1), 1.0, atol=1e-2)
    errors = check_kernels(settings.known_names(), data, threads=1)
    assert list(errors) == settings.known_names()
    assert max(errors.values()) <= checks.promised(dtype, 0.3)


# Truth ------------------------------------------------------------------------------------------


TEXTBOOK = {
    "skew_kl": lambda p, q: np.sum(p * np.log(p / (0.1 * p + 0.9 * q))),
    "chi2": lambda p, q: np.sum((p - q) ** 2 / q),
    "neyman_chi2": lambda p, q: np.sum((p - q) ** 2 / p),
    "triangular_discrimination": lambda p, q: np.sum((p - q) ** 2 / (p + q)),
    "alpha": lambda p, q: (np.sum(np.sqrt(p * q)) - 1) / (0.5 * -0.5),
    "renyi": lambda p, q: np.log(np.sum(p**2 / q)),
    "bhattacharyya": lambda p, q: -np.log(np.sum(np.sqrt(p * q))),
    "cauchy_schwarz": lambda p, q: -np.log(np.sum(p * q) ** 2 / (np.sum(p**2) * np.sum(q**2))),
    "fisher_rao": lambda p, q: 2 * np.arccos(np.sum(np.sqrt(p * q))),
    "acceptance_rate": lambda p, q: np.sum(np.minimum(p, q)),
}


@pytest.mark.parametrize("name", truth.NAMES)
def test_every_formula_is_the_textbook_one(name, rng):
    x = rng.normal(size=(3, 40)) * 2
    y = x + rng.normal(size=x.shape)
    found = truth.values([name], x, y)[name]
    for row in range(3):
        if name in TEXTBOOK:
            p, q = (np.exp(side[row] - np.logaddexp.reduce(side[row])) for side in (x, y))
            assert found[row] == pytest.approx(TEXTBOOK[name](p, q), rel=1e-12)
        else:
            exact = (oracle.distribution(side[row], "logits") for side in (x, y))
            assert found[row] == pytest.approx(oracle.value(name, *exact), rel=1e-12)


@pytest.mark.parametrize("noise", [1e-2, 1e-5])
def test_the_truth_keeps_its_digits_where_rows_are_close(noise, rng):
    x = rng.normal(size=(2, 60)) * 3
    y = x + rng.normal(size=x.shape) * noise
    wide = truth.values(truth.NAMES, x, y, dtype=np.longdouble)
    for name, found in truth.values(truth.NAMES, x, y).items():
        np.testing.assert_allclose(found, wide[name].astype(np.float64), rtol=1e-14 / noise, err_msg=name)


def test_every_name_of_the_registry_has_a_formula_and_its_options():
    assert set(kb.divergence_names()) <= set(truth.NAMES)
    assert set(PARAMETERS) <= set(truth.NAMES)


def test_worst_error():
    assert checks.worst_error([1.0, 2.0], [1.0, 2.002]) == pytest.approx(0.002 / 2.002)
    assert checks.worst_error([np.inf, 0.0], [np.inf, 0.0]) == 0.0
    assert np.isnan(checks.worst_error([np.nan], [1.0]))
    for wrong in (np.nan, 1.1, np.inf):
        with pytest.raises(WrongValueError, match="a thing is wrong"):
            checks.check("a thing", [1.0, wrong], [1.0, 1.0], 1e-6)


# Timing and limits ------------------------------------------------------------------------------


def test_rounds_take_everyone_once_in_changing_order():
    calls, shares = [], []
    contestants = {name: partial(calls.append, name) for name in "abc"}
    timings = interleave(contestants, 6, progress=shares.append)
    rounds = [tuple(calls[start : start + 3]) for start in range(3, len(calls), 3)]
    assert [sorted(turn) for turn in rounds] == [list("abc")] * 6
    assert len(set(rounds)) > 1
    assert (timings.rounds, shares == sorted(shares), shares[-1]) == (6, True, 1.0)
    assert 3 <= interleave(contestants, seconds=1e-9).rounds < interleave(contestants, seconds=1e9).rounds


def test_ratios_are_medians_of_rounds():
    timings = Timings({"a": [1.0, 40.0, 3.0], "b": [2.0, 20.0, 2.0]})
    assert (timings.median("a"), timings.ratio("a", "b")) == (3.0, 1.5)


@needs_release
def test_the_limit_is_the_slower_of_reading_and_exponentials():
    machine = Machine(np.ones(1 << 16, np.float32), 1 << 16, threads=1)
    timings = Timings({"read": [1.0, 1.0], "exp": [2.0, 4.0], "call": [8.0, 8.0]})
    share = measuring.Share(machine, timings)
    assert share.read_rate == 1 << 18
    found = share.of("call", n_bytes=1 << 18, n_exponentials=1 << 16)
    assert (found["limit"], found["of_read"]) == ("exp", 1 / 8)
    assert found["of_exp"] == found["fraction"] == pytest.approx((2 / 8 + 4 / 8) / 2)
    assert share.of("call", n_bytes=1 << 22, n_exponentials=0) == {
        "limit": "read",
        "fraction": 2.0,
        "of_read": 2.0,
        "of_exp": 0.0,
    }
    assert share.of_seconds(3.0, n_bytes=0, n_exponentials=1 << 16) == 1.0


@needs_release
@pytest.mark.parametrize("wide", [False, True])
def test_probes_count_what_they_do(wide):
    machine = Machine(np.ones(1000, np.float32), 3 * 4096, threads=2, wide=wide)
    assert machine.read_rate(2.0) == 2000
    assert machine.exp_rate(1.0) == 2 * 4096  # one repeat of 4,096 numbers on each of two threads
    total = machine.probes["exp"]()
    assert total == pytest.approx(2 * np.exp(np.linspace(-5, 5, 4096)).sum(), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("kl", "logits", 2),
        ("entropy", "logits", 1),
        ("compare", "log_probs", 2),
        ("kl", "probs", 1),
        ("total_variation", "weights", 0),
        ("total_variation", "logits", 2),
    ],
)
def test_exponentials(name, kind, count):
    assert exponentials(name, kind) == count


# Other libraries --------------------------------------------------------------------------------


@needs_release
def test_other_libraries_that_are_installed_take_part():
    pytest.importorskip("scipy")
    code = "import sys; from kullback.bench import peers; peers._LOADERS.pop('numba'); "
    code += "peers.NAMES = tuple(peers._LOADERS); from kullback.scoring.cli import main; main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *QUICK, "--json", "--names", "kl,js,entropy"]  # numba would compile for long
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["peers"]
    installed = [name for name in peers.NAMES if peers.importlib.util.find_spec(name) and name != "numba"]
    assert list(dict.fromkeys(peer["peer"] for peer in found)) == installed
    assert {peer["name"] for peer in found if peer["peer"] == "scipy"} == {"kl", "js", "entropy"}
    for peer in found:
        assert peer["version"]
        assert peer["timed"] == (peer["worst_error"] <= peers.TOLERANCE)
        assert not peer["timed"] or (peer["gb_per_s"] > 0 and peer["times_kullback"] > 0 and peer["fraction"] > 0)
    assert all(peer["timed"] for peer in found if peer["peer"] in ("scipy", "jax", "torch"))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, dtype) for kind in settings.KINDS for dtype in ("float32", "float64")), ("logits", "bfloat16")],
)
def test_scipy_takes_every_kind(kind, dtype):
    pytest.importorskip("scipy")
    data = Data(Plan.of(3, 400, kind=kind, dtype=dtype))
    wanted = ("kl", "reverse_kl", "js", "jeffreys", "entropy", "total_variation")
    calls = peers.load("scipy", 1).calls(wanted, kind, data.p, data.q)
    assert list(calls) == ["kl", "reverse_kl", "js", "jeffreys", "entropy"]
    exact = truth.values(calls, data.p, data.q, kind)
    for name, call in calls.items():
        np.testing.assert_allclose(call(), exact[name], rtol=1e-12 if dtype == "float64" else 1e-4, err_msg=name)


@needs_release
def test_a_wrong_library_is_shown_but_not_timed(run, monkeypatch):
    timed = []

    def wrong(name, kind):
        def values(x, y):
            timed.append(name)
            return truth.values([name], x, y, kind)[name] * 1.05

        return values if name == "kl" else None

    monkeypatch.setattr(peers, "NAMES", ("wrong", "missing"))
    monkeypatch.setattr(peers, "load", lambda name, _: peers.Peer("wrong", 1, wrong) if name == "wrong" else None)
    status, out, errors = run(*QUICK, "--names", "kl,js")
    assert (status, errors, timed) == (0, "", ["kl"])
    line = next(line for line in out.splitlines() if line.startswith("wrong"))
    assert line.split() == ["wrong", "kl", "1", "-", "-", "not", "timed:", "wrong", "5e-02"]


# Charts -----------------------------------------------------------------------------------------


def report_of(kernels, found=()):
    return {
        "environment": {"cpu": "A processor", "kullback": {"isa": "avx2", "version": "1.2"}},
        "machine": {"read_gb_per_s": 20.0, "exp_g_per_s": 5.0},
        "size": {"rows": 2, "vocab_size": 9, "dtype": "float32", "input": "probs", "noise": 0.3, "threads": 1},
        "kernels": [
            {"name": name, "fraction": share, "limit": limit, "gb_per_s": 20 * share} for name, share, limit in kernels
        ],
        "peers": list(found),
    }


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_charts(tmp_path, suffix, magic):
    pytest.importorskip("matplotlib")
    peer = {"peer": "scipy", "version": "1.0", "name": "kl", "timed": True, "fraction": 0.02, "times_kullback": 41.26}
    untimed = {"peer": "numkong", "version": None, "name": "js", "timed": False, "worst_error": 0.5}
    report = report_of([("kl", 0.9, "read"), ("total_variation", 1.2, "exp"), ("js", 0.1, "exp")], [peer, untimed])
    path = tmp_path / f"chart{suffix}"
    chart.check_plot(path)
    chart.draw(report, path)
    assert path.read_bytes().startswith(magic)


def test_a_chart_says_what_the_report_says(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    drawn = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, path: drawn.append(self))
    peer = {"peer": "jax", "version": "1.0", "name": "kl", "timed": True, "fraction": 0.02, "times_kullback": 41.26}
    slower = {**peer, "peer": "scipy", "times_kullback": 99.0}
    chart.draw(report_of([("kl", 0.9, "read"), ("fisher_rao", 0.1, "exp")], [slower, peer]), tmp_path / "chart.png")
    axes = drawn[0].axes[0]
    assert sorted(bar.get_width() for bar in axes.patches) == [0.1, 0.9]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fisher rao", "kl"]
    written = {text.get_text() for text in axes.texts}
    assert {"90 %  ·  18.0 GB/s", "10 %  ·  2.0 GB/s", "41.3× as fast as jax"} <= written
    assert not any("scipy" in text for text in written)
    legend = {text.get_text() for text in drawn[0].legends[0].get_texts()}
    assert legend == {"limited by reading", "limited by exponentials", "scipy 1.0", "jax 1.0"}


@needs_release
def test_the_command_draws(run, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "chart.svg"
    status, out, errors = run(*QUICK, "--no-peers", "--names", "kl", "--plot", path)
    assert (status, errors) == (0, "")
    assert f"chart in {path}" in out
    assert "<svg" in path.read_text(encoding="utf-8")


@needs_release
def test_the_function_measures_too():
    phases = []
    plan = Settings(quick=True, names=("kl",), seconds=0.01, peers=False)
    report = measure(replace(plan, kind="probs"), progress=lambda phase, share: phases.append((phase, share)))
    assert report["size"]["input"] == "probs"
    assert phases[0] == ("drawing rows", 0.0)
    assert ("timing kernels", 1.0) in phases
