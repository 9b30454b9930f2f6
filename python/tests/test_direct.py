"""Usual calls have no Python object of their own on their way: nobody can tell but by the clock."""

import asyncio
import enum
import gc
import math
import socket
import threading
import weakref

import pools
import pytest
from aiopool import Pool, PoolClosed, WorkerLost, _results


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    pass


async def same(x):
    return x


async def pair(x, y):
    return x, y


def same_now(x):
    return x


PLAIN = [
    *(None, True, False, 0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**63 - 1, -(2**63)),
    *(2**63, -(2**100), 0.0, -0.0, 1.5, math.inf, -math.inf, "", "a", "ä€😀", "\ud800", "x" * 255),
    *("y" * 256, b"", b"\0\xff", b"z" * 300, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((),) * 40),
    *((((((1,),),),),), ((1, 2, 3, 4), (5, 6, 7, 8, (9, 8, 7, 6))), ({},), ([], {}), Number.ONE),
    *(Text("sub"), [1, [2]], {"a": {}}, {1, 2}, 1j, bytearray(b"b"), range(3), ("x" * 300, 1)),
]


def as_it_is(value):
    return type(value), repr(value)


def run(main, processes=2):
    pools.run(main, processes)


def test_values_come_back_as_they_were():
    async def main(pool):
        expected = list(map(as_it_is, PLAIN))
        for function in (same, same_now):
            assert [as_it_is(await pool.apply(function, (one,))) for one in PLAIN] == expected
            assert list(map(as_it_is, await pool.map(function, PLAIN))) == expected
        pairs = [(one, one) for one in PLAIN]
        found = await pool.starmap(pair, map(list, pairs))
        assert list(map(as_it_is, found)) == list(map(as_it_is, pairs))
        assert math.isnan(await pool.apply(same, (math.nan,)))

    run(main)


async def alone(x):
    if x == 3:
        raise ValueError(x)
    return x


def test_failures_keep_their_places_among_results():
    async def main(pool):
        found = await pool.map(alone, range(6), return_exceptions=True)
        assert [x if isinstance(x, int) else type(x) for x in found] == [0, 1, 2, ValueError, 4, 5]
        with pytest.raises(ValueError):
            await pool.map(alone, range(10_000))
        # Nothing of what was called off comes to the next.
        assert await pool.map(same, range(3000)) == list(range(3000))

    run(main)


def test_an_iterator_that_raises_ends_its_map():
    def items():
        yield from range(5)
        raise LookupError("no more")

    async def main(pool):
        with pytest.raises(LookupError):
            await pool.map(same, items())
        assert await pool.apply(same, (1,)) == 1

    run(main)


async def forever(_):
    await asyncio.sleep(3600)


def test_a_call_that_is_cancelled_makes_room():
    async def main(pool):
        calls = [asyncio.ensure_future(pool.apply(forever, (n,))) for n in range(40)]
        await asyncio.sleep(0.1)
        for call in calls:
            call.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in done)
        assert await pool.apply(same, (1,)) == 1
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pool.apply(forever, (0,)), 0.05)
        await pools.until(lambda: not pool._engine._native.on_the_way())

    run(main, 1)


def test_those_on_their_way_end_with_the_pool():
    async def main():
        pool = Pool(1)
        assert await pool.apply(same, (1,)) == 1
        calls = [asyncio.ensure_future(pool.apply(forever, (n,))) for n in range(30)]
        items = pool.map(forever, range(30))
        await asyncio.sleep(0.05)
        pool.terminate()
        await pool.join()
        for one in [*calls, items]:
            with pytest.raises(PoolClosed):
                await asyncio.wait_for(one, pools.WATCHDOG)
        assert pool._engine.is_over

    asyncio.run(main())


async def dies(x):
    import os

    os._exit(x)


def test_a_lost_worker_is_named_with_the_function():
    async def main(pool):
        for lost in (pool.apply(dies, (3,)), pool.map(dies, [3])):
            with pytest.raises(WorkerLost) as caught:
                await lost
            assert (caught.value.function, caught.value.exitcode) == ("dies", 3)

    run(main, 1)


class Stop(KeyboardInterrupt):
    pass


def test_a_task_that_stops_the_loop_keeps_nobody_from_going_on():
    async def one(pool, number):
        found = await pool.apply(same, (number,))
        if number == 0:
            raise Stop
        return found

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def start():
        pool = Pool(1)
        await pool.apply(same, (1,))
        return pool

    pool = loop.run_until_complete(start())
    tasks = [loop.create_task(one(pool, number)) for number in range(200)]
    with pytest.raises(Stop):
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    rest = asyncio.gather(*tasks[1:])
    assert loop.run_until_complete(asyncio.wait_for(rest, pools.WATCHDOG)) == list(range(1, 200))
    pool.terminate()
    loop.run_until_complete(pool.join())
    loop.close()
    asyncio.set_event_loop(None)


def test_a_task_may_run_the_loop_inside_of_itself():
    async def main(pool):
        loop = asyncio.get_running_loop()
        found = []

        async def one(number):
            found.append(await pool.apply(same, (number,)))
            if len(found) == 1:
                # As nest_asyncio does.
                task = asyncio.current_task()
                asyncio.tasks._leave_task(loop, task)
                end = loop.time() + pools.WATCHDOG
                while len(found) < 50 and loop.time() < end:
                    loop._run_once()
                asyncio.tasks._enter_task(loop, task)
                assert len(found) == 50

        await asyncio.gather(*(one(number) for number in range(50)))
        assert sorted(found) == list(range(50))

    run(main, 1)


def test_each_goes_on_in_the_thread_of_its_loop():
    async def main(pool):
        async def calls():
            own = threading.get_ident()
            for number in range(300):
                assert await pool.apply(same, (number,)) == number
                assert threading.get_ident() == own
            assert await pool.map(same, range(1000)) == list(range(1000))
            assert threading.get_ident() == own
            return True

        others = [asyncio.to_thread(asyncio.run, calls()) for _ in range(3)]
        assert await asyncio.gather(calls(), *others) == [True] * 4

    run(main)


class Held:
    pass


def test_a_call_whose_loop_is_gone_leaves_nothing():
    async def call(pool):
        held = Held()
        loop = asyncio.get_running_loop()
        asyncio.create_task(keeps(pool, held))
        await asyncio.sleep(0.05)
        return weakref.ref(held), loop

    async def keeps(pool, held):
        await pool.apply(forever, (1,))
        del held

    async def main(pool):
        found, _ = await asyncio.to_thread(asyncio.run, call(pool))

        def is_gone():
            gc.collect()
            return found() is None

        # Its loop's thread may be about to let go of it.
        await pools.until(is_gone)

    run(main, 1)


def test_calls_in_a_row_give_way_to_all_that_the_loop_waits_for():
    async def main(pool):
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        here.setblocking(False)
        came = set()

        def note(what):
            came.add(what)
            if what == "socket":
                loop.remove_reader(here)

        loop.add_reader(here, note, "socket")
        loop.call_later(0.01, note, "timer")
        loop.call_soon(note, "callback")
        await asyncio.to_thread(there.send, b"x")
        threading.Timer(0.01, loop.call_soon_threadsafe, (note, "thread")).start()
        # None of these waits for anything but its call.
        while came != {"socket", "timer", "callback", "thread"}:
            assert await pool.apply(same, (1,)) == 1
        here.close()
        there.close()

    run(main, 1)


def test_a_result_that_finds_no_memory_costs_no_other(monkeypatch):
    real, failures = _results.Items, [MemoryError("no room for it")]

    def items(ready, append):
        def note(index):
            if failures:
                raise failures.pop()
            append(index)

        return real(ready, note)

    async def main(pool):
        monkeypatch.setattr(_results, "Items", items)
        found = pool.map(same, range(100), return_exceptions=True)
        calls = [pool.apply(same, (n,)) for n in range(100)]
        found, *rest = await asyncio.gather(found, *calls)
        assert rest == list(range(100))
        (error,) = [one for one in found if isinstance(one, Exception)]
        assert isinstance(error, MemoryError) and str(error) == "no room for it"
        assert sum(a == b for a, b in zip(found, range(100), strict=True)) == 99

    run(main, 1)


def test_a_loop_that_ended_in_the_midst_of_a_call_leaves_the_next_one_nothing():
    loop = asyncio.new_event_loop()

    async def begin():
        pool = Pool(1)
        assert await pool.apply(same, (1,)) == 1
        asyncio.ensure_future(pool.apply(same, (2,)))
        return pool

    async def go_on():
        # Each of them a second, if the pool believed that the old loop is about to look.
        for number in range(300):
            assert await pool.apply(same, (number,)) == number
        pool.close()
        await pool.join()

    pool = loop.run_until_complete(begin())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False
    loop.close()
    asyncio.run(asyncio.wait_for(go_on(), pools.WATCHDOG))


class Gives(Held):
    def give(self):
        return 1


def test_a_callable_is_not_kept_after_its_call():
    async def main(pool):
        gives = Gives()
        found = weakref.ref(gives)
        assert await pool.apply(gives.give) == 1
        del gives
        gc.collect()
        assert found() is None

    run(main, 1)
