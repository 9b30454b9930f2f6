"""The results of `map` and `starmap`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from . import _chunks, _wire
from ._engine import Direct, Task, in_thread_of
from ._native import Items, Options
from .errors import PoolClosed, RemoteTraceback, TooLarge, WorkerLost, count_attempts

if TYPE_CHECKING:
    from .options import TaskOptions
    from .pool import AnyPool

T = TypeVar("T")

# Tasks of one map that are in the pool at once, at most, where their results are small.
_IN_FLIGHT = 1024
# Bytes of results that a map that is iterated over may hold, about, and bytes of arguments that any
# map has on their way, about, unless that are fewer items than keep the workers busy.
_HELD = 8 << 20
# Results up to this many bytes do not count there.
_SMALL = 4096


class _Item(Task):
    """One item's task."""

    __slots__ = ("before", "first", "index", "items", "made", "rest", "results")

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
        #: The items of a chunk, and what came of those of the chunk that are not among them.
        self.items: list[Any] = []
        self.before: list[Any] = []
        #: The items behind them, while it is looked for the one that cannot be sent.
        self.rest: list[Any] = []
        #: Where it may be submitted again: its bytes, which are the same in each attempt, and how many
        #: attempts were made before.
        self.first: Any = None
        self.made = 0

    def again(self, options: Options, made: int) -> _Item:
        """The same task, for a further attempt."""
        parts = _wire.attempt(self.first, made)
        task = _Item(self.results, self.index, self.name, parts, options, self.queue)
        task.first, task.made = self.first, made
        return task

    def finish(self, value: Any, error: BaseException | None) -> None:
        results = self.results
        if asyncio._get_running_loop() is results.loop:
            results.arrived(self, value, error)
        else:
            in_thread_of(results.loop, results.arrived, self, value, error)


#: Is told how many items have results, and of how many.
ProgressHook = Callable[[int, "int | None"], Any]
#: Makes a chunk of items a task.
Chunker = Callable[["PoolResult[Any]", int, "list[Any]"], _Item]


class PoolResult(Generic[T]):
    """The results of `map` and `starmap`: await it for a list, or iterate, in the items' order.

    Items are taken from their iterable as there is room for them. The first failure is raised at
    once and calls the rest off, and so does leaving the iteration; a plain function that goes on ends
    with its worker then, see `TaskOptions.kill_after`.
    """

    def __init__(
        self,
        pool: AnyPool,
        submit: Callable[[PoolResult[T], int, Any], _Item],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        limit: int,
        return_exceptions: bool,
        name: str,
        chunker: Chunker | None = None,
        direct: Direct | None = None,
        again: TaskOptions | None = None,
        kill_after: float | None = None,
    ) -> None:
        # Of a worker that still has an item of those that were called off.
        self._kill_after = kill_after
        self.pool, self._submit, self.name = pool, submit, name
        # Says which items are submitted again after an error.
        self._again = again
        self._pausing: dict[_Item, asyncio.TimerHandle] = {}
        # With a chunker every task is a chunk, and `_ready` has lists.
        self._chunker = chunker
        self._size = 1
        # Items that have as many bytes as a chunk is to have, as far as those before tell.
        self._by_input = _chunks.MOST
        self._awaited = False
        # Items in the pool and results that wait here, in chunks.
        self._items_flying = self._items_ready = 0
        self.loop = asyncio.get_running_loop()
        self._return_exceptions = return_exceptions
        self._limit = max(2 * limit, 16)
        # Until the first result has said how large results are.
        self._window = self._limit
        self._is_small: bool | None = None
        self._flying: set[_Item] = set()
        self._flying_bytes = 0
        self._ready: dict[int, T] = {}
        self._order: deque[int] = deque()
        # Items that have no task of Python's, where that is possible.
        self._direct = direct
        self._direct_items = Items(self._ready, self._order.append)
        self._next = 0
        self._given = 0
        #: Whether somebody takes the results, which are given once.
        self._begun = False
        self._exhausted = False
        self._failed: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._bounded = True
        self._pumping = False
        self._feeder: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._hook: ProgressHook | None = None
        self._done = 0
        self._total = len(items) if isinstance(items, Sized) else None
        if isinstance(items, AsyncIterable):
            self._items: Any = items
            self._feeder = self.loop.create_task(self._feed())
        else:
            self._items = iter(items)
            self._pump()

    def progress(self, hook: ProgressHook) -> PoolResult[T]:
        """Has `hook(done, total)` called whenever items have results, for a progress bar; `total` is
        None where the items are of unknown number. An error of the hook is the map's. With tqdm:

            with tqdm(total=len(items)) as bar:
                await pool.map(work, items).progress(lambda done, _: bar.update(done - bar.n))
        """
        self._hook = hook
        return self

    def _have_results(self, done: int) -> None:
        """Tells the hook how many items have results, if they are more than before."""
        if done > self._done:
            self._done = done
            if self._hook is not None:
                try:
                    self._hook(done, self._total)
                except BaseException as error:
                    self._fail(error)

    @property
    def is_fed(self) -> bool:
        """Whether every item was submitted for the last time, or never will be."""
        # A loop that has ended submits nothing any more.
        may_go_on = self._failed is None and not self.loop.is_closed()
        if (self._again is not None or self._chunker is not None) and self._flying and may_go_on:
            # An item may be tried again, and what a chunk has left is submitted again.
            return False
        return self._is_read or self.loop.is_closed()

    @property
    def _is_read(self) -> bool:
        """Whether no item will be taken any more."""
        return self._exhausted or self._failed is not None

    def unbound(self) -> None:
        """Takes all items, however many results wait: all of them are wanted, or none."""
        self._bounded = False
        if self._is_small is not False:
            self._window = max(_IN_FLIGHT, self._limit)
        self._pump()

    def _has_room(self) -> bool:
        if self._chunker is not None:
            room = self._room_for_items()
            # A chunk that fills what room there is would be as small as the one that left it.
            whole = self._feeder is not None or room >= self._whole()
            return room > 0 and (whole or not self._flying)
        return self._room_for_results() > 0

    def _room_for_results(self) -> int:
        """How many items may be submitted now, one by one."""
        flying = len(self._flying) + self._direct_items.flying()
        # Results that nobody has taken count where they are taken one by one.
        held = flying + len(self._ready) if self._bounded else flying
        window = self._window if self._flying_bytes < _HELD else self._limit // 2
        return window - held

    def _room_for_items(self) -> int:
        """How many items may be submitted now, in chunks."""
        if self._flying_bytes >= _HELD and len(self._flying) >= 2 * self.pool.process_count:
            return 0
        if self._bounded:
            return self._window - self._items_flying - self._items_ready
        # Enough for every worker to have the next chunk while the last one's results are on their
        # way; at first as many as there are places, since the first results may be awaited.
        most = self._window if self._awaited else self._size * 4 * self.pool.process_count
        return max(self._limit, most) - self._items_flying

    def _next_size(self) -> int:
        """How many items the next chunk has."""
        return max(1, min(self._whole(), self._room_for_items()))

    def _whole(self) -> int:
        """How many items a chunk has where there is room for them."""
        size = min(self._size, self._by_input)
        if self._bounded:
            return max(1, min(size, self._window // (4 * self.pool.process_count)))
        return size

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
            while not self._is_read and self._has_room():
                if self._chunker is not None:
                    size = self._next_size()
                    items = list(islice(self._items, size))
                    if items:
                        self._submit_chunk(items)
                    if len(items) < size:
                        self._fed()
                    continue
                if self._direct is not None and self._feed_direct(self._direct):
                    continue
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

    def _feed_direct(self, direct: Direct) -> bool:
        """Submits items that need no task of Python's. False if the next one does."""
        engine, room = self.pool._engine, self._room_for_results()
        fed = engine.feed(self, self._direct_items, direct, self._items, room)
        if fed is None:
            return False
        count, why, what = fed
        self._next += count
        if why == "end":
            self._fed()
        elif why == "item":
            self._submit_one(what)
        elif why == "error":
            raise what
        return True

    def _submit_chunk(
        self, items: list[Any], rest_of: _Item | None = None, rest: list[Any] | None = None
    ) -> None:
        assert self._chunker is not None
        if rest_of is None:
            index = self._next
            self._next += 1
        else:
            index = rest_of.index
        refused = None
        try:
            task = self._chunker(self, index, items)
        except Exception as error:
            refused = error
            task = self._refused(index, error)
        task.items = items
        if rest_of is not None:
            task.before, task.rest = rest_of.before, rest or []
        self._items_flying += len(items)
        if refused is not None:
            self._refuse(task, refused)
            return
        self._by_input = max(1, self.pool._chunk_bytes // max(1, task.input // len(items)))
        self._send(task)

    def _refused(self, index: int, error: Exception) -> _Item:
        """A task for what cannot be sent, if that is not the end of all."""
        if not self._return_exceptions:
            raise error
        return _Item(self, index, self.name, [], None, None)

    def _refuse(self, task: _Item, error: Exception) -> None:
        """Ends a task that is never submitted; in a turn of the loop, since others may follow."""
        self._flying.add(task)
        self.loop.call_soon(self.arrived, task, None, error)

    def _send(self, task: _Item) -> None:
        """Submits a task, and counts it as on its way."""
        self._flying.add(task)
        self._flying_bytes += task.input
        self.pool._engine.submit(task)

    def _land(self, task: _Item) -> None:
        """A task is on its way no more."""
        if task in self._flying:
            self._flying.discard(task)
            self._flying_bytes -= task.input

    def _submit_one(self, item: Any) -> None:
        if self._chunker is not None:
            # From an async iterable, which says nothing of how many there are at once.
            self._submit_chunk([item])
            return
        index = self._next
        self._next += 1
        try:
            task = self._submit(self, index, item)
        except Exception as error:
            self._refuse(self._refused(index, error), error)
            return
        self._send(task)

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
        self._note_fed()

    def _note_fed(self) -> None:
        """Tells the engine, which has a map only as long as that may ask more of it."""
        engine = self.pool._engine
        if self.is_fed:
            with engine._lock:
                engine.maps.discard(self)
        engine.close_below()

    def arrived(self, task: _Item, value: Any, error: BaseException | None) -> None:
        """One task is over; in the thread of the loop."""
        if self._again is not None and self._failed is None:
            if error is not None and self._is_tried_again(self._again, task, error):
                return
            # Before the others: the pool may have been closed.
            self._land(task)
            self._note_fed()
        self._land(task)
        self._items_flying -= len(task.items)
        if self._failed is not None:
            return
        if task.items:
            self._chunk_arrived(task, value, error)
            self._note_fed()
            return
        self.item_arrived(task.index, value, error, task.size)

    def _is_tried_again(self, options: TaskOptions, task: _Item, error: BaseException) -> bool:
        """Has a task submitted again, if its error is one for that; until then it counts as on its
        way."""
        if task.first is None:
            # It was never submitted.
            return False
        made = task.made + task.attempts
        if not options._is_retried(error, made):
            count_attempts(error, task.made)
            return False
        pause = options._pause(made)
        if pause > 0:
            self._pausing[task] = self.loop.call_later(pause, self._try_again, options, task, made)
        else:
            self._try_again(options, task, made)
        return True

    def pool_ended(self) -> None:
        """Ends the items that wait for a further attempt; from any thread."""
        if self._again is not None:
            in_thread_of(self.loop, self._end_pauses)

    def _end_pauses(self) -> None:
        pausing, self._pausing = self._pausing, {}
        for task, timer in pausing.items():
            timer.cancel()
            self._land(task)
            error = PoolClosed("the pool ended before the next attempt")
            self.item_arrived(task.index, None, error, 0)

    def _try_again(self, options: TaskOptions, task: _Item, made: int) -> None:
        self._pausing.pop(task, None)
        if self._failed is None:
            try:
                self._send(task.again(options._rest(made), made))
            except BaseException as failed:
                self._fail(failed)
        # Not before: a pool that is closed waits while there are some.
        self._land(task)

    def item_arrived(self, index: int, value: Any, error: BaseException | None, size: int) -> None:
        """An item is over that had no task of Python's; in the thread of the loop."""
        if self._failed is not None:
            return
        if error is not None:
            if not self._return_exceptions or isinstance(error, asyncio.CancelledError):
                self._fail(error)
                return
            value = error
        self._ready[index] = value
        self._order.append(index)
        self.some_arrived(size)

    def some_arrived(self, size: int) -> None:
        """Results have come, of `size` bytes at most; in the thread of the loop."""
        if self._failed is None and self._hook is not None:
            flying = len(self._flying) + self._direct_items.flying()
            self._have_results(self._next - flying)
        if self._failed is None:
            self._hold(size)
            self._wake()
            self._pump()

    def _chunk_arrived(self, task: _Item, value: Any, error: BaseException | None) -> None:
        items, results = task.items, task.before
        if error is not None and len(items) > 1 and self._was_refused(task, error):
            # One of its items is to blame, which the others are not to suffer for.
            half = len(items) // 2
            self._submit_rest(items[:half], task, items[half:] + task.rest)
            return
        if error is None:
            done, errors = _chunks.opened(value)
            self._awaited = self._awaited or done.awaited
            self._size = _chunks.size_after(len(items), done, task.size, self._size)
            for place in sorted(errors):
                if not self._return_exceptions:
                    self._fail(errors[place])
                    return
                done.results[place] = errors[place]
            results += done.results
            over = len(done.results)
            self._hold(task.size // max(1, over))
        elif not self._return_exceptions or isinstance(error, asyncio.CancelledError):
            self._fail(error)
            return
        else:
            over = len(items)
            if isinstance(error, WorkerLost):
                # What it had not begun goes to another worker; at least one item had a part in it.
                over = min(over, max(1, error.progress or 0))
                self._size = 1
            results += [error] * over
        self._items_ready += over
        self._have_results(self._done + over)
        if self._failed is not None:
            return
        if over < len(items):
            self._submit_rest(items[over:], task, task.rest)
            return
        if task.rest:
            self._submit_rest(task.rest, task, [])
            return
        self._ready[task.index] = results  # type: ignore[assignment]
        self._order.append(task.index)
        self._wake()
        self._pump()

    def _was_refused(self, task: _Item, error: BaseException) -> bool:
        """Whether none of a chunk's items was begun, and others in its place may be."""
        if task.ticket is None:
            return isinstance(error, TooLarge) or self._return_exceptions and not task.input
        # The worker has not found out what the items are; what came of their calls would have been a
        # value.
        raised_there = not task.size and isinstance(error.__cause__, RemoteTraceback)
        return self._return_exceptions and raised_there

    def _submit_rest(self, items: list[Any], rest_of: _Item, rest: list[Any]) -> None:
        try:
            self._submit_chunk(items, rest_of, rest)
        except BaseException as failed:
            self._fail(failed)

    def _hold(self, size: int) -> None:
        """Takes note of results of `size` bytes: fewer large ones are held."""
        if size > _SMALL:
            self._is_small = False
            self._window = max(self._limit, min(_IN_FLIGHT, _HELD // size))
        elif self._is_small is None:
            self._is_small = True
            self._window = max(_IN_FLIGHT, self._limit)

    def _fail(self, error: BaseException) -> None:
        if self._failed is None:
            self._failed = error
            self._call_off()
            self._wake()
            self._note_fed()

    def _call_off(self) -> None:
        self._direct_items.close()
        self._ready.clear()
        self._items_ready = 0
        self._order.clear()
        self._items = ()
        if self._feeder is not None and self._feeder is not asyncio.current_task(self.loop):
            self._feeder.cancel()
        for task in list(self._flying):
            self.pool._engine.cancel(task, kill_after=self._kill_after)
        if self._direct_items.flying():
            self.pool._engine.cancel_items(self._direct_items, self._kill_after)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def cancel(self) -> None:
        """Calls off what is not over."""
        if not self._exhausted or self._flying or self._direct_items.flying():
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
        if self._begun:
            raise RuntimeError("these results were asked for already: keep them, or call map() again")
        self._begun = True

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
                    value: Any = ready.pop(self._given)
                    self._given += 1
                    if self._chunker is None:
                        results.append(value)
                    else:
                        self._items_ready -= len(value)
                        results += value
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
                    values = self._take(self._given)
                    count = len(values)
                    while values:
                        yield values.pop()
                    self._taken(count)
                self._order.clear()
                if self._failed is not None:
                    raise self._raised()
                if self._exhausted and self._given == self._next:
                    return
                await self._wait()
        finally:
            self.cancel()

    def _take(self, index: int) -> list[T]:
        """Takes results that are to be given now, the last first."""
        value: Any = self._ready.pop(index)
        self._given += 1
        if self._chunker is not None:
            value.reverse()
            return cast("list[T]", value)
        self._pump()
        return [value]

    def _taken(self, count: int) -> None:
        """The results of a chunk of `count` items were given."""
        if self._chunker is not None:
            self._items_ready -= count
            self._pump()

    def __aiter__(self) -> AsyncIterator[T]:
        return self.results_generator()

    async def as_completed(self) -> AsyncIterator[T]:
        """The results one by one, in the order in which they come."""
        self._begin()
        try:
            while True:
                while self._order:
                    values = self._take(self._order.popleft())
                    count = len(values)
                    while values:
                        yield values.pop()
                    self._taken(count)
                if self._failed is not None:
                    raise self._raised()
                if self._exhausted and self._given == self._next:
                    return
                await self._wait()
        finally:
            self.cancel()
