"""The types of numbers that files hold, and what each is handed on as.

Floating-point numbers are handed on as they are, in the machine's byte order; bfloat16, which NumPy does not have, is
widened to float32 exactly; integers are counts, and become float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

__all__ = ["NumberType", "number_type", "number_type_by_name"]

_BFLOAT16 = np.dtype("<u2")


@dataclass(frozen=True)
class NumberType:
    """A type of stored number.

    Attributes
    ----------
    name : str
        For messages and ``kullback inspect``.
    stored : dtype
        As it lies in the file; bfloat16 is two bytes without a sign.
    dtype : dtype
        As it is handed on.
    """

    name: str
    stored: np.dtype[Any]
    dtype: np.dtype[Any]

    @property
    def is_bfloat16(self) -> bool:
        """Whether the stored bytes are bfloat16."""
        return self.name == "bfloat16"

    @property
    def converts(self) -> bool:
        """Whether the stored numbers have to be copied to be handed on."""
        return self.is_bfloat16 or self.dtype != self.stored

    def copy(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        """Convert stored numbers into an array of the type that is handed on."""
        if self.is_bfloat16:
            np.left_shift(stored, 16, out=out.view(np.uint32), dtype=np.uint32)
        else:
            np.copyto(out, stored)


def number_type(dtype: np.dtype[Any], kind: str, name: object) -> NumberType:
    """Return how numbers of a NumPy dtype are handed on.

    Parameters
    ----------
    dtype : dtype
        As stored; two bytes of void are bfloat16, as `numpy.save` writes it.
    kind : str
        What the numbers are, as `Source.kind`.
    name : object
        The source, for the messages.

    Raises
    ------
    InputError
        If they are not real numbers, or integers that are not counts.
    """
    if dtype.hasobject:
        raise InputError(f"{name} holds pickled Python objects, which are never loaded; expected numbers")
    if dtype.kind == "V" and dtype.names is None and dtype.subdtype is None and dtype.itemsize == 2:
        return NumberType("bfloat16", _BFLOAT16, np.dtype(np.float32))
    if dtype.kind == "f" and dtype.itemsize in (2, 4, 8):
        return NumberType(dtype.name, dtype, dtype.newbyteorder("="))
    if dtype.kind in "iu" and kind == "weights":
        return NumberType(dtype.name, dtype, np.dtype(np.float64))
    if dtype.kind in "iu":
        raise InputError(f"{name} holds integers ({dtype.name}), which can only be counts; use input kind 'weights'")
    raise InputError(f"{name} holds {dtype.name}; expected float64, float32, float16 or bfloat16")


def number_type_by_name(type_name: str, kind: str, name: object) -> NumberType:
    """Return how little-endian numbers of a named type, for instance ``"float16"``, are handed on.

    Raises
    ------
    InputError
        As for `number_type`, and if there is no such type.
    """
    if type_name == "bfloat16":
        return NumberType("bfloat16", _BFLOAT16, np.dtype(np.float32))
    try:
        dtype = np.dtype(type_name)
    except TypeError:
        raise InputError(f"{name} holds {type_name}; expected float64, float32, float16 or bfloat16") from None
    return number_type(dtype.newbyteorder("<") if dtype.byteorder == "=" else dtype, kind, name)
