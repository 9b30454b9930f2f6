"""`map` and `starmap`: lazy, bounded, in order or as they come, and called off as a whole."""

import asyncio
import contextlib
import operator
import os
import time

import jobs
import pytest
from aiopool import Pool, PoolClosed, WorkerLost, aiomultiprocess, task_number
from pools import WATCHDOG, run, until


def counted(taken, items):
    for item in items:
        taken.append(item)
        yield item


@pytest.mark.engine
def test_items_are_taken_as_there_is_room_for_their_results():
    async def main(pool):
        taken, most = [], 0
        given = 0
        async for value in pool.map(abs, counted(taken, range(20_000))):
            assert value == given
            given += 1
            most = max(most, len(taken) - given)
        assert given == 20_000
        assert most <= 1024

    run(main, 2)


task_before = None


def holds_a_chunk(folder, x):
    """Once, the second item of a chunk takes so long that what is behind it becomes a task of its own,
    whose first item waits."""
    global task_before
    slow, number = folder / "slow", task_number()
    if slow.is_symlink():
        if x == int(os.readlink(slow)) + 1:
            (folder / "begun").touch()
            while not (folder / "go on").exists():
                time.sleep(0.01)
    elif x > 5000 and number == task_before:
        with contextlib.suppress(FileExistsError):
            slow.symlink_to(str(x))
            time.sleep(0.1)
    task_before = number
    return x


@pytest.mark.engine
def test_results_of_a_chunk_that_is_not_over_take_room_too(tmp_path):
    async def main(pool):
        taken = given = most = 0

        def items():
            nonlocal taken, most
            for x in range(10_000):
                taken += 1
                most = max(most, taken - given)
                yield tmp_path, x

        async def let_go():
            # All that was submitted meanwhile is over but for that chunk.
            await until(lambda: (tmp_path / "begun").exists() and len(pool._engine.pending()) == 1)
            (tmp_path / "go on").touch()

        letting_go = asyncio.ensure_future(let_go())
        async for value in pool.starmap(holds_a_chunk, items()):
            assert value == given
            given += 1
        await letting_go
        assert given == 10_000 and most <= 1024

    run(main, 2)


@pytest.mark.engine
def test_large_results_are_held_by_size():
    async def main(pool):
        taken, most, given = [], 0, 0
        async for value in pool.map(bytes, counted(taken, [100_000] * 600)):
            given += 1
            assert len(value) == 100_000
            most = max(most, len(taken) - given)
            # Slower than the workers.
            await asyncio.sleep(0)
        assert given == 600
        # What was on its way before the first result was seen is more.
        assert len(taken) == 600

    run(main, 2)


def test_as_completed_gives_what_is_there():
    async def main(pool):
        seen = [value async for value in pool.map(jobs.slowest_first, range(5)).as_completed()]
        assert sorted(seen) == list(range(5))

    run(main, 1, childconcurrency=8)


def test_an_async_iterable_is_a_source():
    async def numbers():
        for number in range(3000):
            if number % 1000 == 0:
                await asyncio.sleep(0)
            yield number

    async def main(pool):
        assert await pool.map(abs, numbers()) == list(range(3000))
        pairs = [pair async for pair in pool.starmap(operator.add, pairs_of(50))]
        assert pairs == [2 * number for number in range(50)]

    async def pairs_of(count):
        for number in range(count):
            yield number, number

    run(main, 2)


def fails_at_five(x):
    if x == 5:
        raise ValueError(x)
    return x


def test_the_first_failure_is_raised_at_once_and_calls_the_rest_off():
    async def main(pool):
        # The first of them takes an hour, the second fails.
        with pytest.raises(ValueError, match="no"):
            await pool.starmap(sleep_or_fail, [(3600, None), (0, "no"), (3600, None)])
        taken = []
        with pytest.raises(ValueError):
            async for _ in pool.map(fails_at_five, counted(taken, iter(int, 1) if False else range(10**9))):
                pass
        assert len(taken) < 10_000

    run(main, 1)


async def sleep_or_fail(seconds, text):
    await asyncio.sleep(seconds)
    if text:
        raise ValueError(text)


def test_exceptions_as_results():
    async def main(pool):
        results = await pool.map(fails_at_five, range(10), return_exceptions=True)
        error = results.pop(5)
        assert isinstance(error, ValueError) and error.args == (5,)
        assert results == [0, 1, 2, 3, 4, 6, 7, 8, 9]

    run(main, 2)


def test_leaving_the_loop_early_calls_the_rest_off():
    async def main(pool):
        async for _ in pool.map(asyncio.sleep, [0] + [3600] * 100):
            break
        # All of the one worker's places are free again.
        assert await pool.map(abs, range(100)) == list(range(100))

    run(main, 1, childconcurrency=4)


def test_an_iterable_that_raises():
    def items():
        yield 1
        raise LookupError("no more")

    async def main(pool):
        with pytest.raises(LookupError, match="no more"):
            await pool.map(abs, items())

    run(main, 1)


def test_close_finishes_a_map_that_nobody_reads():
    async def main():
        pool = Pool(2)
        results = pool.map(abs, range(5000))
        pool.close()
        await asyncio.wait_for(pool.join(), WATCHDOG)
        assert await results == list(range(5000))

    asyncio.run(main())


@pytest.mark.engine
def test_retries_on_error_and_on_death(tmp_path):
    async def main(pool):
        careful = pool.with_options(retries=3, retry_on=LookupError)
        assert await careful.apply(fails_until, (str(tmp_path / "errors"), 3)) == 3
        with pytest.raises(LookupError):
            await pool.apply(fails_until, (str(tmp_path / "alone"), 3))
        careful = pool.with_options(retries=1)
        assert await careful.apply(dies_once, (str(tmp_path / "deaths"),)) == "second"

    run(main, 1)


def fails_until(path, attempts):
    with open(path, "a+") as file:
        file.write("x")
        file.seek(0)
        made = len(file.read())
    if made < attempts:
        raise LookupError(made)
    return made


def note(path):
    """Returns how many times it was called with the file at `path`."""
    with open(path, "a+") as file:
        file.write("x")
        file.seek(0)
        return len(file.read())


def dies(path):
    note(path)
    os._exit(1)


def dies_and_fails(path):
    if note(path) % 2:
        os._exit(1)
    raise LookupError


@pytest.mark.engine
def test_attempts_are_counted_whatever_ended_them(tmp_path):
    async def main(pool):
        careful = pool.with_options(retries=3, retry_on=Exception)
        for function in (dies, dies_and_fails):
            for number, verb in enumerate((careful.apply, careful.map)):
                path = tmp_path / f"{function.__name__}{number}"
                with pytest.raises((WorkerLost, LookupError)) as caught:
                    await verb(function, (str(path),))
                assert path.read_text() == "xxxx"
                if function is dies:
                    assert caught.value.attempt == caught.value.attempts == 4

    run(main, 1)


@pytest.mark.engine
def test_the_end_of_the_pool_is_nothing_to_retry():
    async def main():
        # The one that is asleep is killed soon.
        async with Pool(1, grace=0.1) as pool:
            careful = pool.with_options(retries=3, retry_on=BaseException, backoff=3600)
            calls = [careful.apply(time.sleep, (3600,)), careful.map(time.sleep, [3600])]
            calls = [asyncio.ensure_future(call) for call in calls]
            cancelled = asyncio.ensure_future(careful.apply(time.sleep, (3600,)))
            await asyncio.sleep(0.1)
            cancelled.cancel()
            pool.terminate()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(cancelled, WATCHDOG)
            for call in calls:
                with pytest.raises(PoolClosed):
                    await asyncio.wait_for(call, WATCHDOG)

    asyncio.run(main())


def test_the_door_of_aiomultiprocess_retries_by_the_error_itself(tmp_path):
    async def main():
        async with aiomultiprocess.Pool(1) as pool:
            careful = pool.with_options(retries=3, retry_on=LookupError)
            call = careful.apply(fails_until, (str(tmp_path / "errors"), 3))
            assert await asyncio.wait_for(call, WATCHDOG) == 3

    asyncio.run(main())


async def fails_until_later(path, attempts):
    return fails_until(path, attempts)


@pytest.mark.engine
@pytest.mark.parametrize("backoff", [0, 0.01])
@pytest.mark.parametrize("function", [fails_until, fails_until_later])
def test_items_are_retried_on_errors(tmp_path, function, backoff):
    async def main(pool):
        careful = pool.with_options(retries=2, retry_on=LookupError, backoff=backoff)
        items = [(str(tmp_path / str(number)), number % 3 + 1) for number in range(30)]
        seen = []
        results = careful.starmap(function, items).progress(lambda done, _: seen.append(done))
        assert await results == [attempts for _, attempts in items]
        assert seen == sorted(seen) and seen[-1] == 30
        found = await careful.starmap(
            function, [(str(tmp_path / "never"), 4), (str(tmp_path / "at once"), 1)], return_exceptions=True
        )
        assert [type(one) for one in found] == [LookupError, int] and found[0].args == (3,)

    run(main, 2)


@pytest.mark.engine
@pytest.mark.parametrize("backoff", [0, 0.05])
def test_close_waits_for_what_is_tried_again(tmp_path, backoff):
    async def main():
        pool = Pool(1)
        careful = pool.with_options(retries=2, retry_on=LookupError, backoff=backoff)
        call = asyncio.ensure_future(careful.apply(fails_until, (str(tmp_path / "call"), 3)))
        results = careful.starmap(fails_until, [(str(tmp_path / "item"), 3)])
        await asyncio.sleep(0)
        pool.close()
        await asyncio.wait_for(pool.join(), WATCHDOG)
        assert (await call, await results) == (3, [3])

    asyncio.run(main())


def dies_once(path):
    if os.path.exists(path):
        return "second"
    open(path, "w").close()
    os._exit(1)


@pytest.mark.engine
def test_queue_ttl(tmp_path):
    from aiopool import TaskTimeout

    async def main(pool):
        path = tmp_path / "go on"
        busy = asyncio.ensure_future(pool.apply(jobs.wait_for_a_file, (str(path),)))
        await until((tmp_path / "go on.begun").exists)
        with pytest.raises(TaskTimeout) as caught:
            await pool.with_options(queue_ttl=0.05).apply(abs, (1,))
        assert not caught.value.started
        path.touch()
        await busy

    run(main, 1, childconcurrency=1)


def test_a_hook_is_told_how_far_a_map_is():
    async def main(pool):
        told = []

        def hook(done, total):
            told.append((done, total))

        # Plain functions share tasks, coroutine functions do not.
        for function in (operator.neg, jobs.double):
            told.clear()
            assert len(await pool.map(function, range(3000)).progress(hook)) == 3000
            assert told[-1] == (3000, 3000)
            assert all(one < other for one, other in zip(told, told[1:]))
        told.clear()
        some = pool.map(operator.neg, (x for x in range(50)))
        assert [value async for value in some.progress(hook)] == [-x for x in range(50)]
        assert told[-1] == (50, None)
        told.clear()
        texts = [1, "x", 3]
        results = pool.map(operator.neg, texts, return_exceptions=True).progress(hook)
        assert [type(result) for result in await results] == [int, TypeError, int]
        assert told[-1] == (3, 3)

        def broken(done, total):
            raise KeyError("the hook's own")

        with pytest.raises(KeyError):
            await pool.map(jobs.double, range(100)).progress(broken)

    run(main, 2)
