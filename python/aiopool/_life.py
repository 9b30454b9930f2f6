"""What a worker opens before its first task, and closes after its last."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _leaving, _wire

if TYPE_CHECKING:
    from ._native import Worker

_state: Any = None


def worker_state() -> Any:
    """Returns what the pool's `initializer` has returned in this worker, or what it has opened, if
    that was a context manager; None in other processes."""
    return _state


# What this process serves as a worker. A child that a task forks is none.
_worker: Worker | None = None


def serves(worker: Worker) -> None:
    """Has tasks ask `worker` from now on."""
    global _worker
    _worker = worker
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    global _worker
    _worker = None


def task_number() -> int | None:
    """Returns the number in its pool of the task that calls this, which `Pool.printed` and
    `WorkerLost.task` go by, also in asyncio tasks and threads that have its context
    (`asyncio.create_task`, `asyncio.to_thread`); None in other processes, in other threads, and once
    the task is over."""
    return None if _worker is None else _worker.task_number()


def attempt() -> int | None:
    """Returns the number of this attempt of the task that calls this, from 1: those that ended with
    their worker count, and those that `retry_on` has had made again. None where `task_number` is."""
    return None if _worker is None else _worker.attempt()


def is_cancelled() -> bool:
    """Returns whether the task that calls this was cancelled, ran out of time, or is over: no caller
    waits for what it does. For plain functions that compute, which nothing interrupts: such a
    function asks from time to time, and returns. It costs next to nothing.

        def primes(below):
            return [n for n in range(2, below) if not aiopool.is_cancelled() and is_prime(n)]

    Threads that have the task's context may ask, too (`asyncio.to_thread`). False outside of tasks."""
    return _worker is not None and _worker.is_cancelled()


def progress(number: int) -> bool:
    """Says how far the task is that calls this, for `WorkerLost.progress` should its worker die; what
    `number` counts, from 0 up, is the caller's to say. It costs next to nothing.

    Returns whether it is said, from where `task_number` has a number. Items of a plain function's
    `map` may share a task, whose number of items that were begun is its own: in one that does,
    nothing is said, and this returns False. `with_options(alone=True)` gives each a task."""
    if not isinstance(number, int):
        raise TypeError(f"number must be an integer, and is {number!r:.100}")
    if not 0 <= number < 1 << 64:
        raise ValueError(f"number={number} is not possible: 0 to 2**64 - 1")
    return _worker is not None and _worker.own_progress(number)


class Functions(NamedTuple):
    """What workers call besides tasks."""

    initializer: Callable[..., Any] | None = None
    initargs: Sequence[Any] = ()
    loop_initializer: Callable[[], asyncio.AbstractEventLoop] | None = None
    exception_handler: Callable[[BaseException], Any] | None = None
    exit_hook: Callable[[], Any] | None = None


class Life:
    """The initializer's and the exit hook's side of a worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, functions: Functions) -> None:
        self._loop, self._exit_hook = loop, functions.exit_hook
        # What keeps a context manager open: it is entered and left in one asyncio task, as those
        # with task groups and cancel scopes have to be.
        self._keeper: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()
        if functions.initializer is not None:
            self._set(self._call(functions.initializer, *functions.initargs))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        result = function(*arguments)
        if not isawaitable(result):
            return result

        async def awaited() -> Any:
            return await result

        return self._loop.run_until_complete(awaited())

    def _set(self, result: Any) -> None:
        global _state
        kind = type(result)
        if not (hasattr(kind, "__aenter__") or hasattr(kind, "__enter__")):
            _state = result
            return
        opened: asyncio.Future[Any] = self._loop.create_future()
        self._keeper = self._loop.create_task(self._keep(result, opened))
        _state = self._loop.run_until_complete(opened)

    async def _keep(self, manager: Any, opened: asyncio.Future[Any]) -> None:
        try:
            async with AsyncExitStack() as stack:
                if hasattr(type(manager), "__aenter__"):
                    opened.set_result(await stack.enter_async_context(manager))
                else:
                    opened.set_result(stack.enter_context(manager))
                while not self._leaving.is_set():
                    try:
                        await self._leaving.wait()
                    except asyncio.CancelledError:
                        # A task that cancels all others does not close what the next one needs.
                        pass
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    def leave(self) -> None:
        """Runs the exit hook, and closes what was opened; an error goes to the standard error."""
        try:
            if self._exit_hook is not None:
                self._call(self._exit_hook)
        except BaseException as error:
            _leaving.say(_wire.error_text(error))
        self._leaving.set()
        if self._keeper is not None:
            try:
                self._loop.run_until_complete(self._keeper)
            except BaseException as error:
                _leaving.say(_wire.error_text(error))
