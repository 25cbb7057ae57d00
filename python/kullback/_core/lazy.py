"""A property worked out once, without a lock.

``functools.cached_property`` takes one before Python 3.12, and a child forked while another thread holds it waits for
ever. Here two threads may at worst both work the value out.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class lazy(Generic[T]):
    """Decorate a method without arguments: an attribute from its first use on."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "lazy[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> "lazy[T] | T":
        if instance is None:
            return self
        value = self._compute(instance)
        # No __set__, so the instance's own entry is found first from now on.
        vars(instance)[self._name] = value
        return value
