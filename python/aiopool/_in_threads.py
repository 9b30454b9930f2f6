"""Plain functions in threads of a worker, so that they hold up none of its coroutines."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._worker import Served


class Threads:
    """The threads of a worker, and the tasks that are in them."""

    def __init__(self, served: Served, count: int) -> None:
        self._served = served
        self._pool = ThreadPoolExecutor(count, "aiopool-task")
        self._futures: dict[int, Future[Any]] = {}

    def begin(
        self,
        number: int,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        """Begins a task."""
        loop = self._served.loop
        # The task's own: what it calls there knows whose it is.
        context = copy_context()
        future = self._pool.submit(context.run, function, *arguments, **keywords)
        self._futures[number] = future

        def over(future: Future[Any]) -> None:
            loop.call_soon_threadsafe(self._over, number, future, context=context)

        future.add_done_callback(over)

    def _over(self, number: int, future: Future[Any]) -> None:
        if self._futures.pop(number, None) is None:
            return
        served = self._served
        if number in served.called_off:
            served.called_off.discard(number)
            served.worker.end(number, "cancelled")
            return
        error = future.exception()
        if error is not None:
            served.fail(number, error)
        else:
            # It may have to be awaited.
            served.called(number, future.result())

    def call_off(self, number: int) -> bool:
        """Calls a task off, if it is one of these. One that runs is over when its function is; a
        task that has a timeout ends with its worker."""
        future = self._futures.get(number)
        if future is None:
            return False
        if future.cancel():
            del self._futures[number]
            self._served.worker.end(number, "cancelled")
        else:
            self._served.called_off.add(number)
        return True

    def leave(self) -> None:
        """Takes no more tasks, and does not wait for functions that nobody waits for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
