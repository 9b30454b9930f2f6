"""What user code does to its worker: each task has an outcome that says what happened, and the pool
goes on."""

import asyncio
import builtins
import ctypes
import gc
import os
import pickle
import resource
import signal
import sys
import threading
import time
import warnings

import pytest
from aiopool import Pool, ProxyException, TaskTimeout, WorkerLost
from pools import WATCHDOG


def in_a_pool(main, **options):
    """Runs `main(pool)` in a pool of one worker, which must still work afterwards."""

    async def run():
        async with Pool(1, childconcurrency=4, grace=0.5, **options) as pool:
            await goes_on(main, pool)

    asyncio.run(run())


async def goes_on(main, pool):
    await asyncio.wait_for(main(pool), WATCHDOG)
    assert await asyncio.wait_for(pool.apply(abs, (-3,)), WATCHDOG) == 3
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(pool.apply(divmod, (1, 0)), WATCHDOG)


@pytest.fixture(scope="module")
def in_the_pool():
    """Runs a `main(pool)` as `in_a_pool` does, in one pool for all; its workers are quick copies."""
    pool = Pool(1, childconcurrency=4, grace=0.5, preload=["json"])
    run = asyncio.new_event_loop().run_until_complete
    yield lambda main: run(goes_on(main, pool))
    run(pool.__aexit__(None, None, None))
    run.__self__.close()


def replace_dumps():
    pickle.dumps = pickle.loads = None
    return "went on"


async def replace_asyncio():
    for name in ("Task", "CancelledError", "wait", "get_running_loop", "gather"):
        setattr(asyncio, name, None)
    return "went on"


def replace_builtins():
    for name in ("len", "isinstance", "print", "getattr", "type", "BaseException"):
        setattr(builtins, name, None)
    return "went on"


async def replace_what_the_loop_does():
    asyncio.get_running_loop().call_soon = None
    return "went on"


async def make_the_loop_odd():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda *arguments: None)
    loop.set_exception_handler(lambda *arguments: 1 / 0)
    loop.call_soon(lambda: 1 / 0)
    loop.set_debug(True)
    return "went on"


def forget_all_modules():
    sys.modules.clear()
    return "went on"


def lower_the_limit_of_recursion():
    sys.setrecursionlimit(sys.getrecursionlimit() // 10)
    return "went on"


def recurse(depth=0):
    return recurse(depth + 1)


def go_without_streams():
    sys.stdout = sys.stderr = None
    return "went on"


def close_standard_descriptors():
    os.closerange(0, 3)
    return "went on"


def leave_no_room_for_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return "went on"


def leave_a_thread():
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return "went on"


def replace_signal_handlers():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *arguments: 1 / 0)
    os.kill(os.getpid(), signal.SIGTERM)


def forget_the_environment():
    os.environ.clear()
    os.chdir("/")
    os.umask(0o777)
    return "went on"


def make_warnings_errors():
    warnings.simplefilter("error")
    return "went on"


def stop_collecting():
    gc.disable()
    gc.set_threshold(0)
    return "went on"


def fork_and_return():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        return "the child"
    os.waitpid(child, 0)
    return "went on"


def trace_with_errors():
    def trace(*arguments):
        raise RuntimeError("the tracer")

    sys.settrace(trace)
    return "went on"


async def return_a_coroutine():
    return asyncio.sleep(0)


async def generate():
    yield 1


class Awaited:
    """Awaitable, and yields what a loop cannot wait for."""

    def __await__(self):
        yield 42


async def await_rubbish():
    await Awaited()


async def await_a_future_of_another_loop():
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()


async def cancel_itself_from_within():
    asyncio.current_task().cancel()
    await asyncio.sleep(3600)


async def ignore_cancellation():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


def run_a_loop():
    async def main():
        await asyncio.sleep(0)
        return "went on"

    return asyncio.run(main())


class SaysNothing(Exception):
    def __str__(self):
        sys.exit("in __str__")

    __repr__ = __str__

    def __reduce__(self):
        raise KeyboardInterrupt


class ExitsWhenSent:
    def __reduce__(self):
        sys.exit("in __reduce__")


class DiesWhenSent:
    def __reduce__(self):
        os._exit(7)


class RaisesWhenRead:
    """Unpickling it raises, in the worker."""

    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return throw, (self.kind,)


def throw(kind, *args):
    raise kind(*args)


def give(kind):
    return kind()


def take(value):
    return value


def segfault():
    ctypes.string_at(0)


def kill_the_parent():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(3600)


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def exit_in_a_thread():
    threading.Thread(target=os._exit, args=(9,)).start()
    time.sleep(3600)


def alarm():
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(3600)


def interrupt_later():
    def ring(*arguments):
        raise InterruptedError("the alarm")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    return "went on"


async def exit_from_a_callback():
    asyncio.get_running_loop().call_soon(sys.exit, 5)
    await asyncio.sleep(3600)


async def interrupt_in_a_subtask():
    async def interrupt():
        raise KeyboardInterrupt

    await asyncio.create_task(interrupt())


def close_everything():
    os.closerange(3, 1 << 12)
    return "went on"


@pytest.mark.parametrize(
    "function",
    [
        replace_dumps,
        replace_asyncio,
        replace_builtins,
        replace_what_the_loop_does,
        make_the_loop_odd,
        forget_all_modules,
        lower_the_limit_of_recursion,
        go_without_streams,
        close_standard_descriptors,
        leave_no_room_for_descriptors,
        leave_a_thread,
        forget_the_environment,
        make_warnings_errors,
        stop_collecting,
        fork_and_return,
        trace_with_errors,
        interrupt_later,
        run_a_loop,
    ],
)
def test_what_a_task_changes_in_its_worker(in_the_pool, function):
    """The value arrives, or the worker's death says why it did not; and the tasks behind it, which
    have retries, all arrive."""

    async def main(pool):
        try:
            assert await pool.apply(function) == "went on"
        except WorkerLost as lost:
            # The package's own code needs what these have taken away; the alarm may ring in it.
            assert function in (replace_builtins, replace_what_the_loop_does, interrupt_later), lost
        except RuntimeError as error:
            assert function is trace_with_errors and "the tracer" in str(error)
        except (InterruptedError, ProxyException):
            assert function is interrupt_later
        # Wherever it rings, the error is of the task that runs there.
        own = (InterruptedError, ProxyException) if function is interrupt_later else ()
        later = pool.with_options(retries=3, retry_on=own)
        assert await asyncio.gather(*(later.apply(abs, (-n,)) for n in range(20))) == list(range(20))
        await settle(pool)

    in_the_pool(main)


async def settle(pool):
    """Waits until the worker is one that no task has changed."""
    while True:
        try:
            await pool.apply(os._exit, (0,))
        except WorkerLost:
            return
        except (InterruptedError, ProxyException):
            pass  # A timer that a task has left rang before.


def test_every_descriptor_is_closed(in_the_pool):
    async def main(pool):
        try:
            assert await pool.apply(close_everything) == "went on"
        except WorkerLost:
            pass

    in_the_pool(main)


@pytest.mark.parametrize(
    "function, kind, text",
    [
        (return_a_coroutine, ProxyException, "cannot be pickled"),
        (generate, ProxyException, "cannot be pickled"),
        (await_rubbish, RuntimeError, "got bad yield: 42"),
        (await_a_future_of_another_loop, RuntimeError, "attached to a different loop"),
        (cancel_itself_from_within, ProxyException, "cancelled itself"),
        (recurse, RecursionError, "recursion"),
        (replace_signal_handlers, ZeroDivisionError, "division"),
    ],
)
def test_what_a_function_ends_with(in_the_pool, function, kind, text):
    async def main(pool):
        with pytest.raises(kind, match=text):
            await pool.apply(function)

    in_the_pool(main)


@pytest.mark.parametrize(
    "function, arguments, kind, text",
    [
        (throw, (SaysNothing,), ProxyException, "SaysNothing"),
        (throw, (GeneratorExit, "why"), ProxyException, "GeneratorExit: why"),
        (throw, (SystemExit, "why"), ProxyException, "SystemExit: why"),
        (throw, (ValueError, "x" * (32 << 20)), (ValueError, ProxyException), "x"),
        (throw, (ValueError, "\0 and \ud800"), ValueError, "and"),
        (give, (ExitsWhenSent,), ProxyException, "in __reduce__"),
        (take, (RaisesWhenRead(SystemExit),), ProxyException, "SystemExit"),
        (take, (RaisesWhenRead(KeyboardInterrupt),), ProxyException, "KeyboardInterrupt"),
        (take, (RaisesWhenRead(LookupError),), LookupError, None),
        (throw, (MemoryError,), MemoryError, None),
    ],
)
def test_errors_that_are_hard_to_send(in_the_pool, function, arguments, kind, text):
    async def main(pool):
        with pytest.raises(kind, match=text):
            await pool.apply(function, arguments)

    in_the_pool(main)


@pytest.mark.parametrize(
    "function, arguments, exitcode, number",
    [
        (os._exit, (7,), 7, None),
        (os.abort, (), None, signal.SIGABRT),
        (segfault, (), None, signal.SIGSEGV),
        (alarm, (), None, signal.SIGALRM),
        (give, (DiesWhenSent,), 7, None),
        (exit_in_a_thread, (), 9, None),
        (exit_from_a_callback, (), 5, None),
        (interrupt_in_a_subtask, (), 1, None),
    ],
)
def test_what_ends_a_worker(in_the_pool, function, arguments, exitcode, number):
    async def main(pool):
        with pytest.raises(WorkerLost) as caught:
            await pool.apply(function, arguments)
        assert (caught.value.exitcode, caught.value.signal) == (exitcode, number)

    in_the_pool(main)


def test_a_task_kills_what_workers_are_forked_from():
    async def main(pool):
        with pytest.raises(WorkerLost):
            await pool.apply(kill_the_parent)

    in_a_pool(main)


def test_tasks_that_do_not_let_go(in_the_pool):
    async def main(pool):
        with pytest.raises(TaskTimeout):
            await pool.with_options(timeout=0.2).apply(stop)
        with pytest.raises(TaskTimeout):
            await pool.with_options(timeout=0.2).apply(ignore_cancellation)

    in_the_pool(main)


def exit_instead(error):
    sys.exit("in the handler")


def replace_and_raise(error):
    sys.stderr = None
    raise RuntimeError("in the handler")


@pytest.mark.parametrize("handler", [exit_instead, replace_and_raise])
def test_handlers_of_errors(handler):
    async def main(pool):
        with pytest.raises(LookupError, match="why"):
            await pool.apply(throw, (LookupError, "why"))
        assert await pool.map(abs, range(100)) == list(range(100))
        with pytest.raises(LookupError):
            await pool.map(throw, [LookupError] * 3)

    in_a_pool(main, exception_handler=handler)


def test_a_worker_with_threads_that_stay_is_replaced():
    async def main(pool):
        pids = [await pool.apply(leave_a_thread_and_say) for _ in range(3)]
        assert len(set(pids)) == 3

    in_a_pool(main, maxtasksperchild=1)


def leave_a_thread_and_say():
    leave_a_thread()
    return os.getpid()
