"""What workers are given: state, hooks, threads, surroundings, names."""

import asyncio
import contextlib
import gc
import io
import os
import stat
import subprocess
import sys
import threading
import time

import aiopool
import jobs
import pytest
from aiopool import InitializerFailed, Pool, ProcessPoolExecutor, TaskOptions, TaskTimeout, WorkerLost
from pools import WATCHDOG, all_are_ready, run, until


def note(path, text):
    with open(path, "a") as notes:
        notes.write(f"{text} {os.getpid()}\n")


def notes(path):
    """How often each text was noted, whichever process did."""
    lines = path.read_text().split() if path.exists() else []
    return {text: lines.count(text) for text in lines[::2]}


class Session:
    """Belongs to a loop, as aiohttp's does."""

    def __init__(self, path):
        self.path, self.loop, self.used = path, asyncio.get_running_loop(), 0

    async def get(self):
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        self.used += 1
        return self.used

    async def close(self):
        await asyncio.sleep(0)
        note(self.path, "closed")


@contextlib.asynccontextmanager
async def session(path):
    opened = Session(path)
    note(path, "opened")
    opener = asyncio.current_task()
    yield opened
    # Cancel scopes and task groups need this.
    assert asyncio.current_task() is opener
    await opened.close()


@contextlib.contextmanager
def plain_session(path):
    note(path, "opened")
    yield path
    note(path, "closed")


async def use():
    return await aiopool.worker_state().get()


def give_state():
    return aiopool.worker_state()


async def cancel_all_others():
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


def test_a_session_is_opened_and_closed_by_each_worker(tmp_path):
    path = tmp_path / "notes"

    async def main(pool):
        await all_are_ready(pool)
        await asyncio.gather(*(pool.apply(use) for _ in range(40)))
        await pool.apply(cancel_all_others)
        await asyncio.gather(*(pool.apply(use) for _ in range(40)))

    run(main, 2, session, (path,), grace=WATCHDOG)
    assert notes(path) == {"opened": 2, "closed": 2}


def test_workers_that_are_recycled_close_theirs(tmp_path):
    path = tmp_path / "notes"

    async def main(pool):
        assert await pool.apply(give_state) == path
        for _ in range(5):
            await pool.apply(abs, (1,))

    run(main, 1, plain_session, (path,), maxtasksperchild=2, grace=WATCHDOG)
    counts = notes(path)
    assert counts["opened"] == counts["closed"] >= 3


def leave_a_note():
    note(os.environ["AIOPOOL_TEST_HOOK"], "hook")


async def leave_a_note_later():
    await asyncio.sleep(0)
    leave_a_note()
    raise LookupError("goes to the standard error")


@pytest.mark.parametrize("hook", [leave_a_note, leave_a_note_later])
def test_the_exit_hook_runs_in_each_worker(tmp_path, hook):
    path = tmp_path / "notes"

    async def main(pool):
        assert await pool.apply(abs, (-2,)) == 2
        await all_are_ready(pool)
        assert not path.exists()

    run(main, 2, exit_hook=hook, env={"AIOPOOL_TEST_HOOK": str(path)}, grace=WATCHDOG)
    assert notes(path) == {"hook": 2}


def test_an_executor_has_state_and_hooks_too(tmp_path):
    path = tmp_path / "notes"
    options = {"exit_hook": leave_a_note, "env": {"AIOPOOL_TEST_HOOK": str(path)}, "grace": WATCHDOG}
    with ProcessPoolExecutor(1, None, plain_session, (path,), **options) as executor:
        assert executor.submit(give_state).result(WATCHDOG) == path
    assert notes(path) == {"opened": 1, "hook": 1, "closed": 1}


@contextlib.asynccontextmanager
async def refuse():
    raise LookupError("no session today")
    yield


def test_what_cannot_be_opened_says_why():
    async def main():
        pool = Pool(1, refuse)
        with pytest.raises(InitializerFailed, match="no session today"):
            await asyncio.wait_for(pool.apply(abs, (1,)), WATCHDOG)
        pool.terminate()
        with pytest.raises(RuntimeError, match="no session today"):
            await asyncio.wait_for(pool.join(), WATCHDOG)

    asyncio.run(main())


def meet(party, barriers={}):
    """Comes back when `party` of these are in threads of this process."""
    barrier = barriers.setdefault(party, threading.Barrier(party, timeout=WATCHDOG))
    barrier.wait()
    return threading.get_ident()


async def has_thread_of_loop():
    return threading.current_thread() is threading.main_thread()


def raise_in_thread():
    assert threading.current_thread() is not threading.main_thread()
    raise LookupError("in a thread")


def gives_a_coroutine():
    return has_thread_of_loop()


def sleep(seconds, path=None):
    if path is not None:
        note(path, "began")
    time.sleep(seconds)


def test_plain_functions_in_threads_hold_no_coroutine_up(tmp_path):
    async def main(pool):
        waits = asyncio.ensure_future(pool.apply(sleep, (3600, tmp_path / "began")))
        await until((tmp_path / "began").exists)
        # One worker, whose one loop goes on.
        assert await pool.apply(has_thread_of_loop)
        assert len(set(await pool.map(meet, [3, 3, 3]))) == 3
        with pytest.raises(LookupError, match="in a thread"):
            await pool.apply(raise_in_thread)
        assert await pool.apply(gives_a_coroutine)
        assert await pool.map(abs, range(-500, 0)) == list(range(500, 0, -1))
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        with pytest.raises(TaskTimeout):
            await pool.with_options(timeout=0.1).apply(sleep, (3600,))
        assert await pool.apply(abs, (-4,)) == 4

    run(main, 1, threads=4, grace=0.2)


@pytest.mark.engine
def test_a_key_has_a_worker():
    async def main(pool):
        for key in ("a", "b", ("c", 3)):
            kept = pool.with_options(key=key)
            assert len(set(await kept.map(jobs.pid, range(50)))) == 1
            assert len({await kept.apply(os.getpid) for _ in range(5)}) == 1
        assert len(set(await pool.map(jobs.pid, range(50)))) == 3

    run(main, 3, queuecount=3)

    async def one_queue(pool):
        with pytest.raises(ValueError, match="queuecount"):
            pool.with_options(key="a")

    run(one_queue, 1)


def surroundings():
    mask = os.umask(0)
    os.umask(mask)
    return os.getcwd(), mask, os.nice(0), os.getgid()


@pytest.mark.engine
@pytest.mark.parametrize("preload", [[], ["json"]])
def test_surroundings(tmp_path, preload, monkeypatch):
    monkeypatch.setenv("AIOPOOL_TEST_GONE", "here")
    nice, group = os.nice(0), os.getgid() + 17 if os.geteuid() == 0 else None

    async def main(pool):
        expected = str(tmp_path), 0o027, min(19, nice + 3), group or os.getgid()
        assert await pool.apply(surroundings) == expected
        assert await pool.apply(jobs.environment, ("AIOPOOL_TEST_NEW",)) == "new"
        assert await pool.apply(jobs.environment, ("AIOPOOL_TEST_GONE",)) is None
        assert await pool.apply(jobs.environment, ("PATH",)) == os.environ["PATH"]

    env = {"AIOPOOL_TEST_NEW": "new", "AIOPOOL_TEST_GONE": None}
    options = {"umask": 0o027, "nice": 3, "group": group, "env": env, "current_dir": tmp_path}
    run(main, 1, preload=preload, **options)

    async def cleared(pool):
        assert await pool.apply(jobs.environment, ("AIOPOOL_TEST_NEW",)) == "new"
        assert await pool.apply(jobs.environment, ("AIOPOOL_TEST_GONE",)) is None

    run(cleared, 1, preload=preload, clear_env=True, env={"AIOPOOL_TEST_NEW": "new"})


@pytest.mark.engine
def test_processors():
    one = max(os.sched_getaffinity(0))

    async def kept(pool):
        assert len(pool.processes) == 1
        assert await pool.apply(os.sched_getaffinity, (0,)) == {one}

    run(kept, None, processors=[one])
    for wrong in [], [one, 1 << 30]:
        with pytest.raises(ValueError, match="processors"):
            Pool(1, processors=wrong)
    with ProcessPoolExecutor(processors=[one]) as executor:
        assert executor.submit(os.sched_getaffinity, 0).result(60) == {one}
        assert executor._max_workers == 1


AS_NOBODY = """
import os
from aiopool import ProcessPoolExecutor
options = {"user": 65534, "group": 65534, "current_dir": "/"}
with ProcessPoolExecutor(1, preload=["multiprocessing.resource_tracker"], **options) as executor:
    print(executor.submit(os.getuid).result(60), executor.submit(os.getgid).result(60))
"""


@pytest.mark.engine
def test_a_user_takes_root():
    if os.geteuid() == 0:
        # A program without files, whose workers are copies: the user need not read this Python.
        done = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, timeout=WATCHDOG)
        assert done.stdout.split() == ["65534", "65534"], done.stderr
    else:
        with pytest.raises(OSError):
            Pool(1, user=os.getuid() + 1)


def say_and_die():
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)


@pytest.mark.engine
def test_output_goes_to_files(tmp_path):
    async def main(pool):
        await pool.apply(print, ("to a file",), {"flush": True})
        with pytest.raises(WorkerLost) as caught:
            await pool.apply(say_and_die)
        assert caught.value.stderr.strip() == "last words"

    run(main, 1, output_to=tmp_path)
    assert (tmp_path / "worker-0.out").read_text() == "to a file\n"
    assert stat.S_ISREG((tmp_path / "worker-0.err").stat().st_mode)


def say(*words):
    print(*words, end="")
    subprocess.run(["echo", "of a child"], check=True)
    return aiopool.task_number()


async def say_later(word):
    number = aiopool.task_number()
    print("first", file=sys.stderr)
    await asyncio.sleep(0.01)
    print(word, file=sys.stderr)
    assert aiopool.task_number() == number
    return number


async def children():
    async def number(wait):
        await asyncio.sleep(wait)
        return aiopool.task_number()

    async def number_after_the_task():
        await is_over.wait()
        return aiopool.task_number()

    is_over = asyncio.Event()
    kept.append((is_over, asyncio.create_task(number_after_the_task())))
    child = asyncio.create_task(number(0))
    try:
        # An asyncio task of its own, before 3.12.
        numbers = [await asyncio.wait_for(number(0), WATCHDOG)]
    finally:
        numbers += [await child, *await asyncio.gather(number(0), number(0.01))]
    numbers.append(await asyncio.to_thread(aiopool.task_number))
    return aiopool.task_number(), numbers


async def is_left():
    is_over, child = kept.pop()
    is_over.set()
    return await child


def in_a_loop_of_its_own():
    async def main():
        return await asyncio.gather(asyncio.to_thread(aiopool.task_number), inner())

    async def inner():
        await asyncio.sleep(0)
        return aiopool.task_number()

    return aiopool.task_number(), asyncio.run(main())


kept = []


def test_what_a_task_starts_knows_the_task():
    async def main(pool):
        many = [pool.apply(children) for _ in range(5)] + [pool.apply(in_a_loop_of_its_own)]
        found = await asyncio.gather(*many)
        assert len({number for number, _ in found}) == len(found)
        for number, numbers in found:
            assert number is not None and set(numbers) == {number}
        # The task that started it is over.
        assert await pool.apply(is_left) is None

    run(main, 1)


async def number_later():
    await asyncio.sleep(0)
    return aiopool.task_number()


def number_and_later():
    """A plain function whose result is awaited."""
    number = aiopool.task_number()

    async def later():
        return number, await number_later()

    return later()


def test_plain_functions_in_threads_know_their_task():
    async def main(pool):
        plain = await asyncio.gather(*(pool.apply(aiopool.task_number) for _ in range(4)))
        assert None not in plain and len(set(plain)) == 4
        first, later = await pool.apply(number_and_later)
        assert first is not None and first == later

    run(main, 1, threads=4)


def say_and_abort():
    print("nothing is flushed here", end="")
    os.abort()


@pytest.mark.parametrize("preload", [(), ("subprocess",)])
def test_each_task_prints_into_files_of_its_own(tmp_path, preload):
    async def main(pool):
        numbers = await pool.starmap(say, [(str(i), "ü") for i in range(6)])
        later = [await pool.apply(say_later, (word,)) for word in ("this", "that")]
        assert len({*numbers, *later}) == len(set(numbers)) + 2
        together = {number: "".join(f"{i} üof a child\n" for i in range(6) if numbers[i] == number)
                    for number in numbers}
        for number, text in together.items():
            assert pool.printed(number) == (text.encode(), b"")
        assert [pool.printed(number).stderr for number in later] == [
            b"first\nthis\n",
            b"first\nthat\n",
        ]
        with pytest.raises(WorkerLost) as caught:
            await pool.apply(say_and_abort)
        assert pool.printed(caught.value.task).stdout == b"nothing is flushed here"
        quiet = await pool.apply(aiopool.task_number)
        assert pool.printed(quiet) == (b"", b"")
        assert aiopool.task_number() is None
        assert (tmp_path / f"task-{later[0]}.err").read_text() == "first\nthis\n"

    options = {"output_to": tmp_path, "output_per_task": True, "childconcurrency": 1}
    run(main, 2, preload=preload, **options)
    assert (tmp_path / "worker-0.out").read_text() == ""
    for wrong in ({"childconcurrency": 2}, {"output_to": None}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Pool(1, **{**options, **wrong})


def wrap_again(word):
    if sys.stdout is sys.__stdout__:
        sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
        gc.collect()
    print(word, flush=True)
    return aiopool.task_number()


def test_a_program_may_wrap_its_standard_output_again(tmp_path):
    async def main(pool):
        for word in ("this", "that"):
            number = await pool.apply(wrap_again, (word,))
            assert pool.printed(number).stdout == f"{word}\n".encode()

    run(main, 1, output_to=tmp_path, output_per_task=True, childconcurrency=1)


@pytest.mark.engine
def test_names_of_pools_and_functions():
    async def main(pool):
        await pool.map(jobs.double, range(50))
        with pytest.raises(ZeroDivisionError):
            await pool.apply(divmod, (1, 0))
        stats = pool.stats()
        assert stats["pool"]["name"] == "ours"
        functions = {function["name"]: function for function in stats["functions"]}
        assert functions["double"]["ok"] == 50
        assert functions["double"]["ran"]["count"] == 50
        assert functions["divmod"]["failed"] == 1

    run(main, 2, name="ours", observable=False)

    async def many(pool):
        for number in range(1100):
            function = eval(f"lambda: {number}")
            function.__qualname__ = f"f{number}" + "ü" * 200
            assert await pool.apply(function) == number

    run(many, 1)


@pytest.mark.engine
def test_alone_and_probation():
    async def main(pool):
        alone = pool.with_options(alone=True)
        assert await alone.map(jobs.double, range(20)) == list(range(0, 40, 2))
        assert await asyncio.gather(*(alone.apply(alone_here) for _ in range(8))) == [1] * 8

    run(main, 1, probation=2, start_timeout=WATCHDOG)


def holds(path):
    while not path.exists():
        time.sleep(0.001)


async def holds_at_first(path):
    holds(path)


@pytest.mark.engine
@pytest.mark.parametrize("function", [holds, holds_at_first])
def test_a_task_that_holds_its_worker_is_an_event(function, tmp_path):
    async def main(pool):
        def told():
            events = pool.stats()["events"]
            return [event["text"] for event in events if event["kind"] == "blocked"]

        task = asyncio.ensure_future(pool.apply(function, (tmp_path / "until",)))
        await until(told)
        (tmp_path / "until").touch()
        await task
        assert any(function.__name__ in text for text in told()), told()

    run(main, 1, blocked_after=0.1)


here = 0


async def alone_here():
    global here
    here += 1
    await asyncio.sleep(0.01)
    count, here = here, here - 1
    return count


@pytest.mark.engine
def test_retries_on_timeout(tmp_path):
    async def main(pool):
        again = pool.with_options(timeout=0.3, retries=100, retry_on_timeout=True, backoff=0.01, jitter=True)
        # A worker that the kernel holds up may be late a second time.
        assert await again.apply(slow_at_first, (tmp_path / "notes",)) >= 2

    run(main, 1)


async def slow_at_first(path):
    note(path, "attempt")
    attempts = notes(path)["attempt"]
    if attempts == 1:
        await asyncio.sleep(3600)
    return attempts


def test_pauses_of_retries():
    options = TaskOptions(backoff=1, longest_backoff=5)
    assert [options._pause(n) for n in range(1, 6)] == [1, 2, 4, 5, 5]
    assert all(0.5 <= TaskOptions(backoff=1, jitter=True)._pause(1) <= 1 for _ in range(100))
