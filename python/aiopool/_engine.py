"""The host's side of a pool: tasks in, outcomes out, whichever loop or thread waits for them.

Any thread may submit. The thread that finds the pool's descriptor readable, an event loop's or an
executor's, takes the outcomes and gives each to the thread that its task belongs to.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import resource
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import process, spawn
from typing import Any, NamedTuple, Protocol

from . import _logs, _loops, _main, _manners, _state, _threads, _wire
from ._life import Functions
from ._native import Awakened, Call, Cluster, Items, Options, Pool, Ready, Ticket, Trace, own_results
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
# Seconds that a worker may take to leave, unless the pool's owner says otherwise.
GRACE = 2.0
# Looks without a turn of the event loop, at most, so that what it does not know of comes to its turn.
_IN_A_ROW = 16
_ENDED = "the pool ended before the task did"
# Bytes of one call's arguments, at most, where the address space is not limited.
MAX_PAYLOAD = 1 << 30


class Task:
    """A task on its way; subclasses say where its outcome goes."""

    __slots__ = (
        "attempts", "input", "kept", "large", "name", "number", "options", "parts", "queue", "scheduled",
        "size", "ticket",
    )

    def __init__(self, name: str, parts: _wire.Parts, options: Options | None, queue: int | None):
        self.name, self.parts, self.options, self.queue = name, parts, options, queue
        self.number = 0
        #: Whether a scheduler has chosen the queue, and is to hear of the end.
        self.scheduled = False
        #: How many times a worker began it, once it is over with an error.
        self.attempts = 1
        #: Bytes of its result.
        self.size = 0
        #: Bytes of its arguments, and the same where they are many.
        self.input = _wire.size(parts)
        self.large = self.input if self.input >= _LARGE else 0
        self.kept = _wire.kept(parts)
        self.ticket: Ticket | None = None

    def finish(self, value: Any, error: BaseException | None) -> None:
        """The task is over; called once, in any thread."""
        raise NotImplementedError


class Direct(NamedTuple):
    """How the items of a map are submitted that are usual calls."""

    start: bytes
    star: bool
    options: Options | None


class Feeding(Protocol):
    """Who submits tasks as there is room."""

    @property
    def is_fed(self) -> bool:
        """Whether all were submitted, or never will be."""
        ...

    def pool_ended(self) -> None:
        """Ends what waits for a further attempt; from any thread."""
        ...


class Unfinished:
    """A call that may be submitted again."""

    is_fed = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ended = asyncio.Event()

    async def pause(self, seconds: float) -> bool:
        """Waits. True as soon as the pool has ended."""
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    def pool_ended(self) -> None:
        """Ends the pause; from any thread."""
        in_thread_of(self._loop, self._ended.set)


class Engine:
    """One pool of worker processes, or of nodes."""

    def __init__(
        self,
        native: Pool | Cluster,
        functions: Functions,
        busy: int,
        on_over: Callable[[int], None] | None = None,
    ) -> None:
        self._native: Pool | Cluster | None = native
        #: The pool, if it is one of this machine.
        self.local: Pool | None = native if isinstance(native, Pool) else None
        #: A lock among the arguments of the initializer goes with the last who has it.
        self._functions = functions
        self._descriptor = native.fileno()
        records = native.records()
        #: Gives what workers log to this process's loggers.
        self.listener = None if records is None else _logs.Listener(records)
        self._on_over = on_over
        self._tasks: dict[int, Task] = {}
        self._waiting: deque[Task] = deque()
        # Whether one of them is being submitted, and is not among them meanwhile.
        self._flushing = False
        # Tasks that are over before a worker has had them, and what ended them: they hear of it
        # without the lock, since their callbacks may submit others.
        self._refused: deque[tuple[Task, BaseException]] = deque()
        self._lock = threading.RLock()
        self._number = 0
        # Large tasks that are in the pool, and their bytes.
        self._large_tasks = self._large_bytes = 0
        self._busy = busy + 1
        self._loops: dict[asyncio.AbstractEventLoop, int] = {}
        # The descriptors by which they wait, where that is known; and whether one is about to look.
        self._selectors: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int]
        self._selectors = weakref.WeakKeyDictionary()
        self._looks = False
        # Looks for an outcome without a turn of the loop, since its last one.
        self._in_a_row = 0
        self._enders: list[Callable[[], None]] = []
        #: Is told the last numbers of the pool, if it is set.
        self.at_the_end: Callable[[str], None] | None = None
        self.closing = False
        self._closed_below = False
        # Whether a durable job is to end with its tasks.
        self._finishing = False
        self.error: BaseException | None = None
        #: Why there will never be a worker.
        self.broken: InitializerFailed | None = None
        #: Maps that have not submitted all of their items, and calls that may be submitted again: the
        #: close waits for them.
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
        self.put(task)
        self.tell_refused()

    def number(self, task: Task) -> int:
        """Gives a task its number, if it has none yet."""
        with self._lock:
            if not task.number:
                self._number += 1
                task.number = self._number
        return task.number

    def put(self, task: Task) -> None:
        """Submits a task. A caller that holds a lock meanwhile calls `tell_refused` without it."""
        self.number(task)
        if self._waiting or not self._push(task):
            self._waiting.append(task)
            self._push_waiting()

    def broadcast(
        self, parts: _wire.Parts, name: str, options: Options | None, tasks: Sequence[Task]
    ) -> None:
        """Has every worker run a call; that of seat `n` goes to `tasks[n]`. Raises why none does."""
        native = self.local
        if native is None:
            raise self._closed_error()
        with self._lock:
            first = self._number + 1
            self._number += len(tasks)
            for number, task in enumerate(tasks, first):
                task.number = number
                self._tasks[number] = task
            try:
                refused = native.broadcast(parts, first, name or "?", options)
            except BaseException as failed:
                refused = ("here", failed)
            if refused is not None:
                for task in tasks:
                    self._tasks.pop(task.number, None)
        if refused is not None:
            raise _error(name, *refused)

    def tell_refused(self) -> None:
        """Ends the tasks that were refused; their callbacks run here."""
        while True:
            try:
                task, error = self._refused.popleft()
            except IndexError:
                return
            self._over(task, None, error)

    def _push(self, task: Task) -> bool:
        """Submits or refuses a task; False if the pool is full."""
        native = self._native
        if native is None:
            self._refused.append((task, self._closed_error()))
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
        name = task.name or "?"
        try:
            answer = native.submit(task.parts, task.number, name, task.options, task.queue)
        except BaseException as failed:
            # For want of memory, or since the pool has just gone: the task's own failure.
            answer = ("here", failed)
        if isinstance(answer, Ticket):
            task.ticket = answer
            task.parts = []
            return True
        self._tasks.pop(task.number, None)
        self._large_is_out(task)
        if answer is None:
            return False
        self._refused.append((task, _error(task.name, *answer)))
        return True

    def _large_is_out(self, task: Task) -> None:
        if task.large:
            with self._lock:
                self._large_tasks -= 1
                self._large_bytes -= task.large

    def flush(self) -> None:
        """Submits what waits for room, as far as there is room."""
        try:
            self._push_waiting()
        finally:
            self.tell_refused()

    def _push_waiting(self) -> None:
        while self._waiting:
            with self._lock:
                # A finalizer may run in the midst of this, in this thread, and submit another.
                if self._flushing or not self._waiting:
                    return
                self._flushing = True
                task = self._waiting[0]
                try:
                    pushed = self._push(task)
                    if pushed:
                        self._waits_no_more(task)
                except BaseException as failed:
                    # Ctrl-C: the pool may have it or not, and no task is submitted twice.
                    self._waits_no_more(task)
                    self._tasks.pop(task.number, None)
                    self._refused.append((task, failed))
                    raise
                finally:
                    self._flushing = False
                if not pushed:
                    return

    def _waits_no_more(self, task: Task) -> None:
        if self._waiting and self._waiting[0] is task:
            self._waiting.popleft()

    def feed(self, results: Any, items: Items, what: Direct, iterator: Any, room: int) -> Any:
        """Submits up to `room` items of a map; see `Pool.feed`. None if they have to wait."""
        native = self.local
        if native is None or self._waiting:
            return None
        start, star, options = what
        return native.feed(items, results, start, iterator, star, results._next, room, options)

    def cancel_items(self, items: Items, kill_after: float | None) -> None:
        """Calls off the items of a map that are on their way."""
        native = self.local
        if native is not None:
            native.cancel_items(items, kill_after)

    def note_taken(self, number: int) -> None:
        """Takes note that the caller has the outcome of this task of a durable job."""
        native = self._native
        if isinstance(native, Cluster):
            native.note_taken(number)

    def cancel(self, task: Task, *, queued: bool = False, kill_after: float | None = None) -> bool:
        """Calls a task off, and has a worker killed that still has it after `kill_after` seconds.
        False if it is over; with `queued`, also if a worker has it."""
        with self._lock:
            if task.ticket is None:
                try:
                    self._waiting.remove(task)
                except ValueError:
                    return False
                self._refused.append((task, asyncio.CancelledError()))
        if task.ticket is None:
            self.tell_refused()
            return True
        if queued:
            return self.local is not None and self.local.cancel_queued(task.ticket)
        if self.local is not None:
            return self.local.cancel(task.ticket, kill_after)
        return self._native is not None and self._native.cancel(task.ticket)

    def receive(self) -> bool:
        """Takes outcomes. True if there may be more."""
        native = self._native
        if native is None:
            return False
        loop = asyncio._get_running_loop()
        outcomes, count, awakened = native.receive(_PER_TURN, loop)
        self._take(outcomes)
        if count < _PER_TURN:
            self.look_for_end()
        if awakened is not None:
            assert loop is not None
            self._go_on(loop, awakened)
        return count == _PER_TURN

    def look_soon(self, loop: asyncio.AbstractEventLoop, native: Pool) -> None:
        """Has the loop look for outcomes before it sleeps, while few tasks are on their way."""
        if not self._looks and native.on_the_way() < self._busy and self._selectors.get(loop, -1) >= 0:
            self._looks = True
            loop.call_soon(self._look, loop)

    def look_now(self, loop: Any, native: Pool) -> None:
        """Looks for the outcome of the one task on its way, which was submitted just now, if the
        loop has nothing else to do: its caller need not wait for a turn of the loop then."""
        others = self._selectors.get(loop, -1)
        if (
            others < 0
            or self._in_a_row >= _IN_A_ROW
            or len(loop._ready) > self._looks
            or loop._scheduled
            or native.on_the_way() != 1
            or self._tasks
            or len(self._loops) > 1
        ):
            self.look_soon(loop, native)
            return
        self._in_a_row += 1
        found = native.search(_PER_TURN, loop, others)
        if not self._looks:
            # The descriptor says nothing since the search, until this.
            self._looks = True
            loop.call_soon(self._look, loop)
        if found is not None:
            outcomes, _, awakened = found
            self._take(outcomes)
            if awakened is not None:
                self._go_on(loop, awakened)

    def _look(self, loop: Any) -> None:
        self._looks = False
        self._in_a_row = 0
        native = self.local
        if native is None:
            return
        found = None
        # With another loop, or others of this one's callbacks, it is left to the descriptor.
        few = 0 < native.on_the_way() < self._busy
        if few and not loop._ready and len(self._loops) == 1:
            found = native.search(_PER_TURN, loop, self._selectors.get(loop, -1))
        if found is None or len(self._loops) > 1:
            # The descriptor says nothing since the last search, until this.
            self.receive()
        if found is None:
            return
        # Whatever the tasks do that go on now: before the loop sleeps, this is called again.
        self._looks = True
        loop.call_soon(self._look, loop)
        outcomes, _, awakened = found
        self._take(outcomes)
        if awakened is not None:
            if len(awakened) > 1:
                loop.call_soon(awakened.go_on)
            # This context is of this call only.
            awakened.go_on()

    def _take(self, outcomes: list[tuple[Any, str | None, Any]]) -> None:
        take = self._tasks.pop
        interrupted: KeyboardInterrupt | None = None
        for whose, kind, data in outcomes:
            try:
                if type(whose) is not int:
                    self._direct_over(whose, kind, data)
                    continue
                task = take(whose, None)
                if task is None:
                    continue
                self._large_is_out(task)
                value: Any = None
                error: BaseException | None = None
                if kind is None:
                    task.size = len(data)
                    value, error = _wire.opened(data)
                else:
                    task.attempts = 1 if kind == "here" else max(1, data.get("attempts", 1))
                    error = _error(task.name, kind, data)
                self._over(task, value, error)
            except KeyboardInterrupt as failed:
                # The others were taken with it, and come no second time.
                interrupted = failed
        self.flush()
        self.close_below()
        if interrupted is not None:
            raise interrupted

    @staticmethod
    def _go_on(loop: asyncio.AbstractEventLoop, awakened: Awakened) -> None:
        """Has tasks whose calls are over go on, soon: in this context only the loop's reader runs.

        One of them may run the loop inside of itself, which then has the second handle for the
        others, and a reader that it can run.
        """
        for _ in range(min(2, len(awakened))):
            loop.call_soon(awakened.go_on)

    def _direct_over(self, whose: Any, kind: str | None, data: Any) -> None:
        """A task is over that has no `Task`: a call, an item of a map, or items of a map."""
        if isinstance(whose, Call):
            value, error = self._opened(name_of(whose.function), kind, data)
            in_thread_of(whose.get_loop(), whose.settle, value, error)
        elif isinstance(whose, tuple):
            results, index = whose
            value, error = self._opened(results.name, kind, data)
            size = len(data) if kind is None else 0
            in_thread_of(results.loop, results.item_arrived, index, value, error, size)
        else:
            in_thread_of(whose.loop, whose.some_arrived, data)

    def _opened(self, name: str, kind: str | None, data: Any) -> tuple[Any, BaseException | None]:
        if kind is None:
            return _wire.opened(data)
        error = _error(name, kind, data)
        if isinstance(error, InitializerFailed):
            self.broken = error
        return None, error

    def _over(self, task: Task, value: Any, error: BaseException | None) -> None:
        if isinstance(error, InitializerFailed):
            self.broken = error
        try:
            if task.scheduled and self._on_over is not None:
                self._on_over(task.number)
        except BaseException as failed:
            say("the scheduler's complete_task", failed)
        finally:
            try:
                task.finish(value, error)
            except BaseException as failed:
                # The callback of a future has raised what `Future` does not catch.
                say(f"what waited for {task.name}", failed)

    def workers(self) -> list[int]:
        """The process ids of the workers that are alive."""
        return [] if self.local is None else self.local.workers()

    def snapshot(self) -> str:
        """The pool as it is now, as JSON; an empty object after its end."""
        native = self._native
        return "{}" if native is None else native.snapshot()

    def trace(self, path: str | os.PathLike[str], every: int) -> Trace:
        """Begins a timeline; not after the pool's end."""
        if self.local is None:
            raise PoolClosed("pool is closed")
        return self.local.trace(path, every)

    def printed(self, task: int) -> tuple[bytes, bytes]:
        """What a task has printed; not after the pool's end."""
        if self.local is None:
            raise PoolClosed("pool is closed: what its tasks have printed is in its output_to")
        return self.local.printed(task)

    def close(self) -> None:
        """Takes no more tasks."""
        self.closing = True
        self.close_below()

    def close_below(self) -> None:
        """Closes the pool, if nothing that was asked for before the close waits here."""
        native = self._native
        if not self.closing or self._closed_below or native is None:
            return
        with self._lock:
            if self._waiting or self._flushing or any(not one.is_fed for one in list(self.maps)):
                return
            self._closed_below = True
        if self._finishing and isinstance(native, Cluster):
            native.finish()
        else:
            native.close()

    def finish(self) -> None:
        """Takes no more tasks, and ends a durable job when they are over."""
        self._finishing, self._closed_below = True, False
        self.close()

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
        self._end_pauses()

    def _end_pauses(self) -> None:
        """Ends what waits for a further attempt, which there is none of any more."""
        with self._lock:
            unfinished = list(self.maps)
        for one in unfinished:
            one.pool_ended()

    def when_over(self, ender: Callable[[], None]) -> None:
        """Has `ender` called, in any thread, once no worker is left."""
        with self._lock:
            if self._native is not None:
                self._enders.append(ender)
                return
        ender()

    @contextmanager
    def readiness(self) -> Iterator[Ready]:
        """A wait for the workers, which ends with the pool."""
        native = self._native
        if native is None:
            raise self._closed_error()
        ready = native.ready()
        self.when_over(ready.give_up)
        try:
            yield ready
        finally:
            with self._lock:
                self._enders = [ender for ender in self._enders if ender != ready.give_up]
            # The traceback of what ended the wait has it, and it has the pool.
            ready.give_up()

    async def ready(self) -> None:
        """Waits until the workers can take tasks."""
        loop = asyncio.get_running_loop()
        told = loop.create_future()

        def look() -> None:
            try:
                if not told.done() and ready.poll():
                    told.set_result(None)
            except BaseException as error:
                told.set_exception(error)

        with self.readiness() as ready:
            loop.add_reader(ready.fileno(), look)
            try:
                look()
                await told
            finally:
                loop.remove_reader(ready.fileno())

    def look_for_end(self) -> None:
        """Frees a closed pool that has ended."""
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
            local, self.local = self.local, None
            enders, self._enders = self._enders, []
        if native is None:
            return
        self.closing = True
        for loop in list(self._loops):
            self._detach(loop)
        numbers = None
        try:
            if self.at_the_end is not None:
                numbers = native.snapshot()
        except BaseException as failed:
            say("the pool's snapshot", failed)
        finally:
            native.free()
        try:
            if self.listener is not None:
                # The caller that has waited for the pool's end has all that it logged.
                self.listener.give()
        except BaseException as failed:
            say("a logger", failed)
        with self._lock:
            left = [*self._tasks.values(), *self._waiting]
            self._tasks.clear()
            self._waiting.clear()
        for task in left:
            self._over(task, None, PoolClosed(_ENDED))
        for whose in [] if local is None else local.abandoned():
            self._direct_over(whose, "pool_closed", {"text": _ENDED})
        self._end_pauses()
        for ender in enders:
            ender()
        # Last: the standard error may be closed, or be read by nobody.
        if self.at_the_end is not None and numbers is not None:
            try:
                self.at_the_end(numbers)
            except BaseException as failed:
                say("what was to hear of the pool's end", failed)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Has the running event loop `loop` take outcomes."""
        if loop in self._loops:
            return
        reference: weakref.ref[Engine] = weakref.ref(self)
        # Loops of other threads come and go meanwhile, and so does the pool.
        with self._lock:
            if self._native is None:
                return
            for other in [other for other in self._loops if other.is_closed()]:
                self._detach(other)
            # A copy for each loop: a descriptor that is closed and used again for something else
            # must not be watched by a loop that was not asked.
            copy = os.dup(self._descriptor)
            self._selectors[loop] = _loops.descriptor(loop)
            self._loops[loop] = copy
            loop.add_reader(copy, _readable, reference)
            if self.listener is not None:
                self.listener.attach(loop)
        # What was rung for before this loop listened may have been taken already.
        loop.call_soon(_readable, reference)

    def _detach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._forget_logs(loop)
        with self._lock:
            copy = self._loops.pop(loop, None)
            # If it was about to look, it is not any more; another that is does so twice.
            self._looks, self._in_a_row = False, 0
        if copy is not None:
            self._drop(loop, copy)

    def _forget_logs(self, loop: asyncio.AbstractEventLoop) -> None:
        copy = None if self.listener is None else self.listener.detach(loop)
        if copy is not None:
            self._drop(loop, copy)

    def _drop(self, loop: asyncio.AbstractEventLoop, copy: int) -> None:
        """Has a loop watch a descriptor no more."""
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


def say(what: str, error: BaseException) -> None:
    """Gives an error of the user's code to the log, where it would be the end of others' tasks."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    try:
        logging.getLogger("aiopool").error("%s has raised an error", what, exc_info=error)
    except Exception:
        # There is nobody to say it to.
        pass


def name_of(function: Callable[..., Any]) -> str:
    """What messages call a function."""
    name = getattr(function, "__qualname__", None)
    return str(name) if name is not None else f"{type(function).__qualname__} object"


def _error(name: str, kind: str, details: Any) -> BaseException:
    """The exception for what the engine says of a task."""
    if kind == "here":
        # This process could not take the outcome, for want of memory.
        assert isinstance(details, BaseException)
        return details
    text = details.pop("text")
    if kind == "cancelled":
        return asyncio.CancelledError()
    if kind == "failed":
        return _wire.open_failure(text)
    details["function"] = name
    text = text.replace("(aiopool.call)", f"({name})")
    return OF_KIND.get(kind, ProxyException)(text, **details)


# In a child, results that are the pool's pages would change when the pool uses these again.
os.register_at_fork(before=own_results)

#: Pools whose workers are alive.
_living: weakref.WeakSet[Engine] = weakref.WeakSet()


def command(preload: Sequence[str], preparation: dict[str, Any]) -> list[str]:
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
    words: list[str] = []
    if preload:
        main = None
        if "__main__" in preload:
            # Its words come as this process's own did: one by one, they may be many.
            names = ("orig_dir", "init_main_from_name", "init_main_from_path")
            main = {name: preparation[name] for name in names if name in preparation}
            words = [str(word) for word in sys.argv]
        path = [str(path) for path in sys.path]
        part, arguments = "_template", f"{list(preload)!r}, {path!r}, {main!r}"
    code = f"import sys; sys.path.insert(0, {home!r}); from aiopool.{part} import main; "
    code += f"main({arguments})"
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [os.fsdecode(spawn.get_executable() or sys.executable), *flags, "-c", code, *words]


def _preparation(settings: dict[str, Any]) -> dict[str, Any]:
    """What multiprocessing has its processes know; the main module goes by its name or path."""
    _main.look_for_guard()
    preparation = spawn.get_preparation_data("aiopool-worker")
    # For what multiprocessing shares: proxies of managers, connections.
    preparation["authkey"] = bytes(process.current_process().authkey)
    if not _wire.main_is_importable():
        preparation.pop("init_main_from_name", None)
        preparation.pop("init_main_from_path", None)
    if settings.get("current_dir") is not None:
        preparation["dir"] = os.path.abspath(os.fsdecode(settings["current_dir"]))
    return preparation


def _environment(settings: dict[str, Any]) -> dict[str, str]:
    """What workers have in their environment, whichever process they are copies of."""
    variables = {} if settings.get("clear_env") else dict(os.environ)
    for name, value in (settings.get("env") or {}).items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    return variables


def _address_space_is_free() -> bool:
    return resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def check_types(kind: type, **options: Any) -> None:
    """Refuses options that are not None and of another type than `kind`."""
    for name, value in options.items():
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} must be {_TYPES.get(kind, kind.__name__)}, and is {value!r:.100}")


def check_counts(**options: int | None) -> None:
    """Refuses options that are not None and no whole number, 0 or more."""
    check_types(int, **options)
    for name, value in options.items():
        if value is not None and value < 0:
            raise ValueError(f"{name}={value} is not possible: a whole number, 0 or more")


_TYPES: dict[type, str] = {int: "an integer", Limits: "aiopool.Limits", Sandbox: "aiopool.Sandbox"}


def prepared(
    functions: Functions,
    *,
    preload: Sequence[str],
    threads: int,
    profile: str | None,
    options: dict[str, Any],
) -> tuple[list[str], bytes]:
    """The program of the workers, and what it is given: a pool's of this machine, or a node's."""
    if _state.importing_main:
        raise _main.Unguarded(
            f"a worker that imports the main module must not build a pool: {_main.HINT}"
        )
    if isinstance(preload, str) or not all(isinstance(name, str) for name in preload):
        raise TypeError(f"preload={preload!r} is not possible: a list of the names of modules")
    grace, logs = options.get("grace"), options.pop("logs", True)
    settings = {
        "environment": _environment(options),
        "only_environment": bool(options.get("clear_env") or options.get("env")),
        "current_dir": options.get("current_dir"),
        "share": _threads.share(options["processes"], options.get("processors")),
        "threads": threads,
        "profile": profile,
        "manners": _manners.of_host(),
        "grace": GRACE if grace is None else grace,
        "logs": _logs.levels() if logs else None,
        "unbuffered": bool(options.get("output_per_task")),
    }
    preparation = _preparation(settings)
    # Functions are unpickled in the worker after its preparation, which finds their modules.
    setup = pickle.dumps((preparation, settings, bytes(_wire.pickled(functions, by_all=True))))
    return command(preload, preparation), setup


def start(
    functions: Functions,
    *,
    limits: Limits | None,
    sandbox: Sandbox | None,
    preload: Sequence[str],
    threads: int = 0,
    profile: str | None = None,
    names: dict[str, str],
    options: dict[str, Any],
) -> Pool:
    """Starts the workers. `options` go to the engine; those that are None are its own choice; `names`
    are what the caller calls some of them."""
    check_types(Limits, limits=limits)
    check_types(Sandbox, sandbox=sandbox)
    limits = limits or Limits()
    if not limits.address_space and _address_space_is_free():
        # Memory is taken as it is used; what an arena may have is no more than a number.
        if options.get("max_payload") is None:
            options["max_payload"] = MAX_PAYLOAD
        for name in ("input_arena", "output_arena"):
            if options.get(name) is None:
                options[name] = 4 * max(1 << 20, options["max_payload"])
    if sandbox is not None:
        options["sandbox"] = _confined(sandbox)
    logs = options.get("logs", True)
    program, setup = prepared(
        functions, preload=preload, threads=threads, profile=profile, options=options
    )
    options |= {"capacity": CAPACITY, "limits": asdict(limits)}
    with named(names):
        return Pool(program, setup, options, preloaded=bool(preload), logs=logs)


@contextmanager
def named(names: dict[str, str]) -> Iterator[None]:
    """Has the engine's errors, which begin with its names of options, begin with the caller's."""
    try:
        yield
    except (TypeError, ValueError) as error:
        name, mark, rest = str(error).partition("=")
        if not mark or name.strip() not in names:
            raise
        theirs = name.replace(name.strip(), names[name.strip()])
        raise type(error)(f"{theirs}={rest}") from None


def _confined(sandbox: Sandbox) -> dict[str, Any]:
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
    return confined
