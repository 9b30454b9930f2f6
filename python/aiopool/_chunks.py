"""Many items of a `map` of a plain function as one task.

A chunk says before each item how many it has begun. A worker that dies with a chunk takes the items
with it that it had begun; the others are submitted again, and each runs once at most.
"""

from __future__ import annotations

# By their names: a task that replaces what a module has replaces nothing here.
from asyncio import gather
from collections.abc import Callable, Sequence
from inspect import isawaitable, iscoroutinefunction
from itertools import chain
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _wire

if TYPE_CHECKING:
    from ._native import Worker

#: Nanoseconds that a chunk is to take: long beside what a task costs, short beside what a user
#: waits for.
TARGET = 2_000_000
#: Items of a chunk, at most.
MOST = 8192
#: Bytes of the arguments of a chunk, about at most, unless one item has more.
INPUT = 1 << 20
#: Bytes of the results of a chunk, about at most.
_BYTES = 256 << 10
# Results of which no other code has a say in how they are pickled, and what many are made of these.
_PLAIN = {int, float, bool, str, bytes, type(None)}
_MANY = {list, tuple, dict}


class Done(NamedTuple):
    """What a chunk ended with."""

    results: list[Any]
    #: By the item's place, what a worker says of its error; there the result is None.
    failures: dict[int, str]
    #: Nanoseconds for all items.
    elapsed: int
    #: Whether results were awaited: such items are not to wait for each other.
    awaited: bool
    #: Whether each result is pickled for itself, so that one that cannot be unpickled spoils no other.
    closed: bool = False


def size_after(size: int, done: Done, payload: int, current: int) -> int:
    """The size of the next chunk, after one of `size` items whose results had `payload` bytes.

    `current` is the size that chunks have by now, which a smaller one from before says nothing
    against but by its time and bytes.
    """
    count = max(1, len(done.results))
    if done.awaited:
        return 1
    by_time = TARGET // max(1, done.elapsed // count)
    by_bytes = _BYTES // max(1, payload // count)
    # At most four times as many: the first items may not be like the others.
    return max(1, min(max(4 * size, current), by_time, by_bytes, MOST))


def run(start: bytes, star: bool, stop: bool, items: list[Any]) -> Done:
    """Stands for a chunk in a call; workers know it and call `begin`."""
    raise NotImplementedError


def begin(worker: Worker, number: int, arguments: tuple[bytes, bool, bool, list[Any]]) -> Any:
    """Runs a chunk in a worker: `Done`, or an awaitable that gives it."""
    start, star, stop, items = arguments
    function = _wire.open_head(start)
    began = perf_counter_ns()
    results: list[Any] = []
    failures: dict[int, str] = {}
    errors: list[BaseException] = []
    spent = 0
    while len(results) < len(items):
        error: BaseException | None
        try:
            error = worker.call_each(number, function, items, star, results, spent)
        except BaseException as raised:
            # By the handler of a signal, between two items. From the first one on nothing is raised
            # here: the host submits again what has ended so.
            error = raised
        if error is None:
            # It has called all, or has taken so long that the host hears of it first.
            break
        failures[len(results)] = _wire.failure(error)
        errors.append(error)
        results.append(None)
        if stop:
            break
        spent = perf_counter_ns() - began
    done = Done(results, failures, perf_counter_ns() - began, False)
    kinds = set(map(type, results))
    if any(map(_awaits, kinds)):
        return _await_all(done), errors
    return done, errors


def _awaits(kind: type) -> bool:
    try:
        return hasattr(kind, "__await__")
    except BaseException:
        # Of a class whose own class has an opinion on that.
        return False


async def _await_all(done: Done) -> Done:
    async def one(place: int, result: Any) -> Any:
        try:
            return await result if isawaitable(result) else result
        except BaseException as error:
            done.failures[place] = _wire.failure(error)

    results = await gather(*map(one, range(len(done.results)), done.results))
    return done._replace(results=list(results), awaited=True)


def value(done: Done) -> _wire.Parts:
    """The bytes of what a chunk ended with. A result that cannot be pickled, or not be unpickled by
    the host, is its item's failure."""
    if _are_plain(done.results):
        return _wire.value(tuple(done))
    closed: list[Any] = []
    for place, result in enumerate(done.results):
        try:
            closed.append(_wire.closed(result))
        except BaseException as error:
            done.failures[place] = f"the result cannot be pickled:\n{_wire.error_text(error)}"
            closed.append(None)
    return _wire.value(tuple(done._replace(results=closed, closed=True)))


def _are_plain(values: Sequence[Any]) -> bool:
    """Whether no code but pickle's own takes part in pickling and unpickling these."""
    kinds = set(map(type, values)) - _PLAIN
    if not kinds:
        return True
    if kinds <= _MANY:
        many = [value for value in values if type(value) in _MANY]
        inner = chain(chain.from_iterable(many), *(one.values() for one in many if type(one) is dict))
        # It is not looked for what is deeper: most are flat.
        return _PLAIN.issuperset(map(type, inner))
    return False


def opened(value: Any) -> tuple[Done, dict[int, BaseException]]:
    """What a chunk ended with, in the host, and the errors of its items by their places."""
    done = Done(*value)
    errors = {place: _wire.open_failure(text) for place, text in done.failures.items()}
    if done.closed:
        for place, result in enumerate(done.results):
            if place not in errors:
                done.results[place], error = _wire.opened(result, _wire.open_closed)
                if error is not None:
                    errors[place] = error
    return done, errors


def call(
    start: bytes, star: bool, stop: bool, items: list[Any], elsewhere: int = _wire.HERE
) -> _wire.Parts:
    """The bytes of the call of a chunk, of a function whose head is `start`."""
    return _wire.call(_HEAD, (bytes(start), star, stop, items), {}, elsewhere)


_HEAD = _wire.head(run)


def is_plain(function: Callable[..., Any]) -> bool:
    """Whether a function's items may share a task: it is not a coroutine function."""
    called = getattr(type(function), "__call__", None)
    return not (iscoroutinefunction(function) or iscoroutinefunction(called))

