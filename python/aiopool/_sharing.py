"""What of multiprocessing a call may have: connections, queues, locks, events, sockets.

multiprocessing gives them to a process that it starts. Here a call is sent as if it were such a
process: locks go by their names, descriptors through multiprocessing's own resource sharer, a thread
of this process that gives them to workers that know its key.
"""

from __future__ import annotations

import multiprocessing.context as context
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import reduction, resource_sharer
from typing import Any

from . import _tensors

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


#: What another machine cannot have: the objects of these modules.
_LOCAL = (
    "multiprocessing.connection",
    "multiprocessing.heap",
    "multiprocessing.queues",
    "multiprocessing.shared_memory",
    "multiprocessing.sharedctypes",
    "multiprocessing.synchronize",
)
_here_only = threading.local()


@contextmanager
def on_this_machine_only() -> Iterator[None]:
    """Within this, what only this machine has is refused."""
    before = getattr(_here_only, "refused", False)
    _here_only.refused = True
    try:
        yield
    finally:
        _here_only.refused = before


def _check_elsewhere(value: Any) -> None:
    kind = type(value)
    where = kind.__module__
    bases = [(base.__module__, base.__qualname__) for base in kind.__mro__]
    if ("socket", "socket") in bases or any(module in _LOCAL for module, _ in bases):
        raise TypeError(
            f"a {where}.{kind.__qualname__} is of this machine alone and cannot be sent to a node "
            "of a cluster: send what is in it, or use aiopool.Pool"
        )
    if where == "multiprocessing.managers":
        address = getattr(getattr(value, "_token", None), "address", None)
        if isinstance(address, (str, bytes)):
            raise TypeError(
                f"a {where}.{kind.__qualname__} of a manager with the address {address!r} is of this "
                "machine alone: have the manager listen at (host, port)"
            )


def check(value: Any) -> None:
    """Refuses what only a forked child can have, and for a cluster what only this machine has."""
    if getattr(_here_only, "refused", False):
        _check_elsewhere(value)
        return
    module: Any = sys.modules.get("multiprocessing.synchronize")
    if module is None or not isinstance(value, module.SemLock):
        return
    if getattr(value._semlock, "name", "") is None:
        # Older Pythons would send its address.
        raise RuntimeError(
            f"a {type(value).__name__} that was made in a fork context is for forked children: "
            "for workers of a pool make it with multiprocessing.get_context('spawn')"
        )


#: What is registered with `multiprocessing.reduction.register`: by users, libraries, multiprocessing.
_registered: dict[type, Any] = reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]
_users: tuple[int, bool] = (0, False)


def reducers() -> dict[type, Any]:
    """How objects are pickled that `multiprocessing.reduction.register` was told of."""
    # torch's own would send each tensor through a descriptor.
    known = {kind: how for kind, how in _registered.items() if not kind.__module__.startswith("torch")}
    return known | _tensors.reducers()


def has_reducers() -> bool:
    """Whether somebody but multiprocessing has registered some."""
    global _users
    if _users[0] != len(_registered):
        modules = [str(getattr(how, "__module__", "")) for how in reducers().values()]
        _users = len(_registered), any(not name.startswith("multiprocessing.") for name in modules)
    return _users[1]


@contextmanager
def possible(by_all: bool) -> Iterator[None]:
    """Within this, what multiprocessing shares can be pickled for one worker, or `by_all` for each.

    Others raise what multiprocessing says of an object that cannot be shared so.
    """
    before: Any = context.get_spawning_popen()
    target: Any = _ForAll() if by_all else _ForOne()
    context.set_spawning_popen(target)
    try:
        yield
    finally:
        context.set_spawning_popen(before)
