"""Two weighted clouds as the kernels see them, and what is computed from them by either backend.

The squared cost is |x - y|^2 = |x~ - y~|^2 + 2 d.x~ - 2 d.y~ + |d|^2 with x~ and y~ the points less their weighted
means and d the difference of the means. The middle terms only shift the potentials, so a balanced problem is solved
between the centred clouds: its numbers are smaller, and a translation changes nothing but |d|^2.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from kullback._core import backend, transport_reference
from kullback._core.transport import Found, ProblemError, Progress, Transport, worded
from kullback._core.types import Array, ArrayLike
from kullback._core.validation import unknown_name
from kullback.entropic import from_native
from kullback.transport import _checks

CostName: TypeAlias = Literal["sqeuclidean", "euclidean", "cosine", "manhattan"]

COSTS = ("sqeuclidean", "euclidean", "cosine", "manhattan")
#: What float32 kernels resolve of the mass.
NARROW_FLOOR = 3e-7


@dataclass(frozen=True, eq=False)
class Clouds:
    """A transport problem between points; ``x`` and ``y`` are what costs are computed from."""

    x: Array
    y: Array
    a: Array
    b: Array
    distance: str
    scale: float
    epsilon: float
    reach: tuple[float, float]
    wide: bool
    threads: int
    #: Difference of the means of centred clouds.
    offset: Array | None = None
    #: Lengths that points were divided by.
    lengths: tuple[Array, Array] | None = None

    def turned(self) -> "Clouds":
        """Exchange the sides."""
        return replace(
            self,
            x=self.y,
            y=self.x,
            a=self.b,
            b=self.a,
            reach=self.reach[::-1],
            offset=None if self.offset is None else -self.offset,
            lengths=None if self.lengths is None else self.lengths[::-1],
        )

    def mirror(self) -> "Clouds":
        """The first cloud against itself."""
        lengths = None if self.lengths is None else (self.lengths[0], self.lengths[0])
        return replace(self, y=self.x, b=self.a, offset=None, lengths=lengths)

    @property
    def native(self) -> tuple[Any, ...]:
        """What the native module takes."""
        return self.x, self.y, self.a, self.b, self.distance, self.scale, self.epsilon

    @property
    def shifts(self) -> tuple[Array, Array] | None:
        """What the offset adds to the potentials."""
        if self.offset is None:
            return None
        half = 0.5 * float(self.offset @ self.offset)
        return half + 2.0 * (self.x @ self.offset), half - 2.0 * (self.y @ self.offset)

    def dense(self, tol: float = 1e-6, max_iter: int = 1, method: Any = "auto", init: Array | None = None) -> Transport:
        """The same problem with its costs stored: the definition."""
        cost = distances(self.x, self.y, self.distance, self.scale)
        return Transport(self.a, self.b, cost, self.epsilon, self.reach, tol, max_iter, method, init, self.threads)

    def solve(self, tol: float, max_iter: int, method: Any, init: Array | None, watch: Progress | None = None) -> Found:
        """Solve between the points as they are stored."""
        module = backend.active()
        try:
            if module is None:
                least = tol if self.wide else max(tol, NARROW_FLOOR)
                return transport_reference.solve(self.dense(least, max_iter, method, init), watch)
            found = module.sinkhorn_points(
                self.native, self.reach, tol, max_iter, method, init, self.wide, self.threads, watch
            )
        except ValueError as error:
            raise _worded(error, module) from None
        return from_native(*found)

    def solve_mirror(self, tol: float, max_iter: int) -> Found:
        """Solve the problem of a cloud against itself; f and g are then one potential and its own half-step."""
        module = backend.active()
        try:
            if module is None:
                return _mirror(self.dense(), tol, max_iter)
            return from_native(*module.sinkhorn_mirror(self.native, tol, max_iter, None, self.threads))
        except ValueError as error:
            raise _worded(error, module) from None

    def plan(self, f: Array, g: Array) -> Array:
        """The plan of potentials between the points as they are stored."""
        module = backend.active()
        if module is None:
            return transport_reference.plan(self.dense(), f, g)
        return np.asarray(module.sinkhorn_points_plan(self.native, f, g, self.threads))

    def apply(self, f: Array, g: Array, vectors: Array, transposed: bool) -> Array:
        """Multiply the plan with the rows of ``vectors``."""
        module = backend.active()
        if module is None:
            plan = transport_reference.plan(self.dense(), f, g)
            return np.ascontiguousarray(vectors @ (plan if transposed else plan.T))
        return np.asarray(module.sinkhorn_points_apply(self.native, f, g, vectors, transposed, self.threads))

    def slope(self, f: Array, g: Array) -> Array:
        """The gradient of the value with respect to the points of the first cloud as the caller gave them."""
        module = backend.active()
        found = _slope(self, f, g) if module is None else module.sinkhorn_points_slope(self.native, f, g, self.threads)
        slope, mass = found[:, :-1], found[:, -1:]
        if self.offset is not None:
            slope = slope + 2.0 * self.offset * mass
        if self.lengths is not None:
            along = np.einsum("ij,ij->i", slope, self.x)[:, np.newaxis]
            slope = (slope - along * self.x) / self.lengths[0][:, np.newaxis]
        return np.ascontiguousarray(slope)


def clouds(
    x: ArrayLike,
    y: ArrayLike,
    a: ArrayLike | None,
    b: ArrayLike | None,
    *,
    cost: str,
    epsilon: float,
    reach: tuple[float, float] = (math.inf, math.inf),
    threads: int = 0,
    unit: bool = False,
    names: tuple[str, str] = ("x", "y"),
) -> Clouds:
    """Check points and weights, and centre or scale them as the cost allows; ``unit`` makes the weights sum to 1."""
    if cost not in COSTS:
        raise unknown_name("cost", cost, COSTS)
    given_x, given_y = _checks.cloud(x, names[0]), _checks.cloud(y, names[1])
    _checks.same_dimension(given_x, given_y, " and ".join(names))
    wide = np.result_type(given_x, given_y) == np.float64
    of_x, of_y = given_x.astype(np.float64), given_y.astype(np.float64)
    weights_a, weights_b = _checks.masses(a, "a", len(of_x)), _checks.masses(b, "b", len(of_y))
    if unit:
        weights_a, weights_b = weights_a / weights_a.sum(), weights_b / weights_b.sum()
    offset, lengths = None, None
    if cost == "cosine":
        (of_x, length_x), (of_y, length_y) = _directions(of_x, names[0]), _directions(of_y, names[1])
        lengths = length_x, length_y
    elif cost == "sqeuclidean" and all(map(math.isinf, reach)):
        mean_x, mean_y = weights_a @ of_x / weights_a.sum(), weights_b @ of_y / weights_b.sum()
        of_x, of_y, offset = of_x - mean_x, of_y - mean_y, mean_x - mean_y
    _check_reach(of_x, of_y, cost, names)
    distance, scale = ("sqeuclidean", 0.5) if cost == "cosine" else (cost, 1.0)
    return Clouds(of_x, of_y, weights_a, weights_b, distance, scale, epsilon, reach, wide, threads, offset, lengths)


def distances(x: Array, y: Array, distance: str, scale: float) -> Array:
    """Costs between all points, coordinate by coordinate."""
    total = np.zeros((len(x), len(y)))
    with np.errstate(over="ignore", under="ignore"):
        for along_x, along_y in zip(x.T, y.T, strict=True):
            apart = along_x[:, np.newaxis] - along_y
            total += np.abs(apart) if distance == "manhattan" else np.square(apart)
        return scale * (np.sqrt(total) if distance == "euclidean" else total)


def _check_reach(x: Array, y: Array, cost: str, names: tuple[str, str]) -> None:
    """Check that no cost overflows, by the corners of what the clouds span."""
    with np.errstate(over="ignore"):
        apart = np.maximum(x.max(axis=0) - y.min(axis=0), y.max(axis=0) - x.min(axis=0))
        largest = float(np.sum(apart if cost == "manhattan" else np.square(apart)))
    if not math.isfinite(largest):
        raise ValueError(f"{' and '.join(names)} must lie near enough to each other that every cost is finite")


def _directions(points: Array, argument: str) -> tuple[Array, Array]:
    """Divide points by their lengths, by way of their largest coordinate."""
    largest = np.abs(points).max(axis=1)
    if not largest.all():
        raise ValueError(
            f"{argument} must have no point at the origin for the cosine, got one in row {np.argmin(largest)}"
        )
    scaled = points / largest[:, np.newaxis]
    length = np.linalg.norm(scaled, axis=1)
    return scaled / length[:, np.newaxis], length * largest


def _worded(error: ValueError, module: Any) -> ValueError:
    if not isinstance(error, ProblemError) and (module is None or not isinstance(error, module.ProblemError)):
        return error
    return worded(error.args)


def _mirror(problem: Transport, tol: float, max_iter: int) -> Found:
    """Averaged fixed point of a symmetric problem: the definition."""
    with np.errstate(all="ignore"):
        span = transport_reference.check(problem)
        epsilon, a, cost = problem.epsilon, problem.a, problem.cost
        target = max(tol, 4.0 * np.finfo(np.float64).eps * (1.0 + span / epsilon))
        f = np.zeros_like(a)
        history: list[float] = []
        while len(history) < max_iter:
            half = -epsilon * log_sum_exp(f / epsilon + np.log(a) - cost / epsilon)
            history.append(float((a * np.abs(np.expm1((f - half) / epsilon))).sum()))
            if history[-1] <= target:
                break
            f = 0.5 * (f + half)
        half = -epsilon * log_sum_exp(f / epsilon + np.log(a) - cost / epsilon)
        held = a > 0.0
        g, f = np.where(held, f, -np.inf), np.where(held, half, -np.inf)
        plan = transport_reference.plan(problem, f, g)
        value = float((a[held] * (f + g)[held]).sum())
        error = float(np.abs(plan.sum(axis=0) - a).sum())
        moved = float((plan * cost).sum())
        return Found(
            f, g, np.array(history), value, moved, float(plan.sum()), error, target, len(history), error <= target,
            "sinkhorn",
        )  # fmt: skip


def _slope(clouds: Clouds, f: Array, g: Array) -> Array:
    """Sum of plan times gradient of the cost, and the mass of each row: the definition."""
    problem = clouds.dense()
    plan = transport_reference.plan(problem, f, g)
    apart = clouds.x[:, np.newaxis] - clouds.y
    if clouds.distance == "manhattan":
        along = clouds.scale * np.sign(apart)
    elif clouds.distance == "euclidean":
        cost = problem.cost[:, :, np.newaxis]
        along = np.divide(clouds.scale**2 * apart, cost, out=np.zeros_like(apart), where=cost > 0.0)
    else:
        along = 2.0 * clouds.scale * apart
    return np.concatenate([np.einsum("ij,ijc->ic", plan, along), plan.sum(axis=1, keepdims=True)], axis=1)


def log_sum_exp(x: Array) -> Array:
    """The logarithm of the sum of exponentials over the last axis."""
    top = x.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray((top + np.log(np.exp(x - top).sum(axis=-1, keepdims=True)))[..., 0])
