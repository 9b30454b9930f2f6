"""Names for what travels between a pool and its callers."""

from typing import NewType

TaskID = NewType("TaskID", int)
QueueID = NewType("QueueID", int)


class ProxyException(Exception):
    """A task ended without a value; the text is the traceback in its worker, or why there is none."""


class WorkerLost(ProxyException):
    """The worker that ran the task died."""


class TaskTimeout(ProxyException):
    """The task did not end, or did not start, in the time it was given."""


class PoolClosed(ProxyException):
    """The pool ended before the task did."""
