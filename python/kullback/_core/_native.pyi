"""The native module; every argument is positional. Rows lie on the last axis."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "ProblemError",
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
    "js_divergence_many",
    "monotone_plan",
    "nearest",
    "num_threads",
    "pairwise",
    "read_rate",
    "registry",
    "set_isa",
    "set_num_threads",
    "sinkhorn",
    "sinkhorn_apply",
    "sinkhorn_batch",
    "sinkhorn_mirror",
    "sinkhorn_plan",
    "sinkhorn_points",
    "sinkhorn_points_apply",
    "sinkhorn_points_plan",
    "sinkhorn_points_slope",
    "sliced_wasserstein",
    "soft_minima",
    "top_k",
    "value_and_grad",
    "wasserstein_1d",
]

__version__: Final[str]

class RowError(ValueError):
    """args = (reason, argument, row, column, value)."""

class ProblemError(ValueError):
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
def pairwise(
    name: str,
    p: npt.NDArray[Any],
    q: npt.NDArray[Any] | None,
    kind_p: str,
    kind_q: str,
    parameter: float | None,
    temperature: float,
    threads: int,
    out: npt.NDArray[np.float64],
    /,
) -> tuple[list[int], list[int]]: ...
def nearest(
    name: str,
    p: npt.NDArray[Any],
    q: npt.NDArray[Any],
    kind_p: str,
    kind_q: str,
    parameter: float | None,
    temperature: float,
    threads: int,
    k: int,
    /,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], tuple[list[int], list[int]]]: ...
def js_divergence_many(
    p: npt.NDArray[Any], kind: str, weights: list[float], temperature: float, threads: int, /
) -> npt.NDArray[np.float64]: ...
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
def exp_sum(array: npt.NDArray[np.float32] | npt.NDArray[np.float64], repeats: int, threads: int, /) -> float: ...
def sinkhorn(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    cost: npt.NDArray[Any],
    epsilon: float,
    reach: tuple[float, float],
    tol: float,
    max_iter: int,
    method: str,
    init: npt.NDArray[np.float64] | None,
    wide: bool,
    threads: int,
    progress: Callable[[int, float], object] | None,
    /,
) -> tuple[
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    list[float],
    int,
    bool,
    str,
]: ...
def sinkhorn_batch(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    cost: npt.NDArray[Any],
    shapes: list[tuple[int, int]],
    starts: list[int],
    epsilon: list[float],
    reach: tuple[float, float],
    tol: float,
    max_iter: int,
    method: str,
    init: npt.NDArray[np.float64] | None,
    threads: int,
    /,
) -> tuple[
    tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]],
    npt.NDArray[np.float64],
    list[tuple[int, int, bool, str]],
    list[tuple[int, tuple[str, str, int, int, float]]],
]: ...
def sinkhorn_plan(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    cost: npt.NDArray[Any],
    epsilon: float,
    f: npt.NDArray[np.float64],
    g: npt.NDArray[np.float64],
    threads: int,
    /,
) -> npt.NDArray[Any]: ...
def sinkhorn_apply(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    cost: npt.NDArray[Any],
    epsilon: float,
    f: npt.NDArray[np.float64],
    g: npt.NDArray[np.float64],
    vectors: npt.NDArray[np.float64],
    transposed: bool,
    threads: int,
    /,
) -> npt.NDArray[np.float64]: ...
def wasserstein_1d(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    a: npt.NDArray[np.float64] | None,
    b: npt.NDArray[np.float64] | None,
    p: float,
    /,
) -> npt.NDArray[np.float64]: ...
def monotone_plan(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    a: npt.NDArray[np.float64] | None,
    b: npt.NDArray[np.float64] | None,
    /,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]: ...
def sliced_wasserstein(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    a: npt.NDArray[np.float64] | None,
    b: npt.NDArray[np.float64] | None,
    directions: npt.NDArray[np.float64],
    p: float,
    /,
) -> npt.NDArray[np.float64]: ...
def sinkhorn_points(
    clouds: tuple[Any, ...],
    reach: tuple[float, float],
    tol: float,
    max_iter: int,
    method: str,
    init: npt.NDArray[np.float64] | None,
    wide: bool,
    threads: int,
    progress: Callable[[int, float], object] | None,
    /,
) -> tuple[
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    list[float],
    int,
    bool,
    str,
]: ...
def sinkhorn_mirror(
    clouds: tuple[Any, ...],
    tol: float,
    max_iter: int,
    init: npt.NDArray[np.float64] | None,
    threads: int,
    /,
) -> tuple[
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    list[float],
    int,
    bool,
    str,
]: ...
def sinkhorn_points_plan(
    clouds: tuple[Any, ...],
    f: npt.NDArray[np.float64],
    g: npt.NDArray[np.float64],
    threads: int,
    /,
) -> npt.NDArray[np.float64]: ...
def sinkhorn_points_apply(
    clouds: tuple[Any, ...],
    f: npt.NDArray[np.float64],
    g: npt.NDArray[np.float64],
    vectors: npt.NDArray[np.float64],
    transposed: bool,
    threads: int,
    /,
) -> npt.NDArray[np.float64]: ...
def sinkhorn_points_slope(
    clouds: tuple[Any, ...],
    f: npt.NDArray[np.float64],
    g: npt.NDArray[np.float64],
    threads: int,
    /,
) -> npt.NDArray[np.float64]: ...
def soft_minima(
    cost: npt.NDArray[np.float64],
    h: npt.NDArray[np.float64],
    epsilon: float,
    threads: int,
    /,
) -> npt.NDArray[np.float64]: ...
