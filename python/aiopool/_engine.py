"""The host's side of a pool: tasks in, outcomes out, whichever loop or thread waits for them.

Any thread may submit. The thread that finds the pool's descriptor readable, an event loop's or an
executor's, takes the outcomes and gives each to the thread that its task belongs to.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import resource
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import process, spawn
from typing import Any, Protocol

from . import _main, _state, _threads, _wire
from ._native import Options, Pool, Ticket
from .errors import OF_KIND, InitializerFailed, PoolClosed, ProxyException
from .isolation import Limits, Sandbox

# Outcomes that are taken before an event loop's other work has its turn.
_PER_TURN = 512
# Tasks that a queue of the engine holds; more wait in Python.
CAPACITY = 4096
# The pool submits tasks with this many bytes of arguments or more a few at a time. The others wait as
# the objects that the caller has, and not a second time in the memory of the pool.
_LARGE = 1 << 20
# Bytes of large tasks in the pool at once, unless that are fewer tasks than keep all workers busy.
_LARGE_IN_POOL = 24 << 20
# Bytes of one call's arguments, at most, where the address space is not limited.
MAX_PAYLOAD = 1 << 30


class Task:
    """A task on its way; subclasses say where its outcome goes."""

    __slots__ = ("large", "name", "number", "options", "parts", "queue", "size", "ticket")

    def __init__(self, name: str, parts: _wire.Parts, options: Options | None, queue: int | None):
        self.name, self.parts, self.options, self.queue = name, parts, options, queue
        self.number = 0
        #: Bytes of its result.
        self.size = 0
        #: Bytes of its arguments, where they are many.
        self.large = _wire.large(parts, _LARGE)
        self.ticket: Ticket | None = None

    def finish(self, value: Any, error: BaseException | None) -> None:
        """The task is over; called once, in any thread."""
        raise NotImplementedError


class Feeding(Protocol):
    """Who submits tasks as there is room."""

    @property
    def is_fed(self) -> bool:
        """Whether all were submitted, or never will be."""
        ...


class Engine:
    """One pool of worker processes."""

    def __init__(self, native: Pool, on_over: Callable[[int], None] | None = None) -> None:
        self._native: Pool | None = native
        self._descriptor = native.fileno()
        self._on_over = on_over
        self._tasks: dict[int, Task] = {}
        self._waiting: deque[Task] = deque()
        self._lock = threading.RLock()
        self._number = 0
        # Large tasks that are in the pool, and their bytes.
        self._large_tasks = self._large_bytes = 0
        self._busy = native.processes() + 1
        self._loops: dict[asyncio.AbstractEventLoop, int] = {}
        self._enders: list[Callable[[], None]] = []
        self.closing = False
        self._closed_below = False
        self.error: BaseException | None = None
        #: Why there will never be a worker.
        self.broken: InitializerFailed | None = None
        #: Maps that have not submitted all of their items: the close waits for them.
        self.maps: set[Feeding] = set()
        _living.add(self)

    @property
    def is_over(self) -> bool:
        """Whether no worker is left."""
        return self._native is None

    def pending(self) -> list[Task]:
        """The tasks that are not over."""
        with self._lock:
            return [*self._tasks.values(), *self._waiting]

    def submit(self, task: Task) -> None:
        """Submits a task; its outcome goes to `task.finish`, perhaps before this returns."""
        with self._lock:
            self._number += 1
            task.number = self._number
        if self._waiting or not self._push(task):
            self._waiting.append(task)
            self.flush()

    def _push(self, task: Task) -> bool:
        """Submits a task; False if the pool is full."""
        native = self._native
        if native is None:
            self._over(task, None, self._closed_error())
            return True
        if task.large:
            if (
                self._large_tasks >= self._busy
                and self._large_bytes + task.large > _LARGE_IN_POOL
            ):
                return False
            self._large_tasks += 1
            self._large_bytes += task.large
        self._tasks[task.number] = task
        answer = native.submit(task.parts, task.number, task.options, task.queue)
        if isinstance(answer, Ticket):
            task.ticket = answer
            task.parts = []
            return True
        self._tasks.pop(task.number, None)
        self._large_is_out(task)
        if answer is None:
            return False
        self._over(task, None, _error(task, *answer))
        return True

    def _large_is_out(self, task: Task) -> None:
        if task.large:
            with self._lock:
                self._large_tasks -= 1
                self._large_bytes -= task.large

    def flush(self) -> None:
        """Submits what waits for room, as far as there is room."""
        while self._waiting:
            with self._lock:
                if not self._waiting or not self._push(self._waiting[0]):
                    return
                self._waiting.popleft()

    def cancel(self, task: Task) -> bool:
        """Calls a task off. False if it is over."""
        with self._lock:
            if task.ticket is None:
                try:
                    self._waiting.remove(task)
                except ValueError:
                    return False
                self._over(task, None, asyncio.CancelledError())
                return True
        native = self._native
        return native is not None and native.cancel(task.ticket)

    def receive(self) -> bool:
        """Takes outcomes. True if there may be more."""
        native = self._native
        if native is None:
            return False
        outcomes = native.receive(_PER_TURN)
        take = self._tasks.pop
        for number, kind, data in outcomes:
            task = take(number, None)
            if task is None:
                continue
            self._large_is_out(task)
            value: Any = None
            error: BaseException | None = None
            if kind is None:
                task.size = len(data)
                try:
                    value = _wire.open_value(data)
                except BaseException as failed:
                    text = f"the result cannot be unpickled here: {_wire.error_text(failed)}"
                    error = ProxyException(text)
            else:
                error = _error(task, kind, data)
            self._over(task, value, error)
        self.flush()
        self.close_below()
        if len(outcomes) < _PER_TURN:
            self._look_for_end()
            return False
        return True

    def _over(self, task: Task, value: Any, error: BaseException | None) -> None:
        if isinstance(error, InitializerFailed):
            self.broken = error
        if self._on_over is not None:
            self._on_over(task.number)
        task.finish(value, error)

    def workers(self) -> list[int]:
        """The process ids of the workers that are alive."""
        native = self._native
        return [] if native is None else native.workers()

    def snapshot(self) -> str:
        """The pool as it is now, as JSON; an empty object after its end."""
        native = self._native
        return "{}" if native is None else native.snapshot()

    def close(self) -> None:
        """Takes no more tasks."""
        self.closing = True
        self.close_below()

    def close_below(self) -> None:
        """Closes the pool, if nothing that was asked for before the close waits here."""
        native = self._native
        if not self.closing or self._closed_below or native is None:
            return
        if not self._waiting and not any(not one.is_fed for one in list(self.maps)):
            self._closed_below = True
            native.close()

    def terminate(self) -> None:
        """Ends every task that is not over; from any thread."""
        self.closing = self._closed_below = True
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for task in waiting:
            self._over(task, None, PoolClosed("the pool was terminated before the task ran"))
        native = self._native
        if native is not None:
            native.terminate()

    def when_over(self, ender: Callable[[], None]) -> None:
        """Has `ender` called, in any thread, once no worker is left."""
        with self._lock:
            if self._native is not None:
                self._enders.append(ender)
                return
        ender()

    def _look_for_end(self) -> None:
        native = self._native
        if not self.closing or native is None:
            return
        try:
            if not native.ended():
                return
        except RuntimeError as error:
            self.error = error
        self.free()

    def _closed_error(self) -> BaseException:
        return self.error or PoolClosed("the pool is gone")

    def free(self) -> None:
        """Kills what is left of the pool, and tells everybody."""
        with self._lock:
            native, self._native = self._native, None
            enders, self._enders = self._enders, []
        if native is None:
            return
        self.closing = True
        for loop in list(self._loops):
            self._detach(loop)
        native.free()
        left = [*self._tasks.values(), *self._waiting]
        self._tasks.clear()
        self._waiting.clear()
        for task in left:
            self._over(task, None, PoolClosed("the pool ended before the task did"))
        for ender in enders:
            ender()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Has the running event loop `loop` take outcomes."""
        if loop in self._loops or self._native is None:
            return
        for other in [other for other in self._loops if other.is_closed()]:
            os.close(self._loops.pop(other))
        # A copy for each loop: a descriptor that is closed and used again for something else
        # must not be watched by a loop that was not asked.
        copy = os.dup(self._descriptor)
        self._loops[loop] = copy
        reference: weakref.ref[Engine] = weakref.ref(self)
        loop.add_reader(copy, _readable, reference)
        # What was rung for before this loop listened may have been taken already.
        loop.call_soon(_readable, reference)

    def _detach(self, loop: asyncio.AbstractEventLoop) -> None:
        copy = self._loops.pop(loop, None)
        if copy is None:
            return
        if loop.is_closed():
            os.close(copy)
        else:
            in_thread_of(loop, _unwatch, loop, copy)

    def __del__(self) -> None:
        if getattr(self, "_native", None) is not None:
            self.free()


def _readable(engine: weakref.ref[Engine]) -> None:
    alive = engine()
    if alive is not None:
        alive.receive()


def _unwatch(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    loop.remove_reader(descriptor)
    os.close(descriptor)


def in_thread_of(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *args: Any) -> None:
    """Calls `function` now if `loop` runs here, else has the loop call it."""
    if asyncio._get_running_loop() is loop:
        function(*args)
        return
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        # The loop is closed: nobody waits there any more.
        if function is _unwatch:
            os.close(args[1])


def _error(task: Task, kind: str, details: dict[str, Any]) -> BaseException:
    """The exception for what the engine says of a task."""
    text = details.pop("text")
    if kind == "cancelled":
        return asyncio.CancelledError()
    if kind == "failed":
        return _wire.open_failure(text)
    details["function"] = task.name
    text = text.replace("(aiopool.call)", f"({task.name})")
    return OF_KIND.get(kind, ProxyException)(text, **details)


#: Pools whose workers are alive.
_living: weakref.WeakSet[Engine] = weakref.WeakSet()


def command(preload: Sequence[str] = ()) -> list[str]:
    """The program of a worker: this interpreter, with the package from where it is."""
    if getattr(sys, "frozen", False):
        if preload:
            raise ValueError("preload is not possible in a program that is frozen: leave it out")
        if not _state.frozen_supported:
            raise RuntimeError(
                "this program is frozen: call aiopool.freeze_support() first thing in "
                "`if __name__ == '__main__':`"
            )
        return [sys.executable, _state.WORKER_ARGUMENT]
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    part, arguments = "_worker", ""
    if preload:
        part, arguments = "_template", f"{list(preload)!r}, {[str(path) for path in sys.path]!r}"
    code = f"import sys; sys.path.insert(0, {home!r}); from aiopool.{part} import main; "
    code += f"main({arguments})"
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [os.fsdecode(spawn.get_executable() or sys.executable), *flags, "-c", code]


def setup(
    initializer: Callable[..., Any] | None,
    initargs: Sequence[Any],
    loop_initializer: Callable[[], asyncio.AbstractEventLoop] | None,
    exception_handler: Callable[[BaseException], Any] | None,
    processes: int,
) -> bytes:
    """All that a worker needs to know, pickled; the main module goes by its name or path."""
    path = None if _state.importing_main else _main.unguarded()
    if path is not None and not _state.main_is_unguarded:
        text = "workers do not import it, so that they have no functions of it"
        print(f"aiopool: {path} builds a pool at its top level: {text}: {_main.HINT}", file=sys.stderr)
    _state.main_is_unguarded = path is not None
    preparation = spawn.get_preparation_data("aiopool-worker")
    # For what multiprocessing shares: proxies of managers, connections.
    preparation["authkey"] = bytes(process.current_process().authkey)
    if not _wire.main_is_importable():
        preparation.pop("init_main_from_name", None)
        preparation.pop("init_main_from_path", None)
    functions = (initializer, tuple(initargs), loop_initializer, exception_handler)
    # Functions are unpickled in the worker after its preparation, which finds their modules.
    share = _threads.share(processes)
    return pickle.dumps((preparation, dict(os.environ), share, _wire.pickled(functions, by_all=True)))


def _address_space_is_free() -> bool:
    return resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def start(
    processes: int | None,
    queues: int,
    prepared: bytes,
    *,
    childconcurrency: int,
    maxtasksperchild: int,
    limits: Limits | None,
    sandbox: Sandbox | None,
    preload: Sequence[str],
    options: dict[str, Any],
) -> Pool:
    """Starts the workers."""
    if _state.importing_main:
        raise _main.Unguarded(
            f"a worker that imports the main module must not build a pool: {_main.HINT}"
        )
    if isinstance(preload, str) or not all(isinstance(name, str) for name in preload):
        raise TypeError(f"preload={preload!r} is not possible: a list of the names of modules")
    limits = limits or Limits()
    if not limits.address_space and _address_space_is_free():
        # Memory is taken as it is used; what an arena may have is no more than a number.
        if options.get("max_payload") is None:
            options["max_payload"] = MAX_PAYLOAD
        for name in ("input_arena", "output_arena"):
            if options.get(name) is None:
                options[name] = 4 * max(1 << 20, options["max_payload"])
    confined = None
    if sandbox is not None:
        confined = {
            "denied_calls": list(sandbox.denied_calls),
            "no_network": not sandbox.network,
            "no_signals": not sandbox.signals,
            "best_effort": sandbox.best_effort,
        }
        for name in ("read_only", "read_write"):
            paths = [os.fsdecode(path) for path in getattr(sandbox, name)]
            if paths:
                confined[name] = paths
    return Pool(
        command(preload),
        prepared,
        processes=processes,
        queues=queues,
        child_concurrency=max(1, childconcurrency),
        max_tasks_per_child=max(0, maxtasksperchild),
        capacity=CAPACITY,
        address_space=limits.address_space or None,
        cpu_seconds=limits.cpu_seconds or None,
        open_files=limits.open_files or None,
        sandbox=confined,
        preloaded=bool(preload),
        **options,
    )

