"""The command line: exit statuses, one-line errors, JSON, and the same numbers as the library."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from kullback.scoring import cli, engine, plan, score


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


def test_score_prints_a_table_and_writes_the_files(run, pair, tmp_path):
    status, out, errors = run("score", *pair, "--out", tmp_path / "out", "--group-size", 10)
    assert (status, errors) == (0, "")
    assert "KL(reference ‖ candidate)" in out
    assert "1 parts and summary.json" in out
    assert (tmp_path / "out" / "q" / "part-000000.parquet").exists()
    status, out, _ = run("score", *pair, "--out", tmp_path / "out", "--group-size", 10)
    assert (status, "(1 kept from before)" in out) == (0, True)


def test_the_command_does_what_the_function_does(run, pair, tmp_path):
    np.save(tmp_path / "t.npy", np.arange(40))
    options = {
        "metrics": "kl,js,renyi:order=2,skew_kl:alpha=0.25",
        "vocab_size": 50,
        "temperature": 1.5,
        "group_size": 4,
        "threads": 1,
        "memory": "9MiB",
    }
    score(*pair, tmp_path / "a", targets=tmp_path / "t.npy", **options)
    arguments = [item for name, value in options.items() for item in (f"--{name.replace('_', '-')}", value)]
    status, out, _ = run(
        *("score", *pair, "--out", tmp_path / "b", "--targets", tmp_path / "t.npy", "--json", "--quiet"), *arguments
    )
    assert status == 0
    assert json.loads(out) == json.loads((tmp_path / "a" / "summary.json").read_text())
    for name in ("summary.json", "manifest.json", "q/part-000000.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_several_candidates_side_by_side(run, pair, tmp_path):
    status, out, _ = run("score", pair[0], pair[1], pair[0], "--out", tmp_path / "out")
    assert status == 0
    header = out.splitlines()[0]
    assert header.split() == ["q", "p"]


def test_truncation_warning_goes_to_standard_error(run, pair, tmp_path):
    pair[1].write_bytes(pair[1].read_bytes()[:-5])
    status, out, errors = run("score", *pair, "--out", tmp_path / "out", "--json")
    assert status == 0
    assert "kullback: warning: " in errors
    assert "truncated: 39 whole rows of the 40" in errors
    assert json.loads(out)["rows"] == 39


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["score"], "Missing argument 'REFERENCE'"),
        (["score", "p.npy"], "Missing argument 'CANDIDATES"),
        (["score", "p.npy", "q.npy"], "Missing option '--out'"),
        (["score", "p.npy", "q.npy", "--out", "out", "--input", "x"], "'x' is not one of"),
        (["score", "p.npy", "q.npy", "--out", "out", "--threads", "many"], "'many' is not a valid integer"),
        (["score", "p.npy", "q.npy", "--out", "out", "--engine", "mpi"], "'mpi' is not one of 'local', 'ray'"),
        (["score", "p.npy", "q.npy", "--out", "out", "--ray-address", "a:1"], "for the engine ray; got 'a:1'"),
        (["score", "p.npy", "q.npy", "--out", "out", "--memory", "lots"], "512MiB"),
        (["score", "p.npy", "q.npy", "--out", "out", "--metrics", "kl,nonsense"], "nonsense"),
        (["score", "p.npy", "q.npy", "--out", "out", "--metrics", "kl,renyi"], "renyi:order=2"),
        (["score", "p.npy", "q.npy", "--out", "out", "--vocab-size", "0"], "at least 1"),
        (["score", "p.npy", "q.npy", "--out", "out", "--nonsense"], "No such option"),
        (["inspect"], "Missing argument"),
    ],
)
def test_wrong_usage(run, pair, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, out, errors = run(*arguments)
    assert (status, out) == (2, "")
    assert message in one_sentence(errors)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "p.npy", "missing.npy", "--out", "out"], "missing.npy does not exist"),
        (
            ["score", "p.npy", "text", "--out", "out", "--json"],
            "expected a .npy, .npz, safetensors, Parquet, Arrow or llama.cpp",
        ),
        (["score", "p.npy", "wide.npy", "--out", "out"], "--vocab-size 60"),
        (["score", "p.npy", "q.npy", "--out", "text"], "text cannot be written"),
        (["score", "p.npy", "q.npy", "--out", "out", "--input", "probs"], "q.npy"),
        (["inspect", "text"], "expected a .npy, .npz,"),
        (["inspect", "folder", "--json"], "folder holds no file that ends in .safetensors"),
    ],
)
def test_failures(run, pair, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("text")
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "wide.npy", np.zeros((40, 64), np.float32))
    status, out, errors = run(*arguments)
    assert (status, out) == (1, "")
    assert message in one_sentence(errors)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted; finished parts are kept"),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("two\nlines"), 1, "internal error, RuntimeError: two lines"),
        (ModuleNotFoundError("no pyarrow", name="pyarrow"), 1, "pip install 'kullback[score]'"),
    ],
)
def test_any_exception_becomes_one_sentence(run, pair, tmp_path, monkeypatch, error, status, message):
    def fail(*_):
        raise error

    monkeypatch.setattr(engine, "make_plan", fail)
    found, out, errors = run("score", *pair, "--out", tmp_path / "out")
    assert (found, out) == (status, "")
    assert message in one_sentence(errors)


def test_an_interrupted_run_continues(run, pair, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "_PART_BYTES", 10 * 60 * 4)
    write, written = engine.RunDirectory.write_part, []

    def interrupted(self, *arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(arguments)
        write(self, *arguments)

    monkeypatch.setattr(engine.RunDirectory, "write_part", interrupted)
    status, _, errors = run("score", *pair, "--out", tmp_path / "out")
    assert (status, "finished parts are kept" in one_sentence(errors)) == (130, True)
    monkeypatch.setattr(engine.RunDirectory, "write_part", write)
    status, out, _ = run("score", *pair, "--out", tmp_path / "out")
    assert (status, "4 parts (2 kept from before)" in out) == (0, True)


def test_inspect(run, pair, real_files):
    status, out, errors = run("inspect", real_files[0])
    assert (status, errors) == (0, "")
    assert "vocab_size           49,152" in out
    status, out, _ = run("inspect", pair[0], real_files[0], "--json")
    npy, llama = json.loads(out)
    assert (npy["shape"], npy["dtype"], npy["rows"]) == ([40, 60], "float32", 40)
    assert (llama["variant"], llama["chunks"], llama["warnings"]) == ("_logits_", 1, [])
    pair[0].write_bytes(pair[0].read_bytes()[:-1])
    status, _, errors = run("inspect", pair[0])
    assert (status, "truncated" in errors) == (0, True)


def test_help_and_version(run):
    for arguments in ([], ["--help"], ["score", "--help"]):
        status, out, _ = run(*arguments)
        assert (status, "Usage: " in out) == (0, True)
    status, out, _ = run("--version")
    assert (status, out.startswith("kullback ")) == (0, True)


def test_missing_extra_is_named(tmp_path):
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "kullback.scoring", "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs the package click; install it with: pip install 'kullback[score]'" in one_sentence(done.stderr)


def test_missing_zarr_is_named(tmp_path):
    (tmp_path / "zarr.py").write_text("raise ModuleNotFoundError(\"No module named 'zarr'\", name='zarr')")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "zarr.json").write_text("{}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "kullback.scoring", "inspect", str(tmp_path / "x")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "reading Zarr needs the package zarr; install it with: pip install 'kullback[zarr]'" in one_sentence(
        done.stderr
    )


def test_report(run, pair, tmp_path):
    run("score", *pair, "--out", tmp_path / "out", "--group-size", 10)
    status, out, errors = run("report", tmp_path / "out")
    assert (status, errors) == (0, "")
    assert out.startswith("q moved by a mean KL divergence of ")
    assert f"report in {tmp_path / 'out' / 'report.html'} (" in out
    status, out, _ = run("report", tmp_path / "out", "--html", tmp_path / "page.html", "--json")
    found = json.loads(out)
    assert (status, found["html"]) == (0, str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "out" / "report.html").read_bytes()
    assert found["candidates"][0]["low"] < found["candidates"][0]["mean"] < found["candidates"][0]["high"]
    status, out, errors = run("report", tmp_path)
    assert (status, out) == (1, "")
    assert "is not the folder of a scoring run" in one_sentence(errors)
    (tmp_path / "out" / "summary.json").unlink()
    status, _, errors = run("report", tmp_path / "out", "--html", tmp_path / "other.html")
    assert status == 1
    assert "unfinished run, which the same kullback score command finishes" in one_sentence(errors)
    assert not (tmp_path / "other.html").exists()


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_missing_report_packages_are_named(run, pair, tmp_path, monkeypatch, package):
    run("score", *pair, "--out", tmp_path / "out")
    monkeypatch.setitem(sys.modules, package, None)
    status, out, errors = run("report", tmp_path / "out")
    assert (status, out) == (1, "")
    assert f"needs the package {package}; install it with: pip install 'kullback[report]'" in one_sentence(errors)


def test_closed_pipe_is_quiet(pair):
    command = f"{sys.executable} -m kullback.scoring inspect {pair[0]} {pair[1]} | true"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_importing_the_library_does_not_import_the_command_line():
    code = "import sys, kullback.scoring; print(*sorted({'click', 'rich', 'pyarrow'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
