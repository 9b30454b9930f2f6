"""Names for what travels between a pool and its callers."""

from __future__ import annotations

from typing import NewType

from .errors import PoolClosed, ProxyException, TaskTimeout, WorkerLost

TaskID = NewType("TaskID", int)
QueueID = NewType("QueueID", int)

__all__ = ["PoolClosed", "ProxyException", "QueueID", "TaskID", "TaskTimeout", "WorkerLost"]
