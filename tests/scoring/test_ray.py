"""The engine ray: the same bytes as the local engine, whatever is lost; the same sentences; nothing left behind."""

import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
from test_engine import Stop, contents, stop_after

import kullback as kb
from kullback.scoring import InputError, UsageError, plan, ray_worker, score
from kullback.scoring.inputs import Inputs
from kullback.scoring.options import Options

pytest.importorskip("ray", exc_type=ImportError)

# Ray's own warnings are not ours.
pytestmark = pytest.mark.filterwarnings("ignore")

STORE = {"object_store_memory": 80 << 20}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Cut 60 columns of float32 into parts of 4 rows."""
    monkeypatch.setattr(plan, "_PART_BYTES", 4 * 60 * 4)


@pytest.fixture(scope="module")
def cluster():
    """Start a cluster of three machines, two of which have a processor each, and connect this process to it."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray.cluster_utils import Cluster

        quick = {"health_check_period_ms": 200, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 2}
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick, **STORE}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.machines = [cluster.add_node(num_cpus=1, **STORE) for _ in range(2)]
            ray.init(address=cluster.address, log_to_driver=False)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture
def two(pair, tmp_path):
    """A reference and two candidates, as `score` takes them."""
    np.save(tmp_path / "r.npy", np.load(pair[0])[::-1])
    return pair[0], [pair[1], tmp_path / "r.npy"]


def command(*arguments):
    return [sys.executable, "-m", "kullback.scoring", "score", *map(str, arguments)]


def test_a_cluster_of_its_own_gives_the_same_files_and_leaves_nothing(two, tmp_path, capsys, monkeypatch):
    folders = []
    make = tempfile.mkdtemp
    monkeypatch.setattr(
        tempfile, "mkdtemp", lambda *args, **options: folders.append(make(*args, **options)) or folders[-1]
    )
    options = {"group_size": 8, "metrics": "kl,top1_p,renyi:order=2", "temperature": 1.5}
    score(*two, tmp_path / "local", **options)
    result = score(*two, tmp_path / "ray", engine="ray", progress=lambda state: print(state.rows), **options)
    assert (result.parts_written, result.parts_kept) == (20, 0)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert [int(line) for line in capsys.readouterr().out.split()] == list(range(0, 81, 8))
    assert any("kullback-ray" in folder for folder in folders)
    assert not any(map(os.path.exists, folders))
    assert not subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, check=False).stdout
    import ray

    assert not ray.is_initialized()


def test_one_engine_finishes_what_the_other_began(cluster, two, tmp_path):
    score(*two, tmp_path / "whole", memory="4KiB")
    for first, second in (("ray", "local"), ("local", "ray")):
        out = tmp_path / first
        with pytest.raises(Stop):
            score(*two, out, engine=first, progress=stop_after(24))
        n_kept = len(list(out.rglob("part-*")))
        assert 6 <= n_kept < 20
        assert not (out / "summary.json").exists()
        assert score(*two, out, engine=second, memory="1MiB").parts_kept == n_kept
        assert contents(out) == contents(tmp_path / "whole")


def test_relative_paths_and_llama_cpp_files(cluster, pair, tmp_path, encode, monkeypatch):
    rows = np.load(pair[0])[:39]
    (tmp_path / "base.kld").write_bytes(encode(rows, np.arange(80) % 60, 80))
    np.save(tmp_path / "q.npy", np.load(pair[1])[:39])
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "floor.npy", rows)
    for engine in ("local", "ray"):
        score("base.kld", "q.npy", engine, engine=engine, kld_rule="llama.cpp", noise_floor="floor.npy")
    assert (tmp_path / "ray" / "noise_floor").is_dir()
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def at_start(change):
    """Return a progress callback that changes the files after the driver has looked at them."""
    return lambda state: None if state.rows else change()


def test_errors_of_workers_are_those_of_the_local_engine(cluster, pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentences = []
    for engine in ("local", "ray"):
        with pytest.raises(InputError) as caught:
            score("p.npy", "q.npy", tmp_path / engine, input="probs", engine=engine)
        sentences.append(str(caught.value))
        assert not list((tmp_path / engine).rglob("part-*"))
    local, distributed = (sentence.partition("with rows counted from row ") for sentence in sentences)
    assert local[0] == distributed[0] == "q.npy, "
    assert local[2].lstrip("0123456789")[:20] == distributed[2].lstrip("0123456789")[:20]


def test_files_that_the_workers_do_not_see(cluster, pair, tmp_path):
    rows = np.load(pair[1])
    with pytest.raises(InputError, match=r"sees other inputs than the driver \(candidate q\.blake2b .*same paths"):
        score(*pair, tmp_path / "a", engine="ray", progress=at_start(lambda: np.save(pair[1], rows + 1)))
    with pytest.raises(InputError, match=r"\A[^\n]*q\.npy does not exist, on the machine .*same paths\Z"):
        score(*pair, tmp_path / "b", engine="ray", progress=at_start(lambda: pair[1].unlink(missing_ok=True)))


def test_workers_with_another_version(cluster, pair, tmp_path, monkeypatch):
    from kullback._core import backend

    ours = backend.info()
    monkeypatch.setattr(backend, "info", lambda: {**ours, "version": "9.9"})
    with pytest.raises(InputError, match=r"has kullback .* but the run was started with 9\.9"):
        score(*pair, tmp_path / "out", engine="ray")


def test_wrong_use(cluster, pair, tmp_path):
    with pytest.raises(UsageError, match="threads is 2, but no machine of the Ray cluster has more than 1"):
        score(*pair, tmp_path / "a", engine="ray", threads=2)
    with pytest.raises(UsageError, match="this process is connected to a Ray cluster"):
        score(*pair, tmp_path / "a", engine="ray", ray_address="somewhere:6379")
    with pytest.raises(UsageError, match="ray_address is for the engine ray"):
        score(*pair, tmp_path / "b", ray_address="somewhere:6379")
    assert not (tmp_path / "b").exists()


def test_a_cluster_that_is_not_there(pair, tmp_path):
    with socket.socket() as taken:  # bound, so that nobody else listens there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command_line = command(*pair, "--out", tmp_path / "out", "--engine", "ray", "--ray-address", address)
        done = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"kullback: no Ray cluster answers at {address}: .*refused\n", done.stderr)


def test_a_worker_opens_the_files_once(pair, monkeypatch):
    opened = []
    monkeypatch.setattr(ray_worker, "Inputs", lambda *places: opened.append(Inputs(*places)) or opened[-1])
    options = Options(metrics=("kl",))
    with Inputs(*places_of(pair), options) as inputs:
        cut = plan.make_plan(inputs, 1 << 20)
        job = ray_worker.Job(*places_of(pair), None, options, cut, inputs.fingerprints(), kb.info(), 1)
    worker = ray_worker.PartScorer(job.absolute())
    parts = cut.parts()
    for batch in (parts[:2], parts[2:3]):
        tasks = np.array([pickle.dumps((part, ("q",))) for part in batch], dtype=object)
        outcomes = [pickle.loads(outcome) for outcome in worker({"task": tasks})["outcome"]]
        assert [outcome.part for outcome in outcomes] == batch
        expected = kb.compare(*(np.load(path) for path in pair), metrics=["kl"])["kl"]
        for outcome in outcomes:
            kl = outcome.columns["q"]["kl"]
            np.testing.assert_array_equal(kl, expected[outcome.part.start : outcome.part.stop])
    assert len(opened) == 1
    opened[0].close()


def places_of(pair):
    return pair[0], [pair[1]], None


def test_without_ray(pair, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'kullback\[ray\]'"):
        score(*pair, tmp_path / "out", engine="ray")


def test_command_and_interruption(cluster, two, tmp_path):
    """Over the network: JSON alone on standard output; a Ctrl-C, which a terminal sends to all of its processes."""
    address = ("--engine", "ray", "--ray-address", cluster.address)
    out = tmp_path / "out"
    done = subprocess.run(
        command(two[0], *two[1], "--out", out, "--json", *address), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == json.loads((out / "summary.json").read_text())
    assert "Traceback" not in done.stderr

    np.save(tmp_path / "long.npy", np.random.default_rng(0).normal(size=(1 << 21, 8)).astype(np.float32))  # 32 parts
    out = tmp_path / "interrupted"
    running = subprocess.Popen(
        command(tmp_path / "long.npy", tmp_path / "long.npy", "--out", out, *address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not list(out.rglob("part-*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 130, errors
    assert "kullback: interrupted; finished parts are kept" in errors
    assert "Traceback" not in errors
    assert 1 <= len(list(out.rglob("part-*.parquet"))) < 32
    assert not list(out.rglob("*.tmp"))


def test_a_machine_is_lost(cluster, two, tmp_path):
    """Last, as the cluster is smaller afterwards."""
    score(*two, tmp_path / "local")

    def lose(state):
        if state.rows >= 16 and len(cluster.machines) == 2:
            cluster.remove_node(cluster.machines.pop(), allow_graceful=False)

    result = score(*two, tmp_path / "ray", engine="ray", progress=lose)
    assert len(cluster.machines) == 1
    assert result.parts_written == 20
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
