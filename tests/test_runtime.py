"""Processes, threads, instruction sets, Ctrl-C, and which backend is found; what is risky runs in its own process."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import helpers
import numpy as np
import pytest
from helpers import DTYPES, KINDS, NAMES, evaluate, random_rows

import kullback as kb

TIMEOUT = 60


def python(code, *, check=True, path=None, **environment):
    """Run a script in a new interpreter that treats warnings as errors; a hang is a failure."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("KULLBACK_")} | environment
    if path is not None:
        env["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


# Processes and threads ----------------------------------------------------------------------------

WORK = """
import multiprocessing, os, warnings
import numpy as np
import kullback as kb
warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
x, y = np.random.default_rng(0).normal(size=(2, 64, 5000)).astype(np.float32)
def work(_=None):
    return kb.kl_divergence(x, y, input="logits").tobytes()
expected = work()
"""


def test_fork_after_the_threads_were_used(backend):
    script = """
    pid = os.fork()
    if pid == 0:
        os._exit(0 if work() == expected else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert work() == expected
    """
    python(WORK + textwrap.dedent(script), KULLBACK_BACKEND=backend, KULLBACK_NUM_THREADS="2")


def test_multiprocessing_by_fork(backend):
    script = """
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert set(pool.map(work, range(6))) == {expected}
    """
    python(WORK + textwrap.dedent(script), KULLBACK_BACKEND=backend, KULLBACK_NUM_THREADS="2")


def test_fork_while_another_thread_computes(backend):
    script = """
    import threading
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            work()
    thread = threading.Thread(target=busy)
    thread.start()
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if work() == expected else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    stop.set()
    thread.join()
    """
    python(WORK + textwrap.dedent(script), KULLBACK_BACKEND=backend, KULLBACK_NUM_THREADS="2")


def test_many_python_threads_at_once(backend, rng):
    x, y = (random_rows(rng, (16, 3000), "logits", np.float32) for _ in range(2))
    expected = {name: evaluate(name, x, y, input="logits") for name in NAMES}

    def work(index):
        name = NAMES[index % len(NAMES)]
        with kb.use_backend(backend):
            return name, evaluate(name, x, y, input="logits", threads=1 + index % 3)

    with ThreadPoolExecutor(64) as threads:
        for name, values in threads.map(work, range(128)):
            np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize("shape", [(33, 700), (300, 700), (2, 1_500_000), (1, 170_001)], ids=str)
def test_bits_do_not_depend_on_the_number_of_threads(native, shape, rng):
    for dtype, kind in (("float32", "logits"), ("float64", "probs"), ("bfloat16", "logits")):
        p, q = (random_rows(rng, shape, kind, DTYPES[dtype]) for _ in range(2))
        for name in NAMES:
            one = evaluate(name, p, q, input=kind, threads=1)
            for threads in (2, 3, 7):
                np.testing.assert_array_equal(evaluate(name, p, q, input=kind, threads=threads), one, err_msg=name)


def test_bits_of_a_comparison_do_not_depend_on_the_number_of_threads(native, rng):
    for shape in ((33, 700), (300, 700), (2, 600_000)):
        p, q = (random_rows(rng, shape, "logits", np.float32) for _ in range(2))
        one, many = (kb.compare(p, q, targets=3, threads=threads) for threads in (1, 3))
        for name in one:
            np.testing.assert_array_equal(many[name], one[name], err_msg=name)


def test_bits_do_not_depend_on_the_batch(native, rng):
    p, q = (random_rows(rng, (9, 1111), "logits", np.float32) for _ in range(2))
    for name in NAMES:
        batch = evaluate(name, p, q, input="logits")
        single = [evaluate(name, *pair, input="logits") for pair in zip(p, q, strict=True)]
        np.testing.assert_array_equal(batch, single, err_msg=name)
        strided = evaluate(name, np.repeat(p, 2, axis=1)[:, ::2], np.asfortranarray(q), input="logits")
        np.testing.assert_array_equal(batch, strided, err_msg=name)


def test_bits_do_not_depend_on_the_instruction_set(native, rng):
    from kullback._core import _native

    available = _native.available_isas()
    required = os.environ.get("REQUIRE_ISA")
    assert not required or required in available, f"REQUIRE_ISA={required}, but this machine has {available}"
    assert available[0] == "scalar" or "scalar" in available
    cases = []
    for kind, dtype in [(kind, dtype) for kind in KINDS for dtype in DTYPES]:
        for width in (1, 7, 64, 1300):
            p, q = (random_rows(rng, (3, width), kind, DTYPES[dtype]) for _ in range(2))
            if kind == "logits":
                p[0, 0], q[1, -1], p[2, :] = -np.inf, np.nan, q[2, :]
            cases.append((p, q, kind))
    results = {}
    try:
        for isa in available:
            _native.set_isa(isa)
            assert kb.info()["isa"] == isa
            results[isa] = [evaluate(name, p, q, input=kind) for p, q, kind in cases for name in NAMES]
    finally:
        _native.set_isa("auto")
    for isa in available:
        for actual, expected in zip(results[isa], results["scalar"], strict=True):
            np.testing.assert_array_equal(actual.view(np.int64), expected.view(np.int64), err_msg=isa)


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("nm") is None, reason="needs nm")
def test_no_vector_instruction_is_a_function_call(native):
    """A closure may be compiled without the instruction set of the kernel around it: it calls what should be there."""
    from kullback._core import _native

    listed = subprocess.run(["nm", "--demangle", _native.__file__], capture_output=True, text=True, check=True).stdout
    assert "kullback::simd::" in listed
    assert set(re.findall(r"core_arch::\w+::\w+::(_mm\w+)", listed)) == set()


def test_the_instruction_set_can_be_chosen_by_environment(native):
    script = "import kullback as kb; print(kb.info()['isa'])"
    assert python(script, KULLBACK_ISA="scalar").stdout.strip() == "scalar"


def test_the_number_of_threads_can_be_chosen(native):
    script = """
    import kullback as kb
    before = kb.info()["threads"]
    kb.set_num_threads(2)
    during = kb.info()["threads"]
    kb.set_num_threads(None)
    print(before, during, kb.info()["threads"])
    """
    assert python(script, KULLBACK_NUM_THREADS="3").stdout.split() == ["3", "2", "3"]
    before, during, after = python(script).stdout.split()
    assert (int(before), during, int(after)) == (len(os.sched_getaffinity(0)), "2", len(os.sched_getaffinity(0)))


def test_other_python_threads_run_during_a_call(native):
    script = """
    import threading, time
    import numpy as np
    import kullback as kb
    row = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    p, q = (np.broadcast_to(values, (3000, row.size)) for values in (row, row + 1))
    kb.kl_divergence(p[:1], q[:1], input="logits")
    thread = threading.Thread(target=kb.kl_divergence, args=(p, q), kwargs={"input": "logits"})
    thread.start()
    ticks = 0
    while thread.is_alive():
        time.sleep(0.001)
        ticks += 1
    print(ticks)
    """
    assert int(python(script).stdout) > 10


@pytest.mark.parametrize(
    "call",
    [
        "kl_divergence(p, q, input='logits')",
        "compare(p, q)",
        "js_divergence(p, q, input='logits')",
        "pairwise(p[:20_000], q[:20_000], input='logits', metric='kl')",
    ],
)
def test_ctrl_c(backend, call):
    # Minutes of work; the interrupt must be answered long before.
    script = f"""
    import numpy as np
    import kullback as kb
    row = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    p, q = (np.broadcast_to(values, (2_000_000, row.size)) for values in (row, row + 1))
    print("ready", flush=True)
    kb.{call}
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"KULLBACK_BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(1.0)
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=TIMEOUT)
    finally:
        child.kill()
    assert time.monotonic() - start < 5.0
    assert "KeyboardInterrupt" in errors
    assert child.returncode != 0


# Backends -----------------------------------------------------------------------------------------


@pytest.fixture
def without_native(tmp_path):
    """Copy the package, less its native module, to where a new interpreter finds it first."""
    source = Path(kb.__file__).parent
    ignored = shutil.ignore_patterns("_native*.so", "_native*.pyd", "__pycache__")
    shutil.copytree(source, tmp_path / "kullback", ignore=ignored)
    return tmp_path


REPORT = """
import kullback as kb
assert kb.kl_divergence([0.5, 0.5], [0.5, 0.5]) == 0.0
info = kb.info()
print(kb.__file__, info["backend"], info["isa"], info["threads"])
"""


def test_a_missing_native_module_means_numpy(without_native):
    file, *rest = python(REPORT, path=without_native).stdout.split()
    assert Path(file).is_relative_to(without_native)
    assert rest == ["numpy", "None", "1"]
    done = python(REPORT, path=without_native, check=False, KULLBACK_BACKEND="native")
    assert (
        'ImportError: KULLBACK_BACKEND is "native", but this installation of kullback has no native module'
        in done.stderr
    )


def test_asking_for_a_missing_native_module(without_native):
    script = "import kullback as kb; kb.use_backend('native')"
    done = python(script, path=without_native, check=False)
    assert 'ImportError: the backend is "native", but this installation of kullback has no native module' in done.stderr


def test_a_broken_native_module_is_an_error(without_native):
    (without_native / "kullback" / "_core" / "_native.abi3.so").write_bytes(b"not a shared object")
    done = python(REPORT, path=without_native, check=False)
    assert done.returncode != 0
    assert re.search(r"ImportError: the native module of kullback is there but cannot be loaded \(.+\)", done.stderr)
    assert "KULLBACK_BACKEND=numpy" in done.stderr
    assert python(REPORT, path=without_native, KULLBACK_BACKEND="numpy").stdout.split()[1:] == ["numpy", "None", "1"]


def test_the_backend_can_be_chosen_by_environment(backend):
    assert python(REPORT, KULLBACK_BACKEND=backend).stdout.split()[1] == backend
    done = python(REPORT, check=False, KULLBACK_BACKEND="rust")
    assert "ValueError: KULLBACK_BACKEND must be one of auto, native, numpy, got 'rust'" in done.stderr


def test_use_backend_is_a_call_and_a_context():
    default = kb.info()["backend"]
    assert default == ("native" if helpers.NATIVE else "numpy")
    with kb.use_backend("numpy"):
        assert kb.info()["backend"] == "numpy"
        with kb.use_backend("auto"):
            assert kb.info()["backend"] == default
        assert kb.info()["backend"] == "numpy"
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(kb.info).result()["backend"] == default
    assert kb.info()["backend"] == default
    kb.use_backend("numpy")
    assert kb.info()["backend"] == "numpy"
    kb.use_backend("auto")
    assert kb.info()["backend"] == default


def test_importing_needs_numpy_only():
    script = """
    import sys
    import numpy
    before = set(sys.modules)
    import kullback
    foreign = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
    scoring = [name for name in sys.modules if name.startswith("kullback.scoring")]
    print(*sorted(foreign - {"kullback", "numpy"}), scoring)
    """
    assert python(script).stdout.strip() == "[]"
