"""The two limits of the machine: reading memory, and computing exponentials in the first-level cache.

Both are measured by the native module with the lanes, the threads and the instruction set of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import check

__all__ = ["Machine"]

_CACHED = 4096  # numbers that are exponentiated: 16 or 32 KiB


class Machine:
    """The two measurements, as contestants beside the kernels.

    Parameters
    ----------
    numbers : ndarray of float32
        What is read.
    exponentials : int
        About how many to compute a call.
    threads : int
        On so many threads.
    wide : bool
        Whether the exponentials are those of float64 lanes.
    """

    def __init__(
        self, numbers: npt.NDArray[np.float32], exponentials: int, threads: int, *, wide: bool = False
    ) -> None:
        # The probes are called directly: they are no part of the public interface.
        from .._core import _native

        self.numbers = numbers
        small: Any = np.linspace(-5, 5, _CACHED, dtype=np.float64 if wide else np.float32)
        repeats = max(1, exponentials // (_CACHED * threads))
        self._exponentials = _CACHED * repeats * threads  # every thread does all repeats
        # The probe sums in float32 lanes, of a set number of rows of 128 lanes each: it reads whole ones only.
        whole = numbers[: numbers.size // 128 * 128]
        size = float(np.abs(whole).sum(dtype=np.float64)) or 1.0
        total = float(whole.sum(dtype=np.float64))
        check("the reading probe", 1 + _native.read_rate(whole, threads) / size, 1 + total / size, 1e-4)
        exact = 3.0 * threads * float(np.exp(small.astype(np.float64)).sum())
        check("the exp probe", _native.exp_sum(small, 3, threads), exact, 1e-6)
        self.probes: dict[str, Callable[[], object]] = {
            "read": partial(_native.read_rate, numbers, threads),
            "exp": partial(_native.exp_sum, small, repeats, threads),
        }

    def read_rate(self, seconds: float) -> float:
        """Bytes a second, from the time of the probe."""
        return self.numbers.nbytes / seconds

    def exp_rate(self, seconds: float) -> float:
        """Exponentials a second, from the time of the probe."""
        return self._exponentials / seconds
