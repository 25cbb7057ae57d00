"""The Ray cluster of a run: the one that is there, the one at an address, or one of this machine's processors.

Ray prints what it has to say on standard output, where results go; while a run is connected that goes to standard
error. A cluster that is started here sends no usage statistics and leaves no process and no file behind.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import UsageError, reason_of

__all__ = ["connected", "import_ray", "quiet", "worker_count"]

# Results wait here until the driver has written them, about 10 MB for a part.
_STORE_BYTES_PER_PROCESSOR = 64 << 20
_LEAST_STORE_BYTES = 128 << 20

_SECONDS_TO_ANSWER = 10.0

_LOGGERS = ("ray", "ray.data")


def import_ray() -> Any:
    """Return the module ray, with ray.data.

    Raises
    ------
    ModuleNotFoundError
        With the command that installs it.
    """
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        message = f"the engine ray needs the package {error.name}; install it with: pip install 'kullback[ray]'"
        raise ModuleNotFoundError(message, name=error.name) from None
    return ray


@contextmanager
def connected(ray: Any, address: str | None, processors: int) -> Iterator[None]:
    """Connect this process to a cluster, unless it is connected already.

    Parameters
    ----------
    ray : module
        As `import_ray` returns it.
    address : str, optional
        Of the cluster; by default ``RAY_ADDRESS``, or a new cluster.
    processors : int
        Of the new cluster.

    Raises
    ------
    UsageError
        If there is an address but the process is connected.
    ConnectionError
        If no cluster answers.
    """
    if ray.is_initialized():
        if address is not None:
            raise UsageError(
                f"ray_address is {address!r}, but this process is connected to a Ray cluster; leave it out to use that"
            )
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    with contextlib.ExitStack() as stack:
        stack.callback(ray.shutdown)
        if address in (None, "local"):
            _start(ray, processors, stack)
        else:
            try:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, RuntimeError, ValueError) as error:
                raise ConnectionError(f"no Ray cluster answers at {address}: {reason_of(error)}") from None
        yield


def _knock(address: str) -> None:
    """Raise an OSError if nobody listens there: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER).close()


def _start(ray: Any, processors: int, stack: contextlib.ExitStack) -> None:
    # Sockets lie in this folder, and their paths must not be longer than about a hundred bytes.
    short = "/tmp" if os.path.isdir("/tmp") else None
    folder = tempfile.mkdtemp(prefix="kullback-ray-", dir=short)
    # Ray has to have ended by the time its folder is removed.
    stack.pop_all()
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    stack.callback(ray.shutdown)
    before = os.environ.get("RAY_USAGE_STATS_ENABLED")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        ray.init(
            address="local",
            num_cpus=processors,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=max(processors * _STORE_BYTES_PER_PROCESSOR, _LEAST_STORE_BYTES),
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
    finally:
        if before is None:
            del os.environ["RAY_USAGE_STATS_ENABLED"]
        else:
            os.environ["RAY_USAGE_STATS_ENABLED"] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Ray's reports off standard output, and the rest off the log: what matters is raised."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def worker_count(ray: Any, threads: int) -> int:
    """Return how many workers of so many processors fit on the machines of the cluster.

    Raises
    ------
    UsageError
        If no machine has so many.
    """
    sizes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    largest = max(sizes, default=0)
    if 0 < largest < threads:  # of a cluster without any, it is to be hoped that it grows
        raise UsageError(f"threads is {threads}, but no machine of the Ray cluster has more than {largest} processors")
    return max(sum(size // threads for size in sizes), 1)
