"""A worker: an asyncio event loop that serves the tasks of a pool.

Every task that was begun is answered once, whatever its code does: the last resort is the death of
this process, which the pool answers for it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import sys
import types
from collections.abc import Awaitable, Callable
from functools import partial
from multiprocessing import spawn
from typing import Any

from . import _chunks, _main, _state, _steps, _threads, _wire
from ._native import Worker

# A coroutine's first step is at once where that is possible.
_EAGER = sys.version_info >= (3, 12)
_OPTIONS: dict[str, Any] = {"eager_start": True} if _EAGER else {}
# What the files of this package begin with.
_HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
# Tasks begun in a row before the event loop's other work has its turn.
_PER_TURN = 61

ExceptionHandler = Callable[[BaseException], Any]


class Served:
    """The worker's side of a pool, in an event loop."""

    def __init__(
        self,
        worker: Worker,
        loop: asyncio.AbstractEventLoop,
        exception_handler: ExceptionHandler | None,
    ) -> None:
        self.worker, self.loop, self.exception_handler = worker, loop, exception_handler
        # The asyncio tasks of what is not answered.
        self.tasks: dict[int, asyncio.Task[None]] = {}
        # What tasks will await that have not had their first step.
        self.unbegun: dict[int, Awaitable[Any]] = {}
        self.called_off: set[int] = set()
        self.scheduled = False
        self.leaving = False

    def look(self) -> None:
        """Takes tasks one by one, each begun before the next is taken."""
        self.scheduled = False
        take = self.worker.next
        for _ in range(_PER_TURN):
            event = take()
            if event is None:
                return
            number, data = event
            if number is None:
                self.leaving = True
                self.loop.stop()
                return
            if data is None:
                self.call_off(number)
                continue
            if not self.run(number, data):
                # Its first step is due before the next look: a task that computes must not
                # have others behind it that a sibling could run.
                break
        self.look_soon()

    def look_soon(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.look)

    def run(self, number: int, data: Any) -> bool:
        """Begins a task. True if it has had its first step."""
        try:
            function, arguments, keywords = _wire.open_call(data)
            if function is _chunks.run:
                result, errors = _chunks.begin(self.worker, number, arguments)
                for error in errors:
                    self.handle(error)
            else:
                result = function(*arguments, **keywords)
            if type(result) is types.CoroutineType and _steps.POSSIBLE:
                step = _steps.Step(result, self.loop, partial(self.rest, number))
                result = step.make()
                if step.task is not None:
                    self.tasks[number] = step.task
                    step.task.add_done_callback(partial(self.ended, number))
                    return True
                # The coroutine is over: what it gave is the value, also where that could be awaited.
                awaits = False
            else:
                awaits = inspect.isawaitable(result)
        except asyncio.CancelledError:
            self.fail(number, asyncio.CancelledError("the coroutine cancelled itself"))
            return True
        except BaseException as error:
            self.fail(number, error)
            return True
        if not awaits:
            self.succeed(number, result)
            return True
        self.unbegun[number] = result
        task = asyncio.Task(self.finish(number, result), loop=self.loop, **_OPTIONS)
        if task.done():
            self.ended(number, task)
        else:
            self.tasks[number] = task
            task.add_done_callback(partial(self.ended, number))
        return _EAGER

    async def finish(self, number: int, awaitable: Awaitable[Any]) -> None:
        """The life of a task in the event loop."""
        self.unbegun.pop(number, None)
        result = None
        failed: BaseException | None = None
        try:
            result = await awaitable
        except asyncio.CancelledError:
            failed = asyncio.CancelledError("the coroutine cancelled itself")
        except BaseException as error:
            failed = error
        self.tasks.pop(number, None)
        if number in self.called_off:
            # Its caller knows already; whatever it ended with, nobody waits for it.
            self.called_off.discard(number)
            self.worker.end(number, "cancelled")
        elif failed is not None:
            self.fail(number, failed)
        else:
            self.succeed(number, result)

    async def rest(self, number: int, step: _steps.Step) -> None:
        """The life of a task that waits in its first step."""
        await self.finish(number, step.rest())

    def ended(self, number: int, task: asyncio.Task[None]) -> None:
        """The asyncio task is over: if `finish` never ran, it is answered here."""
        self.tasks.pop(number, None)
        awaitable = self.unbegun.pop(number, None)
        if awaitable is not None:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            self.fail(number, asyncio.CancelledError("cancelled before its first step"))
        if not task.cancelled():
            # An error here is this package's own, and not to be complained about a second time.
            error = task.exception()
            if error is not None:
                raise error

    def call_off(self, number: int) -> None:
        task = self.tasks.get(number)
        if task is None:
            return
        awaitable = self.unbegun.pop(number, None)
        if awaitable is not None:
            # Cancelled now, `finish` never runs.
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            del self.tasks[number]
            self.worker.end(number, "cancelled")
        else:
            self.called_off.add(number)
        task.cancel()

    def succeed(self, number: int, result: Any) -> None:
        try:
            parts = _chunks.value(result) if type(result) is _chunks.Done else _wire.value(result)
        except BaseException as error:
            text = f"the result cannot be pickled:\n{_wire.error_text(error)}"
            self.worker.end(number, "unencodable", text)
        else:
            self.worker.succeed(number, parts)

    def fail(self, number: int, error: BaseException) -> None:
        # Its story begins in the task's own code, if that is Python's.
        story = error.__traceback__
        while story is not None and story.tb_frame.f_code.co_filename.startswith(_HERE):
            story = story.tb_next
        if story is not None:
            error = error.with_traceback(story)
        self.handle(error)
        self.worker.end(number, "failed", _wire.failure(error))

    def handle(self, error: BaseException) -> None:
        """Gives an error of a task to the user's function for them."""
        if self.exception_handler is not None:
            try:
                self.exception_handler(error)
            except BaseException as failed:
                print(_wire.error_text(failed), file=sys.stderr)


def main() -> None:
    """The life of a worker process."""
    serve(Worker())


def serve(worker: Worker) -> None:
    """Serves the pool until it ends, or this worker is to be replaced."""
    # Before the user's modules take what it replaces.
    _steps.install()
    try:
        loop, exception_handler = prepare(worker)
    except _main.Unguarded as error:
        # One line says it all: where that is in the script, its author knows.
        worker.fail(str(error))
        sys.exit(1)
    except BaseException as error:
        worker.fail(_wire.error_text(error))
        sys.exit(1)
    served = Served(worker, loop, exception_handler)
    descriptor = worker.fileno()
    loop.add_reader(descriptor, served.look)
    served.look_soon()
    try:
        while not served.leaving:
            # A task that stops the loop stops nothing else.
            loop.run_forever()
    except BaseException as error:
        # What a task left behind ends the process: at once, since an interpreter that ends in
        # order closes the coroutines of other tasks first, which would be their outcome.
        status = 1
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        else:
            print(_wire.error_text(error), file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status & 0xFF)
    loop.remove_reader(descriptor)
    left = list(served.tasks.values())
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    worker.leave()


def prepare(worker: Worker) -> tuple[asyncio.AbstractEventLoop, ExceptionHandler | None]:
    """Makes this process what the host's is: modules, directory, environment; initializes."""
    preparation, environment, share, functions = pickle.loads(worker.setup())
    os.environ.update(environment)
    _threads.limit(share)
    _leave_shared_memory_alone()
    _state.importing_main = True
    try:
        spawn.prepare(preparation)
    finally:
        _state.importing_main = False
    initializer, initargs, loop_initializer, exception_handler = pickle.loads(functions)
    loop = new_loop(loop_initializer)
    if initializer is not None:
        result = initializer(*initargs)
        if inspect.isawaitable(result):
            loop.run_until_complete(result)
    return loop, exception_handler


def _leave_shared_memory_alone() -> None:
    """Blocks of `multiprocessing.shared_memory` are the host's to remove, also those made here.

    A worker would have a resource tracker of its own, which removes at the worker's end what the
    worker has only looked into.
    """
    from multiprocessing import resource_tracker

    tracker: Any = resource_tracker
    for name in ("register", "unregister"):

        def call(thing: str, kind: str, original: Any = getattr(tracker, name)) -> None:
            if kind != "shared_memory":
                original(thing, kind)

        setattr(tracker, name, call)


def new_loop(
    loop_initializer: Callable[[], asyncio.AbstractEventLoop] | None,
) -> asyncio.AbstractEventLoop:
    """The event loop of a process that runs coroutines."""
    loop = (loop_initializer or asyncio.new_event_loop)()
    asyncio.set_event_loop(loop)
    return loop
