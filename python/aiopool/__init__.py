"""A process pool for coroutines and plain functions that does not hang.

>>> import asyncio, math, aiopool
>>> async def main():
...     async with aiopool.Pool(2) as pool:
...         return await pool.map(math.sqrt, [1, 4, 9])
>>> asyncio.run(main())
[1.0, 2.0, 3.0]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._frozen import freeze_support
from ._life import attempt, is_cancelled, progress, task_number, worker_state
from ._native import VERSION as __version__
from .errors import (
    ClusterError,
    InitializerFailed,
    ItemsChanged,
    JobHeld,
    NodeLost,
    NotPicklable,
    PoolClosed,
    ProxyException,
    RemoteTraceback,
    ServerError,
    Taken,
    TaskTimeout,
    TooLarge,
    WorkerLost,
)

if TYPE_CHECKING:
    from ._results import PoolResult
    from .cluster import Cluster, Job
    from .core import Process, Worker, set_context, set_start_method
    from .executor import ProcessPoolExecutor
    from .isolation import Limits, Sandbox
    from .node import Node, NodeReport
    from .options import TaskOptions
    from .pool import Pool
    from .scheduler import RoundRobin, Scheduler
    from .types import QueueID, TaskID

__all__ = [
    "Cluster",
    "ClusterError",
    "InitializerFailed",
    "ItemsChanged",
    "Job",
    "JobHeld",
    "Limits",
    "Node",
    "NodeLost",
    "NodeReport",
    "NotPicklable",
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
    "ServerError",
    "Taken",
    "TaskID",
    "TaskOptions",
    "TaskTimeout",
    "TooLarge",
    "Worker",
    "WorkerLost",
    "__version__",
    "attempt",
    "freeze_support",
    "is_cancelled",
    "progress",
    "set_context",
    "set_start_method",
    "task_number",
    "worker_state",
]

# What only a host needs, by the module that has it: a worker, which imports this package with each
# start, takes a quarter less time without.
_LATER = {
    "Cluster": "cluster",
    "Job": "cluster",
    "Limits": "isolation",
    "Node": "node",
    "NodeReport": "node",
    "Pool": "pool",
    "PoolResult": "_results",
    "Process": "core",
    "ProcessPoolExecutor": "executor",
    "QueueID": "types",
    "RoundRobin": "scheduler",
    "Sandbox": "isolation",
    "Scheduler": "scheduler",
    "TaskID": "types",
    "TaskOptions": "options",
    "Worker": "core",
    "set_context": "core",
    "set_start_method": "core",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        value = globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
        return value
    if name in _LATER.values():
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_LATER.values()})
