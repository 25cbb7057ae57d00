"""Interleaved timing: contestants run round by round, so that a disturbance hits neighbours alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["Timings", "interleave"]

_LEAST_ROUNDS, _MOST_ROUNDS = 3, 50


class Timings:
    """Seconds of every contestant in every round.

    Parameters
    ----------
    seconds : mapping of str to sequence of float
        By contestant, one number a round.
    """

    def __init__(self, seconds: Mapping[str, Sequence[float]]) -> None:
        self.seconds = seconds

    @property
    def rounds(self) -> int:
        """How many rounds there were."""
        return len(next(iter(self.seconds.values())))

    def median(self, name: str) -> float:
        """Return the median time of one contestant."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, base: str) -> float:
        """Return how many times longer `name` takes than `base`: the median over rounds, as noise hits both."""
        return statistics.median(a / b for a, b in zip(self.seconds[name], self.seconds[base], strict=True))


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int | None = None,
    *,
    seconds: float = 10.0,
    pause: float = 0.0,
    progress: Callable[[float], None] | None = None,
) -> Timings:
    """Time callables, one call each a round.

    Every callable runs once untimed. The order is drawn anew (always the same way) for each round: some libraries leave
    threads behind that spin for a while, and none is always the one to suffer from them.

    Parameters
    ----------
    contestants : mapping of str to callable
        By name.
    rounds : int, optional
        How many; by default as many as fit `seconds`, from 3 to 50.
    seconds : float
        See there.
    pause : float
        Seconds to wait before every call, for what the last one left behind to fall asleep.
    progress : callable, optional
        Called with the share that is done, after every call.

    Returns
    -------
    Timings
        One time for each contestant and round.
    """
    names = list(contestants)
    begin = time.perf_counter()
    for name in names:
        contestants[name]()
    if rounds is None:
        fitting = seconds / max(time.perf_counter() - begin, 1e-9)
        rounds = round(min(max(fitting, _LEAST_ROUNDS), _MOST_ROUNDS))
    taken: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(1)
    for number in range(rounds):
        for position, name in enumerate(order.sample(names, len(names))):
            time.sleep(pause)
            begin = time.perf_counter()
            contestants[name]()
            taken[name].append(time.perf_counter() - begin)
            if progress is not None:
                progress((number * len(names) + position + 1) / (rounds * len(names)))
    return Timings(taken)
