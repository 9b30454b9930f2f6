"""What a task can end with besides its value, and what a pool refuses."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from pickle import PicklingError
from typing import Any

if sys.version_info >= (3, 11):
    _TimeoutError = builtins.TimeoutError
else:
    import asyncio
    import concurrent.futures

    class _TimeoutError(
        builtins.TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError
    ):
        """The three classes that are one from Python 3.11 on."""



class ProxyException(Exception):
    """A task ended with an error that cannot be had here as what it was in the worker.

    The text is the traceback in the worker, or why there is none. Errors of this package derive
    from it, so that code written for aiomultiprocess catches them.
    """

    def __init__(self, text: str = "", **details: Any) -> None:
        super().__init__(text)
        self.__dict__.update(details)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[ProxyException], args: tuple[Any, ...], details: dict[str, Any]) -> Any:
    error = kind(*args)
    error.__dict__.update(details)
    return error


class WorkerLost(ProxyException):
    """The worker that ran the task died."""

    #: Name of the function that the task called.
    function: str = ""
    #: Number of the task in its pool, for `Pool.printed`.
    task: int = 0
    #: Process id of the worker.
    pid: int = 0
    #: Seat of the worker in its pool, counted from 0.
    worker: int = 0
    #: Number of the signal that ended the worker, if one did.
    signal: int | None = None
    #: Exit status of the worker, if it ended by itself.
    exitcode: int | None = None
    #: Attempts made, this one included.
    attempt: int = 1
    #: Seconds that the task had been running.
    running: float = 0.0
    #: What the task has said by `aiopool.progress`; of items of a `map` that share a task, how many of
    #: them it had begun.
    progress: int | None = None
    #: Whether the kernel killed the worker because memory had run out.
    out_of_memory: bool = False
    #: The last lines that the worker wrote to its standard error, where the pool has `output_to`.
    stderr: str = ""
    #: Whether the task may have been what ended the worker: it was the one that ran at that moment, or
    #: nothing says which one did.
    suspect: bool = True
    #: Why the worker was ended: "death" if by itself or by another process; by the pool, "timed out"
    #: (a task in it did not obey its timeout, or a cancellation), "damage" (to shared memory) or
    #: "replaced" (by another program: exec).
    cause: str = "death"
    #: What ended the earlier attempts, the oldest first.
    earlier: Sequence[str] = ()

    @property
    def is_bystander(self) -> bool:
        """Whether another task is what ended the worker."""
        return not self.suspect


def count_attempts(error: BaseException, before: int) -> None:
    """Adds the attempts that were made before those that `error` knows of."""
    for name in ("attempt", "attempts"):
        if before and isinstance(error, ProxyException) and name in error.__dict__:
            error.__dict__[name] += before


class TaskTimeout(ProxyException, _TimeoutError):
    """The task did not end, or did not start, in the time it was given."""

    #: Seconds that it was given.
    limit: float = 0.0
    #: Whether it was running when time ran out.
    started: bool = False


class PoolClosed(ProxyException, RuntimeError):
    """The pool ended before the task did, or takes no more tasks."""


class InitializerFailed(PoolClosed, BrokenExecutor):
    """The pool ended because no worker could be initialized."""


class NotPicklable(PicklingError, TypeError):
    """A function or an argument cannot be sent to a worker: the text says why."""


class TooLarge(ProxyException, ValueError):
    """The arguments or the result are larger than the pool takes: see `max_payload`."""


class ClusterError(ProxyException):
    """A cluster cannot do what was asked of it, or not any more."""


class ServerError(ClusterError, ConnectionError):
    """No server could be reached, or none that can be used: the text says which."""


class NodeLost(ClusterError):
    """The node that had the task died, or was cut off. Whether its code had started is not known."""

    #: Name of the function that the task called.
    function: str = ""
    #: The node's name.
    node: str = ""
    #: Attempts made, this one included.
    attempt: int = 1
    #: Seconds for which nothing had been heard of the node.
    silent_for: float = 0.0


class JobHeld(ClusterError):
    """Another process holds the durable job: it is to leave it, or to be silent for its lease."""


class ItemsChanged(ClusterError):
    """A resumed job was given another item than it had there, or another function."""


class Taken(ClusterError):
    """The outcome was taken before the job was resumed, and is not given again."""


class RemoteTraceback(Exception):
    """The traceback in the worker, as the cause of an error that was raised there."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


#: The classes for what the engine says.
OF_KIND: dict[str, type[ProxyException]] = {
    "cluster": ClusterError,
    "items_changed": ItemsChanged,
    "node_lost": NodeLost,
    "server": ServerError,
    "taken": Taken,
    "timed_out": TaskTimeout,
    "worker_lost": WorkerLost,
    "pool_closed": PoolClosed,
    "initializer": InitializerFailed,
    "too_large": TooLarge,
}
