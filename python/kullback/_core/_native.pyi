"""The native module; every argument is positional. Rows lie on the last axis."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "RowError",
    "__version__",
    "available_isas",
    "build_profile",
    "compare",
    "compare_topk",
    "divergence",
    "exp_sum",
    "gradient_names",
    "isa",
    "num_threads",
    "read_rate",
    "registry",
    "set_isa",
    "set_num_threads",
    "top_k",
    "value_and_grad",
]

__version__: Final[str]

class RowError(ValueError):
    """args = (reason, argument, row, column, value)."""

def divergence(
    name: str,
    p: npt.NDArray[Any],
    q: npt.NDArray[Any] | None,
    kind_p: str,
    kind_q: str,
    parameter: float | None,
    temperature: float,
    threads: int,
    /,
) -> npt.NDArray[np.float64]: ...
def compare(
    p: npt.NDArray[Any],
    q: npt.NDArray[Any],
    kind_p: str,
    kind_q: str,
    columns: list[str],
    targets: npt.NDArray[np.int64] | None,
    temperature: float,
    threads: int,
    /,
) -> dict[str, npt.NDArray[Any]]: ...
def compare_topk(
    p: npt.NDArray[Any],
    ids_p: npt.NDArray[np.int32] | None,
    log_tails_p: npt.NDArray[np.float64] | None,
    kind_p: str,
    q: npt.NDArray[Any],
    ids_q: npt.NDArray[np.int32] | None,
    log_tails_q: npt.NDArray[np.float64] | None,
    kind_q: str,
    vocab_size: int,
    tail: str,
    threads: int,
    /,
) -> npt.NDArray[np.float64]: ...
def top_k(
    rows: npt.NDArray[Any], k: int, kind: str, temperature: float, threads: int, /
) -> npt.NDArray[np.float64]: ...
def value_and_grad(
    name: str,
    p: npt.NDArray[Any],
    q: npt.NDArray[Any],
    kind_p: str,
    kind_q: str,
    parameter: float | None,
    wrt: str,
    temperature: float,
    values: npt.NDArray[np.float64],
    gradient: npt.NDArray[Any],
    threads: int,
    /,
) -> None: ...
def gradient_names() -> list[str]: ...
def registry() -> list[str]: ...
def num_threads() -> int: ...
def set_num_threads(n: int, /) -> None: ...
def isa() -> str: ...
def set_isa(name: str, /) -> None: ...
def available_isas() -> list[str]: ...
def build_profile() -> str: ...
def read_rate(array: npt.NDArray[np.float32], threads: int, /) -> float: ...
def exp_sum(array: npt.NDArray[np.float32], repeats: int, threads: int, /) -> float: ...
