"""A worker: an asyncio event loop that serves the tasks of a pool.

Every task that was begun is answered once, whatever its code does: the last resort is the death of
this process, which the pool answers for it.
"""

from __future__ import annotations

import asyncio
import os
import sys

# By their names: a task that replaces what a module has replaces nothing here.
from asyncio import AbstractEventLoop, CancelledError, Task, _set_running_loop, all_tasks, wait
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import CO_COROUTINE, isawaitable, iscoroutine
from io import TextIOWrapper
from multiprocessing import spawn
from pickle import loads
from types import CoroutineType, FunctionType
from typing import Any

from . import _chunks, _leaving, _life, _logs, _loops, _main, _manners, _pickling, _stack, _state
from . import _steps, _threads, _wire
from ._in_threads import Threads
from ._life import Life
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
        loop: AbstractEventLoop,
        exception_handler: ExceptionHandler | None,
        threads: int = 0,
    ) -> None:
        self.threads = Threads(self, threads) if threads else None
        self.worker, self.loop, self.exception_handler = worker, loop, exception_handler
        # Coroutines of this type have their first step without an asyncio task.
        self.coroutine_type = CoroutineType if _steps.POSSIBLE else None
        self.set_running_loop = _set_running_loop
        # What the loop has to do, where that can be known, and the descriptor it waits for.
        self.others_wait: Any = getattr(loop, "_ready", None)
        self.descriptor = _loops.descriptor(loop)
        # The asyncio tasks of what is not answered.
        self.tasks: dict[int, Task[None]] = {}
        # What tasks will await that have not had their first step.
        self.unbegun: dict[int, Awaitable[Any]] = {}
        self.called_off: set[int] = set()
        self.scheduled = False
        self.leaving = False

    def look(self) -> None:
        """Takes tasks one by one, each begun before the next is taken."""
        try:
            self._look()
        except BaseException as error:
            # What a task has left behind, such as a tracer that raises, has met this package's own
            # code: the worker does not know any more what is answered, and the pool does.
            _leaving.die(error)

    def _look(self) -> None:
        if self.leaving:
            return
        if self.unbegun:
            # A look that was due already; first steps come before others' tasks.
            self.look_soon()
        elif self.worker.serve(self, _PER_TURN, self.descriptor):
            self.look_soon()

    def look_soon(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.look_now)

    def look_now(self) -> None:
        # Only here: looks that the descriptor asks for come beside the one that is scheduled.
        self.scheduled = False
        self.look()

    def leave(self) -> None:
        """The pool wants this worker to end."""
        self.leaving = True
        self.loop.stop()

    def function_of(self, head: bytes) -> tuple[Callable[..., Any], bool] | None:
        """The function that `head` names, and whether a call of it only makes a coroutine; None if
        `run` is to see to its calls."""
        try:
            function = _wire.open_head(head)
        except BaseException:
            # `run` meets it again, and says so.
            return None
        if function is _chunks.run:
            return None
        if self.threads is not None and _chunks.is_plain(function):
            return None
        flags = function.__code__.co_flags if type(function) is FunctionType else 0
        return function, bool(flags & CO_COROUTINE)

    def run(self, number: int, data: Any) -> bool:
        """Begins a task. True if it has had its first step."""
        try:
            before = _wire.attempts_before(data)
            if before:
                self.worker.tried_before(number, before)
            function, arguments, keywords = _wire.open_call(data)
            if function is _chunks.run:
                result, errors = self.call(_chunks.begin, (self.worker, number, arguments), {})
                for error in errors:
                    self.handle(error)
            elif self.threads is not None and _chunks.is_plain(function):
                self.threads.begin(number, function, arguments, keywords)
                return True
            else:
                result = self.call(function, arguments, keywords)
        except BaseException as error:
            self.raised(number, error)
            return True
        return self.worker.called(self, number, result)

    def called(self, number: int, result: Any) -> bool:
        """Ends a task whose function has returned `result`, or awaits that."""
        try:
            awaits = isawaitable(result)
        except BaseException as error:
            self.raised(number, error)
            return True
        if not awaits:
            self.succeed(number, result)
            return True
        self.unbegun[number] = result
        task = Task(self.finish(number, result), loop=self.loop, **_OPTIONS)
        if task.done():
            self.ended(number, task)
        else:
            self.tasks[number] = task
            task.add_done_callback(partial(self.ended, number))
        if not _EAGER:
            # The loop makes the first step next, and then this.
            self.loop.call_soon(self.worker.begun)
        return _EAGER

    def raised(self, number: int, error: BaseException) -> None:
        """Ends a task whose function, or the first step of its coroutine, has raised `error`."""
        if isinstance(error, CancelledError):
            error = CancelledError("the coroutine cancelled itself")
        self.fail(number, error)

    def new_step(self, number: int, coroutine: Any, context: Any) -> _steps.Step:
        """The first step of a coroutine that waits, or asks for its task."""
        return _steps.Step(coroutine, self.loop, context, partial(self.rest, number))

    def stepped(self, number: int, step: _steps.Step, how: str, value: Any) -> None:
        """Keeps a task whose coroutine has made its first step, and has an asyncio task."""
        task = step.made(how, value)
        self.tasks[number] = task
        task.add_done_callback(partial(self.ended, number))

    def call(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        """Calls a function; a plain one may run an event loop of its own."""
        _set_running_loop(None)
        try:
            return function(*arguments, **keywords)
        finally:
            _set_running_loop(self.loop)

    async def finish(self, number: int, awaitable: Awaitable[Any]) -> None:
        """The life of a task in the event loop."""
        self.unbegun.pop(number, None)
        result = None
        failed: BaseException | None = None
        try:
            result = await awaitable
        except CancelledError:
            failed = CancelledError("the coroutine cancelled itself")
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

    def ended(self, number: int, task: Task[None]) -> None:
        """The asyncio task is over: if `finish` never ran, it is answered here."""
        self.tasks.pop(number, None)
        awaitable = self.unbegun.pop(number, None)
        if awaitable is not None:
            if iscoroutine(awaitable):
                awaitable.close()
            self.fail(number, CancelledError("cancelled before its first step"))
        if not task.cancelled():
            # An error here is this package's own.
            error = task.exception()
            if error is not None:
                _leaving.die(error)

    def call_off(self, number: int) -> None:
        if self.threads is not None and self.threads.call_off(number):
            return
        task = self.tasks.get(number)
        if task is None:
            return
        awaitable = self.unbegun.pop(number, None)
        if awaitable is not None:
            # Cancelled now, `finish` never runs.
            if iscoroutine(awaitable):
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
                _leaving.say(_wire.error_text(failed))


def main() -> None:
    """The life of a worker process."""
    serve(Worker())


def serve(worker: Worker) -> None:
    """Serves the pool until it ends, or this worker is to be replaced."""
    _stack.tell()
    # Before the user's modules take what it replaces.
    _steps.install()
    try:
        life, loop, exception_handler, settings = prepare(worker)
    except _main.Unguarded as error:
        # One line says it all: where that is in the script, its author knows.
        worker.fail(str(error))
        sys.exit(1)
    except BaseException as error:
        worker.fail(_wire.error_text(error))
        sys.exit(1)
    served = Served(worker, loop, exception_handler, settings["threads"])
    _life.serves(worker)
    descriptor = worker.fileno()
    loop.add_reader(descriptor, served.look)
    if loop.get_debug():
        # A plain function may take its time: the loop would say of each that `look` was slow.
        loop.slow_callback_duration = float("inf")
    profiled = None
    if settings["profile"] is not None:
        # cProfile is loaded where it is asked for.
        from ._profile import Profiled

        profiled = Profiled(settings["profile"])
    served.look_soon()
    try:
        while not served.leaving:
            # A task that stops the loop stops nothing else.
            loop.run_forever()
    except BaseException as error:
        # What a task left behind ends the process.
        _leaving.die(error)
    loop.remove_reader(descriptor)
    left = list(served.tasks.values())
    for task in left:
        task.cancel()
    while left:
        try:
            loop.run_until_complete(wait(left))
        except RuntimeError:
            # A task has stopped the loop, or closed it.
            if not loop.is_closed():
                continue
        break
    if served.threads is not None:
        served.threads.leave()
    asyncio.set_event_loop(loop)
    life.leave()
    others = list(all_tasks(loop))
    for task in others:
        # What tasks have started and left.
        task.cancel()
    if others:
        loop.run_until_complete(wait(others, timeout=settings["grace"] / 4))
    if profiled is not None:
        profiled.leave()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    worker.leave()
    _leaving.within(settings["grace"])


def prepare(
    worker: Worker,
) -> tuple[Life, AbstractEventLoop, ExceptionHandler | None, dict[str, Any]]:
    """Makes this process what the host's is: modules, directory, environment; initializes."""
    preparation, settings, pickled = loads(worker.setup())
    environment = settings["environment"]
    if settings["only_environment"]:
        # Where this process is a copy, it has those of what it is a copy of.
        for name in [name for name in os.environ if name not in environment]:
            del os.environ[name]
    for name, value in environment.items():
        # What is the same stays shared, where this process is a copy.
        if os.environ.get(name) != value:
            os.environ[name] = value
    _threads.limit(settings["share"])
    handler = _logs.install(worker, settings["logs"])
    _leave_shared_memory_alone()
    _manners.take_over(worker.seat, settings["manners"])
    if settings["unbuffered"]:
        # What a task has printed is in its file before its outcome is there.
        for name in ("stdout", "stderr"):
            stream = _unbuffered(getattr(sys, name))
            # A program that wraps its buffer anew relies on the first one being kept.
            for kept in (name, f"__{name}__"):
                setattr(sys, kept, stream)
    _state.importing_main = True
    try:
        spawn.prepare(preparation)
    finally:
        _state.importing_main = False
    with _pickling.collecting():
        functions = loads(pickled)
    loop = new_loop(functions.loop_initializer)
    with _pickling.keeping():
        life = Life(loop, functions)
    _loops.forget()
    _logs.keep(handler)
    return life, loop, functions.exception_handler, settings


def _unbuffered(stream: Any) -> Any:
    """A stream to the same descriptor, as `python -u` makes it; the same stream where it has none."""
    try:
        stream.flush()
        raw = open(stream.fileno(), "wb", 0, closefd=False)
        return TextIOWrapper(raw, stream.encoding, stream.errors, write_through=True)
    except (AttributeError, OSError, ValueError):
        # A program's own, or none at all.
        return stream


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
    loop_initializer: Callable[[], AbstractEventLoop] | None,
) -> AbstractEventLoop:
    """The event loop of a process that runs coroutines."""
    loop = (loop_initializer or asyncio.new_event_loop)()
    asyncio.set_event_loop(loop)
    return loop
