"""One decorated definition is one public function.

``@pair_definition("kl", ...)`` takes the NumPy definition, whose body is a sum over a normalised
:class:`~kullback._core.reference.Pair`, records it with its traits under its registry name, and returns the public
function of the same name and docstring: it validates, runs the active backend and shapes the result. A body that takes
a :class:`~kullback._core.parameters.Parameter` after its pair gives a function that takes it by keyword. The test
suites iterate over what is recorded here.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypedDict, TypeVar, Unpack, overload

import numpy as np

from kullback._core import backend, docs, reference, validation
from kullback._core.parameters import Parameter
from kullback._core.reference import Pair, Rows
from kullback._core.types import Array, ArrayLike, Kind, NanPolicy, ParameterOptions, Values
from kullback._core.validation import Problem

Function = TypeVar("Function")


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


class Traits(TypedDict, total=False):
    """The laws that a definition obeys; see :class:`Definition`."""

    symmetric: bool
    bound: float
    is_metric: bool
    zero_iff_equal: bool
    monotone: bool


@dataclass(frozen=True)
class Definition:
    """A divergence (or an entropy): its names, its NumPy body, and the laws it obeys."""

    name: str
    body: Callable[..., Array]
    sides: int = 2
    parameter: Parameter[Any] | None = None
    symmetric: bool = False
    bound: float = math.inf
    """Largest possible value."""
    is_metric: bool = False
    """Whether the triangle inequality holds."""
    zero_iff_equal: bool = True
    monotone: bool = True
    """Whether merging columns never increases it."""

    @property
    def function_name(self) -> str:
        """Name of the public function."""
        return self.body.__name__


_DEFINITIONS: dict[str, Definition] = {}
_FUNCTIONS: dict[str, Callable[..., Values]] = {}


def definitions() -> dict[str, Definition]:
    """Return every definition by registry name, entropies included."""
    return dict(_DEFINITIONS)


@overload
def pair_definition(name: str, **traits: Unpack[Traits]) -> Callable[[Callable[[Pair], Array]], PairFunction]: ...
@overload
def pair_definition(
    name: str, parameter: Parameter[Function], **traits: Unpack[Traits]
) -> Callable[[Callable[[Pair, float], Array]], Function]: ...
def pair_definition(
    name: str, parameter: Parameter[Any] | None = None, **traits: Unpack[Traits]
) -> Callable[[Callable[..., Array]], Any]:
    """Record a definition over two distributions and make it the public function."""

    def decorate(body: Callable[..., Array]) -> Any:
        definition = Definition(name, body, 2, parameter, **traits)

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
            **given: float,
        ) -> Values:
            number = _parameter(definition, given)
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
            return _evaluate(name, problem, number)

        return _published(function, definition)

    return decorate


@overload
def row_definition(name: str) -> Callable[[Callable[[Rows], Array]], RowFunction]: ...
@overload
def row_definition(
    name: str, parameter: Parameter[Function]
) -> Callable[[Callable[[Rows, float], Array]], Function]: ...
def row_definition(name: str, parameter: Parameter[Any] | None = None) -> Callable[[Callable[..., Array]], Any]:
    """Record a definition over one distribution and make it the public function."""

    def decorate(body: Callable[..., Array]) -> Any:
        definition = Definition(name, body, 1, parameter, zero_iff_equal=False)

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
            **given: float,
        ) -> Values:
            number = _parameter(definition, given)
            problem = validation.one_sided(
                p,
                axis=axis,
                input=input,
                temperature=temperature,
                vocab_size=vocab_size,
                nan_policy=nan_policy,
                threads=threads,
            )
            return _evaluate(name, problem, number)

        return _published(function, definition)

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


def is_divergence(name: object) -> bool:
    """Tell whether :func:`divergence_names` lists a name."""
    return isinstance(name, str) and name in _DEFINITIONS and _DEFINITIONS[name].sides == 2


def divergence(name: str, p: ArrayLike, q: ArrayLike, /, **options: Unpack[ParameterOptions]) -> Values:
    """Compute the divergence with a given name.

    Parameters
    ----------
    name : str
        One of :func:`divergence_names`.
    p, q : array_like
        Rows of the reference and of the candidate.
    **options
        The keyword options of :func:`kl_divergence`, and the parameter that the name takes: `weight` of ``js``,
        `alpha` of ``skew_kl`` and ``alpha``, `order` of ``renyi``.

    Returns
    -------
    ndarray of float64, or numpy.float64
        What the function of that name returns.

    Raises
    ------
    ValueError
        If the name is not known; the message lists the known ones.
    TypeError
        If the name needs a parameter that is not given, or does not take one that is.

    Examples
    --------
    >>> import kullback as kb
    >>> float(kb.divergence("total_variation", [0.5, 0.5], [0.25, 0.75]))
    0.25
    >>> round(float(kb.divergence("renyi", [0.5, 0.5], [0.25, 0.75], order=2)), 6)
    0.287682
    """
    if not is_divergence(name):
        raise validation.unknown_name("name", name, divergence_names())
    return _FUNCTIONS[name](p, q, **options)


def _parameter(definition: Definition, given: dict[str, float]) -> float | None:
    """Check the parameter of a call, which takes no other option."""
    parameter = definition.parameter
    for option in given:
        if parameter is None or option != parameter.name:
            raise TypeError(f"{definition.function_name}() got an unexpected keyword argument {option!r}")
    return None if parameter is None else parameter.checked(given.get(parameter.name), definition.function_name)


def _evaluate(name: str, problem: Problem, parameter: float | None) -> Values:
    """Run the active backend on a checked problem; a single row gives a scalar."""
    values: Array = np.empty(0)
    if problem.n_rows:
        body = _DEFINITIONS[name].body
        if parameter is not None:
            body = partial(_applied, body, parameter)
        native, numpy = partial(_native, name, problem, parameter), partial(reference.evaluate, body, problem)
        values = backend.run(problem, native, numpy)
    problem.check_defined(np.isnan(values))
    return values.reshape(problem.leading)[()]


def _applied(body: Callable[..., Array], parameter: float, rows: Any) -> Array:
    return body(rows, parameter)


def _native(name: str, problem: Problem, parameter: float | None, module: Any) -> Array:
    values: Array = module.divergence(
        name,
        problem.p,
        problem.q,
        problem.kind_p,
        problem.kind_q,
        parameter,
        problem.temperature,
        problem.threads,
    )
    return values


def _published(function: Any, definition: Definition) -> Any:
    """Record the definition, and give its public function the name, docstring and signature of the body."""
    if definition.name in _DEFINITIONS:
        raise ValueError(f"the name {definition.name!r} is defined twice")
    _DEFINITIONS[definition.name], _FUNCTIONS[definition.name] = definition, function
    body, parameter = definition.body, definition.parameter
    function.__name__, function.__qualname__, function.__module__ = body.__name__, body.__qualname__, body.__module__
    function.__doc__ = docs.completed(body.__doc__, definition.sides, parameter.doc if parameter else "")
    whole = inspect.signature(function)
    plain = whole.replace(parameters=list(whole.parameters.values())[:-1])
    function.__signature__ = parameter.signature if parameter else plain
    function.definition = definition
    return function
