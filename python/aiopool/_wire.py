"""How calls, values and errors become bytes, and bytes become them again.

A call is a head, which says the function, and the pickle of its arguments. A function that can be
imported goes by its name, and worker and host each remember it; anything else is pickled with each
call (once for a `map`), by cloudpickle where pickle refuses it. Large buffers (protocol 5) are not
in the pickle: they follow it, so that they are copied once.
"""

from __future__ import annotations

import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import lru_cache
from inspect import iscoroutine
# By their names: a task that replaces what a module has replaces nothing here.
from pickle import PickleBuffer, PicklingError, dumps, loads
from struct import Struct, pack, unpack_from
from traceback import format_exception
from types import BuiltinFunctionType, FunctionType
from typing import Any

from . import _main, _pickling, _sharing, _state
from .errors import NotPicklable, ProxyException, RemoteTraceback

#: What nodes and submitters of a cluster have in common: to be counted up where bytes that one of them
#: makes are not what the other reads, here or in `_chunks`.
FORMAT = 2

_BY_NAME, _BY_VALUE, _WITH_BUFFERS, _ATTEMPT = b"R", b"P", b"B", b"A"
_LENGTH = Struct("<I")
# Smaller buffers are not worth a part of their own, in bytes.
_OUT_OF_BAND = 16 << 10
# Buffers begin at multiples of this many bytes, as numpy likes them.
_ALIGNED = 64

Parts = list[Any]

#: Where what is pickled is read: by this machine's workers, by another machine's, or by these and in a
#: durable job, where it is to be the same bytes when the job is resumed.
HERE, ELSEWHERE, DURABLE = 0, 1, 2


def _is_by_name(function: Any) -> bool:
    """Whether pickle stores nothing of the function but its name."""
    if not isinstance(function, (FunctionType, BuiltinFunctionType)):
        return False
    owner = getattr(function, "__self__", None)
    return owner is None or isinstance(owner, type(sys))


def main_is_importable() -> bool:
    """Whether a worker can import what `__main__` is here."""
    if _state.main_is_unguarded:
        return False
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        # multiprocessing's workers do not import the `__main__` of a package.
        return not f".{spec.name}".endswith(".__main__")
    path = getattr(main, "__file__", None)
    if path is None or hasattr(sys, "ps1") or "ipykernel" in sys.modules:
        return False
    # Standard input has a name, too.
    return os.path.isfile(path)


# How the module's name stands in a pickle; texts that have it in them are none of its things.
_MAIN = b"\x8c\x08__main__"


def _of_main(data: Any, elsewhere: int = HERE) -> bool:
    return _MAIN in data and (elsewhere != HERE or not main_is_importable())


def _by_reference(value: Any, callback: Any) -> bytes:
    if _sharing.has_reducers():
        return _pickling.dumps(value, callback)
    return dumps(value, 5, buffer_callback=callback)


def _by_value(
    value: Any, refused: BaseException | None, callback: Any = None, back: bool = False
) -> bytes:
    try:
        import cloudpickle  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError:
        text = "install cloudpickle (pip install 'libaiopool[cloudpickle]'), or move it to a module"
        reason = refused or "workers cannot import __main__ here"
        if _state.main_is_unguarded:
            reason = f"{reason}: {_main.HINT}" if refused else f"workers cannot import this script: {_main.HINT}"
        raise NotPicklable(f"{value!r:.200} cannot be sent to a worker: {reason}; {text}") from refused
    try:
        return _pickling.dumps_by_value(value, callback, back)
    except (PicklingError, AttributeError, TypeError) as error:
        if back:
            raise
        raise NotPicklable(f"{value!r:.200} cannot be sent to a worker: {error}") from error


def pickled(
    value: Any,
    buffers: list[memoryview] | None = None,
    by_all: bool = False,
    elsewhere: int = HERE,
) -> bytes:
    """The pickle of what is sent to a worker, or `by_all` to every worker, or `elsewhere`.

    Large buffers go to `buffers` instead, if it is given.
    """
    callback = None if buffers is None else _collector(buffers)
    if elsewhere:
        return _for_elsewhere(value, buffers, callback, elsewhere)
    refused: BaseException | None = None
    data, shares = b"", False
    try:
        data = _by_reference(value, callback)
    except (PicklingError, AttributeError, TypeError, RuntimeError) as error:
        refused = error
    if refused is None and b"multiprocessing" not in data and not _of_main(data):
        return data
    if (refused is not None or b"multiprocessing" in data) and _sharing.is_possible():
        shares = True
        try:
            with _sharing.possible(by_all):
                data = _anew(_pickling.dumps, value, buffers, callback)
        except RuntimeError:
            # It is one of multiprocessing's that cannot be shared, or the object's own refusal.
            raise
        except Exception as error:
            refused = refused or error
        else:
            refused = None
    if isinstance(refused, RuntimeError):
        raise refused
    if refused is None and shares and not _of_main(data):
        return _Kept.of(data, value)
    if not shares:
        return _anew(_by_value, value, buffers, refused, callback)
    with _sharing.possible(by_all):
        return _Kept.of(_anew(_by_value, value, buffers, refused, callback), value)


def _for_elsewhere(
    value: Any, buffers: list[memoryview] | None, callback: Any, elsewhere: int
) -> bytes:
    refused: BaseException | None = None
    data = b""
    try:
        data = _by_reference(value, callback)
    except (PicklingError, AttributeError, TypeError, RuntimeError) as error:
        refused = error
    if refused is None and b"multiprocessing" not in data and not _of_main(data, elsewhere):
        return data
    with _sharing.on_this_machine_only():
        if b"multiprocessing" in data or isinstance(refused, RuntimeError):
            # Refuses by its name what only this machine has.
            data = _anew(_pickling.dumps, value, buffers, callback)
            if not _of_main(data, elsewhere):
                return data
        if elsewhere == DURABLE:
            raise NotPicklable(
                f"{value!r:.200} cannot be in a durable job: {refused or 'nodes cannot import __main__'}; "
                "pickled by value it is not the same when the job is resumed: move it to a module"
            ) from refused
        return _anew(_by_value, value, buffers, refused, callback)


def _anew(pickle: Callable[..., bytes], value: Any, buffers: list[memoryview] | None, *more: Any) -> bytes:
    """Pickles without the buffers of an attempt before."""
    if buffers:
        buffers.clear()
    return pickle(value, *more)


class _Kept(bytes):
    """The pickle of what may be gone before it is unpickled: a lock goes with the last who has it."""

    value: Any

    @classmethod
    def of(cls, data: bytes, value: Any) -> _Kept:
        kept = cls(data)
        kept.value = value
        return kept


def kept(parts: Parts) -> Any:
    """What a task has to hold until it is over, for its `parts` to be of use."""
    return [part.value for part in parts if type(part) is _Kept] or None


def head_by_name(function: Any, elsewhere: int = HERE) -> bytes | None:
    """What a call of `function` begins with, if it goes by its name."""
    return _head_by_name(function, elsewhere) if _is_by_name(function) else None


@lru_cache(maxsize=1024)
def _head_by_name(function: Any, elsewhere: int) -> bytes | None:
    try:
        data = dumps(function, 5)
    except (PicklingError, AttributeError, TypeError):
        return None
    if _of_main(data, elsewhere):
        return None
    return _BY_NAME + _LENGTH.pack(len(data)) + data


def head(function: Callable[..., Any], elsewhere: int = HERE, by_all: bool = False) -> bytes:
    """What a call of `function` begins with."""
    known = head_by_name(function, elsewhere)
    if known is not None:
        return known
    if not callable(function):
        text = "give the function, and its arguments beside it" if iscoroutine(function) else "a function"
        if iscoroutine(function):
            function.close()
        raise TypeError(f"{function!r:.100} is nothing that a worker can call: {text}")
    data = pickled(function, by_all=by_all, elsewhere=elsewhere)
    start = _BY_VALUE + _LENGTH.pack(len(data)) + data
    return _Kept.of(start, function) if type(data) is _Kept else start


def arguments(args: Any) -> tuple[Any, ...]:
    """What a call has besides names."""
    try:
        return tuple(args or ())
    except TypeError:
        raise TypeError(f"args must be a sequence of arguments, such as (x,), and is {args!r:.100}") from None


def keywords(kwds: Any) -> dict[str, Any]:
    """What a call has by names."""
    try:
        return dict(kwds or {})
    except (TypeError, ValueError):
        raise TypeError(f"kwds must be a dictionary of arguments, and is {kwds!r:.100}") from None


def call(
    start: bytes,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    elsewhere: int = HERE,
    by_all: bool = False,
) -> Parts:
    """The bytes of a call whose head is `start`, `by_all` workers if that is said."""
    buffers: list[memoryview] = []
    data = pickled((arguments, keywords), buffers, by_all, elsewhere)
    if not buffers:
        return [start, data]
    parts = _with_buffers(start + data, buffers)
    return parts if type(data) is not _Kept else [*parts, _Kept.of(b"", data.value)]


def attempt(parts: Parts, before: int) -> Parts:
    """The bytes of an attempt of a call that this process may submit again, after `before` others."""
    start = _ATTEMPT + _LENGTH.pack(before)
    # Buffers stay where they are aligned.
    return [start.ljust(_ALIGNED, b"\0"), *parts]


def attempts_before(data: Any) -> int:
    """How many attempts were made before this one, by what `attempt` has given."""
    if data[:1] != _ATTEMPT:
        return 0
    (before,) = _LENGTH.unpack_from(data, 1)
    return int(before)


def value(result: Any) -> Parts:
    """The bytes of a task's result."""
    data, buffers = _result(result)
    return [data] if not buffers else _with_buffers(data, buffers)


def _result(result: Any) -> tuple[bytes, list[memoryview]]:
    buffers: list[memoryview] = []
    try:
        data = _by_reference(result, _collector(buffers))
    except (PicklingError, AttributeError, TypeError) as error:
        data = _anew(_by_value, result, buffers, error, _collector(buffers), True)
    return data, buffers


def closed(result: Any) -> Any:
    """A result of several that go together, pickled for itself: `open_closed` opens it."""
    data, buffers = _result(result)
    return data if not buffers else (data, *map(PickleBuffer, buffers))


def open_closed(result: Any) -> Any:
    """The result that `closed` was given."""
    if isinstance(result, tuple):
        data, *buffers = result
        return loads(data, buffers=buffers)
    return loads(result)


def _collector(buffers: list[memoryview]) -> Callable[[PickleBuffer], bool]:
    def collect(buffer: PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True
        if raw.nbytes < _OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    return collect


def _with_buffers(data: bytes, buffers: list[memoryview]) -> Parts:
    lengths = [len(data), *(buffer.nbytes for buffer in buffers)]
    start = _WITH_BUFFERS + pack(f"<I{len(lengths)}Q", len(buffers), *lengths)
    parts: Parts = [start, data]
    at = len(start) + len(data)
    for buffer in buffers:
        padding = -at % _ALIGNED
        parts += (b"\0" * padding, buffer)
        at += padding + buffer.nbytes
    return parts


def size(parts: Parts) -> int:
    """The bytes of all parts."""
    return sum(map(_length, parts))


def _length(part: Any) -> int:
    return part.nbytes if isinstance(part, memoryview) else len(part)


def _split(data: Any) -> tuple[memoryview, list[memoryview]]:
    view = memoryview(data)
    (count,) = _LENGTH.unpack_from(view, 1)
    length, *sizes = unpack_from(f"<{count + 1}Q", view, 5)
    at = 5 + 8 * (count + 1)
    # A copy: what is decoded must not change meanwhile, and the buffers may be the pool's pages.
    pickled = memoryview(bytes(view[at : at + length]))
    at += length
    buffers = []
    for size in sizes:
        at += -at % _ALIGNED
        buffers.append(view[at : at + size])
        at += size
    return pickled, buffers


_functions: dict[bytes, Any] = {}


def open_call(data: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The function and the arguments of a call, in a worker."""
    buffers: list[memoryview] = []
    view = memoryview(data)
    if view[:1] == _ATTEMPT:
        view = view[_ALIGNED:]
    if view[:1] == _WITH_BUFFERS:
        view, buffers = _split(view)
    (length,) = _LENGTH.unpack_from(view, 1)
    function = open_head(bytes(view[: 5 + length]))
    arguments, keywords = loads(view[5 + length :], buffers=buffers)
    return function, arguments, keywords


def open_head(start: bytes) -> Callable[..., Any]:
    """The function of a call that begins with `start`, in a worker."""
    function: Callable[..., Any] | None = _functions.get(start)
    if function is None:
        function = loads(start[5:])
        if start[:1] == _BY_NAME:
            if len(_functions) >= 4096:
                _functions.clear()
            _functions[start] = function
    assert function is not None
    return function


def open_value(data: Any) -> Any:
    """The result that a worker has sent."""
    if data[:1] == _WITH_BUFFERS:
        view, buffers = _split(data)
        return loads(view, buffers=buffers)
    return loads(data)


def opened(
    data: Any, open_it: Callable[[Any], Any] = open_value
) -> tuple[Any, BaseException | None]:
    """The result that a worker has sent, or why it cannot be read."""
    try:
        return open_it(data), None
    except BaseException as failed:
        return None, ProxyException(f"the result cannot be unpickled here: {error_text(failed)}")


def error_text(error: BaseException) -> str:
    """The error with its traceback; whatever its own code does."""
    try:
        text = "".join(format_exception(type(error), error, error.__traceback__))
    except BaseException as failed:
        text = f"{_name(error)}: it cannot be formatted: {_name(failed)}\n"
    return text.encode(errors="replace").decode().replace("\0", "\\0")


def _name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def failure(error: BaseException) -> str:
    """What a worker says of a task's error: its text, and its pickle for who can read it."""
    text = error_text(error)
    try:
        try:
            data = _pickling.dumps(error)
        except (PicklingError, AttributeError, TypeError) as refused:
            data = _by_value(error, refused, back=True)
    except BaseException as refused:
        # The text is there in any case.
        return f"{text}It comes as a text, since it cannot be pickled: {_said(refused)}\n"
    return f"{text}\0{b64encode(data).decode()}"


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error!s:.300}".replace("\0", "\\0")
    except BaseException:
        return _name(error)


def open_failure(text: str) -> BaseException:
    """The error of a task, with the traceback of its worker as its cause."""
    story, _, pickled = text.partition("\0")
    error: Any = None
    if pickled:
        try:
            error = loads(b64decode(pickled))
        except BaseException as failed:
            story += f"It comes as a text, since it cannot be unpickled here: {_said(failed)}\n"
    # What would end the program or the event loop here, instead of telling its caller, does not
    # come as itself.
    if not isinstance(error, Exception) or isinstance(error, (StopIteration, StopAsyncIteration)):
        return ProxyException(story)
    # That of a frozen dataclass refuses it.
    BaseException.__setattr__(error, "__cause__", RemoteTraceback(story))
    return error
