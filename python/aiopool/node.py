"""`Node`: this machine's workers serve a cluster; `python -m aiopool node` is it as a program."""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from typing import Any, NamedTuple

from . import _engine, _native
from ._life import Functions
from .cluster import connection, version_of
from .core import check_callable
from .errors import ClusterError


class NodeReport(NamedTuple):
    """What a node did."""

    #: Tasks whose code ended with a value.
    done: int
    #: Tasks whose code ended without one.
    failed: int
    #: Of these, tasks whose worker died.
    lost: int


class Node:
    """A node of a pool over NATS: it runs tasks of `Cluster` in worker processes of this machine.

    `pool`, `version`: as those of the `Cluster`s that it serves.
    `name`: its name; two live nodes cannot have one. A node that is started again under its name frees
    at once what it had when it was killed.
    `processes`, `initializer`, `initargs`, `maxtasksperchild`, `childconcurrency`, `threads`,
    `exit_hook`, `preload`, `grace`, `start_timeout`: as those of `Pool`, but that items of a `map` of a
    plain function that share a task run one after the other in the loop's thread, and count as one.
    `lease`: seconds, 4 to 150: a node that does not reach the server for that long kills what it runs,
    and its tasks are lost or tried elsewhere. At least 20 with three servers.
    The others are those of `Cluster`.
    """

    def __init__(
        self,
        url: str,
        *,
        pool: str = "default",
        name: str | None = None,
        version: str | None = None,
        lease: float = 30.0,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
        maxtasksperchild: int = 0,
        childconcurrency: int = 16,
        threads: int = 0,
        exit_hook: Callable[[], Any] | None = None,
        preload: Sequence[str] = (),
        grace: float | None = None,
        start_timeout: float | None = None,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        nkey_seed: str | None = None,
        credentials_file: str | PathLike[str] | None = None,
        tls: bool = False,
        root_certificates: str | PathLike[str] | None = None,
        client_certificate: tuple[str | PathLike[str], str | PathLike[str]] | None = None,
        inbox_prefix: str | None = None,
        replicas: int = 1,
    ) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a string, and is {url!r:.100}")
        check_callable(initializer=initializer, exit_hook=exit_hook)
        _engine.check_counts(
            processes=processes,
            maxtasksperchild=maxtasksperchild,
            childconcurrency=childconcurrency,
            threads=threads,
            replicas=replicas,
        )
        self._url, self._preload, self._threads = url, list(preload), threads
        if isinstance(preload, str):
            raise TypeError(f"preload={preload!r} is not possible: a list of the names of modules")
        self._functions = Functions(initializer, tuple(initargs), None, None, exit_hook)
        self._access = connection(
            user,
            password,
            token,
            nkey_seed,
            credentials_file,
            tls,
            root_certificates,
            client_certificate,
            inbox_prefix,
            replicas,
        )
        self._options = {
            "pool": pool,
            "name": name,
            "version": version_of(version),
            "lease": lease,
            "processes": processes or _native.processors(),
            "child_concurrency": childconcurrency or 1,
            "max_tasks_per_child": maxtasksperchild,
            "grace": grace,
            "start_timeout": start_timeout,
        }
        self._native: _native.Node | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def run(self) -> NodeReport:
        """Serves until `stop()`, or until SIGTERM, SIGHUP or Ctrl-C in a main thread: then it takes no
        more tasks, finishes what it runs and leaves. A second signal ends the process at once."""
        program, setup = _engine.prepared(
            self._functions,
            preload=self._preload,
            threads=self._threads,
            profile=None,
            options={name: self._options[name] for name in ("processes", "grace")} | {"logs": False},
        )
        preloaded = bool(self._preload)
        with self._lock:
            if self._native is not None:
                raise RuntimeError("the node has run: make another one")
            with _engine.named(_NAMES):
                native = _native.Node(
                    self._url, self._access, program, setup, self._options, preloaded=preloaded
                )
            self._native = native
            if self._stopped:
                native.stop()
        with _signals(self.stop) as woken:
            over, signalled = native.fileno(), woken.fileno()
            while over not in select.select([over, signalled], [], [])[0]:
                # The interpreter runs the signal's handler now.
                woken.recv(64)
        return NodeReport(*native.report())

    def stop(self) -> None:
        """Has the node finish what it runs, and leave; from any thread."""
        with self._lock:
            self._stopped = True
            if self._native is not None:
                self._native.stop()


_NAMES = {"child_concurrency": "childconcurrency", "max_tasks_per_child": "maxtasksperchild"}


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[socket.socket]:
    """Has what asks the process to end call `stop`; gives what is readable when a signal has come."""
    woken, waker = socket.socketpair()
    with woken, waker:
        woken.setblocking(False)
        waker.setblocking(False)
        if threading.current_thread() is not threading.main_thread():
            yield woken
            return
        asked = False

        def handle(number: int, frame: Any) -> None:
            nonlocal asked
            if asked:
                os._exit(128 + number)
            asked = True
            stop()

        before: dict[int, Any] = {}
        earlier = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # What `nohup` has ignored stays so.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, handle)
            yield woken
        finally:
            for kept, handler in before.items():
                signal.signal(kept, handler if handler is not None else signal.SIG_DFL)
            signal.set_wakeup_fd(earlier)


def add_access(parser: argparse.ArgumentParser) -> None:
    """Adds the options by which a command reaches the servers."""
    add = parser.add_argument
    add("--pool", default="default", help="the pool (default)")
    add("--version", metavar="V", help="serves submitters with the same version only")
    add("--user", metavar="NAME", help="who connects; the password is in the variable NATS_PASSWORD")
    add("--creds", metavar="FILE", help="a .creds file")
    add("--nkey", metavar="FILE", help="a file with the seed of an nkey")
    add("--tls", action="store_true", help="refuse a server without TLS")
    add("--tls-ca", metavar="FILE", help="the certificate authorities to trust, in PEM")
    add("--tls-cert", metavar="FILE", help="the certificate to show, in PEM")
    add("--tls-key", metavar="FILE", help="its key")
    add("--inbox-prefix", metavar="TEXT", help="what the subjects of answers begin with")
    add("--replicas", type=int, default=1, metavar="N", help="servers that keep the streams: 1, 3 or 5")


def access(parser: argparse.ArgumentParser, said: argparse.Namespace) -> dict[str, Any]:
    """What `Cluster` and `Node` are given of these options."""
    password = os.environ.get("NATS_PASSWORD")
    if said.user is not None and password is None:
        parser.error("--user needs the password in NATS_PASSWORD")
    if (said.tls_cert is None) != (said.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    seed = None
    if said.nkey is not None:
        try:
            with open(said.nkey, encoding="ascii") as file:
                seed = file.read().strip()
        except (OSError, ValueError) as error:
            parser.error(f"--nkey {said.nkey}: {error}")
    return {
        "pool": said.pool,
        "version": said.version,
        "user": said.user,
        "password": password if said.user is not None else None,
        "credentials_file": said.creds,
        "nkey_seed": seed,
        "tls": said.tls,
        "root_certificates": said.tls_ca,
        "client_certificate": None if said.tls_cert is None else (said.tls_cert, said.tls_key),
        "inbox_prefix": said.inbox_prefix,
        "replicas": said.replicas,
    }


def main(words: list[str]) -> int:
    """Serves as `words` say."""
    parser = argparse.ArgumentParser(
        prog="python -m aiopool node",
        description="Serves a pool over NATS with this machine's Python workers. Ctrl-C and SIGTERM let "
        "what runs finish.",
    )
    add = parser.add_argument
    add("--nats", default="nats://127.0.0.1:4222", metavar="URL", help="the servers, with commas between")
    add("--name", help="the node's name; without it one that no other node has")
    add("--processes", type=int, help="workers (one a processor)")
    add("--child-concurrency", type=int, default=16, metavar="N", help="tasks that a worker has in flight")
    add("--threads", type=int, default=0, metavar="N", help="threads of a worker for plain functions (0)")
    add("--max-tasks-per-child", type=int, default=0, metavar="N", help="then a worker is replaced")
    add("--lease", type=float, default=30.0, metavar="S", help="seconds after which a node that does not "
        "reach the server has lost its tasks (30)")
    add("--preload", default="", metavar="A,B", help="modules that workers have from their start")
    add("--import", dest="imported", action="append", default=[], metavar="MODULE",
        help="a module that is imported now, so that a missing one is known at once")
    add_access(parser)
    said = parser.parse_args(words)
    preload = [name for name in said.preload.split(",") if name]
    for name in said.imported:
        try:
            import_module(name)
        except ImportError as error:
            parser.error(f"--import {name}: {error}")
    try:
        node = Node(
            said.nats,
            name=said.name,
            lease=said.lease,
            processes=said.processes,
            childconcurrency=said.child_concurrency,
            maxtasksperchild=said.max_tasks_per_child,
            threads=said.threads,
            preload=preload,
            **access(parser, said),
        )
        report = node.run()
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    except ClusterError as error:
        print(f"node: {error}", file=sys.stderr)
        return 1
    print(f"{report.done} done, {report.failed} failed")
    return 0
