"""A process pool for coroutines and plain functions that does not hang.

>>> import asyncio, math, aiopool
>>> async def main():
...     async with aiopool.Pool(2) as pool:
...         return await pool.map(math.sqrt, [1, 4, 9])
>>> asyncio.run(main())
[1.0, 2.0, 3.0]
"""

from ._frozen import freeze_support
from ._native import VERSION as __version__
from ._results import PoolResult
from .core import Process, Worker, set_context, set_start_method
from .errors import (
    InitializerFailed,
    PoolClosed,
    ProxyException,
    RemoteTraceback,
    TaskTimeout,
    TooLarge,
    WorkerLost,
)
from .executor import ProcessPoolExecutor
from .isolation import Limits, Sandbox
from .pool import Pool, TaskOptions
from .scheduler import RoundRobin, Scheduler
from .types import QueueID, TaskID

__all__ = [
    "InitializerFailed",
    "Limits",
    "Pool",
    "PoolClosed",
    "PoolResult",
    "Process",
    "ProcessPoolExecutor",
    "ProxyException",
    "QueueID",
    "RemoteTraceback",
    "RoundRobin",
    "Sandbox",
    "Scheduler",
    "TaskID",
    "TaskOptions",
    "TaskTimeout",
    "TooLarge",
    "Worker",
    "WorkerLost",
    "__version__",
    "freeze_support",
    "set_context",
    "set_start_method",
]
