"""Entropic optimal transport: many problems at once, each with its own size, convergence and failure."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kullback._core import backend, transport_reference
from kullback._core.transport import Found, Method, ProblemError, worded
from kullback._core.transport_batch import Batch, batch
from kullback._core.types import Array, ArrayLike
from kullback.entropic import ConvergenceWarning, DenseCoupling, SinkhornResult, from_native

__all__ = ["SinkhornBatchResult", "sinkhorn_batch"]


class SinkhornBatchResult:
    """The solutions of a batch of problems; `result[i]` is that of one, as :func:`sinkhorn` returns it.

    Attributes
    ----------
    f, g : ndarray of shape (B, n) and (B, m), or list of ndarray
        Potentials; lists where the problems differ in shape. NaN where a problem is not valid.
    value, transport_cost, mass, marginal_error, tol : ndarray of float64
        One number a problem, NaN where it is not valid.
    converged : ndarray of bool
        Whether the error of each is within its tolerance; False where a problem is not valid.
    n_iter : ndarray of int64
        Sweeps of each.
    method : list of str
        The method that finished each.
    error_history : list of ndarray
        The error of each at each evaluation.
    status : list of str
        ``"converged"``, ``"not converged"``, or what is not valid about the problem.

    Examples
    --------
    >>> import kullback as kb
    >>> result = kb.sinkhorn_batch(None, None, [[[0.0, 1.0], [1.0, 0.0]], [[0.0, 3.0], [3.0, 0.0]]], epsilon=1.0)
    >>> result.status
    ['converged', 'converged']
    >>> result[1]
    SinkhornResult(2 x 2, epsilon=1, value=0.644559829, transport_cost=0.14227762; converged in 1 sweep by 'sinkhorn')
    """

    def __init__(self, posed: Batch, found: Sequence[Found | ValueError]) -> None:
        self._posed, self._found = posed, list(found)
        blank = [one if isinstance(one, Found) else _nothing(*posed.shapes[i]) for i, one in enumerate(found)]
        self.f, self.g = (_gathered([getattr(one, side) for one in blank], posed.stacked) for side in "fg")
        self.value, self.transport_cost, self.mass, self.marginal_error, self.tol = (
            np.array([getattr(one, name) for one in blank], np.float64)
            for name in ("value", "transport_cost", "mass", "marginal_error", "target")
        )
        self.converged = np.array([one.converged for one in blank], np.bool_)
        self.n_iter = np.array([one.n_iter for one in blank], np.int64)
        self.method = [one.method for one in blank]
        self.error_history = [one.error_history for one in blank]
        said = {True: "converged", False: "not converged"}
        self.status = [str(one) if isinstance(one, ValueError) else said[one.converged] for one in self._found]

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: int) -> SinkhornResult:
        """Return the solution of one problem; raise what is not valid about it."""
        index = range(len(self))[index]
        found = self._found[index]
        if isinstance(found, ValueError):
            raise found
        posed = self._posed
        row, column = (int(end[index - 1]) if index else 0 for end in posed.ends())
        problem = posed.problem(index, row, column)
        coupling = DenseCoupling(problem, found.f, found.g)
        return SinkhornResult(found, problem.a, problem.b, problem.epsilon, problem.reach, coupling)

    def __iter__(self) -> Iterator[SinkhornResult]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        invalid = sum(isinstance(one, ValueError) for one in self._found)
        note = f", {invalid} not valid" if invalid else ""
        return f"SinkhornBatchResult({len(self)} problems, {int(self.converged.sum())} converged{note})"

    def plan(self) -> npt.NDArray[Any] | list[npt.NDArray[Any]]:
        """Return the plans: stacked, or a list where the problems differ in shape."""
        plans = [one.plan() for one in self]
        return np.array(plans) if self._posed.stacked else plans


def _gathered(potentials: list[Array], stacked: bool) -> Any:
    return np.array(potentials) if stacked else potentials


def _nothing(rows: int, columns: int) -> Found:
    nan = float("nan")
    f, g = np.full(rows, nan), np.full(columns, nan)
    return Found(f, g, np.empty(0), nan, nan, nan, nan, nan, n_iter=0, converged=False, method="")


def sinkhorn_batch(
    a: ArrayLike | Sequence[ArrayLike] | None,
    b: ArrayLike | Sequence[ArrayLike] | None,
    cost: ArrayLike | Sequence[ArrayLike],
    *,
    epsilon: float | ArrayLike,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    method: Method = "auto",
    reach: float | Sequence[float | None] | None = None,
    init: SinkhornBatchResult | Sequence[Any] | None = None,
    dtype: npt.DTypeLike | None = None,
    threads: int | None = None,
) -> SinkhornBatchResult:
    """Solve many problems of entropic optimal transport, each as :func:`sinkhorn` would, to the bit.

    Problems go to threads one at a time, each stops by itself, and none waits for another. One that is not valid (a
    NaN in its costs, weights that do not fit) is NaN in the result and named in `status`; the others are solved. If any
    did not converge, one :class:`ConvergenceWarning` is given.

    Parameters
    ----------
    a, b : array_like, list of array_like, or None
        Weights: of shape (B, n), of shape (n,) for all problems, or a list of B arrays; None is uniform.
    cost : array_like or list of array_like
        Costs: of shape (B, n, m), one matrix (n, m) for all problems, or a list of B matrices of any shapes. A list
        that holds float64 is computed in float64 throughout.
    epsilon : float or array_like of shape (B,)
        Regularisation, one for all or one a problem.
    tol, max_iter, method, reach, dtype, threads
        As for :func:`sinkhorn`.
    init : SinkhornBatchResult or sequence, optional
        Where each problem starts: results, pairs of potentials, or None.

    Returns
    -------
    SinkhornBatchResult
        Arrays with one entry a problem.

    Raises
    ------
    ValueError
        If shapes or options do not fit.
    TypeError
        If an input does not hold real numbers in CPU memory.

    Examples
    --------
    >>> import kullback as kb
    >>> import numpy as np
    >>> costs = np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 2.0], [2.0, 0.0]]])
    >>> result = kb.sinkhorn_batch(None, None, costs, epsilon=0.5)
    >>> result
    SinkhornBatchResult(2 problems, 2 converged)
    >>> result.transport_cost.round(6)
    array([0.119203, 0.035972])
    """
    posed = batch(
        a,
        b,
        cost,
        epsilon=epsilon,
        tol=tol,
        max_iter=max_iter,
        method=method,
        reach=reach,
        init=init,
        dtype=dtype,
        threads=threads,
    )
    module = backend.active()
    found = _reference(posed) if module is None else _native(module, posed)
    result = SinkhornBatchResult(posed, found)
    rest = len(result) - int(result.converged.sum())
    if rest:
        first = int(np.argmin(result.converged))
        warnings.warn(
            f"{rest} of {len(result)} problems did not converge, the first of them problem {first}: "
            f"{result.status[first]}; see converged, marginal_error and status of the result",
            ConvergenceWarning,
            stacklevel=2,
        )
    return result


def _reference(posed: Batch) -> list[Found | ValueError]:
    found: list[Found | ValueError] = []
    row = column = 0
    for index, (rows, columns) in enumerate(posed.shapes):
        try:
            found.append(transport_reference.solve(posed.problem(index, row, column)))
        except ProblemError as error:
            found.append(worded(error.args))
        row, column = row + rows, column + columns
    return found


def _native(module: Any, posed: Batch) -> list[Found | ValueError]:
    options = posed.options
    (f, g, history), numbers, counts, flaws = module.sinkhorn_batch(
        posed.a,
        posed.b,
        posed.cost,
        posed.shapes,
        posed.starts,
        posed.epsilon,
        options["reach"],
        options["tol"],
        options["max_iter"],
        options["method"],
        posed.init,
        options["threads"],
    )
    invalid = {index: worded(fields) for index, fields in flaws}
    found: list[Found | ValueError] = []
    row = column = at = 0
    rows: Array
    for index, ((n, m), measured, (n_iter, evaluations, converged, method)) in enumerate(
        zip(posed.shapes, numbers.tolist(), counts, strict=True)
    ):
        rows, columns, errors = f[row : row + n], g[column : column + m], history[at : at + evaluations]
        solved = from_native(rows, columns, errors, measured, n_iter, converged, method)
        found.append(invalid.get(index, solved))
        row, column, at = row + n, column + m, at + evaluations
    return found
