"""Entropic optimal transport: one problem at a time, from a matrix of costs."""

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kullback._core import backend, transport_reference
from kullback._core.arrays import as_array, as_float64
from kullback._core.transport import Found, Method, ProblemError, Progress, Transport, transport, worded
from kullback._core.types import Array, ArrayLike

__all__ = ["ConvergenceWarning", "SinkhornResult", "sinkhorn"]


class ConvergenceWarning(UserWarning):
    """A solver stopped before its error was within the tolerance; its result says so in `converged`.

    Examples
    --------
    >>> import warnings
    >>> import kullback as kb
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     result = kb.sinkhorn([0.3, 0.7], [0.6, 0.4], [[0.0, 1.0], [1.0, 0.0]], epsilon=0.1, max_iter=1)
    >>> [warning.category.__name__ for warning in caught], result.converged
    (['ConvergenceWarning'], False)
    """


class DenseCoupling:
    """The plan of a problem whose costs are stored."""

    def __init__(self, problem: Transport, f: Array, g: Array) -> None:
        self.problem, self.f, self.g = problem, f, g

    @property
    def _arguments(self) -> tuple[Any, ...]:
        problem = self.problem
        return problem.a, problem.b, problem.cost, problem.epsilon, self.f, self.g

    def plan(self) -> npt.NDArray[Any]:
        """Work the plan out, in the dtype of the costs."""
        module = backend.active()
        if module is None:
            return transport_reference.plan(self.problem, self.f, self.g).astype(self.problem.cost.dtype)
        return np.asarray(module.sinkhorn_plan(*self._arguments, self.problem.threads))

    def apply(self, vectors: Array, transposed: bool) -> Array:
        """Multiply the plan with vectors, which lie in the rows of the argument and of the result."""
        module = backend.active()
        if module is None:
            plan = transport_reference.plan(self.problem, self.f, self.g)
            return np.ascontiguousarray(vectors @ (plan if transposed else plan.T))
        return np.asarray(module.sinkhorn_apply(*self._arguments, vectors, transposed, self.problem.threads))


class SinkhornResult:
    r"""A solution of entropic optimal transport.

    The plan is :math:`P_{ij} = a_i b_j \exp((f_i + g_j - C_{ij}) / \varepsilon)`.

    Attributes
    ----------
    f, g : ndarray of float64
        Potentials of the rows and columns; -inf where the weight is 0. Of a balanced problem they are known up to a
        constant: the weighted means of both are equal.
    value : float
        :math:`\langle C, P \rangle + \varepsilon \mathrm{KL}(P \| a b^T)`, with the penalties of marginals that bend.
        KL is that of unnormalised measures, :math:`\sum p \ln(p/q) - p + q`.
    transport_cost : float
        :math:`\langle C, P \rangle`.
    mass : float
        Total mass of the plan.
    converged : bool
        Whether the error is within the tolerance.
    n_iter : int
        Sweeps over the costs or the kernel, products of Newton steps included.
    marginal_error : float
        L1 error of both marginals of the plan of `f` and `g`, in float64. Where marginals bend, the error of the
        condition in their place, :math:`P 1 = a e^{-f/\rho}`.
    error_history : ndarray of float64
        The error at each evaluation, on the rungs of a ladder of regularisations too.
    method : str
        The method that finished: ``sinkhorn``, ``accelerated`` or ``newton``.
    tol : float
        The error that was aimed at: the tolerance asked for, of the mass if that is below 1, and no less than what
        can be resolved of the mass: 3e-7 in float32, 1e-15 in float64, and 1e-16 times the range of the costs over
        epsilon.
    epsilon : float
        The regularisation.
    reach : tuple of two float
        Reach of both marginals, infinite where they hold.
    a, b : ndarray of float64
        The weights.

    Examples
    --------
    >>> import kullback as kb
    >>> result = kb.sinkhorn([0.5, 0.5], [0.5, 0.5], [[0.0, 1.0], [1.0, 0.0]], epsilon=1.0)
    >>> result
    SinkhornResult(2 x 2, epsilon=1, value=0.379885493, transport_cost=0.268941421; converged in 1 sweep by 'sinkhorn')
    >>> result.apply([1.0, -1.0]).round(6)
    array([ 0.231059, -0.231059])
    """

    def __init__(self, found: Found, a: Array, b: Array, epsilon: float, reach: tuple[float, float], coupling: Any):
        self.f, self.g = found.f, found.g
        self.value, self.transport_cost, self.mass = found.value, found.transport_cost, found.mass
        self.converged, self.n_iter = found.converged, found.n_iter
        self.marginal_error, self.error_history = found.marginal_error, found.error_history
        self.method, self.tol = found.method, found.target
        self.epsilon, self.reach, self.a, self.b = epsilon, reach, a, b
        self._coupling = coupling

    def __repr__(self) -> str:
        sweeps = f"{self.n_iter} sweep{'s' if self.n_iter > 1 else ''} by {self.method!r}"
        missed = f"with a marginal error of {self.marginal_error:.1e}, above {self.tol:.1e}"
        state = f"converged in {sweeps}" if self.converged else f"NOT CONVERGED in {sweeps}, {missed}"
        return (
            f"SinkhornResult({len(self.f)} x {len(self.g)}, epsilon={self.epsilon:g}, value={self.value:.9g}, "
            f"transport_cost={self.transport_cost:.9g}; {state})"
        )

    def plan(self, *, round_to_feasible: bool = False) -> npt.NDArray[Any]:
        """Return the plan as a matrix, in the dtype of the costs.

        Parameters
        ----------
        round_to_feasible : bool, default False
            Move what is left of the error of the marginals, so that they are `a` and `b` to the rounding of the dtype:
            rows and columns with too much are scaled down, and the missing mass is spread in proportion to what is
            missing. Forbidden pairs may receive a trace of it. For balanced problems only.

        Returns
        -------
        ndarray of shape (n, m)
        """
        plan: npt.NDArray[Any] = self._coupling.plan()
        if not round_to_feasible:
            return plan
        if any(np.isfinite(self.reach)):
            raise ValueError("round_to_feasible needs marginals that hold, got a result with a finite reach")
        return _rounded(plan.astype(np.float64), self.a, self.b).astype(plan.dtype)

    def apply(self, v: ArrayLike, *, transposed: bool = False) -> Array:
        """Multiply the plan with a vector, or with the columns of a matrix, without storing the plan.

        Parameters
        ----------
        v : array_like of shape (m,) or (m, k)
            What to multiply with; of length n if transposed.
        transposed : bool, default False
            Multiply with the transposed plan.

        Returns
        -------
        ndarray of float64, of shape (n,) or (n, k)
            Of length m if transposed.
        """
        vectors = as_float64(as_array(v, "v"))
        length = len(self.f if transposed else self.g)
        if vectors.ndim not in (1, 2) or vectors.shape[0] != length:
            raise ValueError(f"v must have shape ({length},) or ({length}, k), got {vectors.shape}")
        rows = np.ascontiguousarray(np.atleast_2d(vectors.T))
        product = self._coupling.apply(rows, transposed)
        return product[0] if vectors.ndim == 1 else np.ascontiguousarray(product.T)

    @property
    def grad_cost(self) -> npt.NDArray[Any]:
        """Gradient of `value` with respect to the costs: the plan."""
        return self.plan()

    @property
    def grad_a(self) -> Array:
        """Gradient of `value` with respect to `a`: the potential f, where marginals hold.

        As `a` must then keep its mass, it is known up to a constant. -inf where the weight is 0.
        """
        return self._gradient(self.f, self.reach[0], float(self.b.sum()))

    @property
    def grad_b(self) -> Array:
        """Gradient of `value` with respect to `b`, as `grad_a`."""
        return self._gradient(self.g, self.reach[1], float(self.a.sum()))

    def _gradient(self, potential: Array, reach: float, other_mass: float) -> Array:
        if np.isinf(reach):
            return potential + self.epsilon * (other_mass - 1.0) if any(np.isfinite(self.reach)) else potential.copy()
        with np.errstate(over="ignore"):
            return np.asarray(reach + self.epsilon * other_mass - (reach + self.epsilon) * np.exp(-potential / reach))

    def plot(self, axes: Any = None) -> Any:
        """Draw the error over the evaluations and the plan; needs matplotlib.

        Parameters
        ----------
        axes : pair of matplotlib axes, optional
            Where to draw; the default is a new figure.

        Returns
        -------
        ndarray of two matplotlib axes
        """
        try:
            import matplotlib.pyplot as plt
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("plot needs matplotlib: pip install 'kullback[plot]'") from error
        if axes is None:
            axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")[1]
        history, plan = axes
        history.semilogy(np.arange(1, len(self.error_history) + 1), np.maximum(self.error_history, 1e-300))
        history.axhline(self.tol, linestyle="--", color="gray")
        history.set(
            xlabel="evaluation", ylabel="L1 error of the marginals", title=f"{self.method}, {self.n_iter} sweeps"
        )
        image = plan.imshow(self.plan(), aspect="auto", interpolation="nearest")
        plan.set(xlabel="column", ylabel="row", title=f"plan, transport cost {self.transport_cost:.4g}")
        plan.figure.colorbar(image, ax=plan)
        return axes


def sinkhorn(
    a: ArrayLike | None,
    b: ArrayLike | None,
    cost: ArrayLike,
    *,
    epsilon: float,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    method: Method = "auto",
    reach: float | Sequence[float | None] | None = None,
    init: SinkhornResult | tuple[ArrayLike, ArrayLike] | None = None,
    dtype: npt.DTypeLike | None = None,
    threads: int | None = None,
    progress: bool | Progress = False,
) -> SinkhornResult:
    r"""Solve entropic optimal transport between two weighted sets.

    .. math:: \min_{P \ge 0} \langle C, P \rangle + \varepsilon\, \mathrm{KL}(P \| a b^T)
              \quad \text{with} \quad P 1 = a,\; P^T 1 = b,

    KL that of unnormalised measures. With `reach` :math:`\rho`, :math:`\rho\, \mathrm{KL}(P 1 \| a)` takes the place of
    the first condition, and the same for the second. The state is always the potentials, so no epsilon is too small for
    the range of the numbers.

    A weight of 0 is legal: its potential is -inf, its row or column of the plan 0. A cost of +inf forbids a pair. The
    masses need not be 1. `converged` says whether the L1 error of both marginals is within `tol`; if it is not, one
    :class:`ConvergenceWarning` is given and the result is the best there is, never NaN.

    Parameters
    ----------
    a, b : array_like or None
        Weights of the rows and columns, of one total mass unless `reach` lets them differ; None is uniform, of mass 1.
    cost : array_like of shape (n, m)
        Costs; float32 and narrower floats are computed with float32 kernels (from float64 exponents, with float64
        sums), all others in float64.
    epsilon : float
        Regularisation, in the units of the costs.
    tol : float, default 1e-6
        Largest L1 error of both marginals together; of the mass if that is below 1. float32 kernels resolve 3e-7 of
        the mass, float64 ones 1e-15, and none less than 1e-16 times the range of the costs over epsilon: a smaller
        `tol` is raised to that, and the `tol` of the result says so.
    max_iter : int, default 10000
        Most sweeps.
    method : {"auto", "sinkhorn", "accelerated", "newton"}, default "auto"
        ``sinkhorn`` iterates, ``accelerated`` descends a ladder of regularisations and mixes iterates (Anderson),
        ``newton`` descends the ladder with truncated Newton steps. ``auto`` chooses by the ratio of epsilon to the
        range of the costs, and by the contraction it sees. All reach the same solution.
    reach : float or pair, optional
        :math:`\rho` of the marginals that bend; one number for both, or a pair where None is a marginal that holds.
    init : SinkhornResult or pair of array_like, optional
        Potentials to start from, for example of a similar problem.
    dtype : float32 or float64, optional
        Compute as if the costs had this dtype.
    threads : int, optional
        Threads; results do not depend on it.
    progress : bool or callable, default False
        True writes a line to stderr; a callable is given the sweeps done and the error after each evaluation.

    Returns
    -------
    SinkhornResult
        Potentials, values, what was measured, and the plan on demand.

    Raises
    ------
    ValueError
        If shapes or options do not fit, a cost is NaN or -inf, a weight is negative or not finite, masses differ, or a
        row or column with mass has only forbidden pairs.
    TypeError
        If an input does not hold real numbers in CPU memory.

    References
    ----------
    M. Cuturi, "Sinkhorn distances", NIPS 2013. B. Schmitzer, "Stabilized sparse scaling algorithms", SIAM J. Sci.
    Comput. 41 (2019). X. Tang et al., "Accelerating Sinkhorn algorithm with sparse Newton iterations", ICLR 2024.
    T. Séjourné et al., "Faster unbalanced optimal transport", AISTATS 2022.

    Examples
    --------
    >>> import kullback as kb
    >>> result = kb.sinkhorn(None, None, [[0.0, 1.0], [1.0, 0.0]], epsilon=0.1)
    >>> round(result.value, 9), result.converged
    (0.069310178, True)
    >>> result.plan().round(6)
    array([[4.99977e-01, 2.30000e-05],
           [2.30000e-05, 4.99977e-01]])
    """
    problem = transport(
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
    with watching(progress, "sinkhorn") as watch:
        found = _solve(problem, watch)
    if not found.converged:
        warnings.warn(
            f"sinkhorn stopped after {found.n_iter} sweeps with a marginal error of {found.marginal_error:.2g}, above "
            f"the tolerance of {found.target:.2g}: raise max_iter or epsilon, or start from a similar solution (init=)",
            ConvergenceWarning,
            stacklevel=2,
        )
    coupling = DenseCoupling(problem, found.f, found.g)
    return SinkhornResult(found, problem.a, problem.b, problem.epsilon, problem.reach, coupling)


def _solve(problem: Transport, watch: Progress | None) -> Found:
    """Solve with the backend that is active."""
    module = backend.active()
    if module is None:
        try:
            return transport_reference.solve(problem, watch)
        except ProblemError as error:
            raise worded(error.args) from None
    try:
        found = module.sinkhorn(
            problem.a,
            problem.b,
            problem.cost,
            problem.epsilon,
            problem.reach,
            problem.tol,
            problem.max_iter,
            problem.method,
            problem.init,
            False,
            problem.threads,
            watch,
        )
    except module.ProblemError as error:
        raise worded(error.args) from None
    return from_native(*found)


def from_native(
    f: Array, g: Array, history: Array, measured: Sequence[float], n_iter: int, converged: bool, method: str
) -> Found:
    """Name the fields of what the native module returns."""
    value, cost, mass, error, target = measured
    return Found(f, g, history, value, cost, mass, error, target, n_iter, converged, method)


@contextlib.contextmanager
def watching(progress: bool | Progress, name: str) -> Iterator[Progress | None]:
    """Give what to call after each evaluation of a solve; a line written to stderr ends with it."""
    if callable(progress):
        yield progress
        return
    if progress not in (True, False, None):
        raise TypeError(f"progress must be True, False or a callable, got {progress!r}")
    if not progress:
        yield None
        return
    try:
        yield functools.partial(_write_progress, sys.stderr, name)
    finally:
        sys.stderr.write("\n")


def _write_progress(stream: Any, name: str, sweeps: int, error: float) -> None:
    stream.write(f"\r{name}: sweep {sweeps}, marginal error {error:.2e} ")
    stream.flush()


def _rounded(plan: Array, a: Array, b: Array) -> Array:
    """Round to the marginals: scale down what is too much, spread what is missing (Altschuler et al. 2017)."""
    b = b * (a.sum() / b.sum())

    def shrink(target: Array, sums: Array) -> Array:
        return np.minimum(np.divide(target, sums, out=np.ones_like(target), where=sums > 0.0), 1.0)

    plan = plan * shrink(a, plan.sum(axis=1))[:, np.newaxis]
    plan = plan * shrink(b, plan.sum(axis=0))
    rows, columns = np.maximum(a - plan.sum(axis=1), 0.0), np.maximum(b - plan.sum(axis=0), 0.0)
    missing = rows.sum()
    return plan if missing == 0.0 else plan + rows[:, np.newaxis] * (columns / columns.sum() if columns.sum() else 0.0)
