"""A crash-proof process pool for coroutines, on libaiopool.

Follows the interface of aiomultiprocess: `import aiopool as aiomultiprocess` is the migration.
"""

from .core import Process, Worker, set_context, set_start_method
from .isolation import Limits, Sandbox
from .pool import Pool, PoolResult
from .scheduler import RoundRobin, Scheduler
from .types import (
    PoolClosed,
    ProxyException,
    QueueID,
    TaskID,
    TaskTimeout,
    WorkerLost,
)

__all__ = [
    "Limits",
    "Pool",
    "PoolClosed",
    "PoolResult",
    "Process",
    "ProxyException",
    "QueueID",
    "RoundRobin",
    "Sandbox",
    "Scheduler",
    "TaskID",
    "TaskTimeout",
    "Worker",
    "WorkerLost",
    "set_context",
    "set_start_method",
]
