"""A run: draw rows, check every value, time everything in turn, and report it as one dictionary."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy.typing as npt

import kullback as kb

from . import peers
from .checks import worst_error
from .data import Data
from .environment import environment, load_average, version
from .kernels import call_of, check_kernels, exponentials, sides
from .machine import Machine
from .settings import Plan, Settings
from .timing import Timings, interleave
from .truth import NAMES as CHECKABLE
from .truth import values

__all__ = ["Progress", "Share", "measure", "need_native_release"]

Array = npt.NDArray[Any]
Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done."""


def need_native_release() -> None:
    """Refuse to measure what nobody would run.

    Raises
    ------
    ValueError
        If the native module is missing, switched off, or built without optimisation.
    """
    info = kb.info()
    if info["backend"] != "native":
        raise ValueError("benchmarks need the native module, and this run uses NumPy")
    if info["build_profile"] != "release":
        raise ValueError("benchmarks need a native module built for release; this one was built for debugging")


def measure(settings: Settings | None = None, *, progress: Progress | None = None) -> dict[str, Any]:
    """Measure the kernels beside the machine's limits, and other libraries on the same rows.

    Parameters
    ----------
    settings : Settings, optional
        What to measure.
    progress : callable, optional
        Called now and then with a phase and the share of it that is done.

    Returns
    -------
    dict
        Ready for JSON: ``environment``, ``size``, ``machine``, ``kernels``, ``peers``, ``load_average_after``.

    Raises
    ------
    WrongValueError
        If a kernel's value is wrong.
    UsageError
        If the sizes do not fit the memory.
    """
    need_native_release()
    plan = (settings or Settings()).plan()
    tell = progress or (lambda _phase, _share: None)
    facts = environment()
    tell("drawing rows", 0.0)
    data = Data(plan)
    tell("checking values", 0.0)
    errors = check_kernels(plan.names, data, threads=plan.threads, progress=partial(tell, "checking values"))
    share, kernels = _kernels(data, errors, partial(tell, "timing kernels"))
    return {
        "environment": facts,
        "size": _size(plan),
        "machine": share.to_dict(),
        "kernels": kernels,
        "peers": _peers(data, share, tell) if plan.peer_rows else [],
        "load_average_after": load_average(),
    }


def _size(plan: Plan) -> dict[str, Any]:
    return {
        "rows": plan.rows,
        "vocab_size": plan.columns,
        "dtype": plan.dtype,
        "input": plan.kind,
        "noise": plan.noise,
        "threads": plan.threads,
        "peer_rows": plan.peer_rows,
        "bytes_needed": plan.bytes_needed,
        "quick": plan.quick,
    }


class Share:
    """How much of what the machine allows a call reaches.

    Parameters
    ----------
    machine : Machine
        Whose probes are called ``read`` and ``exp`` in the timings.
    timings : Timings
        Of one run of :func:`interleave`.
    """

    def __init__(self, machine: Machine, timings: Timings) -> None:
        self._machine, self._timings = machine, timings
        self.read_rate = machine.read_rate(timings.median("read"))
        self.exp_rate = machine.exp_rate(timings.median("exp"))

    def to_dict(self) -> dict[str, Any]:
        """Return the rates, ready for JSON."""
        return {
            "read_gb_per_s": self.read_rate / 1e9,
            "exp_g_per_s": self.exp_rate / 1e9,
            "rounds": self._timings.rounds,
        }

    def of(self, contestant: str, n_bytes: int, n_exponentials: int) -> dict[str, Any]:
        """Return the shares of a contestant of the same rounds: the median of every round's own."""
        seconds = self._timings.seconds
        rounds = list(zip(seconds["read"], seconds["exp"], seconds[contestant], strict=True))
        read = [n_bytes / self._machine.read_rate(probe) / own for probe, _, own in rounds]
        exp = [n_exponentials / self._machine.exp_rate(probe) / own for _, probe, own in rounds]
        of_read, of_exp = statistics.median(read), statistics.median(exp)
        return {
            "limit": "read" if of_read >= of_exp else "exp",
            "fraction": statistics.median(map(max, read, exp)),
            "of_read": of_read,
            "of_exp": of_exp,
        }

    def of_seconds(self, seconds: float, n_bytes: int, n_exponentials: int) -> float:
        """Return the share of a call of other rounds, in which other libraries' threads would disturb the probes."""
        return max(n_bytes / self.read_rate, n_exponentials / self.exp_rate) / seconds


def _kernels(
    data: Data, errors: Mapping[str, float], tell: Callable[[float], None]
) -> tuple[Share, list[dict[str, Any]]]:
    """Time the kernels and the machine."""
    plan = data.plan
    machine = Machine(data.to_read(), 2 * plan.pairs, plan.threads, wide=plan.dtype == "float64")
    calls = {name: call_of(name, data, threads=plan.threads) for name in plan.names}
    timings = interleave({**calls, **machine.probes}, seconds=plan.seconds, progress=tell)
    share = Share(machine, timings)
    found = []
    for name in plan.names:
        n_bytes = sides(name) * plan.pairs * plan.itemsize
        seconds = timings.median(name)
        found.append(
            {
                "name": name,
                "seconds": seconds,
                "rows_per_s": plan.rows / seconds,
                "gb_per_s": n_bytes / seconds / 1e9,
                **share.of(name, n_bytes, exponentials(name, plan.kind) * plan.pairs),
                "worst_error": errors[name],
            }
        )
    return share, found


def _peers(data: Data, share: Share, tell: Progress) -> list[dict[str, Any]]:
    """Time the other libraries on the first rows, and kullback beside them."""
    plan, part = data.plan, slice(data.plan.peer_rows)
    found: list[dict[str, Any]] = []
    contestants: dict[str, Callable[[], object]] = {}
    for peer, name, call, error in _offers(data, tell):
        entry: dict[str, Any] = {"peer": peer.name, "version": version(peer.name), "name": name}
        entry["threads"] = peer.threads
        timed = error <= peers.TOLERANCE
        found.append({**entry, "worst_error": error, "timed": timed})
        if timed:
            contestants[f"{peer.name} {name}"] = call
            for threads in {plan.threads, min(peer.threads, plan.threads)}:
                ours = call_of(name, data, rows=part.stop, threads=threads)
                contestants[f"kullback {name} {threads}"] = ours
    if not contestants:
        return found
    timings = interleave(contestants, seconds=plan.seconds, progress=partial(tell, "timing other libraries"))
    pairs = plan.peer_rows * plan.columns
    for entry in filter(lambda entry: entry["timed"], found):
        name, contestant = entry["name"], f"{entry['peer']} {entry['name']}"
        n_bytes, seconds = sides(name) * pairs * plan.itemsize, timings.median(contestant)
        entry["seconds"] = seconds
        entry["gb_per_s"] = n_bytes / seconds / 1e9
        entry["times_kullback"] = timings.ratio(contestant, f"kullback {name} {min(entry['threads'], plan.threads)}")
        entry["fraction"] = share.of_seconds(seconds, n_bytes, exponentials(name, plan.kind) * pairs)
    return found


def _offers(data: Data, tell: Progress) -> Iterator[tuple[peers.Peer, str, Callable[[], Array], float]]:
    """Yield what the installed libraries have of the wanted names, with the worst relative error of each."""
    plan, part, distinct = data.plan, slice(data.plan.peer_rows), slice(data.plan.distinct)
    wanted = [name for name in plan.names if name in CHECKABLE]
    exact = values(wanted, data.p[distinct], data.q[distinct], plan.kind)
    for number, library in enumerate(peers.NAMES):
        tell(f"checking {library}", number / len(peers.NAMES))
        peer = peers.load(library, plan.threads)
        if peer is None:
            continue
        for name, call in peer.calls(wanted, plan.kind, data.p[part], data.q[part]).items():
            yield peer, name, call, worst_error(call(), data.repeated(exact[name])[part])
