"""How a worker process ends: in order, or at once."""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
import multiprocessing.util
import sys
import threading
import weakref
from _io import _IOBase, _RawIOBase
from collections.abc import Callable, Iterable
from os import _exit, write
from types import AsyncGeneratorType, CoroutineType
from typing import Any

from . import _wire
from ._native import end_within

# What the interpreter's own end calls, too.
_END_THREADS: Any = threading._shutdown  # type: ignore[attr-defined]
_RUN_EXIT_HANDLERS = atexit._run_exitfuncs
# What has a finalizer that only says that it was never over.
_SUSPENDED = (asyncio.Future, AsyncGeneratorType, CoroutineType)


def die(error: BaseException) -> None:
    """Ends this process for `error`, at once.

    An interpreter that ends in order closes the coroutines of other tasks first, which would be
    their outcome.
    """
    status = 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    else:
        say(_wire.error_text(error))
    flush((sys.stdout, sys.stderr))
    _exit(status & 0xFF)


def say(text: str) -> None:
    """Writes to the standard error, whatever tasks have made of `sys.stderr`."""
    try:
        sys.stderr.write(text)
    except BaseException:
        try:
            write(2, text.encode(errors="replace"))
        except OSError:
            # There is nobody to say it to.
            pass


def within(seconds: float) -> None:
    """Has this process end in `seconds` at most: threads that tasks have started may go on for
    ever, and the interpreter waits for them."""
    # What tasks have printed is not lost with them.
    flush((sys.stdout, sys.stderr))
    end_within(seconds)


def open_files() -> list[weakref.ref[Any]]:
    """The files that this process has open, for `of_copy`: its copies do not see them."""
    return [weakref.ref(thing) for thing in gc.get_objects() if issubclass(type(thing), _IOBase)]


def forget_handlers() -> None:
    """Has copies of this process run no exit handler of what it has imported, as multiprocessing's
    fork server does: a directory that one of these removes is every copy's."""
    atexit._clear()
    # Those of Python's libraries are for what tasks make, too.
    atexit.register(logging.shutdown)
    finalize: Any = weakref.finalize
    for finalizer in list(finalize._registry):
        finalizer.atexit = False
    # It registers itself with the next finalizer.
    finalize._registered_with_atexit = False
    util: Any = multiprocessing.util
    atexit.register(util._exit_function)


def of_copy(shared: Iterable[weakref.ref[Any]], end: Callable[[int], None] | None) -> None:
    """Ends this process in order: a copy of one that had these files, and had its objects frozen.

    An interpreter that ends takes all its objects apart, and would copy all memory that is shared.
    So this one stays as it is. What tasks made is ended; what the preload made is not a copy's to end.
    `end` is C's `exit`; without it the interpreter ends in its own way.
    """
    if end is None:
        return
    for step in (_END_THREADS, _RUN_EXIT_HANDLERS):
        try:
            step()
        except BaseException as error:
            say(_wire.error_text(error))
    # Not what was frozen.
    made = gc.get_objects()
    kinds = {id(kind): kind for kind in map(type, made)}
    of_files = {number for number, kind in kinds.items() if issubclass(kind, _IOBase)}
    files = [thing for thing in made if id(type(thing)) in of_files]
    open_now = [*files, *(file for ref in shared if (file := ref()) is not None)]
    # Before all else: a finalizer may crash, or have no end.
    flush(open_now)
    with_end = {n for n, kind in kinds.items() if n not in of_files and _finalizer(kind)}
    for thing in [thing for thing in made if id(type(thing)) in with_end]:
        _finalize(thing)
    # All are written before one is closed: some write into others.
    flush(open_now)
    # What writes an end into another one goes before that; descriptors are last.
    for file in sorted(files, key=_closes_late):
        _finalize(file)
    # It writes what C has buffered, and calls C's exit handlers. No other thread of Python's goes on
    # meanwhile.
    end(0)


def exit_of_c() -> Callable[[int], None] | None:
    """C's `exit`, if this interpreter can call C."""
    try:
        import ctypes

        return ctypes.PyDLL(None).exit
    except Exception:
        return None


def flush(files: Iterable[Any]) -> None:
    """Has these files write what they have in their buffers."""
    for file in files:
        try:
            if not file.closed:
                file.flush()
        except OSError as error:
            say(_wire.error_text(error))
        except BaseException:
            # There is nothing behind it any more.
            pass


def _closes_late(file: Any) -> tuple[bool, bool]:
    return type(file).__module__ == "_io", issubclass(type(file), _RawIOBase)


def _finalizer(kind: type) -> Any:
    """What ends objects of this type, found as the interpreter finds it: not by its metaclass."""
    if issubclass(kind, _SUSPENDED):
        return None
    having = (base for base in type.mro(kind) if "__del__" in vars(base))
    return next((vars(base)["__del__"] for base in having), None)


def _finalize(thing: Any) -> None:
    """Calls a finalizer, as the interpreter does when nothing needs the object any more."""
    try:
        finalizer = _finalizer(type(thing))
        if finalizer is not None:
            finalizer(thing)
    except BaseException:
        # Something needs it yet, which the interpreter would have taken apart before.
        pass
