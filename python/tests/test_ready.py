"""Waiting until workers, or a node, can take tasks."""

import asyncio
import os
import pathlib
import threading
import time

import aiopool
import cluster_jobs
import nats
import pytest
from pools import wait_until


def begin(path, held):
    """Says that the worker is there; waits as long as `held` exists."""
    pathlib.Path(path, str(os.getpid())).touch()
    while os.path.exists(held):
        time.sleep(0.01)


def refuse():
    raise ValueError("no licence")


def watched(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, nats.WATCHDOG))


def held_workers(tmp_path):
    """The folder where workers say that they are there, and the file that holds them up."""
    there, held = tmp_path / "there", tmp_path / "held"
    there.mkdir()
    held.touch()
    return there, held


def test_a_pool_is_ready_when_every_initializer_has_returned(tmp_path):
    there, held = held_workers(tmp_path)

    async def main():
        async with aiopool.Pool(2, begin, (str(there), str(held))) as pool:
            ready = [asyncio.ensure_future(pool.ready()) for _ in range(2)]
            given_up = asyncio.ensure_future(pool.ready())
            while len(list(there.iterdir())) < 2:
                await asyncio.sleep(0.01)
            assert not any(one.done() for one in ready)
            given_up.cancel()
            held.unlink()
            await asyncio.gather(*ready)
            assert {str(pid) for pid in pool.processes} == {path.name for path in there.iterdir()}
            await pool.ready()
        with pytest.raises(RuntimeError, match="pool is closed"):
            await pool.ready()
        assert pool._engine._enders == []

    watched(main())


def test_what_keeps_a_pool_from_it_is_raised(tmp_path):
    there, held = held_workers(tmp_path)

    async def main():
        pool = aiopool.Pool(1, refuse)
        with pytest.raises(aiopool.InitializerFailed, match="no licence"):
            await pool.ready()
        pool.terminate()
        with pytest.raises(RuntimeError, match="no licence"):
            await pool.join()
        # A pool that ends while it is waited for.
        pool = aiopool.Pool(1, begin, (str(there), str(held)), grace=0.1)
        ready = asyncio.ensure_future(pool.ready())
        while not list(there.iterdir()):
            await asyncio.sleep(0.01)
        pool.terminate()
        with pytest.raises(aiopool.PoolClosed):
            await ready
        held.unlink()
        await pool.join()

    watched(main())


def test_an_executor_is_waited_for_too(tmp_path):
    there, held = held_workers(tmp_path)
    with aiopool.ProcessPoolExecutor(2, None, begin, (str(there), str(held))) as executor:
        done = []

        def wait():
            executor.ready()
            done.append(not held.exists())

        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: len(list(there.iterdir())) == 2)
        assert not done
        held.unlink()
        thread.join(nats.WATCHDOG)
        assert done == [True]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.ready()
    with aiopool.ProcessPoolExecutor(1, None, refuse) as executor:
        with pytest.raises(aiopool.InitializerFailed, match="no licence"):
            executor.ready()


def test_a_cluster_is_ready_when_a_node_of_its_version_is_there():
    async def main():
        async with (
            aiopool.Cluster(server.url, pool="ready", lease=30) as cluster,
            aiopool.Cluster(server.url, pool="ready", version="2", lease=30) as other,
        ):
            ready = asyncio.ensure_future(cluster.ready())
            others = asyncio.ensure_future(other.ready())
            await asyncio.sleep(0.5)
            assert not ready.done()
            with nats.Node(server.url, "ready"):
                await ready
                async with cluster.job("j") as job:
                    await job.ready()
                    assert await job.apply(cluster_jobs.square, (2,)) == 4
                    await job.finish()
                await cluster.ready()
            assert not others.done()
            other.terminate()
            with pytest.raises(aiopool.PoolClosed):
                await others
            # What is left while it is waited for is left.
            job = await other_job(cluster)
            ready = asyncio.ensure_future(job.ready())
            await asyncio.sleep(0.1)
            await job.leave()
            with pytest.raises(aiopool.PoolClosed, match="ended before it was ready"):
                await ready
            assert not [job["held"] for job in await cluster.jobs() if job["held"] and job["durable"]]

    async def other_job(cluster):
        async with aiopool.Cluster(server.url, pool="ready", version="3", lease=30) as third:
            return await third.job("left")

    with nats.Server() as server:
        watched(main())


def test_drain_waits_for_what_runs_and_ends_what_takes_too_long(tmp_path):
    async def main():
        pool = aiopool.Pool(2)
        calls = [asyncio.ensure_future(pool.apply(asyncio.sleep, (0.2, n))) for n in range(8)]
        await asyncio.sleep(0)
        assert await pool.drain(nats.WATCHDOG)
        assert await asyncio.gather(*calls) == list(range(8))
        with pytest.raises(RuntimeError, match="pool is closed"):
            await pool.apply(abs, (1,))
        pool = aiopool.Pool(1)
        call = asyncio.ensure_future(pool.apply(asyncio.sleep, (3600,)))
        await asyncio.sleep(0)
        assert not await pool.drain(0.2)
        with pytest.raises(aiopool.PoolClosed):
            await call
        for limit, error in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
            with pytest.raises(error, match="limit"):
                await pool.drain(limit)

    watched(main())


def test_a_cluster_is_drained_and_a_job_is_left(tmp_path):
    async def main():
        with nats.Server() as server, nats.Node(server.url, "drained"):
            cluster = await aiopool.Cluster.connect(server.url, pool="drained", lease=30)
            job = await cluster.job("nightly")
            call = asyncio.ensure_future(job.apply(cluster_jobs.note, (str(tmp_path), "x", 3)))
            while not list(tmp_path.iterdir()):
                await asyncio.sleep(0.02)
            assert not await job.drain(0.1)
            with pytest.raises(aiopool.PoolClosed):
                await call
            job = await cluster.job("nightly")
            assert await job.apply(cluster_jobs.note, (str(tmp_path), "x", 3)) == "x"
            assert await job.drain(nats.WATCHDOG)
            assert len(list(tmp_path.iterdir())) == 1
            calls = [asyncio.ensure_future(cluster.apply(cluster_jobs.slow_square, (n,))) for n in range(9)]
            await asyncio.sleep(0)
            assert await cluster.drain(nats.WATCHDOG)
            assert await asyncio.gather(*calls) == [n * n for n in range(9)]

    watched(main())
