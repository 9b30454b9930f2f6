"""A worker: an asyncio event loop that serves the tasks of a libaiopool pool."""

import asyncio
import ctypes
import inspect
import os
import pickle
import sys
import traceback
from ctypes import byref, c_int32, c_void_p
from multiprocessing import spawn

from . import _main
from . import _native as native
from .core import new_loop

# A coroutine's first step is at once where that is possible.
_OPTIONS = {"eager_start": True} if sys.version_info >= (3, 12) else {}
# Tasks begun in a row before the event loop's other work has its turn.
_PER_TURN = 61


class Served:
    """The worker's side of a pool, in an event loop."""

    def __init__(self, worker, loop, exception_handler) -> None:
        self.worker, self.loop, self.exception_handler = worker, loop, exception_handler
        self.tasks = {}
        # What tasks will await that have not had their first step.
        self.unbegun = {}
        self.called_off = set()
        self.event = native.WorkerEvent()
        self.event_out = byref(self.event)
        self.scheduled = False

    def look(self) -> None:
        """Takes tasks one by one, each begun before the next is taken."""
        self.scheduled = False
        event = self.event
        for _ in range(_PER_TURN):
            native.check(native.quick.aiopool_worker_next(self.worker, self.event_out))
            kind, number = event.kind, event.task
            if kind == native.EVENT_NOTHING:
                return
            if kind == native.EVENT_LEAVE:
                self.loop.stop()
                return
            if kind == native.EVENT_CANCEL:
                self.call_off(number)
                continue
            data = native.bytes_at(event.input, event.input_len)
            if not self.run(number, event.function, data):
                # Its first step is due before the next look: a task that computes must not
                # have others behind it that a sibling could run.
                break
        self.look_soon()

    def look_soon(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.look)

    def run(self, number: int, name: bytes, data: bytes) -> bool:
        """Begins a task. True if it has had its first step."""
        if name != b"aiopool.call":
            self.end(number, native.END_REFUSED, b"this worker runs Python functions only")
            return True
        try:
            function, args, kwargs = pickle.loads(data)
            result = function(*args, **kwargs)
        except BaseException as error:
            self.fail(number, error)
            return True
        if not inspect.isawaitable(result):
            self.succeed(number, result)
            return True
        self.unbegun[number] = result
        task = asyncio.Task(self.finish(number, result), loop=self.loop, **_OPTIONS)
        if not task.done():
            self.tasks[number] = task
        return bool(_OPTIONS)

    async def finish(self, number: int, awaitable) -> None:
        """The life of a task in the event loop."""
        del self.unbegun[number]
        result = failed = None
        try:
            result = await awaitable
        except asyncio.CancelledError:
            failed = asyncio.CancelledError("the coroutine cancelled itself")
        except GeneratorExit:
            # The event loop is gone.
            raise
        except BaseException as error:
            # Its story begins in the task's own code.
            failed = error.with_traceback(error.__traceback__.tb_next)
        self.tasks.pop(number, None)
        if number in self.called_off:
            # Its caller knows already; whatever it ended with, nobody waits for it.
            self.called_off.discard(number)
            self.end(number, native.END_CANCELLED, b"")
        elif failed is not None:
            self.fail(number, failed)
        else:
            self.succeed(number, result)

    def call_off(self, number: int) -> None:
        task = self.tasks[number]
        if number in self.unbegun:
            # Cancelled now, `finish` never runs.
            awaitable = self.unbegun.pop(number)
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            del self.tasks[number]
            self.end(number, native.END_CANCELLED, b"")
        else:
            self.called_off.add(number)
        task.cancel()

    def succeed(self, number: int, result) -> None:
        try:
            data = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
        except BaseException:
            text = f"the result cannot be pickled:\n{traceback.format_exc()}"
            self.end(number, native.END_UNENCODABLE, text.encode(errors="replace"))
        else:
            self.end(number, native.END_OK, data)

    def fail(self, number: int, error: BaseException) -> None:
        if self.exception_handler is not None:
            try:
                self.exception_handler(error)
            except BaseException:
                traceback.print_exc()
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.end(number, native.END_FAILED, text.encode(errors="replace"))

    def end(self, number: int, how: int, data: bytes) -> None:
        native.check(
            native.quick.aiopool_worker_complete(self.worker, number, how, data, len(data))
        )


def main() -> None:
    """The life of a worker process."""
    worker = c_void_p(native.give(native.lib.aiopool_worker_attach, of=c_void_p))
    try:
        loop, exception_handler = prepare(worker)
    except BaseException:
        text = traceback.format_exc().replace("\0", " ")
        native.check(native.lib.aiopool_worker_fail(worker, text.encode(errors="replace")))
        sys.exit(1)
    served = Served(worker, loop, exception_handler)
    fd = native.give(native.lib.aiopool_worker_fd, worker, of=c_int32)
    loop.add_reader(fd, served.look)
    served.look_soon()
    loop.run_forever()
    loop.remove_reader(fd)
    left = list(served.tasks.values())
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    native.check(native.lib.aiopool_worker_leave(worker))


def prepare(worker):
    """Makes this process what the host's is: modules, directory, environment; initializes."""
    info = native.WorkerInfo()
    native.check(native.lib.aiopool_worker_describe(worker, byref(info)))
    setup = ctypes.string_at(info.init_input, info.init_input_len)
    preparation, environment, functions = pickle.loads(setup)
    os.environ.update(environment)
    _main.is_imported_by_worker = True
    try:
        spawn.prepare(preparation)
    finally:
        _main.is_imported_by_worker = False
    initializer, initargs, loop_initializer, exception_handler = pickle.loads(functions)
    loop = new_loop(loop_initializer)
    if initializer is not None:
        initializer(*initargs)
    return loop, exception_handler
