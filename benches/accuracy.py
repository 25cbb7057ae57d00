"""How many digits are right? Relative errors of kullback and of other libraries, from KL = 0.5 down to 5e-11.

    python benches/accuracy.py [--markdown] [--json FILE] [--quick]

Rows of float32 logits, q = p + noise. The truth is computed from the same float32 numbers in ``numpy.longdouble`` (80
bits on x86-64), as sums that do not cancel; kullback/bench/truth.py.
"""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np
import numpy.typing as npt

import kullback as kb
from kullback.bench import environment, truth

Array = npt.NDArray[Any]
Method = Callable[[Array, Array], float]

NOISES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
SPREAD = 4.0


def softmax(x: Array) -> Array:
    """Return float32 probabilities of a row of float32 logits."""
    weights = np.exp(x - x.max())
    return np.asarray(weights / weights.sum())


def log_softmax(x: Array) -> Array:
    """Return float32 log-probabilities of a row of float32 logits."""
    shifted = x - x.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def module(name: str) -> Any:
    """Import a library, or return None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def kl_methods() -> dict[str, Method]:
    """Return what computes KL(p || q) of two rows of float32 logits, by column title."""
    scipy, torch, simsimd, numkong = (module(name) for name in ("scipy.special", "torch", "simsimd", "numkong"))

    def numpy_log_softmax(x: Array, y: Array) -> float:
        log_p, log_q = log_softmax(x), log_softmax(y)
        return float((np.exp(log_p) * (log_p - log_q)).sum())

    methods: dict[str, Method] = {
        "kullback": lambda x, y: float(kb.kl_divergence(x, y, input="logits")),
        "log_softmax, NumPy f32": numpy_log_softmax,
    }
    if torch is not None:
        functional = torch.nn.functional

        def torch_kl(x: Array, y: Array) -> float:
            log_p, log_q = (functional.log_softmax(torch.from_numpy(row), dim=-1) for row in (x, y))
            return float(functional.kl_div(log_q, log_p, reduction="sum", log_target=True))

        methods["torch kl_div f32"] = torch_kl
    if scipy is not None:
        methods["SciPy rel_entr f32"] = lambda x, y: float(scipy.rel_entr(scipy.softmax(x), scipy.softmax(y)).sum())
    if simsimd is not None:
        methods["SimSIMD f32"] = lambda x, y: float(simsimd.kullbackleibler(softmax(x), softmax(y)))
    if numkong is not None:
        methods["NumKong f32"] = lambda x, y: float(numkong.kullbackleibler(softmax(x), softmax(y)))
    return methods


def js_methods() -> dict[str, Method]:
    """Return what computes the Jensen-Shannon divergence of two rows of float32 logits, by column title."""
    scipy, simsimd, numkong = (module(name) for name in ("scipy.spatial.distance", "simsimd", "numkong"))

    def numpy_js(x: Array, y: Array) -> float:
        p, q = softmax(x), softmax(y)
        m = (p + q) / np.float32(2)
        return float((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2

    methods: dict[str, Method] = {
        "kullback": lambda x, y: float(kb.js_divergence(x, y, input="logits")),
        "p ln(p/m), NumPy f32": numpy_js,
    }
    # These return the distance, whose square the divergence is.
    if scipy is not None:
        methods["SciPy f32"] = lambda x, y: float(scipy.jensenshannon(softmax(x), softmax(y))) ** 2
    if simsimd is not None:
        methods["SimSIMD f32"] = lambda x, y: float(simsimd.jensenshannon(softmax(x), softmax(y))) ** 2
    if numkong is not None:
        methods["NumKong f32"] = lambda x, y: float(numkong.jensenshannon(softmax(x), softmax(y))) ** 2
    return methods


def measure(name: str, methods: Mapping[str, Method], vocabulary: int, n_rows: int) -> list[dict[str, Any]]:
    """Return, for each noise, the mean true value and what each method made of the rows."""
    found = []
    for noise in NOISES:
        rng = np.random.default_rng(20240711)
        p = (rng.normal(size=(n_rows, vocabulary)) * SPREAD).astype(np.float32)
        q = (p + rng.normal(size=p.shape) * noise).astype(np.float32)
        exact = truth.values([name], p, q, dtype=np.longdouble)[name]
        entry: dict[str, Any] = {"noise": noise, "true": float(exact.mean()), "methods": {}}
        for title, method in methods.items():
            with np.errstate(all="ignore"):
                got = np.array([method(x, y) for x, y in zip(p, q, strict=True)])
            error = float(np.max(np.abs(got - exact) / exact))
            odd = (
                "NaN" if np.isnan(got).any() else "negative" if (got < 0).any() else "zero" if (got == 0).any() else ""
            )
            entry["methods"][title] = {"worst_error": None if math.isnan(error) else error, "odd": odd}
        found.append(entry)
    return found


def disjoint() -> dict[str, float]:
    """Return the Jensen-Shannon distance of two one-hot rows without a common token; sqrt(ln 2) is right."""
    p, q = np.zeros((2, 64), np.float32)
    p[3], q[40] = 1.0, 1.0
    found = {"true": math.sqrt(math.log(2.0)), "kullback": float(kb.js_distance(p, q))}
    for name, title in (
        ("scipy.spatial.distance", "SciPy f32"),
        ("simsimd", "SimSIMD f32"),
        ("numkong", "NumKong f32"),
    ):
        library = module(name)
        if library is not None:
            found[title] = float(library.jensenshannon(p, q))
    return found


def error_table(entries: Sequence[Mapping[str, Any]], what: str, *, markdown: bool) -> str:
    """Lay out what :func:`measure` found."""
    titles = list(entries[0]["methods"])

    def cell(result: Mapping[str, Any]) -> str:
        if result["worst_error"] is None:
            return str(result["odd"])
        return f"{result['worst_error']:.0e}" + (f" ({result['odd']})" if result["odd"] else "")

    rows = [[f"{entry['true']:.1e}", *(cell(entry["methods"][title]) for title in titles)] for entry in entries]
    return harness.table([f"true {what}", *titles], rows, markdown=markdown)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the relative error of divergences of float32 logits.")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report there")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of this script, not a measurement")
    arguments = parser.parse_args(argv)
    vocabulary, n_rows = (2_003, 2) if arguments.quick else (128_256, 4)
    facts = environment.environment()
    report: dict[str, Any] = {
        "environment": facts,
        "size": {"rows": n_rows, "vocabulary": vocabulary, "quick": arguments.quick},
        "truth_digits": int(np.finfo(np.longdouble).precision),
        "kl": measure("kl", kl_methods(), vocabulary, n_rows),
        "js": measure("js", js_methods(), vocabulary, n_rows),
        "disjoint_js_distance": disjoint(),
    }
    print(environment.describe(facts))
    print(f"\nWorst relative error of {n_rows} rows of {vocabulary:,} float32 logits\n")
    print(error_table(report["kl"], "KL", markdown=arguments.markdown), end="\n\n")
    print(error_table(report["js"], "JS", markdown=arguments.markdown), end="\n\n")
    print("Jensen-Shannon distance of two one-hot rows without a common token\n")
    rows = [[title, f"{value:.7f}"] for title, value in report["disjoint_js_distance"].items()]
    print(harness.table(["library", "distance"], rows, markdown=arguments.markdown))
    harness.write_json(arguments.json, report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
