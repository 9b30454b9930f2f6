"""Every task has an outcome, whatever its code does in the worker."""

import asyncio
import os
import sys
import threading
import time
import warnings

import aiopool
import pytest
from aiopool import Pool, ProxyException, WorkerLost
from pools import WATCHDOG, is_gone, until


def within(main, **options):
    """Runs `main(pool)` in a pool of one worker, which must still work afterwards."""

    async def run():
        async with Pool(1, childconcurrency=4, **options) as pool:
            await asyncio.wait_for(main(pool), WATCHDOG)
            assert await asyncio.wait_for(pool.apply(abs, (-3,)), WATCHDOG) == 3

    asyncio.run(run())


class Unformattable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Unpicklable(Exception):
    def __reduce__(self):
        raise RuntimeError("not to be sent")


class Unreadable(Exception):
    """As a value it cannot be unpickled: its constructor asks for more than it keeps."""

    def __init__(self, a, b):
        super().__init__("only one")


class Noted(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code


class DiesAtTheEnd:
    def __del__(self):
        raise RuntimeError("in __del__")


def throw(kind, *args):
    raise kind(*args)


async def throw_later(kind, *args):
    await asyncio.sleep(0)
    raise kind(*args)


def noted():
    error = Noted(7)
    error.__notes__ = ["a note"]
    raise error


@pytest.mark.parametrize("function", [throw, throw_later])
@pytest.mark.parametrize(
    "kind, args, expected",
    [
        (ValueError, ("a", 1), ValueError),
        (Unformattable, (), Unformattable),
        (Unpicklable, (), ProxyException),
        (Unreadable, (1, 2), Unreadable),
        (GeneratorExit, (), ProxyException),
        (KeyboardInterrupt, (), ProxyException),
        (SystemExit, (3,), ProxyException),
        (StopIteration, (3,), (ProxyException, RuntimeError)),
        (asyncio.CancelledError, (), ProxyException),
        (RecursionError, (), RecursionError),
    ],
)
def test_what_is_raised_reaches_the_caller(function, kind, args, expected):
    async def main(pool):
        with pytest.raises(expected):
            await pool.apply(function, (kind, *args))

    within(main)


def test_attributes_notes_and_the_remote_traceback_come_along():
    async def main(pool):
        with pytest.raises(Noted) as caught:
            await pool.apply(noted)
        error = caught.value
        assert (error.args, error.code, error.__notes__) == ((7,), 7, ["a note"])
        assert isinstance(error.__cause__, aiopool.RemoteTraceback)
        assert "in noted" in str(error.__cause__)

    within(main)


@pytest.mark.parametrize("leave, exitcode", [(os._exit, 3), (os.abort, None)])
def test_a_worker_that_leaves_is_lost_with_its_task(leave, exitcode):
    async def main(pool):
        with pytest.raises(WorkerLost) as caught:
            await pool.apply(leave, (3,) if leave is os._exit else ())
        error = caught.value
        assert (error.exitcode, error.signal) == (exitcode, 6 if exitcode is None else None)
        assert error.function == leave.__name__
        assert error.pid > 0 and error.attempt == 1 and not error.out_of_memory

    within(main)


async def stop_the_loop():
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return "went on"


async def replace_the_loop():
    asyncio.set_event_loop(asyncio.new_event_loop())
    return "went on"


async def close_the_loop():
    asyncio.get_running_loop().close()


async def cancel_everybody():
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()
    return "went on"


async def exit_in_a_subtask():
    async def leave():
        sys.exit(3)

    task = asyncio.create_task(leave())
    await asyncio.sleep(3600)
    await task


def test_what_a_task_does_to_its_loop():
    async def main(pool):
        assert await pool.apply(stop_the_loop) == "went on"
        assert await pool.apply(replace_the_loop) == "went on"
        with pytest.raises(RuntimeError):
            await pool.apply(close_the_loop)
        sleeps = [asyncio.ensure_future(pool.apply(asyncio.sleep, (3600,))) for _ in range(2)]
        # They have begun once this comes back, since one worker takes tasks in their order.
        await pool.apply(abs, (1,))
        assert await pool.apply(cancel_everybody) == "went on"
        for sleep in sleeps:
            with pytest.raises(ProxyException, match="cancelled"):
                await sleep
        with pytest.raises(WorkerLost):
            await pool.apply(exit_in_a_subtask)

    within(main)


def run_a_loop_as_of_old():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, "ran"))


async def is_in_its_loop():
    return asyncio.get_event_loop() is asyncio.get_running_loop()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there is no such loop any more")
def test_a_plain_function_has_an_event_loop_as_in_any_program():
    async def main(pool):
        for _ in range(2):
            assert await pool.apply(run_a_loop_as_of_old) == "ran"
            assert await pool.apply(is_in_its_loop)

    within(main)


async def leave_a_task_behind():
    asyncio.get_running_loop().kept = asyncio.ensure_future(asyncio.sleep(3600))


def forget_the_hook():
    sys.excepthook = None


def test_a_worker_leaves_quietly_whatever_was_left_behind(capfd):
    within(lambda pool: pool.apply(leave_a_task_behind))
    within(lambda pool: pool.apply(forget_the_hook))
    assert capfd.readouterr().err == ""


def test_plain_functions_are_not_called_slow(capfd):
    within(lambda pool: pool.apply(time.sleep, (0.2,)), env={"PYTHONASYNCIODEBUG": "1"})
    assert capfd.readouterr().err == ""


def dies_at_the_end():
    DiesAtTheEnd()
    return 5


def test_an_error_in_a_finalizer_is_nobodys():
    async def main(pool):
        assert await pool.apply(dies_at_the_end) == 5

    within(main)


def raises_itself(error):
    raise RuntimeError("in the handler")


def test_an_exception_handler_that_raises():
    async def main():
        async with Pool(1, exception_handler=raises_itself) as pool:
            with pytest.raises(ValueError):
                await asyncio.wait_for(pool.apply(throw, (ValueError,)), WATCHDOG)

    asyncio.run(main())


def test_results_that_cannot_be_sent_or_read():
    async def main(pool):
        with pytest.raises(ProxyException, match="cannot be pickled"):
            await pool.apply(threading.Lock)
        with pytest.raises(ProxyException, match="cannot be unpickled here"):
            await pool.apply(Unreadable, (1, 2))

    within(main)


def test_a_plain_function_ends_after_its_timeout():
    async def main(pool):
        import time

        with pytest.raises(aiopool.TaskTimeout) as caught:
            await pool.with_options(timeout=0.2).apply(time.sleep, (3600,))
        assert isinstance(caught.value, TimeoutError)
        assert (caught.value.limit, caught.value.started) == (0.2, True)

    async def run():
        async with Pool(1, grace=0.1) as pool:
            await asyncio.wait_for(main(pool), WATCHDOG)

    asyncio.run(run())


def test_terminate_from_another_thread():
    async def main():
        pool = Pool(1)
        waits = asyncio.ensure_future(pool.apply(asyncio.sleep, (3600,)))
        await pool.apply(abs, (1,))
        thread = threading.Thread(target=pool.terminate)
        thread.start()
        with pytest.raises(aiopool.PoolClosed):
            await asyncio.wait_for(waits, WATCHDOG)
        await asyncio.wait_for(pool.join(), WATCHDOG)
        thread.join()

    asyncio.run(main())


def test_several_loops_and_threads_share_a_pool():
    results, errors = [], []

    async def use(pool, number):
        results.append(await asyncio.wait_for(pool.map(abs, range(-number, 0)), WATCHDOG))

    def run(pool, number):
        try:
            asyncio.run(use(pool, number))
        except BaseException as error:
            errors.append(error)

    async def main():
        async with Pool(2) as pool:
            threads = [threading.Thread(target=run, args=(pool, n)) for n in (500, 1500, 3000)]
            for thread in threads:
                thread.start()
            await use(pool, 2000)
            await until(lambda: not any(thread.is_alive() for thread in threads))

    asyncio.run(main())
    assert not errors
    assert sorted(map(len, results)) == [500, 1500, 2000, 3000]
    assert all(result == list(range(len(result), 0, -1)) for result in results)


def test_loops_of_many_threads_come_and_go():
    errors = []

    async def use(pool, number):
        for function in (abs, asyncio.sleep):
            results = pool.starmap(function, [(0,)] * number) if number % 2 else pool.map(abs, [0] * number)
            assert len(await asyncio.wait_for(results.results(), WATCHDOG)) == number

    def run(pool, number):
        try:
            for _ in range(40):
                asyncio.run(use(pool, number))
        except BaseException as error:
            errors.append(error)

    async def main():
        async with Pool(2) as pool:
            threads = [threading.Thread(target=run, args=(pool, n)) for n in range(1, 9)]
            for thread in threads:
                thread.start()
            await until(lambda: not any(thread.is_alive() for thread in threads))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        asyncio.run(main())
    finally:
        sys.setswitchinterval(interval)
    assert not errors, errors


def test_a_pool_that_is_dropped_warns_and_goes():
    pid = []

    async def main():
        pool = Pool(1)
        pid.append(await pool.apply(os.getpid))
        with pytest.warns(ResourceWarning, match="unclosed <aiopool.Pool"):
            del pool

    asyncio.run(main())
    assert is_gone(pid[0])


def test_errors_are_picklable():
    import pickle

    error = WorkerLost("lost", pid=3, signal=9, function="f")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.pid, again.signal) == (WorkerLost, "lost", 3, 9)
    for kind in (aiopool.TaskTimeout, aiopool.PoolClosed, aiopool.InitializerFailed, aiopool.TooLarge):
        assert isinstance(pickle.loads(pickle.dumps(kind("x"))), kind)
