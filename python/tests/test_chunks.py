"""Items of a plain function's `map`, which share tasks: nobody can tell but by the clock."""

import asyncio
import os
import signal
import threading
import time
from pickle import PickleBuffer

import jobs
import pytest
from aiopool import Pool, ProxyException, TooLarge, WorkerLost, task_number
from pools import WATCHDOG, all_are_ready, run


def negative(x):
    return -x


def test_every_item_has_its_result_in_order():
    async def main(pool):
        assert await pool.map(negative, range(200_000)) == list(range(0, -200_000, -1))
        assert await pool.starmap(pow, ((2, n % 7) for n in range(20_000))) == [
            2 ** (n % 7) for n in range(20_000)
        ]
        seen = [value async for value in pool.map(negative, range(50_000))]
        assert seen == list(range(0, -50_000, -1))
        seen = [value async for value in pool.map(negative, range(50_000)).as_completed()]
        assert sorted(seen) == list(range(-49_999, 1))
        assert await pool.map(negative, []) == []
        assert await pool.map(negative, [3]) == [-3]

    run(main, 2)


def noted(path, number, kill_at, fail_at):
    with open(path, "a") as file:
        file.write(f"{number}\n")
    if number == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == fail_at:
        raise LookupError(number)
    return number


def test_a_death_takes_what_was_begun_and_nothing_runs_twice(tmp_path):
    path = str(tmp_path / "begun")

    async def main(pool):
        items = [(path, n, 5000, 7000) for n in range(10_000)]
        results = await pool.starmap(noted, items, return_exceptions=True)
        with open(path) as file:
            begun = [int(line) for line in file]
        assert sorted(begun) == list(range(10_000)), "each once"
        assert isinstance(results[7000], LookupError)
        lost = [n for n, result in enumerate(results) if isinstance(result, WorkerLost)]
        assert lost[-1] == 5000 and lost == list(range(lost[0], 5001))
        good = [n for n in range(10_000) if n not in (*lost, 7000)]
        assert all(results[n] == n for n in good)

    run(main, 2)


def test_the_first_failure_is_raised_and_a_death_too(tmp_path):
    async def main(pool):
        with pytest.raises(LookupError):
            await pool.starmap(noted, [(os.devnull, n, None, 3000) for n in range(10**5)])
        with pytest.raises(WorkerLost) as caught:
            await pool.starmap(noted, [(os.devnull, n, 3000, None) for n in range(10**5)])
        assert caught.value.progress >= 1
        assert caught.value.function == "noted"
        assert await pool.map(negative, [1]) == [-1]

    run(main, 2)


def lock_at_ten(x):
    return threading.Lock() if x == 10 else x


def test_a_result_that_cannot_be_pickled_is_its_items_failure():
    async def main(pool):
        results = await pool.map(lock_at_ten, range(5000), return_exceptions=True)
        error = results[10]
        assert isinstance(error, ProxyException) and "cannot be pickled" in str(error)
        results[10] = 10
        assert results == list(range(5000))

    run(main, 1)


class BadAt:
    """What its worker can pickle, and the host not unpickle; in a list, for what is inside counts."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return refuse, (self.number,)


def bad_at(bad, number):
    return [number, {"inside": BadAt(number)}] if number in bad else [number, {}]


@pytest.mark.parametrize("bad", [{0}, {10, 11, 700}, {4999}])
def test_a_result_that_cannot_be_unpickled_is_its_items_failure(bad):
    async def main(pool):
        items = [(bad, number) for number in range(5000)]
        results = await pool.starmap(bad_at, items, return_exceptions=True)
        for number in sorted(bad):
            error = results[number]
            assert isinstance(error, ProxyException) and f"LookupError: {number}" in str(error)
            results[number] = [number, {}]
        assert results == [[number, {}] for number in range(5000)]
        # That of the worker which comes to one first.
        with pytest.raises(ProxyException, match=f"LookupError: ({'|'.join(map(str, bad))})\\b"):
            await pool.starmap(bad_at, items)
        assert len(await pool.starmap(bad_at, items[1:10])) == 9

    run(main, 2)


def buffer_or_bad(number):
    return BadAt(number) if number == 250 else PickleBuffer(bytes([number % 256]) * (20_000 + number))


def test_large_results_beside_one_that_cannot_be_unpickled():
    async def main(pool):
        results = await pool.map(buffer_or_bad, range(300), return_exceptions=True)
        assert isinstance(results.pop(250), ProxyException)
        for result in results:
            number = len(result) - 20_000
            assert bytes(result) == bytes([number % 256]) * len(result)
        assert [len(result) - 20_000 for result in results] == [*range(250), *range(251, 300)]

    run(main, 2)


class Refuses:
    """Cannot be pickled, or not be unpickled in a worker."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        if self.how == "here":
            raise LookupError("here")
        return refuse, (self.how,)


def refuse(how):
    raise LookupError(how)


def note_number(path, item):
    with open(path, "a") as file:
        file.write(f"{item}\n")
    return item


@pytest.mark.parametrize("bad", [[700], [0, 1, 500, 999], range(0, 1000, 3)])
@pytest.mark.parametrize("how", ["here", "there"])
def test_an_item_that_cannot_be_sent_spoils_no_other(tmp_path, how, bad):
    path = str(tmp_path / "begun")
    items = [(path, Refuses(how) if n in bad else n) for n in range(1000)]

    async def main(pool):
        for kind in (list, given_later):
            results = await pool.starmap(note_number, kind(items), return_exceptions=True)
            for n in bad:
                assert isinstance(results[n], LookupError) and results[n].args == (how,)
                results[n] = n
            assert results == list(range(1000))
            with open(path) as file:
                assert sorted(map(int, file)) == sorted(set(range(1000)) - set(bad)), "each once"
            os.remove(path)
        with pytest.raises(LookupError):
            await pool.starmap(note_number, items)
        if how == "here":
            # Each is a task of its own.
            results = await pool.map(jobs.echo, [1, Refuses(how), 3], return_exceptions=True)
            assert (results[0], results[2]) == (1, 3) and isinstance(results[1], LookupError)

    run(main, 2)


async def given_later(items):
    for item in items:
        yield item


def test_an_item_that_is_too_large_spoils_no_other():
    async def main(pool):
        sizes = [8] * 1000 + [3 << 20] + [8] * 1000
        results = await pool.map(len, map(bytes, sizes), return_exceptions=True)
        assert isinstance(results[1000], TooLarge)
        assert results[:1000] == results[1001:] == [8] * 1000
        # Together they are too large, and none of them alone.
        sizes = [8] * 1000 + [1 << 18] * 100
        assert await pool.map(len, map(os.urandom, sizes)) == sizes
        with pytest.raises(TooLarge):
            await pool.map(len, [bytes(3 << 20)])

    run(main, 2, max_payload=1 << 20)


def test_a_plain_function_that_gives_coroutines():
    async def main(pool):
        # All of them have to run at once.
        assert await pool.map(lambda party: jobs.meet(party), [5] * 5) == [5] * 5
        assert await pool.map(lambda x: jobs.double(x), range(3000)) == list(range(0, 6000, 2))

    run(main, 1, childconcurrency=5)


def slow_from_a_thousand(x):
    if x >= 1000:
        time.sleep(0.05)
    return os.getpid()


@pytest.mark.engine
def test_slow_items_behind_quick_ones_are_shared_out():
    async def main(pool):
        await all_are_ready(pool)
        pids = await pool.map(slow_from_a_thousand, range(1040))
        assert len(set(pids[1000:])) == 2

    run(main, 2)


def slow_to_fail_from_a_thousand(x):
    if x >= 1000:
        time.sleep(0.05)
        raise LookupError(os.getpid())


def test_slow_items_that_fail_are_shared_out_too():
    async def main(pool):
        await all_are_ready(pool)
        results = await pool.map(slow_to_fail_from_a_thousand, range(1040), return_exceptions=True)
        assert results[:1000] == [None] * 1000
        assert {error.args for error in results[1000:]} == {(pid,) for pid in pool.processes}

    run(main, 2)


def test_chunks_of_large_items_stay_small():
    async def main(pool):
        items = (os.urandom(1 << 16) for _ in range(400))
        assert await pool.map(len, items) == [1 << 16] * 400
        # In turns of iteration, too.
        items = (os.urandom(1 << 14) for _ in range(2000))
        assert [size async for size in pool.map(len, items)] == [1 << 14] * 2000

    run(main, 2, max_payload=1 << 20)


def slow_to_the_end(path, number):
    if number >= 1000:
        with open(path, "a"):
            pass
        time.sleep(0.05)
    return number


def test_a_closed_pool_finishes_what_a_slow_chunk_has_left(tmp_path):
    path = str(tmp_path / "begun")

    async def main():
        pool = Pool(1)
        results = pool.starmap(slow_to_the_end, ((path, number) for number in range(1040)))
        numbers = asyncio.ensure_future(results.results())
        while not (os.path.exists(path) and results._exhausted):
            await asyncio.sleep(0.001)
        pool.close()
        assert await numbers == list(range(1040))
        await pool.join()

    asyncio.run(asyncio.wait_for(main(), WATCHDOG))


@pytest.mark.engine
def test_leaving_calls_the_rest_off():
    async def main(pool):
        async for value in pool.map(time.sleep, [0.001] * 10**6):
            assert value is None
            break
        assert await pool.map(negative, range(1000)) == list(range(0, -1000, -1))

    run(main, 1)


def number_of_task(_):
    return task_number()


@pytest.mark.engine
def test_what_is_asked_for_each_item_holds_for_each():
    async def main(pool):
        careful = pool.with_options(timeout=3600)
        # A task each, whose time is its own.
        assert len(set(await careful.map(number_of_task, range(300)))) == 300
        assert len(set(await pool.map(number_of_task, range(300)))) < 300

    run(main, 1)


def test_the_exception_handler_sees_each_error(tmp_path):
    os.environ["AIOPOOL_TEST_NOTES"] = str(tmp_path / "notes")

    async def main(pool):
        items = [(os.devnull, n, None, 50) for n in range(100)]
        await pool.starmap(noted, items, return_exceptions=True)

    run(main, 1, exception_handler=jobs.note)
    assert (tmp_path / "notes").read_text() == "50\n"


@pytest.mark.engine
def test_chunks_grow_while_others_are_on_their_way():
    async def main(pool):
        count = 100_000
        assert len(await pool.map(negative, range(count))) == count
        # Each chunk that ended once made room for one item only, which was the next chunk. A worker
        # that the kernel holds up in the midst of a small chunk takes its items for slow ones.
        assert pool._engine._number < count // 4

    run(main, 2)
