"""Names for the types that travel through the library."""

from typing import Any, Literal, Protocol, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

#: What a public divergence returns: an array of the leading shape, or a ``numpy.float64`` when both inputs are one row.
#: The ``Any`` arm spares callers an ``isinstance`` they know the answer to.
Values: TypeAlias = npt.NDArray[np.float64] | Any

Kind: TypeAlias = Literal["probs", "weights", "log_probs", "logits"]
NanPolicy: TypeAlias = Literal["propagate", "raise"]


class SupportsDLPack(Protocol):
    """An array of another library that can be read in place."""

    def __dlpack__(self, *, stream: Any = None) -> Any: ...


class SupportsArrow(Protocol):
    """A column of an Arrow library."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any: ...


ArrayLike: TypeAlias = npt.ArrayLike | SupportsDLPack | SupportsArrow


class Options(TypedDict, total=False):
    """The keyword options that every divergence takes."""

    axis: int
    input: Kind | tuple[Kind, Kind]
    temperature: float
    vocab_size: int | None
    nan_policy: NanPolicy
    threads: int | None


class ParameterOptions(Options, total=False):
    """The keyword options of any divergence, with the parameters that some take."""

    weight: float
    alpha: float
    order: float
