"""What a task's own code can ask: whether it is cancelled, and which attempt it is."""

import asyncio
import functools
import math
import os
import signal
import threading
from pickle import PickleBuffer

import aiopool
import jobs
import pytest
from aiopool import ProcessPoolExecutor, TaskTimeout, WorkerLost
from pools import run, until, wait_until


def compute(path):
    """Computes until nobody waits for it."""
    os.mkdir(f"{path}.begun")
    while not aiopool.is_cancelled():
        pass
    os.mkdir(f"{path}.ended")


async def in_a_thread(path):
    try:
        await asyncio.to_thread(compute, path)
    except asyncio.CancelledError:
        # The thread has the task's context, and goes on.
        wait_until(lambda: os.path.exists(f"{path}.ended"))
        raise


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("verb", ["apply", "map", "apply in a thread"])
def test_a_function_that_computes_sees_that_it_is_cancelled(tmp_path, threads, verb):
    path = str(tmp_path / "one")

    async def main(pool):
        pid = await pool.apply(jobs.pid)
        patient = pool.with_options(kill_after=math.inf)
        if verb == "map":
            # Once it is known that items may share a task.
            call = asyncio.ensure_future(patient.map(compute, [path]).results())
        else:
            function = compute if verb == "apply" else in_a_thread
            call = asyncio.ensure_future(patient.apply(function, (path,)))
        await until(lambda: os.path.exists(f"{path}.begun"))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: os.path.exists(f"{path}.ended"))
        assert await pool.apply(jobs.pid) == pid

    run(main, 1, threads=threads)


def test_it_sees_that_its_time_is_up(tmp_path):
    path = str(tmp_path / "one")

    async def main(pool):
        pid = await pool.apply(jobs.pid)
        with pytest.raises(TaskTimeout):
            await pool.with_options(timeout=0.2).apply(compute, (path,))
        await until(lambda: os.path.exists(f"{path}.ended"))
        assert await pool.apply(jobs.pid) == pid

    run(main, 1, grace=100)


def test_it_sees_that_its_future_is_cancelled(tmp_path):
    path = str(tmp_path / "one")
    with ProcessPoolExecutor(1) as executor:
        future = executor.submit(compute, path)
        wait_until(lambda: os.path.exists(f"{path}.begun"))
        assert future.cancel()
        assert executor.submit(os.path.exists, f"{path}.ended").result(120)


def tried(*arguments, dies=(), fails=()):
    number = aiopool.attempt()
    if number in dies:
        os.kill(os.getpid(), signal.SIGKILL)
    if number in fails:
        raise LookupError(number)
    return number, *map(len, arguments)


async def tried_later(*arguments, **ends):
    await asyncio.sleep(0)
    return tried(*arguments, **ends)


@pytest.mark.parametrize("function", [tried, tried_later])
def test_attempts_are_counted_however_they_end(function):
    large = PickleBuffer(bytes(1 << 20))

    async def main(pool):
        assert await pool.apply(function) == (1,)
        again = pool.with_options(retries=5)
        assert await again.apply(function, (large,), {"dies": (1, 2)}) == (3, 1 << 20)
        again = pool.with_options(retries=5, retry_on=LookupError)
        assert await again.apply(function) == (1,)
        for arguments in ((), (large,), (b"small", large)):
            lengths = tuple(map(len, map(bytes, arguments)))
            ends = {"dies": (2, 4), "fails": (1, 3)}
            assert await again.apply(function, arguments, ends) == (5, *lengths)
            item = functools.partial(function, dies=(2,), fails=(1,))
            assert await again.starmap(item, [arguments] * 3) == [(3, *lengths)] * 3
        with pytest.raises(WorkerLost) as lost:
            await again.apply(function, (), {"dies": range(3, 10), "fails": (1, 2)})
        assert lost.value.attempt == 6
        # Of nothing that came before.
        assert await pool.map(function, [b"x"] * 100) == [(1, 1)] * 100

    run(main, 1)


async def leave_a_task():
    told = aiopool.attempt(), aiopool.is_cancelled()

    async def later():
        await asyncio.sleep(0.05)
        seen.append((aiopool.attempt(), aiopool.is_cancelled()))

    left.append(asyncio.create_task(later()))
    return told


seen, left = [], []


def what_was_seen():
    return list(seen)


def in_a_child():
    """What a child that a task forks is told."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        told = aiopool.attempt(), aiopool.is_cancelled(), aiopool.task_number(), aiopool.progress(1)
        os.write(writer, repr(told).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read().decode()
    return said, os.waitpid(child, 0)[1], aiopool.attempt()


def test_outside_of_a_task():
    assert (aiopool.attempt(), aiopool.is_cancelled()) == (None, False)

    async def main(pool):
        assert await pool.apply(leave_a_task) == (1, False)
        while not (told := await pool.apply(what_was_seen)):
            await asyncio.sleep(0.01)
        assert told == [(None, True)], "its task is over"
        assert await pool.apply(in_a_child) == ("(None, False, None, False)", 0, 1)
        others = await pool.apply(in_other_threads)
        assert others == (None, False)

    run(main, 1)


def in_other_threads():
    """A thread that was not given the context of the task."""
    told = []
    other = threading.Thread(target=lambda: told.append((aiopool.attempt(), aiopool.is_cancelled())))
    other.start()
    other.join()
    return told[0]
