"""Numbers handed between NumPy and Arrow, not copied.

pyarrow's own ways, ``pa.array`` and ``to_numpy``, first import pandas wherever it is installed, only to ask whether it
is meant: 40 MiB and half a second or more that no run has a use for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["as_arrow", "as_numpy"]


def as_arrow(values: NDArray[Any]) -> pa.Array:
    """Return a contiguous array of numbers as one of Arrow."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def as_numpy(array: Any) -> NDArray[Any]:
    """Return an Arrow array of numbers, none of them null, as one of NumPy that may not be written to."""
    values: NDArray[Any] = np.from_dlpack(array)
    return values
