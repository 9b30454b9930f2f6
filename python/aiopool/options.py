"""What a caller asks for tasks besides their calls."""

from __future__ import annotations

import random
from asyncio import CancelledError
from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from math import inf

from ._native import Options
from .errors import PoolClosed, TaskTimeout, TooLarge


@dataclass(frozen=True)
class TaskOptions:
    """What a caller asks for tasks besides their calls."""

    timeout: float | None = None
    """Seconds that one attempt may run: then it is cancelled, and its worker killed if that is no
    use, which ends a plain function, too."""
    queue_ttl: float | None = None
    """Seconds that the task may wait for a worker."""
    retries: int = 0
    """Further attempts when a worker dies with the task."""
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = ()
    """Exceptions of the function for which there are further attempts, too: `retries` is how many
    there are in all, for these and for deaths of workers."""
    retry_on_timeout: bool = False
    """Whether there are further attempts for one that took longer than its timeout, too."""
    backoff: float = 0.0
    """Seconds before the second attempt, doubled for each one after."""
    longest_backoff: float = 60.0
    """Seconds between two attempts, at most."""
    jitter: bool = False
    """Whether each of these pauses is shortened by chance, down to half of it."""
    priority: int = 0
    """The priority class, 0 the most urgent, below the pool's `priorities`."""
    alone: bool = False
    """Whether no other task runs beside it in its worker, so that its crash costs no other."""
    kill_after: float | None = None
    """Seconds after which a worker is killed that still has a task which was cancelled, or called off
    with the rest of its `map`. None: the pool's `grace` for a plain function, which cannot see that it
    is cancelled, and never for a coroutine function or under `threads`; `math.inf`: never. An executor
    kills none unless this is said. Coroutines that the worker runs beside it end with `WorkerLost`, or
    run again where they have `retries`."""
    key: Hashable = None
    """Tasks with the same key go to the same queue: in a pool with as many queues as processes to
    the same worker, which may have kept what they need."""

    def _native(self) -> Options:
        kill_after = self.kill_after
        if kill_after is not None:
            if isinstance(kill_after, bool) or not isinstance(kill_after, (int, float)):
                raise TypeError(f"kill_after={kill_after!r:.100} is not possible: a number of seconds")
            if not kill_after >= 0:
                raise ValueError(
                    f"kill_after={kill_after} is not possible: a number of seconds, 0 or more"
                )
        # The engine waits until the worker has let go of such an attempt; here nobody can.
        on_timeout = self.retry_on_timeout or issubclass(TaskTimeout, self.retry_on or ())
        return Options(
            timeout=self.timeout,
            queue_ttl=self.queue_ttl,
            retries=self.retries,
            retry_on_timeout=on_timeout,
            backoff=self.backoff,
            longest_backoff=self.longest_backoff,
            jitter=self.jitter,
            priority=self.priority,
            alone=self.alone,
        )

    def _check_for_all(self) -> None:
        """Refuses what a broadcast has no use for."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "timeout" and value != field.default:
                raise ValueError(
                    f"{field.name}={value!r} is not possible with broadcast, which runs once in each "
                    "worker, as soon as that comes round to it"
                )

    def _kill_after(self, of_plain: float | None) -> float | None:
        """Seconds after which the worker of a cancelled task is killed, None for never; `of_plain` if
        nothing is said."""
        said = of_plain if self.kill_after is None else self.kill_after
        return None if said is None or said == inf else float(said)

    def _is_retried(self, error: BaseException, made: int) -> bool:
        """Whether there is a further attempt after `made` of them, the last of which ended so."""
        if made > self.retries or not isinstance(error, self.retry_on):
            return False
        if isinstance(error, TaskTimeout):
            # Its time in the queue is of the first attempt only.
            return error.started
        return not isinstance(error, (PoolClosed, TooLarge, CancelledError))

    def _rest(self, made: int) -> Options:
        """What the engine is told after `made` attempts: it has those that are left."""
        backoff = self._longest_pause(made + 1)
        rest = replace(self, retries=self.retries - made, backoff=backoff, queue_ttl=None)
        return rest._native()

    def _longest_pause(self, attempt: int) -> float:
        """Seconds to wait after attempt `attempt`, if chance does not shorten them."""
        return min(self.backoff * 2.0 ** min(attempt - 1, 31), max(self.longest_backoff, self.backoff))

    def _pause(self, attempt: int) -> float:
        """Seconds to wait after attempt `attempt`, which is counted from 1."""
        pause = self._longest_pause(attempt)
        return pause * random.uniform(0.5, 1) if self.jitter else pause
