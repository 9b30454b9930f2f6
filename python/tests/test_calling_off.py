"""What becomes of functions whose callers have called them off."""

import asyncio
import math
import os
import pathlib
import time

import jobs
import pytest
from aiopool import Pool, ProcessPoolExecutor, WorkerLost
from pools import WATCHDOG, run

# Seconds: what a plain function has left to end by itself.
GRACE = 0.2


async def until(condition):
    # The only way to see what another process has done.
    while not condition():
        await asyncio.sleep(0.01)


def begun(path):
    return os.path.exists(f"{path}.begun")


def wait_or_return(path):
    """Waits for a file that never comes, but for None."""
    return None if path is None else jobs.wait_for_a_file(path)


def fail_beside(path):
    """Fails once another worker waits for the file, and waits for it otherwise."""
    if path.startswith("fail "):
        while not begun(path.removeprefix("fail ")):
            time.sleep(0.01)
        raise LookupError(path)
    return jobs.wait_for_a_file(path)


def verbs_of(pool, how):
    """The verbs that submit a call in one of the three ways that there are."""
    options = {"usual": {}, "each": {"queue_ttl": 3600}, "again": {"retry_on": OSError}}
    return pool.with_options(**options[how])


WAYS = pytest.mark.parametrize("how", ["usual", "each", "again"])


@WAYS
def test_cancelling_a_plain_function_ends_it(tmp_path, how):
    path = str(tmp_path / "never")

    async def main(pool):
        call = asyncio.ensure_future(verbs_of(pool, how).apply(jobs.wait_for_a_file, (path,)))
        await until(lambda: begun(path))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        # They wait in the queue, not in that worker, and lose nothing with it.
        assert await asyncio.gather(*(pool.apply(abs, (-n,)) for n in range(20))) == list(range(20))
        assert pool.stats()["pool"]["deaths"] == 1

    run(main, 1, grace=GRACE)


@WAYS
def test_leaving_a_map_of_plain_functions_frees_the_workers(tmp_path, how):
    path = str(tmp_path / "never")

    async def main(pool):
        async for value in verbs_of(pool, how).map(wait_or_return, [None, *[path] * 100]):
            assert value is None
            await until(lambda: begun(path))
            break
        assert await pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))

    run(main, 1, grace=GRACE)


@WAYS
def test_the_first_failure_frees_the_workers(tmp_path, how):
    path = str(tmp_path / "never")

    async def main(pool):
        before = set(pool.processes)
        with pytest.raises(LookupError):
            await verbs_of(pool, how).map(fail_beside, [path, f"fail {path}", *[path] * 50])
        await until(lambda: len(before & set(pool.processes)) < 2)
        assert await pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))

    run(main, 2, grace=GRACE)


def test_a_function_may_be_given_all_the_time(tmp_path):
    path = str(tmp_path / "later")

    async def main(pool):
        patient = pool.with_options(kill_after=math.inf)
        call = asyncio.ensure_future(patient.apply(jobs.wait_for_a_file, (path,)))
        await until(lambda: begun(path))
        call.cancel()
        after = asyncio.ensure_future(pool.apply(jobs.pid))
        await asyncio.sleep(4 * GRACE)
        pathlib.Path(path).touch()
        assert [await after] == pool.processes
        assert pool.stats()["pool"]["deaths"] == 0

    run(main, 1, grace=GRACE)


async def clean_up(path):
    pathlib.Path(f"{path}.begun").touch()
    try:
        await asyncio.sleep(3600)
    finally:
        while not os.path.exists(path):
            await asyncio.sleep(0.01)
        pathlib.Path(f"{path}.cleaned").touch()


def test_a_coroutine_is_killed_only_where_that_is_said(tmp_path):
    path, never = str(tmp_path / "later"), str(tmp_path / "never")

    async def main(pool):
        call = asyncio.ensure_future(pool.apply(clean_up, (path,)))
        await until(lambda: begun(path))
        call.cancel()
        await asyncio.sleep(4 * GRACE)
        pathlib.Path(path).touch()
        await until(lambda: os.path.exists(f"{path}.cleaned"))
        assert pool.stats()["pool"]["deaths"] == 0

        # What runs beside it goes with it.
        beside = asyncio.ensure_future(pool.apply(jobs.wait_for_ever, (str(tmp_path / "beside"),)))
        await until(lambda: os.path.exists(tmp_path / "beside.started"))
        call = asyncio.ensure_future(pool.with_options(kill_after=GRACE).apply(clean_up, (never,)))
        await until(lambda: begun(never))
        call.cancel()
        with pytest.raises(WorkerLost):
            await beside

    run(main, 1, grace=GRACE)


def test_threads_go_on(tmp_path):
    path = str(tmp_path / "later")

    async def main(pool):
        call = asyncio.ensure_future(pool.apply(jobs.wait_for_a_file, (path,)))
        await until(lambda: begun(path))
        call.cancel()
        await asyncio.sleep(4 * GRACE)
        assert await pool.apply(abs, (-1,)) == 1
        pathlib.Path(path).touch()
        assert pool.stats()["pool"]["deaths"] == 0

    run(main, 1, threads=2, grace=GRACE)


def test_an_executor_kills_where_that_is_said(tmp_path):
    path = str(tmp_path / "later")
    with ProcessPoolExecutor(1, grace=GRACE) as executor:
        (before,) = executor.processes
        future = executor.submit(jobs.wait_for_a_file, path)
        asyncio.run(asyncio.wait_for(until(lambda: begun(path)), WATCHDOG))
        assert future.cancel()
        time.sleep(4 * GRACE)
        pathlib.Path(path).touch()
        assert executor.submit(os.getpid).result(WATCHDOG) == before

        path = str(tmp_path / "never")
        future = executor.with_options(kill_after=0).submit(jobs.wait_for_a_file, path)
        asyncio.run(asyncio.wait_for(until(lambda: begun(path)), WATCHDOG))
        assert future.cancel()
        assert executor.submit(os.getpid).result(WATCHDOG) != before


def test_a_cluster_refuses_it():
    class Elsewhere(Pool):
        _elsewhere = True

        def __init__(self):
            from aiopool import TaskOptions

            self._options, self._priorities = TaskOptions(), 4

    with pytest.raises(ValueError, match="kill_after=3 is not possible"):
        Elsewhere().with_options(kill_after=3)
