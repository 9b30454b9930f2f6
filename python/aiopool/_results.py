"""The results of `map` and `starmap`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._engine import Task, in_thread_of
from ._native import Options

if TYPE_CHECKING:
    from .pool import Pool

T = TypeVar("T")

# Tasks of one map that are in the pool at once, at most, where their results are small.
_IN_FLIGHT = 1024
# Bytes of results that a map that is iterated over may hold, about.
_HELD = 8 << 20
# Results up to this many bytes do not count there.
_SMALL = 4096


class _Item(Task):
    """One item's task."""

    __slots__ = ("index", "results")

    def __init__(
        self,
        results: PoolResult[Any],
        index: int,
        name: str,
        parts: Any,
        options: Options | None,
        queue: int | None,
    ) -> None:
        super().__init__(name, parts, options, queue)
        self.results, self.index = results, index

    def finish(self, value: Any, error: BaseException | None) -> None:
        results = self.results
        if asyncio._get_running_loop() is results.loop:
            results.arrived(self, value, error)
        else:
            in_thread_of(results.loop, results.arrived, self, value, error)


class PoolResult(Generic[T]):
    """The results of `map` and `starmap`: await it for a list, or iterate, in the items' order.

    Items are taken from their iterable as there is room for them. The first failure is raised at
    once and calls the rest off, and so does leaving the iteration.
    """

    def __init__(
        self,
        pool: Pool,
        submit: Callable[[PoolResult[T], int, Any], _Item],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        limit: int,
        return_exceptions: bool,
    ) -> None:
        self.pool, self._submit = pool, submit
        self.loop = asyncio.get_running_loop()
        self._return_exceptions = return_exceptions
        self._limit = max(2 * limit, 16)
        self._window = max(_IN_FLIGHT, self._limit)
        self._flying: set[_Item] = set()
        self._ready: dict[int, T] = {}
        self._order: deque[int] = deque()
        self._next = 0
        self._given = 0
        self._exhausted = False
        self._failed: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._bounded = True
        self._pumping = False
        self._feeder: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        if isinstance(items, AsyncIterable):
            self._items: Any = items
            self._feeder = self.loop.create_task(self._feed())
        else:
            self._items = iter(items)
            self._pump()

    @property
    def is_fed(self) -> bool:
        """Whether every item was submitted, or never will be."""
        return self._exhausted or self._failed is not None

    def unbound(self) -> None:
        """Takes all items, however many results wait: all of them are wanted, or none."""
        self._bounded = False
        self._pump()

    def _has_room(self) -> bool:
        flying = len(self._flying)
        # Results that nobody has taken count where they are taken one by one.
        held = flying + len(self._ready) if self._bounded else flying
        return held < self._window

    def _pump(self) -> None:
        """Submits items while there is room."""
        if self._feeder is not None:
            if self._room is not None and not self._room.done() and self._has_room():
                self._room.set_result(None)
            return
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self.is_fed and self._has_room():
                try:
                    item = next(self._items)
                except StopIteration:
                    self._fed()
                    break
                self._submit_one(item)
        except BaseException as error:
            self._fail(error)
        finally:
            self._pumping = False

    def _submit_one(self, item: Any) -> None:
        index = self._next
        self._next += 1
        task = self._submit(self, index, item)
        self._flying.add(task)
        self.pool._engine.submit(task)

    async def _feed(self) -> None:
        """Submits the items of an async iterable while there is room."""
        try:
            async for item in self._items:
                while not self._has_room() and self._failed is None:
                    self._room = self.loop.create_future()
                    await self._room
                if self._failed is not None:
                    return
                self._submit_one(item)
        except BaseException as error:
            self._fail(error)
        else:
            self._fed()

    def _fed(self) -> None:
        self._exhausted = True
        self._items = ()
        self._wake()
        self.pool._engine.close_below()

    def arrived(self, task: _Item, value: Any, error: BaseException | None) -> None:
        """One task is over; in the thread of the loop."""
        self._flying.discard(task)
        if self._failed is not None:
            return
        if error is not None:
            if not self._return_exceptions or isinstance(error, asyncio.CancelledError):
                self._fail(error)
                return
            value = error
        if task.size > _SMALL:
            fitting = min(_IN_FLIGHT, _HELD // task.size)
            self._window = max(self._limit, fitting)
        self._ready[task.index] = value
        self._order.append(task.index)
        self._wake()
        self._pump()

    def _fail(self, error: BaseException) -> None:
        if self._failed is None:
            self._failed = error
            self._call_off()
            self._wake()
            self.pool._engine.close_below()

    def _call_off(self) -> None:
        self._ready.clear()
        self._order.clear()
        self._items = ()
        if self._feeder is not None and self._feeder is not asyncio.current_task(self.loop):
            self._feeder.cancel()
        for task in list(self._flying):
            self.pool._engine.cancel(task)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def cancel(self) -> None:
        """Calls off what is not over."""
        if not (self._exhausted and not self._flying):
            self._fail(asyncio.CancelledError())

    async def _wait(self) -> None:
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _begin(self) -> None:
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("these results belong to the event loop that called map()")

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self.results().__await__()

    async def results(self) -> list[T]:
        """All results; the first failure is raised at once, and calls the others off."""
        self._begin()
        self.unbound()
        results: list[T] = []
        ready = self._ready
        try:
            while True:
                while self._given in ready:
                    results.append(ready.pop(self._given))
                    self._given += 1
                self._order.clear()
                if self._failed is not None:
                    raise self._raised()
                if self._exhausted and self._given == self._next:
                    return results
                self._pump()
                await self._wait()
        except BaseException:
            self.cancel()
            raise

    def _raised(self) -> BaseException:
        error = self._failed
        assert error is not None
        return error

    async def results_generator(self) -> AsyncIterator[T]:
        """The results one by one, each as soon as all before it are there."""
        self._begin()
        try:
            while True:
                while self._given in self._ready:
                    value = self._ready.pop(self._given)
                    self._given += 1
                    self._pump()
                    yield value
                    del value
                self._order.clear()
                if self._failed is not None:
                    raise self._raised()
                if self._exhausted and self._given == self._next:
                    return
                await self._wait()
        finally:
            self.cancel()

    def __aiter__(self) -> AsyncIterator[T]:
        return self.results_generator()

    async def as_completed(self) -> AsyncIterator[T]:
        """The results one by one, in the order in which they come."""
        self._begin()
        try:
            while True:
                while self._order:
                    value = self._ready.pop(self._order.popleft())
                    self._given += 1
                    self._pump()
                    yield value
                    del value
                if self._failed is not None:
                    raise self._raised()
                if self._exhausted and self._given == self._next:
                    return
                await self._wait()
        finally:
            self.cancel()
