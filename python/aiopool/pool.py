"""`Pool`: coroutines and plain functions in worker processes, awaited in asyncio."""

from __future__ import annotations

import asyncio
import json
import os
import warnings
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

from . import _chunks, _engine, _wire
from ._engine import Engine, in_thread_of
from ._native import Options
from ._results import Chunker, PoolResult, _Item
from .core import check_sync
from .errors import ProxyException, RemoteTraceback
from .isolation import Limits, Sandbox
from .scheduler import RoundRobin, Scheduler
from .types import QueueID, TaskID

T = TypeVar("T")


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
    """Exceptions of the function for which there are further attempts, too."""
    backoff: float = 0.0
    """Seconds before the second attempt, doubled for each one after."""
    priority: int = 0
    """The priority class, 0 the most urgent, below the pool's `priorities`."""

    def _native(self) -> Options:
        return Options(
            timeout=self.timeout,
            queue_ttl=self.queue_ttl,
            retries=self.retries,
            backoff=self.backoff,
            priority=self.priority,
        )


class _Awaited(_engine.Task):
    """A task whose outcome an asyncio future is set to."""

    __slots__ = ("future", "loop")

    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop

    def finish(self, value: Any, error: BaseException | None) -> None:
        if asyncio._get_running_loop() is self.loop:
            self._settle(value, error)
        else:
            in_thread_of(self.loop, self._settle, value, error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        future = self.future
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


class Verbs:
    """What tasks are submitted by; see `Pool` and `Pool.with_options`."""

    @property
    def _pool(self) -> Pool:
        raise NotImplementedError

    _options: TaskOptions
    _native_options: Options | None

    @overload
    async def apply(
        self,
        func: Callable[..., Awaitable[T]],
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
    ) -> T: ...

    @overload
    async def apply(
        self,
        func: Callable[..., T],
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
    ) -> T: ...

    async def apply(
        self,
        func: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs `func(*args, **kwds)` in a worker and gives its result.

        A coroutine function is awaited there, a plain function called. Cancelling the call cancels
        the task.
        """
        pool = self._pool
        pool._check_open()
        arguments, keywords = tuple(args or ()), dict(kwds or {})
        start = _wire.head(func)
        attempt = 1
        while True:
            try:
                return await self._once(func, start, arguments, keywords)
            except BaseException as error:
                options = self._options
                if attempt > options.retries or not isinstance(error, options.retry_on):
                    raise
            await asyncio.sleep(min(60.0, options.backoff * 2 ** (attempt - 1)))
            attempt += 1

    async def _once(
        self,
        func: Callable[..., Any],
        start: bytes,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Any:
        pool, loop = self._pool, asyncio.get_running_loop()
        engine = pool._engine
        engine.attach(loop)
        parts = _wire.call(start, arguments, keywords)
        task = _Awaited(name_of(func), parts, self._native_options, None)
        task.future, task.loop = loop.create_future(), loop
        pool._choose(task, func, arguments, keywords)
        engine.submit(task)
        try:
            return await task.future
        except asyncio.CancelledError:
            engine.cancel(task)
            raise
        except BaseException as error:
            if pool._proxies and not isinstance(error, ProxyException):
                raise proxy_of(error) from error
            raise
        finally:
            # An exception has this frame, and this frame must not have the exception.
            del task

    @overload
    def map(
        self,
        func: Callable[[Any], Awaitable[T]],
        iterable: Iterable[Any] | AsyncIterable[Any],
        *,
        return_exceptions: bool = False,
    ) -> PoolResult[T]: ...

    @overload
    def map(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any] | AsyncIterable[Any],
        *,
        return_exceptions: bool = False,
    ) -> PoolResult[T]: ...

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any] | AsyncIterable[Any],
        *,
        return_exceptions: bool = False,
    ) -> PoolResult[Any]:
        """Runs `func(item)` for each item; await the results, or iterate over them."""
        return self._each(func, iterable, _one, return_exceptions)

    @overload
    def starmap(
        self,
        func: Callable[..., Awaitable[T]],
        iterable: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
        *,
        return_exceptions: bool = False,
    ) -> PoolResult[T]: ...

    @overload
    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
        *,
        return_exceptions: bool = False,
    ) -> PoolResult[T]: ...

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
        *,
        return_exceptions: bool = False,
    ) -> PoolResult[Any]:
        """Runs `func(*item)` for each item; await the results, or iterate over them."""
        return self._each(func, iterable, tuple, return_exceptions)

    def _each(
        self,
        func: Callable[..., Any],
        items: Iterable[Any] | AsyncIterable[Any],
        arguments_of: Callable[[Any], tuple[Any, ...]],
        return_exceptions: bool,
    ) -> PoolResult[Any]:
        pool = self._pool
        pool._check_open()
        if self._options.retry_on:
            raise ValueError("retry_on is for apply(): map() retries only what a worker's death ended")
        pool._engine.attach(asyncio.get_running_loop())
        start, name, options = _wire.head(func), name_of(func), self._native_options
        call, choose = _wire.call, pool._choose

        def submit(results: PoolResult[Any], index: int, item: Any) -> _Item:
            arguments = arguments_of(item)
            task = _Item(results, index, name, call(start, arguments, {}), options, None)
            choose(task, func, arguments, {})
            return task

        limit = pool.process_count * pool._concurrency
        chunker: Chunker | None = None
        if self._may_chunk(func):
            star = arguments_of is tuple

            def chunk(results: PoolResult[Any], index: int, items: list[Any]) -> _Item:
                if star:
                    items = list(map(tuple, items))
                parts = _chunks.call(start, star, not return_exceptions, items)
                return _Item(results, index, name, parts, options, None)

            chunker = chunk
        return pool._keep(
            PoolResult(
                pool,
                submit,
                items,
                limit=limit,
                return_exceptions=return_exceptions,
                chunker=chunker,
            )
        )

    def _may_chunk(self, func: Callable[..., Any]) -> bool:
        """Whether items may share tasks: nothing that is said or counted is said of each."""
        options, pool = self._options, self._pool
        of_each = options.timeout, options.queue_ttl, options.retries or None
        alike = pool.queue_count == 1 and not pool._recycles
        return alike and of_each == (None, None, None) and _chunks.is_plain(func)


class WithOptions(Verbs):
    """A pool's verbs, with options for the tasks that they submit."""

    def __init__(self, pool: Pool, options: TaskOptions) -> None:
        if options.priority >= pool._priorities:
            raise ValueError(
                f"priority={options.priority} is not possible: the pool has "
                f"priorities={pool._priorities}, numbered from 0"
            )
        self._its_pool, self._options = pool, options
        self._native_options = options._native()

    @property
    def _pool(self) -> Pool:
        return self._its_pool


class Pool(Verbs):
    """A pool of worker processes that run coroutine functions and plain functions.

    A worker that dies ends the tasks that it ran, with `WorkerLost`, and is replaced.

    `processes`: workers, as many as this process may use processors by default.
    `initializer(*initargs)`: runs in each worker before its first task; awaited if it is async.
    `maxtasksperchild`: tasks after which a worker is replaced; 0 for no limit.
    `childconcurrency`: tasks that a worker has in flight at most.
    `queuecount`, `scheduler`: queues, and who chooses the queue of a task.
    `loop_initializer`: makes the event loop of each worker, such as `uvloop.new_event_loop`.
    `exception_handler`: is called in the worker with each error of a task.
    `preload`: names of modules that one process imports, of which the workers are copies: they start
    in milliseconds and share its memory. Imports that start threads cannot be shared.
    `limits`, `sandbox`: what workers may use and open.
    `priorities`: priority classes, 1 to 4.
    `grace`: seconds that a worker may take to leave, or to obey a timeout, before it is killed.
    `max_payload`: bytes of one call's arguments, at most, 1 GiB if nothing is said; `input_arena`,
    `output_arena`: bytes for the arguments of all tasks in the pool, and for the results of each
    worker, four times that if nothing is said. Memory is taken as it is used.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
        maxtasksperchild: int = 0,
        childconcurrency: int = 16,
        queuecount: int | None = None,
        scheduler: Scheduler | None = None,
        loop_initializer: Callable[[], asyncio.AbstractEventLoop] | None = None,
        exception_handler: Callable[[BaseException], Any] | None = None,
        *,
        preload: Sequence[str] = (),
        limits: Limits | None = None,
        sandbox: Sandbox | None = None,
        priorities: int = 1,
        grace: float | None = None,
        max_payload: int | None = None,
        input_arena: int | None = None,
        output_arena: int | None = None,
    ) -> None:
        check_sync("loop_initializer", loop_initializer)
        if not self._async_initializer:
            check_sync("initializer", initializer)
        self.process_count = max(1, processes or len(os.sched_getaffinity(0)))
        self.queue_count = max(1, queuecount or 1)
        if self.queue_count > self.process_count:
            raise ValueError("queue count must be <= process count")
        self._recycles = maxtasksperchild > 0
        self._concurrency, self._priorities = max(1, childconcurrency), priorities
        self._options, self._native_options = TaskOptions(), None
        self.running = True
        self.scheduler = scheduler or RoundRobin()
        queues = [self.scheduler.register_queue(None) for _ in range(self.queue_count)]
        self._queues: dict[QueueID, int] = {queue: i for i, queue in enumerate(queues)}
        for process in range(self.process_count):
            self.scheduler.register_process(queues[process % self.queue_count])
        native = _engine.start(
            self.process_count,
            self.queue_count,
            _engine.setup(
                initializer, initargs, loop_initializer, exception_handler, self.process_count
            ),
            childconcurrency=childconcurrency,
            maxtasksperchild=maxtasksperchild,
            preload=preload,
            limits=limits,
            sandbox=sandbox,
            options={
                "priorities": priorities,
                "grace": grace,
                "max_payload": max_payload,
                "input_arena": input_arena,
                "output_arena": output_arena,
            },
        )
        # The engine does not know the pool: a pool that is dropped goes at once.
        complete = self.scheduler.complete_task
        over = (lambda number: complete(TaskID(number))) if self.queue_count > 1 else None
        self._engine = Engine(native, over)

    @property
    def _pool(self) -> Pool:
        return self

    #: Whether errors come as `ProxyException`, as aiomultiprocess has them.
    _proxies = False
    #: Whether an initializer may be a coroutine function.
    _async_initializer = True

    def with_options(self, **options: Any) -> WithOptions:
        """The pool's verbs with `TaskOptions`: `pool.with_options(timeout=3).apply(...)`."""
        return WithOptions(self, replace(self._options, **options))

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers that are alive."""
        return self._engine.workers()

    def stats(self) -> dict[str, Any]:
        """The pool as it is now: a dictionary of `pool` (its counts), `workers`, `queues`,
        `functions` and `events`, with the names that `aiopool top --json` has; empty after the
        pool's end."""
        found: dict[str, Any] = json.loads(self._engine.snapshot())
        return found

    def _check_open(self) -> None:
        if not self.running:
            raise RuntimeError("pool is closed")

    def _keep(self, results: PoolResult[Any]) -> PoolResult[Any]:
        maps = self._engine.maps
        maps.difference_update([known for known in maps if known.is_fed])
        if not results.is_fed:
            maps.add(results)
        return results

    def _choose(
        self,
        task: _engine.Task,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Asks the scheduler for the task's queue, if there is more than one."""
        if self.queue_count > 1:
            with self._engine._lock:
                # The number that `submit` is about to give.
                number = TaskID(self._engine._number + 1)
                task.queue = self._queues[self.scheduler.schedule_task(number, func, args, kwargs)]

    def close(self) -> None:
        """Takes no more tasks; those that were asked for are finished."""
        self.running = False
        for results in list(self._engine.maps):
            if isinstance(results, PoolResult):
                in_thread_of(results.loop, results.unbound)
        self._engine.close()

    def terminate(self) -> None:
        """Ends every task that is not over, and has the workers leave; from any thread."""
        self.running = False
        self._engine.terminate()

    async def join(self) -> None:
        """Waits until a closed pool's processes are gone.

        Raises what ended the pool, if that was not its owner.
        """
        if self.running:
            raise RuntimeError("pool is still open")
        loop = asyncio.get_running_loop()
        engine = self._engine
        over = loop.create_future()
        engine.attach(loop)
        engine.when_over(lambda: in_thread_of(loop, _settle, over))
        await over
        if engine.error is not None:
            raise engine.error

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, kind: Any, error: Any, story: Any) -> None:
        self.terminate()
        try:
            await self.join()
        except RuntimeError:
            # What the block raised says more.
            if error is None:
                raise

    def __del__(self) -> None:
        engine: Engine | None = getattr(self, "_engine", None)
        if engine is None or engine.is_over:
            return
        if self.running:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        engine.free()

    def __repr__(self) -> str:
        state = "open" if self.running else "over" if self._engine.is_over else "closing"
        return f"<aiopool.Pool of {self.process_count} processes, {state}>"


def _one(item: Any) -> tuple[Any]:
    return (item,)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def name_of(function: Callable[..., Any]) -> str:
    """What messages call a function."""
    name = getattr(function, "__qualname__", None)
    return str(name) if name is not None else f"{type(function).__qualname__} object"


def proxy_of(error: BaseException) -> ProxyException:
    """The error as aiomultiprocess raises it."""
    cause = error.__cause__
    return ProxyException(cause.args[0] if isinstance(cause, RemoteTraceback) else str(error))
