"""`Pool`: coroutines and plain functions in worker processes, awaited in asyncio."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import replace
from os import PathLike
from typing import Any, TypeVar, overload

from . import _chunks, _engine, _threads, _wire
from ._engine import Direct, Engine, Task, in_thread_of, name_of
from ._here import OfThisMachine, say_insights
from ._life import Functions
from ._native import Call, Options
from ._native import Pool as Native
from ._results import Chunker, PoolResult, _Item
from .core import check_callable, check_sync
from .errors import PoolClosed, ProxyException, RemoteTraceback, count_attempts
from .isolation import Limits, Sandbox
from .options import TaskOptions
from .scheduler import RoundRobin, Scheduler
from .types import QueueID, TaskID

T = TypeVar("T")


class _Awaited(Task):
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
    def _pool(self) -> AnyPool:
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
        the task; a plain function ends with its worker, unless it ends within the pool's `grace`: see
        `TaskOptions.kill_after`.
        """
        pool = self._pool
        pool._check_open()
        if not kwds and pool.queue_count == 1 and not self._options.retry_on:
            engine, loop = pool._engine, asyncio.get_running_loop()
            engine.attach(loop)
            native = engine.local
            if native is not None and not engine._waiting:
                call = native.call(func, args or (), loop, self._native_options)
                if call is not None:
                    engine.look_now(loop, native)
                    return await self._direct(native, call)
        arguments, keywords = _wire.arguments(args), _wire.keywords(kwds)
        start = _wire.head(func, pool._elsewhere)
        try:
            if self._options.retry_on:
                return await self._until_done(func, start, arguments, keywords)
            native_options = self._native_options
            parts = _wire.call(start, arguments, keywords, pool._elsewhere)
            task = self._task(func, parts, arguments, keywords, native_options)
            return await self._once(func, task)
        except BaseException as error:
            if pool._proxies and not isinstance(error, (ProxyException, asyncio.CancelledError)):
                raise proxy_of(error) from error
            raise

    async def _until_done(
        self,
        func: Callable[..., Any],
        start: bytes,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Any:
        """Submits a call again for the errors that `retry_on` names."""
        options, engine = self._options, self._pool._engine
        native, made = self._native_options, 0
        unfinished = _engine.Unfinished(asyncio.get_running_loop())
        # Of the first attempt: what the caller has changed meanwhile is not in the others.
        parts = _wire.call(start, arguments, keywords, self._pool._elsewhere)
        with engine._lock:
            engine.maps.add(unfinished)
        try:
            while True:
                numbered = _wire.attempt(parts, made)
                task = self._task(func, numbered, arguments, keywords, native)
                try:
                    return await self._once(func, task)
                except BaseException as error:
                    before, made = made, made + task.attempts
                    if not options._is_retried(error, made):
                        count_attempts(error, before)
                        raise
                finally:
                    del task
                if await unfinished.pause(options._pause(made)):
                    raise PoolClosed("the pool ended before the next attempt")
                native = options._rest(made)
        finally:
            unfinished.is_fed = True
            with engine._lock:
                engine.maps.discard(unfinished)
            engine.close_below()

    async def _direct(self, native: Native, call: Call) -> Any:
        try:
            await call
            return call.result()
        except asyncio.CancelledError:
            native.cancel_call(call, self._kill_after(call.function))
            raise
        except BaseException as error:
            if self._pool._proxies and not isinstance(error, ProxyException):
                raise proxy_of(error) from error
            raise
        finally:
            # An exception has this frame, and this frame must not have the exception.
            del call

    def _task(
        self,
        func: Callable[..., Any],
        parts: list[Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        options: Options | None,
    ) -> _Awaited:
        """Submits a call, whose bytes are `parts`."""
        pool, loop = self._pool, asyncio.get_running_loop()
        engine = pool._engine
        engine.attach(loop)
        task = _Awaited(name_of(func), parts, options, None)
        task.future, task.loop = loop.create_future(), loop
        pool._choose(task, self._options.key, func, arguments, keywords)
        engine.submit(task)
        return task

    async def _once(self, func: Callable[..., Any], task: _Awaited) -> Any:
        """Waits for a task, and calls it off if it is called off itself."""
        try:
            return await task.future
        except asyncio.CancelledError:
            self._pool._engine.cancel(task, kill_after=self._kill_after(func))
            raise
        finally:
            # An exception has this frame, and this frame must not have the exception.
            del task

    @overload
    async def broadcast(
        self,
        func: Callable[..., Awaitable[T]],
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        *,
        return_exceptions: bool = False,
    ) -> list[T]: ...

    @overload
    async def broadcast(
        self,
        func: Callable[..., T],
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        *,
        return_exceptions: bool = False,
    ) -> list[T]: ...

    async def broadcast(
        self,
        func: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwds: Mapping[str, Any] | None = None,
        *,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Runs `func(*args, **kwds)` once in every worker, to change a setting, to collect a number, and
        gives their results, or the first error once all are over: with `return_exceptions` each error
        is in the place of its result.

        Each worker runs it beside the tasks that it has, as soon as it comes round to it, and one that
        is being replaced has its successor do so. A worker that starts later does not: that is what
        `initializer` is for. Nothing is tried again; of the options, the `timeout` counts. Cancelling
        the call cancels none of it.
        """
        pool, loop = self._pool, asyncio.get_running_loop()
        pool._check_open()
        if pool._elsewhere:
            raise RuntimeError(f"broadcast is not possible in a {pool._kind}: nodes take what comes")
        self._options._check_for_all()
        engine = pool._engine
        engine.attach(loop)
        start = _wire.head(func, by_all=True)
        parts = _wire.call(start, _wire.arguments(args), _wire.keywords(kwds), by_all=True)
        name, kept = name_of(func), _wire.kept(parts)

        def asked() -> _Awaited:
            task = _Awaited(name, [], None, None)
            task.future, task.loop, task.kept = loop.create_future(), loop, kept
            return task

        tasks = [asked() for _ in range(pool.process_count)]
        engine.broadcast(parts, name, self._native_options, tasks)
        try:
            await asyncio.wait([task.future for task in tasks])
            if return_exceptions:
                return [task.future.exception() or task.future.result() for task in tasks]
            return [task.future.result() for task in tasks]
        finally:
            # An exception has this frame, and this frame must not have the exception.
            del tasks

    def _kill_after(self, func: Callable[..., Any]) -> float | None:
        """Seconds after which a worker is killed that still has a cancelled call; None for never."""
        pool = self._pool
        obeys = pool._in_threads or not _chunks.is_plain(func)
        return self._options._kill_after(None if obeys else pool._grace)

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
        pool._engine.attach(asyncio.get_running_loop())
        elsewhere = pool._elsewhere
        start, name, options = _wire.head(func, elsewhere), name_of(func), self._native_options
        call, choose, key = _wire.call, pool._choose, self._options.key

        again = self._options if self._options.retry_on else None

        def submit(results: PoolResult[Any], index: int, item: Any) -> _Item:
            arguments = arguments_of(item)
            parts = first = call(start, arguments, {}, elsewhere)
            if again is not None:
                parts = _wire.attempt(first, 0)
            task = _Item(results, index, name, parts, options, None)
            choose(task, key, func, arguments, {})
            if again is not None:
                task.first = first
            return task

        limit = pool.process_count * pool._concurrency
        chunker: Chunker | None = None
        if self._may_chunk(func):
            star = arguments_of is tuple

            def chunk(results: PoolResult[Any], index: int, items: list[Any]) -> _Item:
                if star:
                    items = list(map(tuple, items))
                parts = _chunks.call(start, star, not return_exceptions, items, elsewhere)
                return _Item(results, index, name, parts, options, None)

            chunker = chunk
        usual = not chunker and pool.queue_count == 1 and not elsewhere and again is None
        by_name = _wire.head_by_name(func) if usual else None
        direct = by_name and Direct(by_name, arguments_of is tuple, options)
        return pool._keep(
            pool._results(
                pool,
                submit,
                items,
                limit=limit,
                return_exceptions=return_exceptions,
                name=name,
                chunker=chunker,
                direct=direct or None,
                again=again,
                kill_after=self._kill_after(func),
            )
        )

    def _may_chunk(self, func: Callable[..., Any]) -> bool:
        """Whether items may share tasks: nothing that is said or counted is said of each."""
        options, pool = self._options, self._pool
        of_each = options.timeout, options.queue_ttl, options.retries or None, options.alone or None
        alike = pool.queue_count == 1 and not pool._recycles and not pool._in_threads
        # How many share one depends on how long they take: the next holder's would be others.
        alike = alike and pool._elsewhere != _wire.DURABLE
        return alike and of_each == (None,) * 4 and not options.retry_on and _chunks.is_plain(func)


class WithOptions(Verbs):
    """A pool's verbs, with options for the tasks that they submit."""

    def __init__(self, pool: AnyPool, options: TaskOptions) -> None:
        if options.priority >= pool._priorities:
            raise ValueError(
                f"priority={options.priority} is not possible: the {pool._kind} has "
                f"priorities={pool._priorities}, numbered from 0"
            )
        if options.key is not None and pool.queue_count == 1:
            why = "nodes take what comes" if pool._elsewhere else "the pool has one queue, see queuecount"
            raise ValueError(f"key={options.key!r} is not possible: {why}")
        if options.retry_on and pool._elsewhere == _wire.DURABLE:
            raise ValueError(
                f"retry_on={options.retry_on!r} is not possible in a durable job: this process sees to "
                "such attempts, and may be gone; retries are for what a death has ended"
            )
        if options.kill_after is not None and pool._elsewhere:
            raise ValueError(
                f"kill_after={options.kill_after} is not possible: a node kills no worker of a task that "
                "is called off; a timeout ends it"
            )
        self._its_pool, self._options = pool, options
        self._native_options = options._native()

    @property
    def _pool(self) -> AnyPool:
        return self._its_pool


class AnyPool(Verbs):
    """What `Pool` and `Cluster` have in common: tasks are submitted until it is closed."""

    running: bool
    process_count: int
    queue_count = 1
    _engine: Engine
    _concurrency: int
    _priorities: int
    _recycles = _in_threads = False
    #: Seconds that a plain function may run on after its call was cancelled; None for no end.
    _grace: float | None = None
    #: Bytes of the arguments of a chunk, about at most.
    _chunk_bytes = _chunks.INPUT
    #: What messages call it.
    _kind = "pool"
    #: Where its workers are.
    _elsewhere = _wire.HERE
    #: What gives the results of its maps.
    _results: type[PoolResult[Any]] = PoolResult
    #: Whether errors come as `ProxyException`, as aiomultiprocess has them.
    _proxies = False

    @property
    def _pool(self) -> AnyPool:
        return self

    def with_options(self, **options: Any) -> WithOptions:
        """The pool's verbs with `TaskOptions`: `pool.with_options(timeout=3).apply(...)`."""
        return WithOptions(self, replace(self._options, **options))

    def _check_open(self) -> None:
        if not self.running:
            raise PoolClosed(f"{self._kind} is closed")

    def _keep(self, results: PoolResult[Any]) -> PoolResult[Any]:
        maps = self._engine.maps
        # Other threads may have maps of their own.
        with self._engine._lock:
            maps.difference_update([known for known in maps if known.is_fed])
            if not results.is_fed:
                maps.add(results)
        return results

    def _choose(
        self,
        task: Task,
        key: Hashable,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Asks the key or the scheduler for the task's queue, if there is more than one."""
        if key is not None:
            task.queue = hash(key) % self.queue_count
        elif self.queue_count > 1:
            # One at a time: a scheduler need not know of threads.
            with self._engine._lock:
                number = TaskID(self._engine.number(task))
                task.queue = self._scheduled(number, func, args, kwargs)
            task.scheduled = True

    def _scheduled(
        self, number: TaskID, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int:
        """The queue that the scheduler chooses."""
        raise NotImplementedError

    async def ready(self) -> None:
        """Waits until every worker can take tasks: its initializer has returned. Tasks may be submitted
        before that; this is for a program that is to say that it is ready, or that is to fail at its
        start and not at its first task. Raises what an initializer failed with."""
        self._check_open()
        await self._engine.ready()

    def close(self) -> None:
        """Takes no more tasks; those that were asked for are finished."""
        self.running = False
        self._unbind_maps()
        self._engine.close()

    def _unbind_maps(self) -> None:
        """Has maps take all of their items, whether or not their results are."""
        for results in list(self._engine.maps):
            if isinstance(results, PoolResult):
                in_thread_of(results.loop, results.unbound)

    def terminate(self) -> None:
        """Ends every task that is not over, and has the workers leave; from any thread."""
        self.running = False
        self._engine.terminate()

    async def join(self) -> None:
        """Waits until a closed pool's processes are gone.

        Raises what ended the pool, if that was not its owner.
        """
        if self.running:
            raise RuntimeError(f"{self._kind} is still open")
        loop = asyncio.get_running_loop()
        engine = self._engine
        over = loop.create_future()
        engine.attach(loop)
        engine.when_over(lambda: in_thread_of(loop, _settle, over))
        await over
        if engine.error is not None:
            raise engine.error

    async def drain(self, limit: float) -> bool:
        """Closes, and waits until every task is over and the workers are gone, at most `limit` seconds;
        then it terminates. Returns whether all were over in time."""
        if not isinstance(limit, (int, float)):
            raise TypeError(f"limit must be a number of seconds, and is {limit!r:.100}")
        if not limit >= 0:
            raise ValueError(f"limit={limit} is not possible: a number of seconds, 0 or more")
        self.close()
        joined = asyncio.ensure_future(self.join())
        try:
            await asyncio.wait([joined], timeout=None if limit == float("inf") else limit)
            if joined.done():
                await joined
                return True
        finally:
            joined.cancel()
        await self._end_late()
        return False

    async def _end_late(self) -> None:
        """Ends what was not over in time."""
        self.terminate()
        await self.join()

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


class Pool(AnyPool, OfThisMachine):
    """A pool of worker processes that run coroutine functions and plain functions.

    A worker that dies ends the tasks that it ran, with `WorkerLost`, and is replaced.

    `processes`: workers, by default as many as this process may keep processors busy: those that it may
    run on, or fewer where its control group's quota is lower.
    `initializer(*initargs)`: runs in each worker before its first task; awaited if it is async. If it
    returns a context manager, such as a session or what `contextlib.asynccontextmanager` makes, this
    is entered, and left after the last task. `aiopool.worker_state()` gives the result to tasks. What
    it sets in the globals of its module is there for them, too, in notebooks as in scripts.
    `exit_hook()`: runs in each worker that leaves in order, after its last task; awaited if it is async.
    `maxtasksperchild`: tasks after which a worker is replaced; 0 for no limit.
    `childconcurrency`: tasks that a worker has in flight at most.
    `threads`: plain functions run in up to so many threads of each worker, beside its coroutines; with
    0 they run in the thread of the event loop, which waits for them.
    `queuecount`, `scheduler`: queues, and who chooses the queue of a task.
    `loop_initializer`: makes the event loop of each worker, such as `uvloop.new_event_loop`.
    `exception_handler`: is called in the worker with each error of a task.
    `preload`: names of modules that one process imports, of which the workers are copies: they start
    in milliseconds and share its memory. Imports that start threads cannot be shared. "__main__" is the
    program's main module, which each worker imports by itself otherwise.
    `limits`, `sandbox`: what workers may use and open.
    `priorities`: priority classes, 1 to 4.
    `grace`: seconds that a worker may take to leave, to obey a timeout, or to end a plain function that
    was cancelled, before it is killed.
    `start_timeout`: seconds that a worker may take until it can take tasks, 60 if nothing is said.
    `blocked_after`: seconds after which a plain function, or the first step of a coroutine, that still
    holds its worker becomes an event in `stats()` and `aiopool top`.
    `probation`: tasks of a function run alone in their workers until so many of them have ended, also
    after a crash; 0, if nothing is said, for none of this.
    `env`: environment variables that workers have besides this process's, None for those that they
    have not; with `clear_env` they have no others.
    `current_dir`, `umask`, `nice`, `user`, `group`: as in `subprocess.Popen`, of each worker; `nice`
    is added to this process's.
    `processors`: the numbers of the processors that workers run on, one for each if `processes` is not
    given; where this process runs if nothing is said.
    `output_to`: a directory of files that workers' standard output and error go to; `WorkerLost.stderr`
    then has the last lines of one that died.
    `output_per_task`: what each task prints goes to files of its own there, also what programs print
    that it starts; see `Pool.printed`. It takes `childconcurrency=1`.
    `name`, `observable`: what `aiopool ps` and `aiopool top` call the pool, and whether they may look.
    `profile`: has `Pool.profile()` give, after the pool's end, the `pstats.Stats` of all workers, those
    that died left out; of their event loops, not of `threads`.
    `insights`: has the table of `Pool.insights()` written to the standard error at the pool's end.
    `max_payload`: bytes of one call's arguments, at most, 1 GiB if nothing is said; `input_arena`,
    `output_arena`: bytes for the arguments of all tasks in the pool, and for the results of each
    worker, four times that if nothing is said. Memory is taken as it is used.
    `logs`: whether what workers log, and their warnings, goes to the loggers of this process, with the
    levels that these have; not from workers whose initializer sets up logging.
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
        exit_hook: Callable[[], Any] | None = None,
        threads: int = 0,
        preload: Sequence[str] = (),
        limits: Limits | None = None,
        sandbox: Sandbox | None = None,
        priorities: int = 1,
        grace: float | None = None,
        start_timeout: float | None = None,
        blocked_after: float | None = None,
        probation: int | None = None,
        env: Mapping[str, str | None] | None = None,
        clear_env: bool = False,
        current_dir: str | PathLike[str] | None = None,
        umask: int | None = None,
        nice: int | None = None,
        processors: Sequence[int] | None = None,
        user: int | None = None,
        group: int | None = None,
        output_to: str | PathLike[str] | None = None,
        output_per_task: bool = False,
        name: str | None = None,
        observable: bool | None = None,
        profile: bool = False,
        insights: bool = False,
        max_payload: int | None = None,
        input_arena: int | None = None,
        output_arena: int | None = None,
        logs: bool = True,
    ) -> None:
        check_callable(
            initializer=initializer,
            loop_initializer=loop_initializer,
            exception_handler=exception_handler,
            exit_hook=exit_hook,
        )
        _engine.check_counts(
            processes=processes,
            maxtasksperchild=maxtasksperchild,
            childconcurrency=childconcurrency,
            queuecount=queuecount,
            threads=threads,
        )
        check_sync("loop_initializer", loop_initializer)
        if not self._async_initializer:
            check_sync("initializer", initializer)
        self.process_count = processes or _threads.usable(processors)
        self.queue_count = queuecount or 1
        if self.queue_count > self.process_count:
            raise ValueError("queue count must be <= process count")
        if output_per_task and childconcurrency != 1:
            raise ValueError(
                f"childconcurrency={childconcurrency} is not possible: 1 with output_per_task, lines "
                "of tasks that take turns in a worker cannot be told apart"
            )
        self._recycles, self._in_threads = maxtasksperchild > 0, threads > 0
        self._grace = _engine.GRACE if grace is None else grace
        self._concurrency, self._priorities = childconcurrency or 1, priorities
        self._options, self._native_options = TaskOptions(), None
        self.running = True
        self.scheduler = scheduler or RoundRobin()
        queues = [self.scheduler.register_queue(None) for _ in range(self.queue_count)]
        self._queues: dict[QueueID, int] = {queue: i for i, queue in enumerate(queues)}
        for process in range(self.process_count):
            self.scheduler.register_process(queues[process % self.queue_count])
        functions = Functions(
            initializer, tuple(initargs), loop_initializer, exception_handler, exit_hook
        )
        native = _engine.start(
            functions,
            preload=preload,
            limits=limits,
            sandbox=sandbox,
            threads=threads,
            profile=self._profiled(profile),
            names=_NAMES,
            options={
                "processes": self.process_count,
                "queues": self.queue_count,
                "child_concurrency": self._concurrency,
                "max_tasks_per_child": maxtasksperchild,
                "priorities": priorities,
                "grace": grace,
                "start_timeout": start_timeout,
                "blocked_after": blocked_after,
                "probation": probation,
                "env": None if env is None else dict(env),
                "clear_env": clear_env,
                "current_dir": current_dir,
                "umask": umask,
                "nice": nice,
                "processors": None if processors is None else list(processors),
                "user": user,
                "group": group,
                "output_to": output_to,
                "output_per_task": output_per_task,
                "name": name,
                "observable": observable,
                "max_payload": max_payload,
                "input_arena": input_arena,
                "output_arena": output_arena,
                "logs": logs,
            },
        )
        if max_payload:
            self._chunk_bytes = min(self._chunk_bytes, max_payload // 2)
        # The engine does not know the pool: a pool that is dropped goes at once.
        complete = self.scheduler.complete_task
        over = (lambda number: complete(TaskID(number))) if self.queue_count > 1 else None
        self._engine = Engine(native, functions, self.process_count, over)
        if insights:
            self._engine.at_the_end = say_insights

    #: Whether an initializer may be a coroutine function.
    _async_initializer = True

    def _scheduled(
        self, number: TaskID, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int:
        return self._queues[self.scheduler.schedule_task(number, func, args, kwargs)]

    async def __aenter__(self) -> Pool:
        return self

    def __repr__(self) -> str:
        state = "open" if self.running else "over" if self._engine.is_over else "closing"
        return f"<aiopool.Pool of {self.process_count} processes, {state}>"


#: What the engine calls options otherwise.
_NAMES = {
    "child_concurrency": "childconcurrency",
    "max_tasks_per_child": "maxtasksperchild",
    "queues": "queuecount",
}


def _one(item: Any) -> tuple[Any]:
    return (item,)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def proxy_of(error: BaseException) -> ProxyException:
    """The error as aiomultiprocess raises it."""
    cause = error.__cause__
    return ProxyException(cause.args[0] if isinstance(cause, RemoteTraceback) else str(error))
