"""`Cluster`: coroutines and plain functions in the workers of other machines, over NATS JetStream; `Job`:
the same, in a job that outlives its process."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Generator
from os import PathLike
from typing import Any

from . import _engine, _native, _wire
from ._durable import JobResult
from ._engine import Engine
from ._life import Functions
from .options import TaskOptions
from .pool import AnyPool

# Nodes come and go: as many tasks as these would have are on their way before the first result of a
# map has come, and with large results.
_PROCESSES, _CONCURRENCY = 16, 16


def version_of(version: str | None) -> str:
    """What nodes and submitters must have in common: the Python, the package's bytes, the user's word."""
    mine = f"py{sys.version_info[0]}{sys.version_info[1]}-{_wire.FORMAT}"
    if version is None:
        return mine
    if not isinstance(version, str):
        raise TypeError(f"version must be a string, and is {version!r:.100}")
    if not 1 <= len(version) <= 31 - len(mine) or not version.isascii():
        raise ValueError(
            f"version={version!r} is not possible: 1 to {31 - len(mine)} letters, digits, '-' and '_'"
        )
    return f"{mine}-{version}"


def connection(
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
) -> dict[str, Any]:
    """The options of a connection, as the native module has them."""
    if (user is None) != (password is None):
        raise ValueError("user and password go together: give both, or none")
    return {
        "user": None if user is None else (user, password),
        "token": token,
        "nkey_seed": nkey_seed,
        "credentials_file": credentials_file,
        "tls": tls or None,
        "root_certificates": root_certificates,
        "client_certificate": client_certificate,
        "inbox_prefix": inbox_prefix,
        "replicas": replicas,
    }


class OverNodes(AnyPool):
    """What `Cluster` and `Job` have in common."""

    _elsewhere = _wire.ELSEWHERE
    #: How it is connected otherwise.
    _by_await = "`await Cluster.connect()`"
    _url: str
    #: The pool's name.
    _name: str
    _access: dict[str, Any]

    def _set_up(self) -> None:
        self.running = False
        self.process_count, self._concurrency = _PROCESSES, _CONCURRENCY
        self._priorities = 4
        self._options, self._native_options = TaskOptions(), None

    def _serve(self, native: _native.Cluster) -> None:
        self._native = native
        self._engine = Engine(native, Functions(), _PROCESSES)
        self.running = True

    def _state(self) -> str:
        if not hasattr(self, "_engine"):
            return "not connected"
        return "open" if self.running else "over" if self._engine.is_over else "closing"

    async def nodes(self) -> list[dict[str, Any]]:
        """The nodes of the pool, as `aiopool nodes --json` has them: each a dictionary of `name`,
        `alive`, `host`, `processes`, `places`, `taken`, `done`, `failed`, `lost` and others."""
        nodes: list[dict[str, Any]] = (await self._overview())["nodes"]
        return nodes

    async def jobs(self) -> list[dict[str, Any]]:
        """The jobs of the pool, as `aiopool jobs --json` has them: each a dictionary of `job` (its name,
        if it is `durable`), `holder`, `held`, `taken`, `tasks`, `queued` and others."""
        jobs: list[dict[str, Any]] = (await self._overview())["jobs"]
        return jobs

    async def end_job(self, name: str) -> bool:
        """Ends the durable job `name`: its tasks are called off, and its outcomes are gone. False if
        there was none; `JobHeld` while a process holds it."""
        return await asyncio.to_thread(_native.end_job, self._url, self._access, self._name, name)

    async def _overview(self) -> dict[str, Any]:
        seen = await asyncio.to_thread(_native.nodes, self._url, self._access, self._name)
        overview: dict[str, Any] = json.loads(seen)
        return overview

    def stats(self) -> dict[str, Any]:
        """The job as it is now: tasks `submitted` and `outstanding`, the `capacity`, of those that are
        out the `queued` and the `running`, outcomes by their kind (`ok`, `failed`, `timed_out`,
        `worker_lost`, `node_lost` and others), `retries`, and by `nodes` how many outcomes came of each;
        items of a `map` that travel together count as one. Empty after the job's end."""
        self._check_connected()
        found: dict[str, Any] = json.loads(self._engine.snapshot())
        return found

    def _check_connected(self) -> None:
        if not hasattr(self, "_engine"):
            raise RuntimeError(f"the {self._kind} is not connected: `async with` it, or {self._by_await}")

    def _check_open(self) -> None:
        self._check_connected()
        super()._check_open()

    async def ready(self) -> None:
        """Waits until a node of this `version` lives and has places. Tasks may be submitted before that;
        this is for a program that is to say that it is ready."""
        await super().ready()

    def close(self) -> None:
        """Takes no more tasks; those that were asked for are finished."""
        self._check_connected()
        super().close()
        # Of a job that has ended by itself before, nothing more will come.
        self._engine.look_for_end()

    def terminate(self) -> None:
        """Calls off every task that is not over, on its node, too, and ends the job; from any thread."""
        self._check_connected()
        super().terminate()
        self._engine.look_for_end()

    async def join(self) -> None:
        """Waits until a closed cluster's tasks are over, and the job with them."""
        self._check_connected()
        await super().join()


class Cluster(OverNodes):
    """A pool whose workers are those of nodes on other machines, with the verbs of `Pool`:

        async with aiopool.Cluster("nats://a:4222,nats://b:4222", pool="books") as cluster:
            pages = await cluster.map(fetch, urls)

    `python -m aiopool node --nats URL --pool books` makes a machine a node. Functions go by their
    names, which a node imports; those of `__main__` and of notebooks go by cloudpickle. A node that
    dies ends what it ran with `NodeLost`, or it is tried again: see `TaskOptions.retries`.

    `url`: the servers, with commas between them.
    `pool`: the pool, 1 to 32 letters, digits, `-` and `_`.
    `version`: tasks run on nodes with the same one, so that two versions of a program can run side by
    side. The Python's, such as 3.13, and that of the bytes which this package sends are part of it.
    `lease`: seconds, 4 to 150: a submitter that does not reach the server for that long has lost its
    job, whose tasks are then called off.
    `capacity`: tasks that are out at once, at most; further ones wait here.
    `user` and `password`, `token`, `nkey_seed`, `credentials_file`: who connects.
    `tls`: refuses a server without TLS; `root_certificates`: a PEM file of the authorities to trust;
    `client_certificate`: the PEM files of the certificate to show, and of its key.
    `inbox_prefix`: what the subjects of answers begin with.
    `replicas`: servers that keep the pool's streams, where they are made now: 1, 3 or 5.
    """

    _kind = "cluster"

    def __init__(
        self,
        url: str,
        *,
        pool: str = "default",
        version: str | None = None,
        lease: float = 30.0,
        capacity: int = 4096,
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
        _engine.check_types(int, capacity=capacity, replicas=replicas)
        self._url, self._name = url, pool
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
        self._said = {
            "pool": pool,
            "version": version_of(version),
            "lease": lease,
            "capacity": capacity,
        }
        self._set_up()

    @classmethod
    async def connect(cls, url: str, **options: Any) -> Cluster:
        """Connects: `async with await Cluster.connect(url) as cluster:`. The options are those of the
        class."""
        cluster = cls(url, **options)
        await cluster._connect()
        return cluster

    async def _connect(self) -> None:
        if hasattr(self, "_engine"):
            raise RuntimeError("the cluster was connected already: make another one")
        native = await asyncio.to_thread(_native.Cluster, self._url, self._access, self._said)
        self._serve(native)

    def job(self, name: str) -> Job:
        """The durable job `name`: `async with cluster.job("nightly") as job:`, or
        `job = await cluster.job("nightly")`; see `Job`."""
        return Job(self, name)

    async def __aenter__(self) -> Cluster:
        if not hasattr(self, "_engine"):
            await self._connect()
        return self

    def __repr__(self) -> str:
        # The URL may have a password.
        return f"<aiopool.Cluster of pool {self._name!r}, {self._state()}>"


class Job(OverNodes):
    """A job that outlives the process that submits it, with the verbs of `Cluster`:

        async with cluster.job("nightly") as job:
            async for page in job.map(fetch, urls):     # from the first that was not taken before
                save(page)
            await job.finish()

    `name`: 1 to 30 letters, digits, `-` and `_`. Another process resumes the job: it submits the same
    functions and items in the same order. What is there is not sent again, and a task runs once for
    each attempt, whichever process submitted it; an item that is another one than it was ends with
    `ItemsChanged`. So functions and items are what modules have, not what `__main__` has, and sets of
    strings, which each process has in another order, do not go well in them.

    The entry waits for up to a lease and a second where a process held the job that was killed, and
    raises `JobHeld` while another one holds it.

    A map that is iterated over takes note of each result when it is asked for the next: those are not
    given again when the job is resumed, and `taken` counts them. The list of an awaited map, and the
    value of `apply`, are noted by `finish` alone: after a crash they are given again, without running
    again. So may be what was noted in the last seconds before a crash, or behind what was not.

    The end of the block leaves the job: its tasks go on, and the next process can take it at once. A
    caller that is cancelled, or leaves a map, leaves its tasks, too. `terminate` ends the job.
    """

    _kind = "job"
    _elsewhere = _wire.DURABLE
    _results = JobResult
    _by_await = '`await cluster.job("name")`'

    def __init__(self, cluster: Cluster, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, and is {name!r:.100}")
        self._cluster, self._job = cluster, name
        self._url, self._name, self._access = cluster._url, cluster._name, cluster._access
        self._set_up()

    async def _begin(self) -> Job:
        if hasattr(self, "_engine"):
            raise RuntimeError("the job was begun already: ask the cluster for it again")
        self._cluster._check_connected()
        self._serve(await asyncio.to_thread(self._cluster._native.job, self._job))
        self._taken = self._native.taken()
        return self

    @property
    def taken(self) -> int:
        """How many outcomes were taken before the job was resumed: those of the first tasks."""
        self._check_connected()
        return self._taken

    async def finish(self) -> None:
        """Waits until every task is over, and ends the job: its outcomes are gone."""
        self._check_connected()
        if self._engine.is_over:
            raise RuntimeError("the job was left before it was finished: resume it, and finish it then")
        self.running = False
        self._unbind_maps()
        self._engine.finish()
        self._engine.look_for_end()
        await self.join()

    async def leave(self) -> None:
        """Leaves the job to the next holder: its tasks go on. The end of the block does so."""
        self._check_connected()
        self.running = False
        await asyncio.to_thread(self._engine.free)

    async def drain(self, limit: float) -> bool:
        """Closes, and waits until every task is over, at most `limit` seconds; then it leaves the job,
        as it does if all are over. Returns whether all were over in time."""
        return await super().drain(limit)

    async def _end_late(self) -> None:
        await self.leave()

    def __await__(self) -> Generator[Any, None, Job]:
        return self._begin().__await__()

    async def __aenter__(self) -> Job:
        return self if hasattr(self, "_engine") else await self._begin()

    async def __aexit__(self, kind: Any, error: Any, story: Any) -> None:
        await self.leave()

    def __repr__(self) -> str:
        return f"<aiopool.Job {self._job!r} of pool {self._name!r}, {self._state()}>"
