"""What Parquet and Arrow files have in common: a column of lists of equal length, each list a row.

A column is a FixedSizeList (or tensor) of floating-point numbers, or a List whose lists all have the same length; other
writers know only the latter. Nulls are refused, as they have no probability.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..arrow_numbers import as_numpy
from ..errors import InputError, reason_of
from .numbers import NumberType, number_type

__all__ = ["as_rows", "choose_column", "list_values", "list_width", "refuse", "row_type"]


def refuse(name: object, error: Exception) -> NoReturn:
    """Raise an InputError of one line for what pyarrow says about a broken file."""
    raise InputError(f"{name} cannot be decoded: {reason_of(error)}") from None


def _storage(column: Any) -> Any:
    """Return the storage type of a column, below an extension type such as a tensor."""
    return getattr(column, "storage_type", column)


def _is_rows(column: Any) -> bool:
    import pyarrow as pa

    column = _storage(column)
    is_list = pa.types.is_fixed_size_list(column) or pa.types.is_list(column) or pa.types.is_large_list(column)
    return bool(is_list and (pa.types.is_floating(column.value_type) or pa.types.is_integer(column.value_type)))


def choose_column(schema: Any, path: object, member: str | None) -> int:
    """Return the index of the column that holds the rows.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the file.
    path : object
        For the messages.
    member : str, optional
        Name of the column; the only one that can be meant by default.

    Raises
    ------
    InputError
        If there is none, or several and no name.
    """
    listed = ", ".join(f"{field.name} ({field.type})" for field in list(schema)[:8]) or "none"
    found = [index for index, field in enumerate(schema) if _is_rows(field.type)]
    if member is not None:
        named = [index for index, field in enumerate(schema) if field.name == member]
        if len(named) != 1:
            raise InputError(f"{path} has no column {member!r}; it holds {listed}")
        if named[0] not in found:
            raise InputError(
                f"{path}: column {member!r} holds {schema.field(named[0]).type}; expected lists of numbers"
            )
        return named[0]
    import pyarrow as pa

    floats = [index for index in found if pa.types.is_floating(_storage(schema.field(index).type).value_type)]
    found = floats or found
    if len(found) != 1:
        what = "no column" if not found else "several columns"
        advice = "" if not found else f"; choose one with {path}::NAME"
        raise InputError(f"{path} has {what} of lists of numbers, one list a row ({listed}){advice}")
    return found[0]


def row_type(column: Any, kind: str, name: object) -> tuple[NumberType, int | None]:
    """Return how the numbers of a column are stored, and the width of its rows if the type knows it."""
    import pyarrow as pa

    column = _storage(column)
    numbers = number_type(np.dtype(column.value_type.to_pandas_dtype()), kind, name)
    return numbers, int(column.list_size) if pa.types.is_fixed_size_list(column) else None


def _flat(array: Any) -> Any:
    return getattr(array, "storage", array)


def list_width(array: Any, name: object) -> int:
    """Return the width of the first row of an array of lists."""
    array = _flat(array)
    if not len(array) or array[0].as_py() is None:
        raise InputError(f"{name} begins with no row")
    return len(array[0])


def list_values(array: Any, width: int, first_row: int, name: object) -> Any:
    """Return the numbers of an array of lists as one flat array of Arrow.

    Raises
    ------
    InputError
        If a row is null, holds a null, or has another width.
    """
    import pyarrow as pa

    array = _flat(array)
    array.validate(full=True)  # offsets of a hostile file may point anywhere
    if array.null_count:
        raise InputError(f"{name} has a null among rows {first_row} to {first_row + len(array)}")
    if pa.types.is_fixed_size_list(array.type):
        values = array.values.slice(array.offset * width, len(array) * width)
    else:
        offsets = as_numpy(array.offsets)
        odd = np.flatnonzero(np.diff(offsets) != width)
        if odd.size:
            raise InputError(
                f"{name}: row {first_row + int(odd[0])} has {int(np.diff(offsets)[odd[0]])} columns; expected {width}, "
                "as many as the first"
            )
        values = array.values.slice(int(offsets[0]), len(array) * width)
    if values.null_count:
        raise InputError(f"{name} has a null number among rows {first_row} to {first_row + len(array)}")
    return values


def as_rows(values: Any, width: int) -> NDArray[Any]:
    """Return the numbers of an Arrow array as rows, not copied."""
    return as_numpy(values).reshape(-1, width)
