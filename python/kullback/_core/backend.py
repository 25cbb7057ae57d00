"""Which implementation runs: the native module if it is there, otherwise NumPy.

A missing native module is quiet, since every function has its NumPy definition; one that is there but cannot be loaded
is an error, never a silent slow path. ``KULLBACK_BACKEND`` chooses for the process, :class:`use_backend` for a context.
"""

import contextvars
import os
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from kullback._core.validation import MAX_THREADS, Problem, RowError, as_index, unknown_name

BACKENDS = ("auto", "native", "numpy")
_MODULE = "kullback._core._native"

Result = TypeVar("Result")


def _load() -> ModuleType | None:
    """Import the native module; None if there is none."""
    try:
        import kullback._core._native as native
    except ModuleNotFoundError as error:
        if error.name == _MODULE:
            return None
        raise
    except ImportError as error:
        raise ImportError(
            f"the native module of kullback is there but cannot be loaded ({error}); "
            "reinstall kullback, or set KULLBACK_BACKEND=numpy to run without it"
        ) from error
    return native


def _checked(name: str, what: str) -> str:
    if name not in BACKENDS:
        raise unknown_name(what, name, BACKENDS)
    if name == "native" and _NATIVE is None:
        raise ImportError(f'{what} is "native", but this installation of kullback has no native module')
    return name


_REQUESTED = os.environ.get("KULLBACK_BACKEND") or "auto"
_NATIVE = None if _REQUESTED == "numpy" else _load()
_DEFAULT: str = _checked(_REQUESTED, "KULLBACK_BACKEND")
_choice = contextvars.ContextVar("kullback_backend", default=_DEFAULT)


def active() -> ModuleType | None:
    """Return the native module if it is to be used, None for NumPy."""
    return None if _choice.get() == "numpy" else _NATIVE


def run(problem: Problem, native: Callable[[ModuleType], Result], reference: Callable[[], Result]) -> Result:
    """Call the implementation that is active; both report a bad row as one and the same ValueError."""
    module = active()
    try:
        return reference() if module is None else native(module)
    except ValueError as error:
        if isinstance(error, RowError) or (module is not None and isinstance(error, module.RowError)):
            raise problem.row_error(*error.args) from None
        raise


class use_backend:
    """Choose the implementation, for good or for a ``with`` block.

    The choice holds in the current context: the running thread or asyncio task, as with `decimal.setcontext`. The
    environment variable ``KULLBACK_BACKEND`` chooses for the whole process.

    Parameters
    ----------
    name : {"auto", "native", "numpy"}
        ``"auto"`` is native where it is installed, otherwise NumPy.

    Raises
    ------
    ValueError
        If the name is not known.
    ImportError
        If ``"native"`` is asked for and not installed.

    Examples
    --------
    >>> import kullback as kb
    >>> with kb.use_backend("numpy"):
    ...     kb.info()["backend"]
    'numpy'
    """

    def __init__(self, name: str) -> None:
        self._token = _choice.set(_checked(name, "the backend"))

    def __enter__(self) -> Self:
        """Keep the choice made by the call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the choice that held before the call."""
        _choice.reset(self._token)


def info() -> dict[str, Any]:
    """Tell what runs: versions, backend, instruction set, threads.

    Returns
    -------
    dict
        ``version``, ``backend`` ("native" or "numpy"), ``isa`` and ``available_isas`` (None and [] without the native
        module), ``threads``, ``build_profile`` ("release", "debug" or None) and ``numpy`` (its version).

    Examples
    --------
    >>> import kullback as kb
    >>> sorted(kb.info())
    ['available_isas', 'backend', 'build_profile', 'isa', 'numpy', 'threads', 'version']
    """
    module = active()
    return {
        "version": version(),
        "backend": "numpy" if module is None else "native",
        "isa": None if module is None else module.isa(),
        "available_isas": [] if module is None else module.available_isas(),
        "threads": 1 if module is None else module.num_threads(),
        "build_profile": None if module is None else module.build_profile(),
        "numpy": np.__version__,
    }


def version() -> str:
    """Return the version string, which is kept in Cargo.toml only."""
    if _NATIVE is not None:
        return str(_NATIVE.__version__)
    from importlib import metadata

    try:
        return metadata.version("kullback")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def set_num_threads(n: int | None) -> None:
    """Set how many threads the native module uses, in the whole process.

    Parameters
    ----------
    n : int or None
        Number of threads; None returns to the default: ``KULLBACK_NUM_THREADS``, or every CPU that the process may use.
        The NumPy backend runs on one thread whatever is set.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer from 1 to 1024.

    Examples
    --------
    >>> import kullback as kb
    >>> kb.set_num_threads(2)
    >>> kb.set_num_threads(None)
    """
    threads = 0 if n is None else as_index(n, "n", 1, MAX_THREADS)
    if _NATIVE is not None:
        _NATIVE.set_num_threads(threads)
