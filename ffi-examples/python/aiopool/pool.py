"""`Pool`: coroutines in the worker processes of a libaiopool pool."""

import asyncio
import ctypes
import os
import pickle
import subprocess
import sys
from collections import deque
from ctypes import byref, c_char_p, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from multiprocessing import spawn
from typing import Any, AsyncIterator, Callable, Deque, Dict, Generic, Iterable, List, Optional
from typing import Sequence, Tuple, TypeVar

from . import _main
from . import _native as native
from .core import check_sync
from .isolation import Limits, Sandbox
from .scheduler import RoundRobin, Scheduler
from .types import PoolClosed, ProxyException, QueueID, TaskID, TaskTimeout, WorkerLost

T = TypeVar("T")
_ERRORS = {
    native.OUTCOME_TIMED_OUT: TaskTimeout,
    native.OUTCOME_WORKER_LOST: WorkerLost,
    native.OUTCOME_POOL_CLOSED: PoolClosed,
}
# Room for the outcomes that wait here while the event loop is busy; more tasks wait in Python.
_CAPACITY = 4096


class PoolResult(Generic[T]):
    """The results of `map` and `starmap`, in the order of their items: await it, or iterate."""

    def __init__(self, pool: "Pool", tasks: List["_Task"]) -> None:
        self.pool = pool
        self.tasks = tasks

    def __await__(self):
        return self.results().__await__()

    async def results(self) -> List[T]:
        """All results; the first failure in their order is raised, and calls the others off."""
        try:
            return [await task.future for task in self.tasks]
        except BaseException:
            self.cancel()
            raise

    async def results_generator(self) -> AsyncIterator[T]:
        """The results one by one, each as soon as all before it are there."""
        for task in self.tasks:
            yield await asyncio.shield(task.future)

    def __aiter__(self) -> AsyncIterator[T]:
        return self.results_generator()

    def cancel(self) -> None:
        """Calls off what is not over."""
        for task in self.tasks:
            self.pool._cancel(task)


class _Task:
    """A task on its way: its number, its input until it is submitted, its ticket after that."""

    __slots__ = ("number", "future", "payload", "queue", "ticket")

    def __init__(self, number: int, future: asyncio.Future, payload: bytes, queue: int) -> None:
        self.number, self.future, self.payload, self.queue = number, future, payload, queue
        self.ticket: Optional[int] = None


class Pool:
    """Runs coroutine functions in worker processes; see the README for the parameters."""

    def __init__(
        self,
        processes: Optional[int] = None,
        initializer: Optional[Callable[..., None]] = None,
        initargs: Sequence[Any] = (),
        maxtasksperchild: int = 0,
        childconcurrency: int = 16,
        queuecount: Optional[int] = None,
        scheduler: Optional[Scheduler] = None,
        loop_initializer: Optional[Callable[[], asyncio.AbstractEventLoop]] = None,
        exception_handler: Optional[Callable[[BaseException], None]] = None,
        *,
        limits: Optional[Limits] = None,
        sandbox: Optional[Sandbox] = None,
    ) -> None:
        check_sync("initializer", initializer)
        check_sync("loop_initializer", loop_initializer)
        self.process_count = max(1, processes or len(os.sched_getaffinity(0)))
        self.queue_count = max(1, queuecount or 1)
        if self.queue_count > self.process_count:
            raise ValueError("queue count must be <= process count")
        self.running = True
        self._tasks: Dict[int, _Task] = {}
        self._waiting: Deque[_Task] = deque()
        self._next = 1
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._ended: Optional[asyncio.Future] = None
        self._closed_below = False
        self._setup = _setup(initializer, initargs, loop_initializer, exception_handler)
        self._pool = self._start(maxtasksperchild, childconcurrency, limits, sandbox)
        self._fd = native.give(native.lib.aiopool_pool_fd, self._pool, of=c_int32)
        self.scheduler = scheduler or RoundRobin()
        queues = [self.scheduler.register_queue(None) for _ in range(self.queue_count)]
        self._queues: Dict[QueueID, int] = {queue: i for i, queue in enumerate(queues)}
        for process in range(self.process_count):
            self.scheduler.register_process(queues[process % self.queue_count])
        self._call = native.Call()
        native.check(native.lib.aiopool_call_init(byref(self._call)))
        self._call.function = native.give(
            native.lib.aiopool_function_declare, b"aiopool.call", of=c_uint32
        )
        self._ticket, self._outcome = c_uint64(), c_void_p()
        self._call_in, self._ticket_out = byref(self._call), byref(self._ticket)

    def _start(
        self,
        max_tasks: int,
        concurrency: int,
        limits: Optional[Limits],
        sandbox: Optional[Sandbox],
    ) -> c_void_p:
        if _main.is_imported_by_worker:
            raise _main.Unguarded(f"a worker that imports the main module: {_main.HINT}")
        options = native.PoolOptions()
        native.check(native.lib.aiopool_pool_options_init(byref(options)))
        options.processes, options.queues = self.process_count, self.queue_count
        options.child_concurrency = max(1, concurrency)
        options.max_tasks_per_child = max(0, max_tasks)
        options.capacity = _CAPACITY
        options.start_method = native.START_COMMAND
        options.command = _words(_command())
        _confine(options, limits or Limits(), sandbox)
        options.init_input, options.init_input_len = self._setup, len(self._setup)
        return c_void_p(
            native.give(native.lib.aiopool_pool_start, byref(options), of=c_void_p)
        )

    async def __aenter__(self) -> "Pool":
        return self

    async def __aexit__(self, *args: Any) -> None:
        self.terminate()
        await self.join()

    def map(self, func: Callable, iterable: Iterable[Any]) -> PoolResult:
        """Runs `func(item)` for each item; all are submitted by this call."""
        self._check_open()
        return PoolResult(self, [self._submit(func, (item,), {}) for item in iterable])

    def starmap(self, func: Callable, iterable: Iterable[Sequence[Any]]) -> PoolResult:
        """Runs `func(*item)` for each item; all are submitted by this call."""
        self._check_open()
        return PoolResult(self, [self._submit(func, tuple(item), {}) for item in iterable])

    async def apply(
        self,
        func: Callable,
        args: Optional[Sequence[Any]] = None,
        kwds: Optional[Dict[str, Any]] = None,
    ) -> Any:
        """Runs `func(*args, **kwds)` and gives its result; cancelled, it calls the task off."""
        self._check_open()
        task = self._submit(func, tuple(args or ()), dict(kwds or {}))
        try:
            return await task.future
        except asyncio.CancelledError:
            self._cancel(task)
            raise

    @property
    def processes(self) -> List[int]:
        """The process ids of the workers that are alive."""
        if self._pool is None:
            return []
        count, pids = c_size_t(), (c_uint32 * self.process_count)()
        native.check(
            native.lib.aiopool_pool_workers(self._pool, pids, self.process_count, byref(count))
        )
        return list(pids)[: count.value]

    def close(self) -> None:
        """Takes no more tasks; those that were submitted are finished."""
        self.running = False
        self._close_below()

    def terminate(self) -> None:
        """Ends every task that is not over, and has the workers leave."""
        self.running = False
        if self._pool is None:
            return
        waiting, self._waiting = self._waiting, deque()
        for task in waiting:
            self._finish(task, error=PoolClosed("the pool was terminated before the task ran"))
        self._closed_below = True
        native.check(native.lib.aiopool_pool_terminate(self._pool))

    async def join(self) -> None:
        """Waits until a closed pool's processes are gone."""
        if self.running:
            raise RuntimeError("pool is still open")
        if self._pool is None:
            return
        self._attach()
        if self._ended is None:
            self._ended = self._loop.create_future()
            # The end may have been before anybody listened.
            self._loop.call_soon(self._readable)
        await asyncio.shield(self._ended)

    def __del__(self) -> None:
        pool = getattr(self, "_pool", None)
        if pool is not None and native is not None:
            native.lib.aiopool_pool_free(pool)

    def _check_open(self) -> None:
        if not self.running:
            raise RuntimeError("pool is closed")

    def _attach(self) -> None:
        """Has the running event loop watch the pool's descriptor."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError("the pool is used in another event loop")
            self._loop = loop
            loop.add_reader(self._fd, self._readable)

    def _submit(self, func: Callable, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> _Task:
        self._attach()
        number = self._next
        self._next += 1
        payload = pickle.dumps((func, args, kwargs), pickle.HIGHEST_PROTOCOL)
        queue = 0
        if self.queue_count > 1:
            chosen = self.scheduler.schedule_task(TaskID(number), func, args, kwargs)
            queue = self._queues[chosen]
        task = _Task(number, self._loop.create_future(), payload, queue)
        if self._waiting or not self._push(task):
            self._waiting.append(task)
        return task

    def _push(self, task: _Task) -> bool:
        """Submits a task; False if the pool is full."""
        call = self._call
        call.input, call.input_len = task.payload, len(task.payload)
        call.user_data = task.number
        if self.queue_count > 1:
            call.flags, call.queue = native.CALL_ON_QUEUE, task.queue
        status = native.quick.aiopool_pool_try_submit(
            self._pool, self._call_in, self._ticket_out
        )
        if status == native.FULL:
            return False
        if status != native.OK:
            self._finish(task, error=ProxyException(native.last_error()))
            return True
        task.ticket, task.payload = self._ticket.value, b""
        self._tasks[task.number] = task
        return True

    def _cancel(self, task: _Task) -> None:
        if self._pool is None or task.number not in self._tasks:
            if task.ticket is None and not task.future.done():
                # It waits here: whoever submits finds it cancelled.
                task.future.cancel()
            return
        native.lib.aiopool_pool_cancel(self._pool, task.ticket)

    def _readable(self) -> None:
        """There may be outcomes: takes them all, and submits what waited for room."""
        pool, peek, outcome = self._pool, native.quick.aiopool_pool_try_wait, self._outcome
        if pool is None:
            return
        taken, out = 0, byref(outcome)
        while (status := peek(pool, out)) == native.OK:
            self._receive(outcome)
            taken += 1
            if taken >= 512:
                # The descriptor stays readable: the event loop's other work has its turn.
                break
        else:
            if status != native.EMPTY:
                native.check(status)
        while self._waiting:
            task = self._waiting[0]
            if not task.future.done() and not self._push(task):
                break
            self._waiting.popleft()
        self._close_below()
        if self._ended is not None and not self._ended.done() and not self._tasks:
            self._look_for_end()

    def _receive(self, outcome: c_void_p) -> None:
        lib = native.quick
        status = lib.aiopool_outcome_kind(outcome)
        task = self._tasks.pop(lib.aiopool_outcome_user_data(outcome), None)
        error = value = None
        if status == native.OUTCOME_OK:
            data, size = lib.aiopool_outcome_data(outcome), lib.aiopool_outcome_len(outcome)
            try:
                value = pickle.loads(native.bytes_at(data, size))
            except Exception as failed:
                error = ProxyException(f"the result cannot be unpickled here: {failed!r}")
        elif status == native.OUTCOME_CANCELLED:
            error = asyncio.CancelledError()
        else:
            text = lib.aiopool_outcome_text(outcome).decode(errors="replace")
            error = _ERRORS.get(status, ProxyException)(text)
        lib.aiopool_outcome_release(outcome)
        if task is not None:
            self._finish(task, value, error)

    def _finish(self, task: _Task, value: Any = None, error: Any = None) -> None:
        if self.queue_count > 1:
            self.scheduler.complete_task(TaskID(task.number))
        future = task.future
        if future.done():
            return
        if error is None:
            future.set_result(value)
        elif isinstance(error, asyncio.CancelledError):
            future.cancel()
        else:
            future.set_exception(error)
            # Asked for here, so that a result nobody wants is not complained about.
            future.exception()

    def _close_below(self) -> None:
        if not self.running and not self._closed_below and not self._waiting:
            self._closed_below = True
            native.check(native.lib.aiopool_pool_close(self._pool))

    def _look_for_end(self) -> None:
        """The pool's end makes the descriptor readable, too."""
        status = native.lib.aiopool_pool_join(self._pool, 0)
        if status == native.TIMEOUT:
            return
        reason = None if status == native.OK else native.Error(status)
        pool, self._pool = self._pool, None
        self._loop.remove_reader(self._fd)
        native.check(native.lib.aiopool_pool_free(pool))
        if reason is None or self._ended.cancelled():
            self._ended.set_result(None)
        else:
            self._ended.set_exception(reason)


def _words(words: Sequence[Any]):
    """An array of C strings that NULL ends: the last element stays as it is made."""
    return (c_char_p * (len(words) + 1))(*map(os.fsencode, words))


def _confine(options: native.PoolOptions, limits: Limits, sandbox: Optional[Sandbox]) -> None:
    options.limit_address_space = limits.address_space
    options.limit_cpu_seconds = limits.cpu_seconds
    options.limit_open_files = limits.open_files
    if sandbox is None:
        return
    options.flags |= native.NO_NEW_PRIVS
    options.flags |= 0 if sandbox.network else native.NO_NETWORK
    options.flags |= 0 if sandbox.signals else native.NO_SIGNALS
    options.flags |= native.BEST_EFFORT if sandbox.best_effort else 0
    if sandbox.read_only:
        options.read_only = _words(sandbox.read_only)
    if sandbox.read_write:
        options.read_write = _words(sandbox.read_write)
    numbers = (c_int64 * len(sandbox.denied_calls))(*sandbox.denied_calls)
    options.denied_calls = ctypes.cast(numbers, c_void_p)
    options.denied_calls_len = len(numbers)


def _command() -> List[str]:
    """The program of a worker: this interpreter, with the package from where it is."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = (
        f"import os, sys; os.environ['AIOPOOL_LIBRARY'] = {native.PATH!r}; "
        f"sys.path.insert(0, {home!r}); from aiopool._worker import main; main()"
    )
    return [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", code]


def _setup(initializer, initargs, loop_initializer, exception_handler) -> bytes:
    """All that a worker needs to know, pickled; the main module goes by its name or path."""
    preparation = spawn.get_preparation_data("aiopool-worker")
    preparation.pop("authkey", None)
    path = _main.unguarded()
    if path is not None:
        text = f"aiopool: {path} builds a pool at its top level, so workers do not import it"
        print(f"{text}: {_main.HINT}", file=sys.stderr)
        preparation.pop("init_main_from_name", None)
        preparation.pop("init_main_from_path", None)
    functions = (initializer, tuple(initargs), loop_initializer, exception_handler)
    # Functions are unpickled in the worker after its preparation, which finds their modules.
    return pickle.dumps((preparation, dict(os.environ), pickle.dumps(functions)))
