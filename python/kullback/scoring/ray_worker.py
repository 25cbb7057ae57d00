"""What a worker of the Ray engine does: open the files once, compare the rows of one part after another.

A worker may be on another machine. So it gets all that decides the numbers from the driver, and refuses to work with
another version of the library or with files that are not those that the driver saw. What goes wrong is handed back as a
value, not raised: Ray would wrap it in its own exception and print the worker's traceback.
"""

from __future__ import annotations

import os
import pickle
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .inputs import Inputs
from .manifest import difference
from .options import Options
from .plan import Missing, Part, Plan
from .result import ProgressCounter
from .rules import Comparer
from .sources import Location

__all__ = ["Job", "Outcome", "PartScorer"]

StrPath = str | PathLike[str]


@dataclass(frozen=True)
class Job:
    """What all parts of a run have in common.

    Attributes
    ----------
    reference, candidates, targets, noise_floor
        As `kullback.score` got them.
    options : Options
        The options that decide the numbers.
    plan : Plan
        The size of blocks.
    fingerprints : dict
        What the driver saw behind the paths.
    library : dict
        What `kullback.info` says at the driver.
    threads : int
        Threads of a worker.
    """

    reference: StrPath
    candidates: Sequence[StrPath]
    targets: StrPath | None
    noise_floor: StrPath | None
    options: Options
    plan: Plan
    fingerprints: Mapping[str, Any]
    library: Mapping[str, Any]
    threads: int

    def open(self) -> Inputs:
        """Open the files, relative paths from the folder where the driver runs.

        Raises
        ------
        InputError
            If they, or this machine's library, are not what the driver has.
        """
        from .._core.backend import version

        machine = platform.node() or "a worker"
        if version() != self.library["version"]:
            raise InputError(
                f"{machine} has kullback {version()} but the run was started with {self.library['version']}; "
                "install one version on all machines"
            )
        advice = "with the engine ray all machines must see the files under the same paths"
        try:
            targets = None if self.targets is None else Path(self.targets)
            inputs = Inputs(self.reference, self.candidates, targets, self.options, self.noise_floor)
        except InputError as error:
            raise InputError(f"{error}, on the machine {machine}; {advice}") from None
        try:
            changed = difference(dict(self.fingerprints), inputs.fingerprints())
            if changed:
                raise InputError(f"the machine {machine} sees other inputs than the driver ({changed}); {advice}")
        except BaseException:
            inputs.close()
            raise
        return inputs

    def places(self) -> list[StrPath]:
        """Return all places, in the order of `absolute`."""
        others = [place for place in (self.targets, self.noise_floor) if place is not None]
        return [self.reference, *self.candidates, *others]

    def absolute(self) -> Job:
        """Return the job with paths that do not depend on the working directory."""
        return replace(
            self,
            reference=_absolute(self.reference),
            candidates=[_absolute(place) for place in self.candidates],
            targets=None if self.targets is None else _absolute(self.targets),
            noise_floor=None if self.noise_floor is None else _absolute(self.noise_floor),
        )


def _absolute(place: StrPath) -> str:
    text = os.fspath(place)
    return text if Location.parse(text).is_url else os.path.join(os.getcwd(), text)


@dataclass(frozen=True)
class Outcome:
    """The columns of a part by candidate, or what went wrong."""

    part: Part
    columns: dict[str, dict[str, NDArray[Any]]]
    error: Exception | None = None

    def to_bytes(self) -> bytes:
        """Return this for the way to the driver."""
        try:
            return pickle.dumps(self)
        except Exception:  # an exception of another library that cannot travel
            text = f"{type(self.error).__name__}: {self.error}"
            return pickle.dumps(Outcome(self.part, {}, RuntimeError(text)))


class PartScorer:
    """The callable that Ray Data keeps in each worker: it holds the opened files from one part to the next.

    Parameters
    ----------
    job : Job
        With absolute paths.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._inputs: Inputs | None = None

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Compare the rows of the parts of a batch."""
        outcomes = [self._outcome(pickle.loads(task)).to_bytes() for task in batch["task"]]
        return {"outcome": np.array(outcomes, dtype=object)}

    def _outcome(self, missing: Missing) -> Outcome:
        try:
            return Outcome(missing[0], self._score(missing))
        except Exception as error:
            return Outcome(missing[0], {}, error)

    def _score(self, missing: Missing) -> dict[str, dict[str, NDArray[Any]]]:
        from .._core.backend import use_backend
        from .engine import Run

        if self._inputs is None:
            self._inputs = self._job.open()
        found: dict[str, dict[str, NDArray[Any]]] = {}

        def keep(_part: Part, name: str, columns: dict[str, NDArray[Any]]) -> None:
            found[name] = columns

        with use_backend(self._job.library["backend"]):
            comparer = Comparer(self._inputs, self._job.options, self._job.threads)
            run = Run(self._inputs, self._job.plan, comparer, [missing], keep)
            run.execute(ProgressCounter(self._inputs, [missing]))
        return found
