"""What of multiprocessing a call may have: connections, queues, locks, events, sockets.

multiprocessing gives them to a process that it starts. Here a call is sent as if it were such a
process: locks go by their names, descriptors through multiprocessing's own resource sharer, a thread
of this process that gives them to workers that know its key.
"""

from __future__ import annotations

import io
import multiprocessing.context as context
import os
import sys
from multiprocessing import reduction, resource_sharer
from typing import Any

#: The modules whose objects know how to be sent; where none is loaded there is no such object.
_OF_MULTIPROCESSING = ("multiprocessing.connection", "multiprocessing.synchronize", "socket")


def is_possible() -> bool:
    """Whether there can be objects that need this."""
    return any(name in sys.modules for name in _OF_MULTIPROCESSING)


class _ForOne:
    """Stands for the process that multiprocessing believes to be starting."""

    DupFd: Any = resource_sharer.DupFd

    @staticmethod
    def duplicate_for_child(fd: int) -> int:
        return fd


class _Kept:
    """A descriptor that any number of workers may have: those of later times, too."""

    def __init__(self, fd: int) -> None:
        copy = os.dup(fd)
        sharer: Any = resource_sharer._resource_sharer  # type: ignore[attr-defined]

        def send(connection: Any, pid: int) -> None:
            reduction.send_handle(connection, copy, pid)

        def keep() -> None:
            # Called when it was sent, where others are closed.
            sharer._cache[self._id[1]] = (send, keep)

        self._id = sharer.register(send, keep)

    def detach(self) -> int:
        sharer: Any = resource_sharer._resource_sharer  # type: ignore[attr-defined]
        with sharer.get_connection(self._id) as connection:
            return reduction.recv_handle(connection)


class _ForAll(_ForOne):
    DupFd = _Kept


class _Pickler(reduction.ForkingPickler):
    def reducer_override(self, value: Any) -> Any:
        semaphore = getattr(value, "_semlock", None)
        if semaphore is not None and getattr(semaphore, "name", "") is None:
            # Older Pythons would send its address.
            raise RuntimeError(
                f"a {type(value).__name__} that was made in a fork context is for forked children: "
                "for workers of a pool make it with multiprocessing.get_context('spawn')"
            )
        return NotImplemented


def pickled(value: Any, by_all: bool) -> bytes:
    """The pickle of what one worker, or `by_all` every one, is to have.

    Raises what multiprocessing says of an object that cannot be shared so.
    """
    before: Any = context.get_spawning_popen()
    target: Any = _ForAll() if by_all else _ForOne()
    context.set_spawning_popen(target)
    try:
        buffer = io.BytesIO()
        _Pickler(buffer, 5).dump(value)
        return buffer.getvalue()
    finally:
        context.set_spawning_popen(before)
