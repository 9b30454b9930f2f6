"""What a type checker is to see; checked by mypy, never run."""

import math
from collections.abc import Iterator
from concurrent.futures import Future

from typing_extensions import assert_type

import aiopool
import aiopool.trio


async def fetch(url: str) -> bytes:
    return url.encode()


async def main() -> None:
    async with aiopool.Pool(2) as pool:
        assert_type(await pool.apply(fetch, ("x",)), bytes)
        assert_type(await pool.apply(math.sqrt, (4,)), float)
        assert_type(await pool.map(fetch, ["x", "y"]), list[bytes])
        async for root in pool.map(math.sqrt, [1, 4]):
            assert_type(root, float)
        async for page in pool.starmap(fetch, [("x",)]).as_completed():
            assert_type(page, bytes)
        assert_type(await pool.broadcast(fetch, ("x",)), list[bytes])
        assert_type(await pool.broadcast(math.sqrt, (4,)), list[float])
        assert_type(await pool.with_options(timeout=1.5).apply(fetch, ("x",)), bytes)


assert_type(aiopool.progress(7), bool)
assert_type(aiopool.is_cancelled(), bool)
assert_type(aiopool.attempt(), int | None)


def in_an_executor() -> None:
    with aiopool.ProcessPoolExecutor(2) as executor:
        assert_type(executor.submit(fetch, "x"), Future[bytes])
        assert_type(executor.submit(math.sqrt, 4), Future[float])
        assert_type(executor.broadcast(fetch, "x"), list[Future[bytes]])
        assert_type(executor.with_options(timeout=1.5).submit(fetch, "x").result(), bytes)
        assert_type(executor.map(fetch, ["x", "y"], chunksize=2), Iterator[bytes])
        assert_type(list(executor.map(math.sqrt, [1, 4])), list[float])


async def in_trio(executor: aiopool.ProcessPoolExecutor) -> None:
    assert_type(await aiopool.trio.run(executor, fetch, "x"), bytes)
    assert_type(await aiopool.trio.run(executor, math.sqrt, 4), float)


async def over_nodes() -> None:
    async with aiopool.Cluster("nats://127.0.0.1:4222", pool="books") as cluster:
        assert_type(cluster, aiopool.Cluster)
        assert_type(await cluster.apply(fetch, ("x",)), bytes)
        assert_type(await cluster.map(math.sqrt, [1, 4]), list[float])
    async with await aiopool.Cluster.connect("nats://127.0.0.1:4222") as cluster:
        assert_type(await cluster.with_options(retries=2).apply(fetch, ("x",)), bytes)
    async with cluster.job("nightly") as job:
        assert_type(job, aiopool.Job)
        assert_type(await job.map(fetch, ["x"]), list[bytes])
        async for page in job.map(fetch, ["x"]):
            assert_type(page, bytes)
        await job.finish()
    assert_type(await cluster.job("nightly"), aiopool.Job)
    assert_type(aiopool.Node("nats://127.0.0.1:4222").run(), aiopool.NodeReport)
