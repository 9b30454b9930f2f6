"""One task in every worker."""

import asyncio
import os
import time
from concurrent.futures import wait

import aiopool
import jobs
import pytest
from aiopool import PoolClosed, ProcessPoolExecutor, TaskTimeout, TooLarge, WorkerLost
from pools import WATCHDOG, run

kept = []


def keep(value):
    kept.append(value)
    return os.getpid()


def what_is_kept():
    return list(kept)


async def fail_in(pids):
    await asyncio.sleep(0)
    if os.getpid() in pids:
        raise LookupError(os.getpid())
    return os.getpid()


def die_in(pids):
    if os.getpid() in pids:
        os._exit(3)
    return os.getpid()


def give_an_error():
    return LookupError("a value")


def test_each_worker_runs_it_once():
    async def main(pool):
        await pool.ready()
        pids = await pool.broadcast(keep, (1,))
        assert sorted(pids) == sorted(pool.processes)
        # Their places are the workers' seats.
        assert await pool.broadcast(keep, kwds={"value": 2}) == pids
        assert await pool.broadcast(what_is_kept) == [[1, 2]] * 3
        assert await pool.broadcast(jobs.pid) == pids
        assert await pool.broadcast(lambda: 7) == [7] * 3
        values = await pool.broadcast(give_an_error)
        assert [error.args for error in values] == [("a value",)] * 3

    run(main, 3)


def test_beside_other_tasks_with_queues_of_their_own():
    async def main(pool):
        others = pool.map(jobs.double, range(5000))
        counts = [pool.broadcast(keep, (n,)) for n in range(20)]
        pids = await asyncio.gather(*counts)
        assert all(len({*some}) == 3 for some in pids)
        assert await others == list(range(0, 10_000, 2))
        assert [sorted(seen) for seen in await pool.broadcast(what_is_kept)] == [[*range(20)]] * 3

    run(main, 3, queuecount=3)


def test_an_error_is_of_its_worker():
    async def main(pool):
        await pool.ready()
        pids = await pool.broadcast(jobs.pid)
        found = await pool.broadcast(fail_in, (pids[1:],), return_exceptions=True)
        assert found[0] == pids[0]
        assert [error.args for error in found[1:]] == [(pid,) for pid in pids[1:]]
        with pytest.raises(LookupError, match=str(pids[1])):
            await pool.broadcast(fail_in, (pids[1:],))
        found = await pool.broadcast(die_in, (pids[2:],), return_exceptions=True)
        assert found[:2] == pids[:2] and isinstance(found[2], WorkerLost)
        assert (found[2].exitcode, found[2].function, found[2].worker) == (3, "die_in", 2)
        assert len(await pool.broadcast(jobs.pid)) == 3

    run(main, 3)


def test_what_it_may_be_given():
    async def main(pool):
        limited = pool.with_options(timeout=0.2)
        for error in await limited.broadcast(time.sleep, (3600,), return_exceptions=True):
            assert isinstance(error, TaskTimeout)
        for options in ({"retries": 1}, {"key": 1}, {"alone": True}, {"queue_ttl": 1}):
            with pytest.raises(ValueError, match=f"{[*options][0]}=.* not possible with broadcast"):
                await pool.with_options(**options).broadcast(jobs.pid)
        large = bytes(100_000)
        assert await pool.broadcast(len, (large,)) == [100_000] * 2
        with pytest.raises(TooLarge):
            await pool.broadcast(len, (bytes(3 << 20),))
        assert await pool.broadcast(len, (b"after",)) == [5] * 2

    run(main, 2, queuecount=2, max_payload=1 << 20, grace=0.2)


def test_a_closed_pool_finishes_it_and_one_that_is_terminated_ends_it():
    async def main():
        async with aiopool.Pool(2) as pool:
            pids = asyncio.ensure_future(pool.broadcast(jobs.pid))
            await asyncio.sleep(0)
            pool.close()
            assert len({*await pids}) == 2
            with pytest.raises(PoolClosed):
                await pool.broadcast(jobs.pid)
        async with aiopool.Pool(2, grace=0.2) as pool:
            await pool.ready()
            endless = pool.broadcast(jobs.wait_for_ever, return_exceptions=True)
            endless = asyncio.ensure_future(endless)
            await asyncio.sleep(0)
            pool.terminate()
            assert [type(error) for error in await endless] == [PoolClosed] * 2

    asyncio.run(asyncio.wait_for(main(), WATCHDOG))


def test_in_an_executor():
    with ProcessPoolExecutor(2, grace=0.2) as executor:
        executor.ready()
        pids = [future.result(WATCHDOG) for future in executor.broadcast(keep, value=1)]
        assert sorted(pids) == sorted(executor.processes)
        futures = executor.broadcast(fail_in, pids[1:])
        wait(futures, WATCHDOG)
        assert futures[0].result() == pids[0]
        assert isinstance(futures[1].exception(), LookupError)
        for future in executor.with_options(timeout=0.2).broadcast(time.sleep, 3600):
            assert isinstance(future.exception(WATCHDOG), TaskTimeout)
        with pytest.raises(ValueError, match="retries=1 is not possible with broadcast"):
            executor.with_options(retries=1).broadcast(jobs.pid)
        last = executor.broadcast(jobs.pid)
    assert len({future.result() for future in last}) == 2
    with pytest.raises(PoolClosed):
        executor.broadcast(jobs.pid)
