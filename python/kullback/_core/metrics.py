"""Metrics written as text: a registry name, or a name with its parameter, as in ``renyi:order=2``.

The one parser of the library: :func:`kullback.compare`, the command line and whatever else takes metrics by name.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from kullback._core import registry
from kullback._core.reference import Pair
from kullback._core.types import Array
from kullback._core.validation import unknown_name


@dataclass(frozen=True)
class Metric:
    """A registry name with its parameter filled in."""

    name: str
    parameter: float | None = None

    @property
    def text(self) -> str:
        """The metric as the native module reads it: in full, unless its parameter is the default."""
        option = registry.definitions()[self.name].parameter
        is_plain = option is None or self.parameter == option.default
        return self.name if is_plain or option is None else f"{self.name}:{option.name}={self.parameter!r}"

    @property
    def body(self) -> Callable[[Pair], Array]:
        """Its NumPy definition."""
        body = registry.definitions()[self.name].body
        return body if self.parameter is None else functools.partial(_applied, body, self.parameter)


def parse(text: str, argument: str = "metrics") -> Metric:
    """Read a metric; `argument` is the name of the argument it was given for.

    Raises
    ------
    ValueError
        If the name is not known, or its parameter is missing, out of range or not one of this name.
    """
    name, has_option, option = str(text).partition(":")
    if not registry.is_divergence(name):
        raise unknown_name(argument, text, registry.divergence_names())
    parameter = registry.definitions()[name].parameter
    if parameter is None:
        if has_option:
            raise ValueError(f"{argument}: {name} takes no parameter, got {text!r}")
        return Metric(name)
    given, _, number = option.partition("=")
    if has_option and given != parameter.name:
        raise ValueError(f"{argument}: {name} takes {parameter.name}, as in {_example(name)!r}, got {text!r}")
    if not has_option and parameter.default is None:
        raise ValueError(f"{argument}: {name} needs {parameter.name}, as in {_example(name)!r}, got {text!r}")
    try:
        value = float(number) if has_option else None
    except ValueError:
        raise ValueError(f"{argument}: {parameter.name} must be a number, got {text!r}") from None
    try:
        return Metric(name, parameter.checked(value, name))
    except ValueError as error:
        raise ValueError(f"{argument}: {error} in {text!r}") from None


def _example(name: str) -> str:
    parameter = registry.definitions()[name].parameter
    return f"{name}:{parameter.name}={parameter.default or 2:g}" if parameter else name


def _applied(body: Callable[..., Array], parameter: float, pair: Pair) -> Array:
    return body(pair, parameter)
