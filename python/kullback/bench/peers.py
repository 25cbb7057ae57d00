"""The same divergences by other libraries, each written as well as its users would write it.

A peer takes what kullback takes. Half precision is converted to float32 first, within the time; what only takes
probabilities gets the float32 softmax that its users would give it. Arrays that a library wants in a form of its own
are brought into it before the clock runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NAMES", "TOLERANCE", "Peer", "load"]

Array = npt.NDArray[Any]
Formula = Callable[[Any, Any], Any]
"""A function of two arrays of rows that returns the values of all rows."""

TOLERANCE = 1e-2
"""Relative error above which a library's time is not worth knowing."""


@dataclass(frozen=True)
class Peer:
    """One library.

    Parameters
    ----------
    name : str
        Its import name.
    threads : int
        How many threads it uses.
    formula : callable
        (name of a divergence, kind of the numbers) to a function of rows, or None if the library has none.
    prepare : callable
        What is done to an array before the clock runs.
    """

    name: str
    threads: int
    formula: Callable[[str, str], Formula | None]
    prepare: Callable[[Array], Any] = np.asarray

    def calls(self, names: Iterable[str], kind: str, p: Array, q: Array) -> dict[str, Callable[[], Array]]:
        """Return the divergences of rows that the library has, by name, as calls to be timed."""
        x, y = self.prepare(p), self.prepare(q)
        formulas = {name: self.formula(name, kind) for name in names}
        return {name: partial(_evaluate, formula, x, y) for name, formula in formulas.items() if formula is not None}


def _evaluate(formula: Formula, x: Any, y: Any) -> Array:
    return np.asarray(formula(x, y))


def load(name: str, threads: int) -> Peer | None:
    """Return a library set to that many threads, or None if it is not installed."""
    if importlib.util.find_spec(name) is None:
        return None
    return _LOADERS[name](threads)


def _single(x: Array) -> Array:
    """Return numbers of float32 or float64, as no library here takes less."""
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)


def softmax(x: Array) -> Array:
    """Return the probabilities of rows of logits, in their own precision."""
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights)


def _normalised(x: Any) -> Any:
    return x / x.sum(axis=-1, keepdims=True)


_TO_PROBABILITIES: dict[str, Callable[[Any], Any]] = {
    "logits": softmax,
    "log_probs": np.exp,
    "probs": np.asarray,
    "weights": _normalised,
}


def _through(to_probabilities: Callable[[Any], Any], function: Formula) -> Formula:
    return lambda x, y: function(to_probabilities(_single(x)), to_probabilities(_single(y)))


# SciPy: sums of special.rel_entr, the most careful term that any of them has.


def _scipy(_: int) -> Peer:
    special: Any = importlib.import_module("scipy.special")
    rel_entr, entr = special.rel_entr, special.entr

    def js(p: Array, q: Array) -> Array:
        m = (p + q) / 2
        return np.asarray((rel_entr(p, m).sum(axis=-1) + rel_entr(q, m).sum(axis=-1)) / 2)

    formulas: dict[str, Formula] = {
        "kl": lambda p, q: rel_entr(p, q).sum(axis=-1),
        "reverse_kl": lambda p, q: rel_entr(q, p).sum(axis=-1),
        "jeffreys": lambda p, q: (rel_entr(p, q) + rel_entr(q, p)).sum(axis=-1),
        "js": js,
    }

    def formula(name: str, kind: str) -> Formula | None:
        convert = partial(special.softmax, axis=-1) if kind == "logits" else _TO_PROBABILITIES[kind]
        if name == "entropy":
            return lambda x, _: entr(convert(_single(x))).sum(axis=-1)
        return _through(convert, formulas[name]) if name in formulas else None

    return Peer("scipy", 1, formula)


# numba: the loops that a compiler makes fast, over all threads.


def _numba(threads: int) -> Peer:
    numba: Any = importlib.import_module("numba")
    prange = numba.prange

    def kl_of_logits(x: Any, y: Any) -> Any:
        out = np.empty(x.shape[0])
        for i in prange(x.shape[0]):
            top_x, top_y = x[i, 0], y[i, 0]
            for j in range(x.shape[1]):
                top_x, top_y = max(top_x, x[i, j]), max(top_y, y[i, j])
            mass_x, mass_y, weighted = 0.0, 0.0, 0.0
            for j in range(x.shape[1]):
                a, b = x[i, j] - top_x, y[i, j] - top_y
                weight = math.exp(a)
                mass_x += weight
                mass_y += math.exp(b)
                weighted += weight * (a - b)
            out[i] = weighted / mass_x + math.log(mass_y / mass_x)
        return out

    def js_of_logits(x: Any, y: Any) -> Any:
        out = np.empty(x.shape[0])
        for i in prange(x.shape[0]):
            top_x, top_y = x[i, 0], y[i, 0]
            for j in range(x.shape[1]):
                top_x, top_y = max(top_x, x[i, j]), max(top_y, y[i, j])
            mass_x, mass_y = 0.0, 0.0
            for j in range(x.shape[1]):
                mass_x += math.exp(x[i, j] - top_x)
                mass_y += math.exp(y[i, j] - top_y)
            total = 0.0
            for j in range(x.shape[1]):
                a, b = math.exp(x[i, j] - top_x) / mass_x, math.exp(y[i, j] - top_y) / mass_y
                if a > 0.0:
                    total += a * math.log(2.0 * a / (a + b))
                if b > 0.0:
                    total += b * math.log(2.0 * b / (a + b))
            out[i] = total / 2.0
        return out

    def kl_of_weights(x: Any, y: Any) -> Any:
        out = np.empty(x.shape[0])
        for i in prange(x.shape[0]):
            mass_x, mass_y, weighted = 0.0, 0.0, 0.0
            for j in range(x.shape[1]):
                a, b = x[i, j], y[i, j]
                mass_x += a
                mass_y += b
                if a > 0.0:
                    weighted += a * math.log(a / b)
            out[i] = weighted / mass_x + math.log(mass_y / mass_x)
        return out

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    compiled = partial(numba.njit, parallel=True, fastmath=True)
    logits = {"kl": compiled(kl_of_logits), "js": compiled(js_of_logits)}
    weights = {"kl": compiled(kl_of_weights)}

    def formula(name: str, kind: str) -> Formula | None:
        function = (logits if kind in ("logits", "log_probs") else weights).get(name)
        return None if function is None else lambda x, y: function(_single(x), _single(y))

    return Peer("numba", threads, formula)


# PyTorch: log_softmax and kl_div.


def _torch(threads: int) -> Peer:
    torch: Any = importlib.import_module("torch")
    kl_div, log_softmax = torch.nn.functional.kl_div, torch.nn.functional.log_softmax
    torch.set_num_threads(threads)
    to_logs: dict[str, Callable[[Any], Any]] = {
        "logits": partial(log_softmax, dim=-1),
        "log_probs": lambda x: x,
        "probs": torch.log,
        "weights": lambda x: torch.log(x / x.sum(dim=-1, keepdim=True)),
    }

    def kl(log_p: Any, log_q: Any) -> Any:
        return kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)

    def js(log_p: Any, log_q: Any) -> Any:
        log_m = torch.logaddexp(log_p, log_q) - math.log(2.0)
        return (kl(log_p, log_m) + kl(log_q, log_m)) / 2

    formulas: dict[str, Formula] = {"kl": kl, "js": js, "entropy": lambda log_p, _: -(log_p.exp() * log_p).sum(dim=-1)}

    def formula(name: str, kind: str) -> Formula | None:
        if name not in formulas:
            return None
        convert = to_logs[kind]
        return lambda x, y: formulas[name](convert(x), convert(y)).numpy()

    return Peer("torch", threads, formula, lambda x: torch.from_numpy(_single(x)))


# JAX: compiled for the CPU, where it decides about threads itself.


def _jax(_: int) -> Peer:
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)  # float64 stays float64; float32 stays float32
    jnp, rel_entr = jax.numpy, importlib.import_module("jax.scipy.special").rel_entr
    cpu = jax.devices("cpu")[0]
    to_logs: dict[str, Callable[[Any], Any]] = {
        "logits": partial(jax.nn.log_softmax, axis=-1),
        "log_probs": lambda x: x,
        "probs": jnp.log,
        "weights": lambda x: jnp.log(_normalised(x)),
    }

    def kl(log_p: Any, log_q: Any) -> Any:
        return (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)

    def js(log_p: Any, log_q: Any) -> Any:
        p, q = jnp.exp(log_p), jnp.exp(log_q)
        m = (p + q) / 2
        return (rel_entr(p, m).sum(axis=-1) + rel_entr(q, m).sum(axis=-1)) / 2

    formulas: dict[str, Formula] = {"kl": kl, "js": js, "entropy": lambda log_p, _: -(jnp.exp(log_p) * log_p).sum(-1)}

    def formula(name: str, kind: str) -> Formula | None:
        if name not in formulas:
            return None
        convert = to_logs[kind]
        return jax.jit(lambda x, y: formulas[name](convert(x), convert(y)))  # type: ignore[no-any-return]

    return Peer("jax", os.cpu_count() or 1, formula, lambda x: jax.device_put(_single(x), cpu))


# SimSIMD, NumKong and fastjsd: kernels over probabilities.


def _kernels(library: str, _: int) -> Peer:
    module: Any = importlib.import_module(library)

    def kl(p: Array, q: Array) -> Array:
        return np.asarray(module.kullbackleibler(p, q), np.float64)

    def js(p: Array, q: Array) -> Array:
        return np.asarray(module.jensenshannon(p, q), np.float64) ** 2  # it returns the distance

    formulas: dict[str, Formula] = {"kl": kl, "js": js}

    def formula(name: str, kind: str) -> Formula | None:
        return _through(_TO_PROBABILITIES[kind], formulas[name]) if name in formulas else None

    return Peer(library, 1, formula)


def _fastjsd(_: int) -> Peer:
    jsd: Any = importlib.import_module("fastjsd").jsd_pairwise

    def formula(name: str, kind: str) -> Formula | None:
        function = partial(jsd, base=math.e, squared=True)
        return _through(_TO_PROBABILITIES[kind], function) if name == "js" else None

    return Peer("fastjsd", 1, formula)


_LOADERS: dict[str, Callable[[int], Peer]] = {
    "scipy": _scipy,
    "numba": _numba,
    "torch": _torch,
    "jax": _jax,
    "numkong": partial(_kernels, "numkong"),
    "simsimd": partial(_kernels, "simsimd"),
    "fastjsd": _fastjsd,
}

NAMES = tuple(_LOADERS)
"""Libraries that are known here."""
