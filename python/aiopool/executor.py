"""`ProcessPoolExecutor`: the one of `concurrent.futures`, on this package's pool."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import select
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any, TypeVar, overload

from . import _chunks, _engine, _threads, _wire
from ._engine import Engine, Task, name_of
from ._here import OfThisMachine, say_insights
from ._life import Functions
from ._native import Options
from .core import check_callable
from .errors import InitializerFailed, PoolClosed
from .isolation import Limits, Sandbox
from .options import TaskOptions

T = TypeVar("T")


class _Submitted(Task):
    """A task whose outcome a future of `concurrent.futures` is set to."""

    __slots__ = ("future", "kill_after")

    def __init__(
        self,
        future: _Future[Any],
        name: str,
        parts: Any,
        options: Options | None,
        kill_after: float | None,
    ) -> None:
        super().__init__(name, parts, options, None)
        self.future, self.kill_after = future, kill_after

    def finish(self, value: Any, error: BaseException | None) -> None:
        future = self.future
        # Each has the other: what is over is not to wait for a collection of garbage.
        future.task = None
        if isinstance(error, asyncio.CancelledError) or not future.begin_to_settle():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


class _Future(Future[T]):
    """A future that cancels its task, whether that is queued or running."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._turn = threading.Lock()
        self.task: _Submitted | None = None

    def begin_to_settle(self) -> bool:
        """Whether the outcome is still wanted; after this it cannot be cancelled."""
        with self._turn:
            # The caller may have set the future itself.
            return not self.done() and self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Cancels the task. False if it is over.

        A running function goes on in its worker, and nobody waits for it, as in concurrent.futures; a
        `timeout` ends one, and so does a cancellation with `kill_after`.
        """
        # Before the lock: a callback of this future's, which runs below it, may come here.
        if self.cancelled():
            return True
        with self._turn:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            # For those in `wait` and `as_completed`.
            self.set_running_or_notify_cancel()
        task = self.task
        if task is not None:
            self._engine.cancel(task, kill_after=task.kill_after)
        return True

    def cancel_queued(self) -> None:
        """Cancels the task if no worker has it."""
        with self._turn:
            task = self.task
            if task is None or self.done() or not self._engine.cancel(task, queued=True):
                return
            super().cancel()
            self.set_running_or_notify_cancel()


class _Verbs(Executor):
    """What tasks are submitted by; see `ProcessPoolExecutor` and its `with_options`."""

    #: For all tasks that are submitted by this.
    _said = TaskOptions()
    _options: Options | None = None

    @property
    def _executor(self) -> ProcessPoolExecutor:
        raise NotImplementedError

    def with_options(self, **options: Any) -> WithOptions:
        """The executor's verbs with `TaskOptions`: `executor.with_options(timeout=3).submit(...)`."""
        return WithOptions(self._executor, replace(self._said, **options))

    # concurrent.futures has no coroutine functions: there they give coroutines.
    @overload
    def submit(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> Future[T]: ...

    @overload
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submits `fn(*args, **kwargs)`. A coroutine function's result is what it returns."""
        executor = self._executor
        engine = executor._engine
        future: _Future[Any] = _Future(engine)
        try:
            parts = _wire.call(_wire.head(fn), args, kwargs)
        except Exception as error:
            # As in concurrent.futures: what cannot be sent is the task's failure.
            executor._check_open()
            future.set_exception(error)
            return future
        kill_after = self._said._kill_after(None)
        future.task = _Submitted(future, name_of(fn), parts, self._options, kill_after)
        with executor._shutdown_lock:
            executor._check_open()
            engine.put(future.task)
        # Callbacks of futures run there: they may submit, too.
        engine.tell_refused()
        return future

    @overload
    def broadcast(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> list[Future[T]]: ...

    @overload
    def broadcast(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> list[Future[T]]: ...

    def broadcast(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[Future[Any]]:
        """Submits `fn(*args, **kwargs)` to every worker; see `Pool.broadcast`. Gives a future for
        each; to cancel one does not call its task off."""
        executor = self._executor
        engine = executor._engine
        self._said._check_for_all()
        parts = _wire.call(_wire.head(fn, by_all=True), args, kwargs, by_all=True)
        tasks = []
        for _ in range(executor._max_workers):
            future: _Future[Any] = _Future(engine)
            future.task = task = _Submitted(future, name_of(fn), [], None, None)
            task.kept = _wire.kept(parts)
            tasks.append(task)
        futures: list[Future[Any]] = [task.future for task in tasks]
        with executor._shutdown_lock:
            executor._check_open()
            engine.broadcast(parts, name_of(fn), self._options, tasks)
        return futures

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]: ...

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Gives `fn(*items)` for the items of the iterables, in their order.

        With `chunksize`, so many calls are one task. With `buffersize`, at most so many tasks wait
        or run, and the iterables are read as results are taken.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else time.monotonic() + timeout
        items = zip(*iterables)
        chunked = chunksize > 1
        calls: Iterator[Future[Any]]
        if chunked:
            chunks = iter(lambda: list(itertools.islice(items, chunksize)), [])
            calls = (self.submit(_chunk, fn, chunk) for chunk in chunks)
        else:
            calls = (self.submit(fn, *one) for one in items)
        first = deque(itertools.islice(calls, buffersize))
        results = _results(first, calls if buffersize is not None else None, end)
        return _each_of(results) if chunked else results


class WithOptions(_Verbs):
    """An executor's verbs, with options for the tasks that they submit; its end is the executor's."""

    def __init__(self, executor: ProcessPoolExecutor, options: TaskOptions) -> None:
        if options.retry_on:
            raise ValueError(
                f"retry_on={options.retry_on!r} is not possible with an executor: a Pool has it; "
                "retries are for what a worker's death has ended"
            )
        if options.key is not None:
            raise ValueError(
                f"key={options.key!r} is not possible with an executor, which has one queue: see "
                "Pool's queuecount"
            )
        self._its_executor, self._said = executor, options
        self._options = options._native()

    @property
    def _executor(self) -> ProcessPoolExecutor:
        return self._its_executor

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As the executor's own."""
        self._its_executor.shutdown(wait, cancel_futures=cancel_futures)

    def terminate(self) -> None:
        """As the executor's own."""
        self._its_executor.terminate()

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers that are alive."""
        return self._its_executor.processes


class ProcessPoolExecutor(_Verbs, OfThisMachine):
    """Runs plain functions and coroutine functions in worker processes.

    As `concurrent.futures.ProcessPoolExecutor`, but for this: a worker that dies ends the task that
    it ran, with `WorkerLost`, and no other; it is replaced. `mp_context` is taken and not used:
    workers are interpreters of their own, as with "spawn". With `threads` each worker runs up to so many
    functions at once, plain ones in threads. `insights`, `profile` and the other `options` are those of
    `Pool`, such as `grace`, `env` and `name`.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        exit_hook: Callable[[], Any] | None = None,
        preload: Sequence[str] = (),
        limits: Limits | None = None,
        sandbox: Sandbox | None = None,
        threads: int = 0,
        insights: bool = False,
        profile: bool = False,
        **options: Any,
    ) -> None:
        _engine.check_types(int, max_workers=max_workers)
        # Before anything can fail: `__del__` asks.
        self._shut = False
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        check_callable(exit_hook=exit_hook)
        _engine.check_counts(threads=threads)
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        self._max_workers = max_workers or _threads.usable(options.get("processors"))
        options |= {
            "processes": self._max_workers,
            "child_concurrency": max(1, threads),
            "max_tasks_per_child": max_tasks_per_child or 0,
        }
        functions = Functions(initializer, tuple(initargs), exit_hook=exit_hook)
        native = _engine.start(
            functions,
            preload=preload,
            limits=limits,
            sandbox=sandbox,
            threads=threads,
            profile=self._profiled(profile),
            names={"processes": "max_workers"},
            options=options,
        )
        self._engine = Engine(native, functions, native.processes())
        if insights:
            self._engine.at_the_end = say_insights
        if self._engine.listener is not None:
            self._engine.listener.start_thread()
        self._shutdown_lock = threading.Lock()
        self._receiver = threading.Thread(
            target=_receive,
            args=(self._engine, os.dup(native.fileno()), _waker(self._engine)),
            name="aiopool-receiver",
            daemon=True,
        )
        _receivers[self._receiver] = self._engine
        self._receiver.start()

    @property
    def _executor(self) -> ProcessPoolExecutor:
        return self

    def _check_open(self) -> None:
        if self._shut:
            raise PoolClosed("cannot schedule new futures after shutdown")
        if self._engine.broken is not None:
            raise InitializerFailed(str(self._engine.broken))

    def ready(self) -> None:
        """Waits until every worker can take tasks: its initializer has returned; raises what one failed
        with."""
        self._check_open()
        with self._engine.readiness() as ready:
            poll = select.poll()
            poll.register(ready.fileno(), select.POLLIN)
            while not ready.poll():
                poll.poll()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more tasks; waits until all are over and the workers are gone, if asked to.

        `cancel_futures` cancels those that no worker has begun; `terminate` ends all.
        """
        with self._shutdown_lock:
            self._shut = True
        if cancel_futures:
            for task in [*self._engine.pending()]:
                if isinstance(task, _Submitted):
                    task.future.cancel_queued()
        self._engine.close()
        if wait and threading.current_thread() is not self._receiver:
            self._receiver.join()

    def terminate(self) -> None:
        """Ends every task that is not over, and has the workers leave; from any thread."""
        with self._shutdown_lock:
            self._shut = True
        self._engine.terminate()

    @property
    def _broken(self) -> bool:
        """Whether no worker can be initialized, as others ask concurrent.futures."""
        return self._engine.broken is not None

    def __del__(self) -> None:
        engine: Engine | None = getattr(self, "_engine", None)
        if engine is not None and not self._shut and not engine.is_over:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            # What was submitted is finished; the receiver has the engine until then.
            engine.close()


def _chunk(fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> Any:
    """What calls give, as `_chunks.Done` or an awaitable of it; in a thread where there are some."""
    done = _chunks.Done([], {}, 0, True)
    for place, arguments in enumerate(chunk):
        try:
            result = fn(*arguments)
        except BaseException as error:
            return _failed(done, error)
        if inspect.isawaitable(result):
            return _awaited(fn, chunk[place + 1 :], done, result)
        done.results.append(result)
    return done


async def _awaited(
    fn: Callable[..., Any], left: list[tuple[Any, ...]], done: _chunks.Done, result: Any
) -> _chunks.Done:
    """The rest of a chunk, from the first call on whose result is awaited."""
    try:
        done.results.append(await result)
        for arguments in left:
            result = fn(*arguments)
            done.results.append(await result if inspect.isawaitable(result) else result)
    except asyncio.CancelledError:
        # It may be the task's own, that of all items.
        raise
    except BaseException as error:
        return _failed(done, error)
    return done


def _failed(done: _chunks.Done, error: BaseException) -> _chunks.Done:
    """A chunk that ends with this error of the call behind its results."""
    story = error.__traceback__
    if story is not None:
        # Without this file's function.
        error = error.with_traceback(story.tb_next)
    done.failures[len(done.results)] = _wire.failure(error)
    done.results.append(None)
    return done


def _each_of(chunks: Generator[Any, None, None]) -> Iterator[Any]:
    """The results of chunks one by one, until the first that is an error."""
    try:
        for chunk in chunks:
            done, errors = _chunks.opened(chunk)
            results = done.results
            end = min(errors, default=len(results))
            del results[end:]
            results.reverse()
            # No name has them while they are with the caller.
            del chunk, done
            while results:
                yield results.pop()
            if errors:
                raise errors[end]
    finally:
        chunks.close()


def _results(
    futures: deque[Future[Any]], more: Iterator[Future[Any]] | None, end: float | None
) -> Generator[Any, None, None]:
    """What futures give, in order; those that nobody waits for any more are cancelled."""
    try:
        while futures:
            # No name has the result while it is with the caller.
            yield _next(futures, more, end)
    finally:
        for future in futures:
            future.cancel()


def _next(
    futures: deque[Future[Any]], more: Iterator[Future[Any]] | None, end: float | None
) -> Any:
    left = None if end is None else end - time.monotonic()
    value = futures[0].result(left)
    futures.popleft()
    if more is not None:
        futures.extend(itertools.islice(more, 1))
    return value


#: The threads that have work, or may get some.
_receivers: dict[threading.Thread, Engine] = {}


def _waker(engine: Engine) -> int:
    """A descriptor that becomes readable when the engine is over."""
    waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    engine.when_over(lambda: os.eventfd_write(waker, 1))
    return waker


def _receive(engine: Engine, descriptor: int, waker: int) -> None:
    """The thread that takes outcomes until the pool has ended."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(waker, select.POLLIN)
    try:
        while not engine.is_over:
            if not engine.receive() and not engine.is_over:
                poll.poll()
    finally:
        os.close(descriptor)
        os.close(waker)
        _receivers.pop(threading.current_thread(), None)


def _finish_all() -> None:
    """Before the interpreter ends: what was submitted is finished, as concurrent.futures does."""
    for receiver, engine in list(_receivers.items()):
        engine.close()
        receiver.join()


threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
