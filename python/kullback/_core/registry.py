"""One decorated definition is one public function.

``@pair_definition("kl", ...)`` takes the NumPy definition, whose body is a sum over a normalised
:class:`~kullback._core.reference.Pair`, records it with its traits under its registry name, and returns the public
function of the same name and docstring: it validates, runs the active backend and shapes the result. The test suites
iterate over what is recorded here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Unpack

import numpy as np

from kullback._core import backend, docs, reference, validation
from kullback._core.types import Array, ArrayLike, Kind, NanPolicy, Options, Values
from kullback._core.validation import Problem


class PairFunction(Protocol):
    """A public function of two distributions."""

    __name__: str
    definition: "Definition"

    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        /,
        *,
        axis: int = -1,
        input: Kind | tuple[Kind, Kind] = "probs",
        temperature: float = 1.0,
        vocab_size: int | None = None,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
    ) -> Values: ...


class RowFunction(Protocol):
    """A public function of one distribution."""

    __name__: str
    definition: "Definition"

    def __call__(
        self,
        p: ArrayLike,
        /,
        *,
        axis: int = -1,
        input: Kind = "probs",
        temperature: float = 1.0,
        vocab_size: int | None = None,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
    ) -> Values: ...


@dataclass(frozen=True)
class Definition:
    """A divergence (or an entropy): its names, its NumPy body, and the laws it obeys."""

    name: str
    body: Callable[[Any], Array]
    sides: int = 2
    symmetric: bool = False
    bound: float = math.inf
    """Largest possible value."""
    is_metric: bool = False
    """Whether the triangle inequality holds."""
    zero_iff_equal: bool = True

    @property
    def function_name(self) -> str:
        """Name of the public function."""
        return self.body.__name__


_DEFINITIONS: dict[str, Definition] = {}
_FUNCTIONS: dict[str, Callable[..., Values]] = {}


def definitions() -> dict[str, Definition]:
    """Return every definition by registry name, entropies included."""
    return dict(_DEFINITIONS)


def pair_definition(
    name: str,
    *,
    symmetric: bool = False,
    bound: float = math.inf,
    is_metric: bool = False,
    zero_iff_equal: bool = True,
) -> Callable[[Callable[[reference.Pair], Array]], PairFunction]:
    """Record a definition over two distributions and make it the public function."""

    def decorate(body: Callable[[reference.Pair], Array]) -> PairFunction:
        definition = Definition(name, body, 2, symmetric, bound, is_metric, zero_iff_equal)

        def function(
            p: ArrayLike,
            q: ArrayLike,
            /,
            *,
            axis: int = -1,
            input: Kind | tuple[Kind, Kind] = "probs",
            temperature: float = 1.0,
            vocab_size: int | None = None,
            nan_policy: NanPolicy = "propagate",
            threads: int | None = None,
        ) -> Values:
            problem = validation.two_sided(
                p,
                q,
                axis=axis,
                input=input,
                temperature=temperature,
                vocab_size=vocab_size,
                nan_policy=nan_policy,
                threads=threads,
            )
            return _evaluate(name, problem)

        public: PairFunction = _published(function, definition)
        return public

    return decorate


def row_definition(name: str) -> Callable[[Callable[[reference.Rows], Array]], RowFunction]:
    """Record a definition over one distribution and make it the public function."""

    def decorate(body: Callable[[reference.Rows], Array]) -> RowFunction:
        definition = Definition(name, body, 1, zero_iff_equal=False)

        def function(
            p: ArrayLike,
            /,
            *,
            axis: int = -1,
            input: Kind = "probs",
            temperature: float = 1.0,
            vocab_size: int | None = None,
            nan_policy: NanPolicy = "propagate",
            threads: int | None = None,
        ) -> Values:
            problem = validation.one_sided(
                p,
                axis=axis,
                input=input,
                temperature=temperature,
                vocab_size=vocab_size,
                nan_policy=nan_policy,
                threads=threads,
            )
            return _evaluate(name, problem)

        public: RowFunction = _published(function, definition)
        return public

    return decorate


def divergence_names() -> list[str]:
    """List the names that :func:`divergence` and :func:`compare` know.

    Examples
    --------
    >>> import kullback as kb
    >>> "js" in kb.divergence_names()
    True
    """
    return [name for name, definition in _DEFINITIONS.items() if definition.sides == 2]


def divergence(name: str, p: ArrayLike, q: ArrayLike, /, **options: Unpack[Options]) -> Values:
    """Compute the divergence with a given name.

    Parameters
    ----------
    name : str
        One of :func:`divergence_names`.
    p, q : array_like
        Rows of the reference and of the candidate.
    **options
        The keyword options of :func:`kl_divergence`.

    Returns
    -------
    ndarray of float64, or numpy.float64
        What the function of that name returns.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the known ones.

    Examples
    --------
    >>> import kullback as kb
    >>> float(kb.divergence("total_variation", [0.5, 0.5], [0.25, 0.75]))
    0.25
    """
    if name not in divergence_names():
        raise validation.unknown_name("name", name, divergence_names())
    return _FUNCTIONS[name](p, q, **options)


def _evaluate(name: str, problem: Problem) -> Values:
    """Run the active backend on a checked problem; a single row gives a scalar."""
    values: Array = np.empty(0)
    if problem.n_rows:
        body = _DEFINITIONS[name].body
        values = backend.run(problem, partial(_native, name, problem), partial(reference.evaluate, body, problem))
    problem.check_defined(np.isnan(values))
    return values.reshape(problem.leading)[()]


def _native(name: str, problem: Problem, module: Any) -> Array:
    values: Array = module.divergence(
        name,
        problem.p,
        problem.q,
        problem.kind_p,
        problem.kind_q,
        None,
        problem.temperature,
        problem.threads,
    )
    return values


def _published(function: Any, definition: Definition) -> Any:
    """Record the definition, and give its public function the name and docstring of the body."""
    if definition.name in _DEFINITIONS:
        raise ValueError(f"the name {definition.name!r} is defined twice")
    _DEFINITIONS[definition.name], _FUNCTIONS[definition.name] = definition, function
    body = definition.body
    function.__name__, function.__qualname__, function.__module__ = body.__name__, body.__qualname__, body.__module__
    function.__doc__ = docs.completed(body.__doc__, definition.sides)
    function.definition = definition
    return function
