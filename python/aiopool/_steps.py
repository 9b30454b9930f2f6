"""A coroutine's first step, made at once and without an asyncio task.

Most coroutines that end without waiting need none. One that waits gets its task then, and one that
asks for its task (`asyncio.current_task`, which timeouts and task groups do) gets it when it asks:
so everything that a coroutine can see is as in a task of its own.
"""

from __future__ import annotations

import asyncio
import sys
import types

# By their names: a task that replaces what a module has replaces nothing here.
from asyncio import CancelledError, Task, _get_running_loop
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

from ._native import current_step

# Tasks take the context that the first step was made in from 3.11 on.
POSSIBLE = sys.version_info >= (3, 11)


class Step:
    """The first step of a coroutine, and what comes after it."""

    __slots__ = ("_awaited", "_context", "_coroutine", "_error", "_life", "_loop", "_value", "task")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        context: Context,
        life: Callable[[Step], Coroutine[Any, Any, None]],
    ) -> None:
        self._coroutine, self._loop, self._life = coroutine, loop, life
        self._context = context
        self._awaited: Any = None
        self._value: Any = None
        self._error: BaseException | None = None
        #: Set when the coroutine waits or has asked.
        self.task: Task[None] | None = None

    def made(self, how: str, value: Any) -> Task[None]:
        """The step was made: the coroutine `awaits` the value, has `returned` it or has `raised`
        it. Gives the task whose `life` is the rest."""
        if how == "awaits":
            self._awaited = value
        elif how == "returned":
            self._value, self._coroutine = value, _OVER
        else:
            self._error, self._coroutine = value, _OVER
        if self.task is None:
            return self._make_task()
        _leave_task(self._loop, self.task)
        return self.task

    def _make_task(self) -> Task[None]:
        life = self._life(self)
        # As far as `rest`, so that a task that is cancelled before it runs cancels the coroutine.
        life.send(None)
        options: Any = {"context": self._context}
        self.task = Task(life, loop=self._loop, **options)
        return self.task

    def asked(self) -> Task[None]:
        """Gives the running coroutine its task."""
        task = self._make_task()
        _enter_task(self._loop, task)
        return task

    @types.coroutine
    def rest(self) -> Generator[Any, Any, Any]:
        """Gives what the coroutine ends with."""
        thrown = None
        try:
            # Until the task has its turn.
            yield
        except BaseException as error:
            thrown = error
        if self._coroutine is _OVER:
            if thrown is not None or self._error is not None:
                raise thrown or self._error  # type: ignore[misc]
            return self._value
        if isinstance(thrown, CancelledError):
            # As a task does that is cancelled while it waits.
            cancel = getattr(self._awaited, "cancel", None)
            if cancel is not None and cancel(*thrown.args):
                thrown = None
        while True:
            if thrown is None:
                try:
                    yield self._awaited
                except BaseException as error:
                    thrown = error
                else:
                    # In such a generator a coroutine is iterable.
                    rest: Any = self._coroutine
                    return (yield from rest)
            if isinstance(thrown, GeneratorExit):
                self._coroutine.close()
                raise thrown
            # An exception has this frame, and this frame must not have the exception.
            into, thrown = thrown, None
            try:
                self._awaited = self._coroutine.throw(into)
            except StopIteration as over:
                return over.value
            finally:
                del into


_OVER: Any = object()
_installed = False


def _step_here(loop: asyncio.AbstractEventLoop | None) -> Step | None:
    running = _get_running_loop()
    if running is None or loop not in (None, running):
        return None
    step: Step | None = current_step(running)
    return step


def _answering_current(original: Callable[..., Any]) -> Callable[..., Any]:
    def current_task(loop: asyncio.AbstractEventLoop | None = None) -> Any:
        """Returns the running task, or None."""
        task = original(loop)
        step = _step_here(loop) if task is None else None
        return task if step is None else step.asked()

    return current_task


def _answering_all(original: Callable[..., Any]) -> Callable[..., Any]:
    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> Any:
        """Returns the tasks of the loop that are not over."""
        if _get_running_loop() is not None:
            asyncio.current_task()
        return original(loop)

    return all_tasks


def install() -> None:
    """Has this process answer who asks for a coroutine's task, whoever imported the functions."""
    global _installed
    if not POSSIBLE or _installed:
        return
    _installed = True
    for name, make in (("current_task", _answering_current), ("all_tasks", _answering_all)):
        original = getattr(asyncio, name)
        ours = make(original)
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get(name) is original:
                setattr(module, name, ours)
