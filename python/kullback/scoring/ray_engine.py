"""The same run over Ray Data: parts are the rows of a dataset, a pool of stateful workers maps them to columns.

The driver cuts the rows and writes the parts, by the same code as the local engine, so that files are the same byte for
byte and only the inputs have to be visible to the workers. Ray Data brings what a run over machines needs: tasks go to
idle workers, a worker or machine that is lost has its parts computed again elsewhere, results that the driver has not
taken yet hold the workers up.
"""

from __future__ import annotations

import pickle
import sys
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from .errors import reason_of
from .plan import Missing
from .ray_cluster import connected, import_ray, quiet, worker_count
from .ray_worker import Job, Outcome, PartScorer
from .result import ProgressCounter

if TYPE_CHECKING:
    from .engine import WritePart

__all__ = ["Job", "execute"]

# Ray Data takes this for the size of a result that is not there yet; by default 128 MiB, of which few fit its store.
_RESULT_BYTES = 16 << 20

# A task may be of several parts, as Ray keeps books on each.
_MOST_TASKS = 4096

# The next part waits at the worker, so that none is idle while the driver is told about the last one.
_PARTS_AT_WORKER = 2

# What Ray Data calls the thread that fetches results; others of its threads wait for more work and never end.
_FETCHER = "iter_threaded"
_SECONDS_TO_END = 5.0

# A part whose worker dies more often than that is to blame for it.
_RETRIES = 10


def execute(
    job: Job, missing: Sequence[Missing], write: WritePart, progress: ProgressCounter, address: str | None
) -> None:
    """Compute parts on a Ray cluster and write them here.

    Parameters
    ----------
    job : Job
        What the parts have in common.
    missing : sequence of (Part, tuple of str)
        The parts, at least one.
    write : callable
        Receives a part, a candidate's name and its columns.
    progress : ProgressCounter
        Told about each part.
    address : str, optional
        Of the cluster, as `kullback.score` takes it.

    Raises
    ------
    ModuleNotFoundError
        If Ray is not installed.
    Exception
        Whatever went wrong at a worker, as the local engine would have raised it.
    """
    ray = import_ray()
    output = sys.stdout
    processors = int(job.library["threads"])
    with quiet(), connected(ray, address, processors), closing(_outcomes(ray, job, missing)) as outcomes:
        for outcome in outcomes:
            if outcome.error is not None:
                raise _as_given(outcome.error, job)
            with redirect_stdout(output):
                for name, columns in outcome.columns.items():
                    write(outcome.part, name, columns)
                progress.add(outcome.part.stop - outcome.part.start, tuple(outcome.columns))


def _outcomes(ray: Any, job: Job, missing: Sequence[Missing]) -> Generator[Outcome, None, None]:
    """Yield what came of each part as soon as it is there."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _RESULT_BYTES
    with ray.data.DataContext.current(context):
        tasks = [{"task": pickle.dumps(each)} for each in missing]
        n_workers = min(worker_count(ray, job.threads), len(tasks))
        dataset = ray.data.from_items(tasks, override_num_blocks=min(len(tasks), _MOST_TASKS))
        with warnings.catch_warnings():
            # Ray 2.64 is to have another way for the number of retries, which is not there yet.
            warnings.filterwarnings("ignore", message=".*ray_remote_args")
            results = dataset.map_batches(
                PartScorer,
                fn_constructor_args=(job.absolute(),),
                batch_size=1,
                batch_format="numpy",
                num_cpus=job.threads,
                max_task_retries=_RETRIES,
                compute=ray.data.ActorPoolStrategy(size=n_workers, max_tasks_in_flight_per_actor=_PARTS_AT_WORKER),
            )
        try:
            batches = iter(results.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0))
            with _fetcher_ended(), closing(batches):
                for batch in batches:
                    for payload in batch["outcome"]:
                        yield pickle.loads(payload)
        except ray.exceptions.RayError as error:
            reason = reason_of(error).rstrip(".")
            raise OSError(f"Ray could not finish the run: {reason}; finished parts are kept") from None


@contextmanager
def _fetcher_ended() -> Iterator[None]:
    """Wait for the thread that fetches results, which is told to end but may be at it.

    Ray ends the process if a thread uses a connection that has been closed.
    """
    before = set(threading.enumerate())
    try:
        yield
    finally:
        for thread in set(threading.enumerate()) - before:
            if thread.name == _FETCHER:
                thread.join(_SECONDS_TO_END)


def _as_given(error: Exception, job: Job) -> Exception:
    """Return an error that names files as the user did."""
    message = str(error)
    for absolute, given in zip(job.absolute().places(), job.places(), strict=True):
        message = message.replace(str(absolute), str(given))
    if message != str(error):
        with suppress(TypeError):
            return type(error)(message)
    return error
