"""How far a task is, as its own code says."""

import asyncio
import functools
import os
import signal

import aiopool
import pools
import pytest

run = functools.partial(pools.run, watchdog=120)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def plain(number):
    said = aiopool.progress(1), aiopool.progress(number)
    if number == 13:
        die()
    return said


async def coroutine(number):
    said = [aiopool.progress(number)]
    await asyncio.sleep(0.01)

    async def inner():
        return aiopool.progress(number + 1)

    # What has the task's context speaks for it.
    said.append(await asyncio.create_task(inner()))
    said.append(await asyncio.to_thread(aiopool.progress, number + 2))
    if number == 13:
        die()
    return said


def largest():
    assert aiopool.progress(2**64 - 1)
    die()


async def after():
    """Says something once its task is over."""

    async def later():
        await asyncio.sleep(0.05)
        said.append(aiopool.progress(1))

    left.append(asyncio.create_task(later()))


left, said = [], []


def what_was_said():
    return list(said)


def test_what_a_task_has_said_is_known_after_its_death():
    async def main(pool):
        assert await pool.apply(plain, (7,)) == (True, True)
        assert await pool.apply(coroutine, (7,)) == [True] * 3
        for function, value in ((plain, 13), (coroutine, 15)):
            with pytest.raises(aiopool.WorkerLost) as lost:
                await pool.apply(function, (13,))
            assert lost.value.progress == value
        with pytest.raises(aiopool.WorkerLost) as lost:
            await pool.apply(largest)
        assert lost.value.progress == 2**64 - 1
        with pytest.raises(aiopool.WorkerLost) as lost:
            await pool.apply(die)
        assert lost.value.progress is None

    run(main, 1)


def test_items_that_share_a_task_say_nothing_and_lose_nothing():
    async def main(pool):
        results = await pool.map(plain, range(2000), return_exceptions=True)
        lost = [n for n, result in enumerate(results) if isinstance(result, aiopool.WorkerLost)]
        # What `plain` said of item 13 would have had the chunk lose as many items.
        assert lost[-1] == 13 and results[13].progress == len(lost)
        assert results[14:] == [(False, False)] * 1986

    run(main, 1)


def test_items_with_a_task_each_have_a_progress_each():
    async def main(pool):
        alone = pool.with_options(alone=True)
        results = await alone.map(plain, range(20), return_exceptions=True)
        assert results[13].progress == 13 and results[12] == (True, True)
        results = await pool.map(coroutine, range(12, 15), return_exceptions=True)
        assert results[1].progress == 15

    run(main, 1, childconcurrency=1)


def test_threads_of_a_worker_have_their_tasks():
    async def main(pool):
        assert await pool.map(plain, range(5)) == [(True, True)] * 5
        with pytest.raises(aiopool.WorkerLost) as lost:
            await pool.apply(plain, (13,))
        assert lost.value.progress == 13

    run(main, 1, threads=2)


def test_outside_of_tasks_nothing_is_said():
    assert aiopool.progress(1) is False

    async def main(pool):
        await pool.apply(after)
        while not (told := await pool.apply(what_was_said)):
            await asyncio.sleep(0.01)
        assert told == [False]

    run(main, 1)


@pytest.mark.parametrize(
    ("number", "error"), [(-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("1", TypeError)]
)
def test_what_is_no_number_is_refused(number, error):
    with pytest.raises(error, match="number"):
        aiopool.progress(number)
