"""Array-likes become ndarrays of float64, float32, float16, or uint16 holding the bits of bfloat16.

Nothing is copied unless it has to be: integers and long doubles become float64, the small formats of ``ml_dtypes``
float32, foreign byte order and misaligned memory are copied. No library but NumPy is imported: tensors and Arrow
columns are recognised by what they can do.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

# Marks a two-byte view as bfloat16 bits, so that it is not mistaken for unsigned integers.
_BFLOAT16_BITS = np.dtype([("bfloat16", np.uint16)])

# DLPack device types whose memory the CPU reads: CPU, CUDA pinned host, ROCm pinned host.
_HOST_DEVICES = (1, 3, 11)


def as_array(value: Any, argument: str) -> npt.NDArray[Any]:
    """Read an array-like as a native-endian, aligned array of one of the four dtypes the kernels know.

    Raises
    ------
    TypeError
        If the value does not hold real numbers, is a masked array, or lives on another device.
    ValueError
        If nested sequences are ragged or an Arrow column has nulls.
    """
    array = _as_floats(_read(value, argument), value, argument)
    if not array.dtype.isnative or not array.flags.aligned:
        return array.astype(array.dtype.newbyteorder("="), copy=True)
    return array


def as_float64(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Widen an array of :func:`as_array` to float64; exact for all four dtypes."""
    return as_float32(array).astype(np.float64) if array.dtype == np.uint16 else array.astype(np.float64, copy=False)


def as_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Widen a float16, bfloat16 or float32 array of :func:`as_array` to float32; exact."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float32, copy=False)


def _read(value: Any, argument: str) -> npt.NDArray[Any]:
    """Read any array-like as a plain ndarray of whatever dtype it has."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{argument} is a masked array, expected a plain one: fill or drop the masked entries first")
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if _is_torch_tensor(value):
        return _from_torch(value, argument)
    if hasattr(getattr(value, "type", None), "list_size") and hasattr(value, "flatten"):
        return _from_fixed_size_lists(value, argument)
    if hasattr(value, "__dlpack__"):
        return _from_dlpack(value, argument)
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument} cannot be read as an array: {error}") from error


def _as_floats(array: npt.NDArray[Any], value: Any, argument: str) -> npt.NDArray[Any]:
    """Give the array one of the four kernel dtypes, in any byte order."""
    dtype = array.dtype
    if dtype.kind == "f":
        return array if dtype.itemsize <= 8 else array.astype(np.float64)
    if dtype.kind in "iu":
        return array.astype(np.float64)
    if dtype == _BFLOAT16_BITS or dtype.name == "bfloat16":
        return array.view(np.uint16)
    if dtype.type.__module__ == "ml_dtypes" and not dtype.name.startswith("complex"):
        return array.astype(np.float32)
    got = f"dtype {dtype}" if dtype.kind != "O" else f"{type(value).__name__} read as dtype object"
    raise TypeError(f"{argument} must hold real numbers (floating point or integers), got {got}")


def _is_torch_tensor(value: Any) -> bool:
    return any(base.__name__ == "Tensor" and base.__module__ == "torch" for base in type(value).__mro__)


def _from_torch(tensor: Any, argument: str) -> npt.NDArray[Any]:
    """View a torch tensor; NumPy has no bfloat16, so that one travels as the 16-bit integers it is stored in."""
    if tensor.device.type != "cpu":
        raise TypeError(f"{argument} must be in CPU memory, got a tensor on {tensor.device}: pass {argument}.cpu()")
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        bits: npt.NDArray[Any] = tensor.view(sys.modules["torch"].int16).numpy()
        return bits.view(_BFLOAT16_BITS)
    return np.asarray(tensor.numpy())


def _from_fixed_size_lists(column: Any, argument: str) -> npt.NDArray[Any]:
    """View an Arrow FixedSizeList array, or copy a chunked one, as a matrix with one list a row."""
    values = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if values.null_count:
        raise ValueError(f"{argument} must not have nulls, got {values.null_count} null rows")
    flat = values.flatten()
    if flat.null_count:
        raise ValueError(f"{argument} must not have nulls, got {flat.null_count} null entries")
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(values), values.type.list_size)


def _from_dlpack(value: Any, argument: str) -> npt.NDArray[Any]:
    """View an array of another library; formats that NumPy's DLPack lacks go through ``__array__``."""
    device = int(value.__dlpack_device__()[0]) if hasattr(value, "__dlpack_device__") else _HOST_DEVICES[0]
    if device not in _HOST_DEVICES:
        raise TypeError(f"{argument} must be in CPU memory, got an array on DLPack device type {device}")
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        if not hasattr(value, "__array__"):
            raise TypeError(f"{argument} cannot be read through DLPack: {error}") from error
        return np.asarray(value)
