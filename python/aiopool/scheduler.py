"""Which queue a task goes to."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .types import QueueID, TaskID


class Scheduler(ABC):
    """Chooses the queue of each task."""

    @abstractmethod
    def register_queue(self, tx: Any) -> QueueID:
        """A queue of the pool; called once for each, before anything else."""

    @abstractmethod
    def register_process(self, qid: QueueID) -> None:
        """A process that serves the queue; called once for each, not again for a replacement."""

    @abstractmethod
    def schedule_task(
        self,
        task_id: TaskID,
        func: Callable[..., Awaitable[Any]],
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> QueueID:
        """The queue for a task that is being submitted."""

    @abstractmethod
    def complete_task(self, task_id: TaskID) -> None:
        """A task that `schedule_task` was asked about is over, however it ended. An error goes to the
        logger "aiopool"."""


class RoundRobin(Scheduler):
    """Goes round the processes: a queue with more of them gets more tasks."""

    def __init__(self) -> None:
        self.qids: list[QueueID] = []
        self.next_id = itertools.count()
        self.turns = itertools.cycle(self.qids)

    def register_queue(self, tx: Any) -> QueueID:
        return QueueID(next(self.next_id))

    def register_process(self, qid: QueueID) -> None:
        self.qids.append(qid)
        self.turns = itertools.cycle(self.qids)

    def schedule_task(
        self,
        task_id: TaskID,
        func: Callable[..., Awaitable[Any]],
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> QueueID:
        return next(self.turns)

    def complete_task(self, task_id: TaskID) -> None:
        pass
