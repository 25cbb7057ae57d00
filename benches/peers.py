"""KL from float32 logits as other libraries compute it, each written as well as its users would write it."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NAMES = ("scipy", "numba", "torch")


@dataclass(frozen=True)
class Peer:
    """A function of two arrays of rows of logits that returns KL(p || q) of each row, and the threads it uses."""

    run: Callable[[Array, Array], Array]
    threads: int


def load(name: str, threads: int) -> Peer | None:
    """Return a peer set to that many threads, or None if its library is not installed."""
    if importlib.util.find_spec(name) is None:
        return None
    return {"scipy": _scipy, "numba": _numba, "torch": _torch}[name](threads)


def _scipy(_: int) -> Peer:
    special: Any = importlib.import_module("scipy.special")
    rel_entr, softmax = special.rel_entr, special.softmax

    return Peer(lambda x, y: np.asarray(rel_entr(softmax(x, axis=-1), softmax(y, axis=-1)).sum(axis=-1)), 1)


def _numba(threads: int) -> Peer:
    numba: Any = importlib.import_module("numba")

    def kl(x: Any, y: Any) -> Any:
        out = np.empty(x.shape[0])
        for i in numba.prange(x.shape[0]):
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

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    return Peer(numba.njit(kl, parallel=True, fastmath=True), threads)


def _torch(threads: int) -> Peer:
    torch: Any = importlib.import_module("torch")
    functional = torch.nn.functional

    torch.set_num_threads(threads)

    def kl(x: Array, y: Array) -> Array:
        log_p, log_q = (functional.log_softmax(torch.from_numpy(array), dim=-1) for array in (x, y))
        terms = functional.kl_div(log_q, log_p, reduction="none", log_target=True)
        return np.asarray(terms.sum(dim=-1).numpy())

    return Peer(kl, threads)
