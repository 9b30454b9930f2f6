"""One coroutine in one process of its own: `Process`, and `Worker`, which has its result.

Such a process dies with its host, however that ends.
"""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import pickle
from collections.abc import Callable, Generator, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

from . import _main, _wire
from ._native import end_with
from .errors import WorkerLost

context: Any = multiprocessing.get_context("spawn")


def set_start_method(method: str | None = "spawn") -> None:
    """How processes of `Process` and `Worker` come to be; None for the platform's own way.

    A pool's workers are always programs of their own that import what they need, as with "spawn".
    """
    global context
    context = multiprocessing.get_context(method)


def set_context(method: str | None = None) -> None:
    """The old name of `set_start_method`."""
    set_start_method(method)


def get_context() -> Any:
    """What `set_start_method` has chosen."""
    return context


def check_callable(**functions: Any) -> None:
    """Refuses options that are to be called and cannot be."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a callable, and is {function!r:.100}")


def check_sync(name: str, function: Callable[..., Any] | None) -> None:
    if function is not None and inspect.iscoroutinefunction(function):
        raise ValueError(f"{name} must be synchronous function")


def new_loop(loop_initializer: Callable[..., Any] | None) -> asyncio.AbstractEventLoop:
    """The event loop of a process that runs coroutines."""
    loop = (loop_initializer or asyncio.new_event_loop)()
    asyncio.set_event_loop(loop)
    return loop


class _Unit:
    """What a process is to run; travels pickled."""

    def __init__(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        initializer: Callable[..., Any] | None,
        initargs: tuple[Any, ...],
        loop_initializer: Callable[..., Any] | None,
        results: Any,
    ) -> None:
        self.target, self.args, self.kwargs = target, args, kwargs
        self.initializer, self.initargs = initializer, initargs
        self.loop_initializer, self.results = loop_initializer, results

    def __reduce__(self) -> tuple[Any, ...]:
        # As a pool's calls, so that functions of notebooks can be run. Not the pipe: what it belongs
        # to is about to start.
        ours = self.initializer, self.initargs, self.loop_initializer
        functions = self.target, self.args, self.kwargs, *ours
        return _unit, (bytes(_wire.pickled(functions)), self.results)

    def run(self) -> Any:
        _die_with_host()
        loop = new_loop(self.loop_initializer)
        try:
            if self.initializer is not None:
                self.initializer(*self.initargs)
            return loop.run_until_complete(self.target(*self.args, **self.kwargs))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


def _unit(functions: bytes, results: Any) -> _Unit:
    target, args, kwargs, initializer, initargs, loop_initializer = pickle.loads(functions)
    return _Unit(target, args, kwargs, initializer, initargs, loop_initializer, results)


def _die_with_host() -> None:
    host: Any = multiprocessing.parent_process()
    if host is not None:
        # Not by a thread of Python's: C code that never lets go of the interpreter's lock would hold
        # it up.
        end_with(host.sentinel)


async def _not_implemented() -> None:
    raise NotImplementedError("a process without a target: give one or override process_target")


class Process:
    """Runs a coroutine in a process of its own; awaiting it waits for its end."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., Any] | None = None,
        name: str | None = None,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
        loop_initializer: Callable[..., Any] | None = None,
        process_target: Callable[..., Any] | None = None,
    ) -> None:
        if target is not None and not inspect.iscoroutinefunction(target):
            raise ValueError("target must be coroutine function")
        check_sync("initializer", initializer)
        check_sync("loop_initializer", loop_initializer)
        self._results = self._open_results()
        unit = _Unit(
            target or _not_implemented,
            tuple(args or ()),
            dict(kwargs or {}),
            initializer,
            tuple(initargs),
            loop_initializer,
            self._results and self._results[1],
        )
        # A lock among the arguments goes with the last who has it.
        self._unit = unit
        self.aio_process: BaseProcess = context.Process(
            group=group,
            target=process_target or self.run_async,
            name=name,
            args=(unit,),
            daemon=daemon,
        )

    def _open_results(self) -> Any:
        return None

    @staticmethod
    def run_async(unit: _Unit) -> Any:
        """What runs in the child."""
        return unit.run()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        if not self._started():
            self.start()
        return await self.join()

    def _started(self) -> bool:
        return self.aio_process.pid is not None

    def start(self) -> None:
        """Starts the process."""
        if context.get_start_method() != "fork":
            _main.look_for_guard()
        with _main.as_workers_see_it(_wire.main_is_importable()):
            self.aio_process.start()
        if self._results:
            self._results[1].close()

    async def join(self, timeout: float | None = None) -> Any:
        """Waits for the end of the process without threads and without polling."""
        if not self._started():
            raise ValueError("must start process before joining it")
        await asyncio.wait_for(self._ended(), timeout)
        self.aio_process.join()

    async def _ended(self) -> None:
        await _readable(self.aio_process.sentinel)

    @property
    def name(self) -> str:
        return self.aio_process.name

    @property
    def daemon(self) -> bool:
        return self.aio_process.daemon

    @daemon.setter
    def daemon(self, value: bool) -> None:
        self.aio_process.daemon = value

    @property
    def pid(self) -> int | None:
        return self.aio_process.pid

    @property
    def exitcode(self) -> int | None:
        return self.aio_process.exitcode

    def is_alive(self) -> bool:
        return self.aio_process.is_alive()

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.aio_process.terminate()

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.aio_process.kill()

    def close(self) -> None:
        """Lets go of an ended process; its attributes raise ValueError after this."""
        self.aio_process.close()


class Worker(Process):
    """A process whose coroutine's result can be awaited; its error is raised, with its traceback in
    the process as the cause."""

    _data: bytes | None = None
    #: Whether an error is given instead of raised, as aiomultiprocess does.
    _gives_errors = False

    def _open_results(self) -> Any:
        return context.Pipe(duplex=False)

    @staticmethod
    def run_async(unit: _Unit) -> None:
        try:
            data = b"".join([b"V", *_wire.value(unit.run())])
        except BaseException as error:
            data = b"E" + _wire.failure(error).encode()
        with unit.results as pipe:
            at = 0
            while at < len(data):
                at += os.write(pipe.fileno(), data[at : at + (1 << 20)])

    async def join(self, timeout: float | None = None) -> Any:
        """Waits for the end of the process, and gives the coroutine's result."""
        await super().join(timeout)
        return self.result

    async def _ended(self) -> None:
        # Read while it is written: a pipe holds less than a result may have.
        fd = self._results[0].fileno()
        os.set_blocking(fd, False)
        self._parts = getattr(self, "_parts", [])
        while self._data is None:
            try:
                part = os.read(fd, 1 << 20)
            except BlockingIOError:
                await _readable(fd)
                continue
            if part:
                self._parts.append(part)
            else:
                self._data = b"".join(self._parts)
        await super()._ended()

    @property
    def result(self) -> Any:
        """What the coroutine returned; raises what it raised."""
        if self._data is None:
            raise ValueError("coroutine not completed")
        if self._data[:1] == b"V":
            return _wire.open_value(bytearray(self._data[1:]))
        error: BaseException
        if self._data:
            error = _wire.open_failure(self._data[1:].decode())
        else:
            error = self._lost()
        if self._gives_errors:
            return error
        raise error

    def _lost(self) -> WorkerLost:
        status = self.exitcode
        number = -status if status is not None and status < 0 else None
        how = f"signal {number}" if number is not None else f"exit status {status}"
        return WorkerLost(
            f"process {self.pid} ended without a result: {how}",
            pid=self.pid or 0,
            signal=number,
            exitcode=status if number is None else None,
            function=self.name,
        )


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    # A copy: several may wait for the same descriptor, and a loop takes one reader for each.
    copy = os.dup(fd)

    def is_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(copy, is_ready)
    try:
        await ready
    finally:
        loop.remove_reader(copy)
        os.close(copy)
