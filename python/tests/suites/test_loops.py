"""Event loops other than asyncio's own, in hosts and in workers."""

import asyncio
import math

import aiopool.trio
import anyio
import pytest
import trio
import uvloop
from aiopool import Pool, ProcessPoolExecutor

WATCHDOG = 120


async def name_of_loop():
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


async def wait_for_ever(path):
    path.with_name("begun").touch()
    try:
        await asyncio.sleep(3600)
    finally:
        open(path, "w").close()


async def use(pool):
    assert await pool.map(math.sqrt, range(1000)) == [math.sqrt(x) for x in range(1000)]
    assert await pool.apply(divmod, (7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await pool.apply(divmod, (1, 0))


async def host(path):
    async with Pool(2) as pool:
        await use(pool)
        assert await pool.apply(name_of_loop) == "asyncio"
    async with Pool(1, loop_initializer=uvloop.new_event_loop, grace=WATCHDOG) as pool:
        await use(pool)
        assert set(await pool.map(name_of_loop_of, range(20))) == {"uvloop"}
        waits = asyncio.ensure_future(pool.apply(wait_for_ever, (path,)))
        while not path.with_name("begun").exists():
            await asyncio.sleep(0.01)
    # The worker left in order: what it ran was cancelled.
    assert path.exists()
    with pytest.raises(aiopool.PoolClosed):
        await waits


async def name_of_loop_of(_):
    return await name_of_loop()


def test_uvloop(tmp_path):
    uvloop.run(asyncio.wait_for(host(tmp_path / "cancelled"), WATCHDOG))


def test_anyio(tmp_path):
    async def main():
        async with Pool(2) as pool:
            await use(pool)
            async with anyio.create_task_group() as group:
                for x in range(50):
                    group.start_soon(pool.apply, math.sqrt, (x,))
            with anyio.move_on_after(0.1) as scope:
                await pool.apply(asyncio.sleep, (3600,))
            assert scope.cancelled_caught

    anyio.run(main)


def test_trio():
    async def main():
        with ProcessPoolExecutor(2) as executor:
            results = {}

            async def one(x):
                results[x] = await aiopool.trio.run(executor, math.sqrt, x)

            async with trio.open_nursery() as nursery:
                for x in range(50):
                    nursery.start_soon(one, x)
            assert results == {x: math.sqrt(x) for x in range(50)}
            assert await aiopool.trio.run(executor, name_of_loop) == "asyncio"
            with pytest.raises(ZeroDivisionError):
                await aiopool.trio.run(executor, divmod, 1, 0)
            with trio.move_on_after(0.1) as scope:
                await aiopool.trio.run(executor, asyncio.sleep, 3600)
            assert scope.cancelled_caught
            # The task is cancelled, so that shutdown does not wait for it.

    trio.run(main)
