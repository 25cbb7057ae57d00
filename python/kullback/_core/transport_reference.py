"""Entropic transport in NumPy: the definition that the native module is held against.

The state is the potential g of the columns: the best f for it is known exactly, so rows are always exact and the error
of the columns is the error. Every method moves g.
"""

import math
from collections.abc import Callable

import numpy as np

from kullback._core.transport import Found, ProblemError, Transport
from kullback._core.types import Array

Watch = Callable[[int, float], object]

#: What float32 kernels resolve of the mass, and float64 ones.
FLOORS = {np.dtype(np.float32): 3e-7, np.dtype(np.float64): 1e-15}
#: Evaluations remembered by Anderson mixing, and over which the contraction is estimated.
MEMORY, WINDOW = 6, 6
#: Largest change of g/epsilon in one Newton step, and most attempts to shorten one.
LONGEST, ATTEMPTS = 10.0, 8


class _Slow(Exception):
    """At the rate observed, more iterations than the patience would be needed."""


def check(problem: Transport) -> float:
    """Check the numbers of a problem; returns the range of the finite costs."""
    a, b, cost = problem.a, problem.b, problem.cost
    for argument, weights in (("a", a), ("b", b)):
        bad = ~((weights >= 0.0) & (weights < np.inf))
        if bad.any():
            index = int(np.argmax(bad))
            raise ProblemError("weight", argument, index, 0, float(weights[index]))
        mass = float(weights.sum())
        if not 0.0 < mass < math.inf:
            raise ProblemError("mass", argument, 0, 0, mass)
    if not problem.is_unbalanced and abs(a.sum() - b.sum()) > 1e-6 * a.sum():
        raise ProblemError("masses", "b", 0, 0, float(b.sum() / a.sum()))
    bad = ~(cost > -np.inf)
    if bad.any():
        row, column = (int(i) for i in np.unravel_index(np.argmax(bad), cost.shape))
        raise ProblemError("not a cost", "cost", row, column, float(cost[row, column]))
    possible = cost < np.inf
    closed = (a > 0.0) & ~(possible & (b > 0.0)).any(axis=1)
    if closed.any():
        raise ProblemError("closed row", "cost", int(np.argmax(closed)), 0, math.inf)
    closed = (b > 0.0) & ~(possible & (a > 0.0)[:, np.newaxis]).any(axis=0)
    if closed.any():
        raise ProblemError("closed column", "cost", 0, int(np.argmax(closed)), math.inf)
    lowest, highest = float(cost.min()), float(cost.max(where=possible, initial=-np.inf))
    if problem.epsilon < 1e-13 * max(abs(lowest), abs(highest)) or math.isinf(1.0 / problem.epsilon):
        raise ProblemError("epsilon small", "epsilon", 0, 0, problem.epsilon)
    return highest - lowest


def solve(problem: Transport, watch: Watch | None = None) -> Found:
    """Solve one problem."""
    with np.errstate(all="ignore"):
        span = check(problem)
        state = _State(problem, watch, span)
        mass = state.mass
        # g/epsilon is a number of the size of span/epsilon: a column cannot be nearer than its last place.
        places = 0.5 * float(np.finfo(np.float64).eps) * span / problem.epsilon
        target = max(problem.tol * min(mass, 1.0), max(FLOORS[problem.cost.dtype], places) * mass)
        method = _run(state, problem, span, target)
        return state.found(target, method)


class _State:
    """A point g and everything known there."""

    def __init__(self, problem: Transport, watch: Watch | None, span: float) -> None:
        self.problem, self.watch, self.span = problem, watch, span
        self.cost = problem.cost.astype(np.float64)
        self.mass = float(problem.a.sum())
        self.a = problem.a
        self.b = problem.b if problem.is_unbalanced else problem.b * (self.mass / problem.b.sum())
        self.ln_b = np.log(self.b)
        self.epsilon = problem.epsilon
        self.g = np.zeros(len(self.b))
        self.history: list[float] = []

    @property
    def spent(self) -> bool:
        return len(self.history) >= self.problem.max_iter

    def bend(self, side: int) -> float:
        reach = self.problem.reach[side]
        return reach / (reach + self.epsilon) if math.isfinite(reach) else 1.0

    def evaluate(self, g: Array) -> None:
        """Move to g: normalisers z of the rows, plan, column sums, and their gap to what they should be."""
        self.g = g
        x = self.ln_b + (np.where(self.b > 0.0, g, 0.0) - self.cost) / self.epsilon
        top = x.max(axis=1, keepdims=True)
        x = np.exp(x - top)
        total = x.sum(axis=1)
        self.z = np.where(self.a > 0.0, -(top[:, 0] + np.log(total)), -np.inf)
        bend = self.bend(0)
        rows = self.a / total if bend == 1.0 else self.a * np.exp(bend * self.z + top[:, 0])
        self.plan = np.where((self.a > 0.0)[:, np.newaxis], x * rows[:, np.newaxis], 0.0)
        self.columns = np.where(self.b > 0.0, self.plan.sum(axis=0), 0.0)
        reach = self.problem.reach[1]
        self.wanted = self.b if math.isinf(reach) else np.exp(self.ln_b - g / reach)
        self.gap = np.where(self.b > 0.0, np.log(self.wanted) - self._ln_columns(), 0.0)
        self.error = float(np.abs(self.columns - self.wanted).sum())
        self.history.append(self.error)
        if self.watch is not None:
            self.watch(len(self.history), self.error)

    def _ln_columns(self) -> Array:
        """Logarithms of the column sums, whatever their size."""
        if (self.columns[self.b > 0.0] > 1e-270).all():
            return np.asarray(np.log(self.columns))
        x = np.log(self.a)[:, np.newaxis] + np.where(self.a > 0.0, self.bend(0) * self.z, 0.0)[:, np.newaxis]
        x = x + self.ln_b + (np.where(self.b > 0.0, self.g, 0.0) - self.cost) / self.epsilon
        top = x.max(axis=0)
        return np.asarray(top + np.log(np.exp(x - top).sum(axis=0)))

    def step(self) -> Array:
        """The step of the Sinkhorn map, with the best translation of the potentials where marginals bend."""
        step = self.bend(1) * self.epsilon * self.gap
        rows, columns = self.problem.reach
        if math.isinf(rows) and math.isinf(columns):
            return np.asarray(step)
        tau = 1.0 / (1.0 / rows + 1.0 / columns)
        held = self.b > 0.0
        left = self.mass if math.isinf(rows) else self.columns.sum()
        right = self.b.sum() if math.isinf(columns) else (self.b[held] * np.exp(-(self.g + step)[held] / columns)).sum()
        shift = tau * math.log(left / right)
        return np.asarray(step - shift)

    def dual(self) -> tuple[float, float]:
        """Return the dual at the point, and how much of it is rounding."""
        rows, columns = self.problem.reach
        mass = float(self.columns.sum())
        terms = [-self.epsilon * np.array([mass])]
        f = (self.bend(0) * self.epsilon * self.z)[self.a > 0.0]
        terms.append(np.array([rows * (self.mass - mass)]) if math.isfinite(rows) else f * self.a[self.a > 0.0])
        bent = np.array([columns * (self.b - self.wanted).sum()]) if math.isfinite(columns) else self.g * self.b
        terms.append(bent)
        return float(sum(term.sum() for term in terms)), 1e-14 * float(sum(np.abs(term).sum() for term in terms))

    def newton_direction(self) -> Array:
        """Solve with the damped Hessian of the semi-dual; in units of epsilon."""
        held = np.flatnonzero(self.b > 0.0)
        rows = self.plan.sum(axis=1)
        weights = np.divide(self.bend(0), rows, out=np.zeros_like(rows), where=rows > 0.0)
        plan = self.plan[:, held]
        damping = min(max(1e-3 * self.error / self.mass, 1e-12), 1e-3)
        reach = self.problem.reach[1]
        own = (1.0 + damping) * self.columns[held]
        if math.isfinite(reach):
            own = own + self.epsilon / reach * self.wanted[held]
        hessian = np.diag(np.maximum(own, 1e-300)) - plan.T @ (weights[:, np.newaxis] * plan)
        direction = np.zeros(len(self.b))
        gradient = (self.wanted - self.columns)[held]
        scale = 1.0 / np.sqrt(np.maximum(own, 1e-300))
        scaled = hessian * scale * scale[:, np.newaxis]
        direction[held] = scale * np.linalg.lstsq(scaled, scale * gradient, rcond=1e-14)[0]
        return np.clip(direction, -LONGEST, LONGEST)

    def found(self, target: float, method: str) -> Found:
        """Gather the result."""
        problem, epsilon = self.problem, self.epsilon
        rows, columns = problem.reach
        f = self.bend(0) * epsilon * self.z
        held_a, held_b = self.a > 0.0, self.b > 0.0
        mass = float(self.plan.sum())
        value = epsilon * (self.mass * self.b.sum() - mass)
        f_held, a_held, g_held = f[held_a], self.a[held_a], self.g[held_b]
        value += (a_held * (f_held if math.isinf(rows) else -rows * np.expm1(-f_held / rows))).sum()
        sums, b_held = self.columns[held_b], self.b[held_b]
        value += (g_held * sums).sum()
        if math.isfinite(columns):
            value += columns * (np.where(sums > 0.0, sums * np.log(sums / b_held), 0.0) - sums + b_held).sum()
        g = np.where(held_b, self.g, -np.inf)
        if not problem.is_unbalanced:
            shift = 0.5 * ((a_held * f_held).sum() / self.mass - (b_held * g_held).sum() / b_held.sum())
            f, g = f - shift, g + shift
        cost = float((self.plan * np.where(self.cost < np.inf, self.cost, 0.0)).sum())
        converged = self.error <= target
        history = np.array(self.history)
        return Found(f, g, history, float(value), cost, mass, self.error, target, len(self.history), converged, method)


def _run(state: _State, problem: Transport, span: float, target: float) -> str:
    """Run the method asked for; returns the one that finished."""
    g = np.zeros_like(state.b)
    if problem.init is not None:
        g = np.where(np.isfinite(problem.init), problem.init, 0.0)
        state.evaluate(g)
        if state.error <= max(0.1 * state.mass, target):
            return _finish(state, problem.method, target)
    if problem.method == "sinkhorn":
        if problem.init is None:
            state.evaluate(g)
        _iterate(state, target, mixing=False)
        return "sinkhorn"
    ratio = state.epsilon / span if span > 0.0 else math.inf
    if problem.method == "auto" and ratio >= 0.05:
        state.evaluate(g)
        try:
            _iterate(state, target, mixing=False, patience=20)
            return "sinkhorn"
        except _Slow:
            return _finish(state, "auto", target)
    if problem.method == "newton" or (problem.method == "auto" and ratio < 0.005):
        _descend(state, g, span, lambda: _newton(state, max(1e-2 * state.mass, target)))
        _newton(state, target)
        return "newton"
    _descend(state, g, span, lambda: _iterate(state, target, mixing=False, most=2))
    return _finish(state, problem.method, target)


def _finish(state: _State, method: str, target: float) -> str:
    """Go on from a good point."""
    if method == "newton":
        _newton(state, target)
        return "newton"
    if method == "sinkhorn":
        _iterate(state, target, mixing=False)
        return "sinkhorn"
    try:
        _iterate(state, target, mixing=True, patience=60 if method == "auto" else None)
    except _Slow:
        _newton(state, target)
        return "newton"
    return "accelerated"


def _descend(state: _State, g: Array, span: float, work: Callable[[], None]) -> None:
    """Work on every rung of the ladder of regularisations, then evaluate at the bottom."""
    bottom, epsilon = state.epsilon, 0.25 * span
    while epsilon > 1.5 * bottom and not state.spent:
        state.epsilon = epsilon
        state.evaluate(g)
        work()
        g, epsilon = state.g, 0.25 * epsilon
    state.epsilon = bottom
    state.evaluate(g)


def _iterate(
    state: _State, target: float, *, mixing: bool, patience: int | None = None, most: float = math.inf
) -> None:
    """Iterate the Sinkhorn map, with Anderson mixing of the last images or without."""
    first, end = len(state.history) - 1, len(state.history) + most
    points: list[tuple[Array, Array]] = []
    best = math.inf
    while state.error > target and not state.spent and len(state.history) < end:
        recent = state.history[first:]
        if patience is not None and len(recent) > WINDOW:
            rate = math.log(recent[-1 - WINDOW] / state.error) / WINDOW
            if math.log(state.error / target) / max(rate, 1e-12) > patience:
                raise _Slow
        step = state.step()
        plain = state.g + step
        span = state.span
        points = [*points, (step, plain)][-MEMORY - 1 :] if mixing else [(step, plain)]
        before, best = state.error, min(best, state.error)
        dual, noise = state.dual() if mixing else (0.0, 0.0)
        mixed = _mixed(points, state.b)
        if not (np.abs(mixed - state.g) <= span + 100.0 * state.epsilon).all():
            points, mixed = [], plain
        state.evaluate(mixed)
        worse = mixing and state.error > before and (state.dual()[0] < dual - noise or state.error > 4.0 * best)
        if worse and len(points) > 1 and not state.spent:
            points = []
            state.evaluate(plain)


def _mixed(points: list[tuple[Array, Array]], weights: Array) -> Array:
    """Combine the images so that their steps cancel best; `points` are pairs of step and image."""
    step, image = points[-1]
    if len(points) == 1:
        return image
    root = np.sqrt(weights)[:, np.newaxis]
    steps = np.diff([step for step, _ in points], axis=0).T
    images = np.diff([image for _, image in points], axis=0).T
    share = np.linalg.lstsq(root * steps, root[:, 0] * step, rcond=1e-6)[0]
    return np.asarray(image - images @ share)


def _newton(state: _State, target: float) -> None:
    """Damped Newton steps on the semi-dual, with Sinkhorn steps after a poor one."""
    while state.error > target and not state.spent:
        before, origin = state.error, state.g
        direction, gradient = state.newton_direction(), state.wanted - state.columns
        slope = float(direction @ gradient)
        if 0.0 < slope < math.inf:
            length = 1.0
            for _ in range(ATTEMPTS):
                state.evaluate(origin + length * state.epsilon * direction)
                at = float(direction @ (state.wanted - state.columns))
                if at >= -0.5 * slope or state.spent:
                    break
                length *= min(max(slope / (slope - at), 0.1), 0.5)
        if state.error > 0.7 * before:
            _iterate(state, target, mixing=False, most=3)


def plan(problem: Transport, f: Array, g: Array) -> Array:
    """P_ij = a_i b_j exp((f_i + g_j - C_ij)/epsilon), 0 where a weight is 0 or the pair is forbidden."""
    with np.errstate(all="ignore"):
        x = np.log(problem.a)[:, np.newaxis] + f[:, np.newaxis] / problem.epsilon
        x = x + (np.log(problem.b) + g / problem.epsilon) - problem.cost.astype(np.float64) / problem.epsilon
        zero = (problem.a == 0.0)[:, np.newaxis] | (problem.b == 0.0) | (problem.cost == np.inf)
        return np.where(zero, 0.0, np.exp(x))
