"""A coroutine's first step is made without an asyncio task: nobody can tell but by the clock."""

import asyncio
import contextvars
import sys

import pools
import pytest
from aiopool import Pool, ProxyException

AT_ONCE = sys.version_info >= (3, 11)
VARIABLE = contextvars.ContextVar("VARIABLE", default=0)


def run(main):
    pools.run(main, 1)


async def at_once(x):
    return x


async def its_task():
    before = asyncio.current_task()
    await asyncio.sleep(0)
    after = asyncio.current_task()
    return before is not None and before is after and before in asyncio.all_tasks()


async def its_task_at_once():
    task = asyncio.current_task()
    return task is asyncio.current_task() and task in asyncio.all_tasks() and not task.done()


async def named():
    asyncio.current_task().set_name("chosen")
    await asyncio.sleep(0)
    return asyncio.current_task().get_name()


def test_who_asks_for_its_task_has_one():
    async def main(pool):
        assert await pool.apply(its_task) is True
        assert await pool.apply(its_task_at_once) is True
        assert await pool.apply(named) == "chosen"
        # Later ones have nothing of it.
        assert await pool.map(at_once, range(500)) == list(range(500))

    run(main)


async def leaves_a_value(number, wait):
    before = VARIABLE.get()
    token = VARIABLE.set(number)
    if wait:
        await asyncio.sleep(0)
    return before, VARIABLE.get(), token.var is VARIABLE


async def resets(number):
    token = VARIABLE.set(number)
    await asyncio.sleep(0)
    VARIABLE.reset(token)
    return VARIABLE.get()


def test_each_has_a_context_of_its_own():
    async def main(pool):
        for wait in (False, True):
            items = [(number, wait) for number in range(1, 100)]
            found = await pool.starmap(leaves_a_value, items)
            assert found == [(0, number, True) for number in range(1, 100)]
        assert await pool.map(resets, range(50)) == [0] * 50

    run(main)


async def limited(seconds):
    try:
        async with asyncio.timeout(seconds):
            await asyncio.sleep(1000)
    except TimeoutError:
        return "ended"


async def grouped(count):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(at_once(number)) for number in range(count)]
    return sum(task.result() for task in tasks)


if AT_ONCE:
    # asyncio has neither before 3.11.
    def test_timeouts_and_task_groups():
        async def main(pool):
            assert await pool.map(limited, [0, 0.01, -1]) == ["ended"] * 3
            assert await pool.apply(grouped, (10,)) == 45

        run(main)


async def cancels_itself(wait):
    asyncio.current_task().cancel()
    if wait:
        await asyncio.sleep(1000)


async def waits(path):
    try:
        open(path, "w").close()
        await asyncio.sleep(1000)
    except asyncio.CancelledError as error:
        with open(path, "w") as file:
            file.write("called off")
        await asyncio.sleep(0)
        raise error


async def catches():
    task = asyncio.create_task(asyncio.sleep(1000))
    asyncio.get_running_loop().call_soon(task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return task.cancelled()


def test_cancelling(tmp_path):
    path = tmp_path / "path"

    async def main(pool):
        # In 3.10 each has a task of the package, whose own end at once is no cancellation.
        for wait in (False, True)[not AT_ONCE :]:
            with pytest.raises(ProxyException, match="cancelled itself"):
                await pool.apply(cancels_itself, (wait,))
        assert await pool.apply(catches) is True
        call = asyncio.create_task(pool.apply(waits, (str(path),)))
        await pools.until(path.exists)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await pools.until(path.read_text)
        assert await pool.apply(at_once, (1,)) == 1

    run(main)


async def raises(error, wait):
    if wait:
        await asyncio.sleep(0)
    raise error


async def cleans_up(path):
    try:
        open(path, "w").close()
        await asyncio.sleep(1000)
    finally:
        with open(path, "a") as file:
            file.write("x")


def test_errors_are_as_those_of_a_task():
    async def main(pool):
        for wait in (False, True):
            with pytest.raises(KeyError) as caught:
                await pool.apply(raises, (KeyError(3), wait))
            assert "_worker.py" not in str(caught.value.__cause__), "the story is the task's own"
            assert "in raises" in str(caught.value.__cause__)
            with pytest.raises(ProxyException, match="GeneratorExit"):
                await pool.apply(raises, (GeneratorExit(), wait))
            with pytest.raises(RuntimeError, match="StopIteration"):
                await pool.apply(raises, (StopIteration(3), wait))
        assert await pool.apply(at_once, (1,)) == 1

    run(main)


def test_the_worker_s_end_cancels_what_waits(tmp_path):
    path = tmp_path / "path"

    async def main():
        async with Pool(1, grace=pools.WATCHDOG) as pool:
            call = asyncio.ensure_future(pool.apply(cleans_up, (str(path),)))
            await pools.until(path.exists)
        with pytest.raises(BaseException):
            await call

    asyncio.run(asyncio.wait_for(main(), pools.WATCHDOG))
    assert path.read_text() == "x"


class Later:
    """A value that could be awaited."""

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "awaited"


async def gives_later(wait):
    if wait:
        await asyncio.sleep(0)
    return Later()


def test_a_value_that_could_be_awaited_arrives_as_it_is():
    async def main(pool):
        for wait in (False, True):
            assert isinstance(await pool.apply(gives_later, (wait,)), Later)

    run(main)
