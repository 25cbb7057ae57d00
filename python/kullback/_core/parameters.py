"""The parameters that some divergences take: their names, defaults and ranges, and the signatures they give.

A :class:`Parameter` knows the protocol of the functions that take it, so that the decorators of
:mod:`kullback._core.registry` hand out functions that type checkers and ``inspect.signature`` see as they are.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from kullback._core.lazy import lazy
from kullback._core.types import ArrayLike, Kind, NanPolicy, Values

Function = TypeVar("Function")


class WeightedFunction(Protocol):
    """A public function of two distributions and the weight of the first."""

    __name__: str
    definition: Any

    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        /,
        *,
        weight: float = 0.5,
        axis: int = -1,
        input: Kind | tuple[Kind, Kind] = "probs",
        temperature: float = 1.0,
        vocab_size: int | None = None,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
    ) -> Values: ...


class SkewFunction(Protocol):
    """A public function of two distributions and the share of the first in their mixture."""

    __name__: str
    definition: Any

    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        /,
        *,
        alpha: float = 0.1,
        axis: int = -1,
        input: Kind | tuple[Kind, Kind] = "probs",
        temperature: float = 1.0,
        vocab_size: int | None = None,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
    ) -> Values: ...


class AlphaFunction(Protocol):
    """A public function of two distributions and an exponent."""

    __name__: str
    definition: Any

    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        /,
        *,
        alpha: float,
        axis: int = -1,
        input: Kind | tuple[Kind, Kind] = "probs",
        temperature: float = 1.0,
        vocab_size: int | None = None,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
    ) -> Values: ...


class OrderFunction(Protocol):
    """A public function of two distributions and an order."""

    __name__: str
    definition: Any

    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        /,
        *,
        order: float,
        axis: int = -1,
        input: Kind | tuple[Kind, Kind] = "probs",
        temperature: float = 1.0,
        vocab_size: int | None = None,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
    ) -> Values: ...


class RowOrderFunction(Protocol):
    """A public function of one distribution and an order."""

    __name__: str
    definition: Any

    def __call__(
        self,
        p: ArrayLike,
        /,
        *,
        order: float,
        axis: int = -1,
        input: Kind = "probs",
        temperature: float = 1.0,
        vocab_size: int | None = None,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
    ) -> Values: ...


@dataclass(frozen=True)
class Parameter(Generic[Function]):
    """A number that a function needs beside its distributions."""

    call: Callable[..., Values]
    """What calling a `Function` looks like."""
    name: str
    doc: str
    """Its lines in the section "Parameters"."""
    low: float = -math.inf
    high: float = math.inf
    may_be_infinite: bool = False

    @lazy
    def signature(self) -> inspect.Signature:
        """Signature of the functions that take it."""
        whole = inspect.signature(self.call)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    @lazy
    def default(self) -> float | None:
        """Its default; None if it has to be given."""
        default = self.signature.parameters[self.name].default
        return None if default is inspect.Parameter.empty else default

    def checked(self, value: Any, owner: str) -> float:
        """Check a value given for the function or registry name `owner`; None stands for the default."""
        value = self.default if value is None else value
        if value is None:
            raise TypeError(f"{owner} needs {self.name}=")
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.floating | np.integer):
            raise TypeError(f"{self.name} must be a number, got {value!r}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not self.low <= number <= self.high or (math.isinf(number) and not self.may_be_infinite):
            raise ValueError(f"{self.name} must be {self.range}, got {value!r}")
        return number

    @property
    def range(self) -> str:
        """Its range in words."""
        if math.isfinite(self.high):
            return f"between {self.low:g} and {self.high:g}"
        return f"at least {self.low:g}" if math.isfinite(self.low) else "finite"


WEIGHT: Parameter[WeightedFunction] = Parameter(
    WeightedFunction.__call__,
    "weight",
    """\
weight : float, default 0.5
    Weight of `p` in the mixture and in the sum, between 0 and 1.""",
    low=0.0,
    high=1.0,
)
SKEW: Parameter[SkewFunction] = Parameter(
    SkewFunction.__call__,
    "alpha",
    """\
alpha : float, default 0.1
    Share of `p` in the mixture, between 0 and 1.""",
    low=0.0,
    high=1.0,
)
ALPHA: Parameter[AlphaFunction] = Parameter(
    AlphaFunction.__call__,
    "alpha",
    """\
alpha : float
    Exponent of `p`: any finite number.""",
)
_ORDER = """\
order : float
    Order, at least 0; may be infinite."""
ORDER: Parameter[OrderFunction] = Parameter(OrderFunction.__call__, "order", _ORDER, low=0.0, may_be_infinite=True)
ROW_ORDER: Parameter[RowOrderFunction] = Parameter(
    RowOrderFunction.__call__, "order", _ORDER, low=0.0, may_be_infinite=True
)
