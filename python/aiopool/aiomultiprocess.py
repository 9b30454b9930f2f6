"""What aiomultiprocess has, for programs that were written for it.

`from aiopool import aiomultiprocess` is the migration. Errors of tasks are `ProxyException` here,
whose text is the traceback and whose `__cause__` is the error itself.
"""

from __future__ import annotations


from . import core as _core
from . import pool as _pool
from ._results import PoolResult
from .core import Process, set_context, set_start_method
from .errors import ProxyException
from .scheduler import RoundRobin, Scheduler
from .types import QueueID, TaskID


class Pool(_pool.Pool):
    """`aiopool.Pool`, with errors as aiomultiprocess has them."""

    _proxies = True
    _async_initializer = False

    async def __aenter__(self) -> Pool:
        return self


class Worker(_core.Worker):
    """`aiopool.Worker`, whose coroutine's error is its result, as aiomultiprocess has it."""

    _gives_errors = True


__all__ = [
    "Pool",
    "PoolResult",
    "Process",
    "ProxyException",
    "QueueID",
    "RoundRobin",
    "Scheduler",
    "TaskID",
    "Worker",
    "set_context",
    "set_start_method",
]
