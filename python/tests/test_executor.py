"""`ProcessPoolExecutor`, as `concurrent.futures` has it."""

import asyncio
import concurrent.futures
import operator
import os
import subprocess
import sys
import threading
import time

import jobs
import pytest
from aiopool import (
    InitializerFailed,
    ProcessPoolExecutor,
    ProxyException,
    TaskTimeout,
    TooLarge,
    WorkerLost,
)
from pools import WATCHDOG, wait_until


@pytest.fixture
def executor():
    # What does not obey is killed soon: many of these are asleep.
    with ProcessPoolExecutor(2, grace=0.1) as executor:
        yield executor


def test_submit_and_map(executor):
    future = executor.submit(pow, 2, exp=10)
    assert future.result(WATCHDOG) == 1024
    assert list(executor.map(operator.add, range(1000), range(1000))) == list(range(0, 2000, 2))
    assert list(executor.map(abs, range(-1000, 0), chunksize=64)) == list(range(1000, 0, -1))
    assert executor.submit(jobs.double, 4).result(WATCHDOG) == 8


class BadHere:
    """What a worker can pickle, and this process not unpickle."""

    def __reduce__(self):
        return int, ("no number",)


def bad_at_fifty(number):
    return (number, BadHere()) if number == 50 else (number,)


def fails_at_fifty(number):
    if number == 50:
        raise LookupError(number)
    return number


def test_what_is_before_a_failure_in_its_chunk_is_given(executor):
    results = executor.map(bad_at_fifty, range(100), chunksize=20)
    assert [next(results) for _ in range(50)] == [(number,) for number in range(50)]
    with pytest.raises(ProxyException, match="cannot be unpickled here"):
        next(results)
    assert list(results) == []
    results = executor.map(fails_at_fifty, range(100), chunksize=20)
    assert [next(results) for _ in range(50)] == list(range(50))
    with pytest.raises(LookupError, match="50") as caught:
        next(results)
    story = str(caught.value.__cause__)
    assert "in fails_at_fifty" in story and "aiopool/executor.py" not in story
    assert list(results) == []


def meets(party):
    """Comes back when so many calls of this run at once in its process."""
    met.append(party)
    while len(met) < party:
        time.sleep(0.001)
    return threading.current_thread().name.partition("_")[0]


met = []


@pytest.mark.parametrize("chunksize", [1, 2])
def test_threads_of_a_worker_run_plain_functions_at_once(chunksize):
    with ProcessPoolExecutor(1, threads=4) as executor:
        # With two in a chunk the second ones meet the others' first.
        names = executor.map(meets, [4] * 4 * chunksize, chunksize=chunksize, timeout=WATCHDOG)
        assert [*names] == ["aiopool-task"] * 4 * chunksize
        assert [*executor.map(jobs.meet, [4] * 4)] == [4] * 4
        mixed = executor.map(double_or_later, range(50), chunksize=7)
        assert [*mixed] == [*range(0, 100, 2)]
    with pytest.raises(ValueError, match="threads=-1 is not possible"):
        ProcessPoolExecutor(1, threads=-1)


def double_or_later(x):
    return jobs.double(x) if x % 3 else 2 * x


def test_map_with_a_buffer_reads_as_results_are_taken(executor):
    taken = []

    def items():
        for number in range(10**9):
            taken.append(number)
            yield number

    results = executor.map(abs, items(), buffersize=8)
    assert [next(results) for _ in range(100)] == list(range(100))
    assert len(taken) <= 110
    results.close()


def test_wait_and_as_completed(executor):
    slow, quick = executor.submit(time.sleep, 3600), executor.submit(abs, -1)
    done, not_done = concurrent.futures.wait(
        [slow, quick], WATCHDOG, return_when=concurrent.futures.FIRST_COMPLETED
    )
    assert (done, not_done) == ({quick}, {slow})
    assert slow.cancel() and slow.cancelled()
    assert list(concurrent.futures.as_completed([slow, quick], WATCHDOG))
    # It goes on in its worker, so the pool's end is not to wait for it.
    executor.terminate()


def test_errors_and_deaths_are_of_their_own_future(executor):
    fails, dies, works = (
        executor.submit(int, "x"),
        executor.submit(os._exit, 3),
        [executor.submit(abs, -n) for n in range(100)],
    )
    with pytest.raises(ValueError) as caught:
        fails.result(WATCHDOG)
    assert "Traceback" in str(caught.value.__cause__)
    with pytest.raises(WorkerLost, match="status 3"):
        dies.result(WATCHDOG)
    assert [future.result(WATCHDOG) for future in works] == list(range(100))


def test_a_future_that_its_caller_sets(executor):
    class Odd(BaseException):
        pass

    def callback(future):
        raise Odd

    future, noisy = executor.submit(abs, -1), executor.submit(time.sleep, 0.2)
    noisy.add_done_callback(callback)
    slow = executor.submit(time.sleep, 0.2)
    slow.set_result("mine")
    assert executor.submit(abs, -2).result(WATCHDOG) == 2
    assert (future.result(WATCHDOG), noisy.result(WATCHDOG), slow.result(WATCHDOG)) == (1, None, "mine")
    # In the one thread that takes outcomes, which is alive.
    assert [executor.submit(abs, -n).result(WATCHDOG) for n in range(10)] == list(range(10))


def test_timeouts(executor):
    future = executor.with_options(timeout=0.1).submit(time.sleep, 3600)
    with pytest.raises(TaskTimeout):
        future.result(WATCHDOG)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(executor.map(time.sleep, [3600], timeout=0.01))
    executor.terminate()


def test_shutdown_does_not_cancel_what_runs(tmp_path):
    begun, may_end = tmp_path / "begun", tmp_path / "may end"
    executor = ProcessPoolExecutor(1)
    running = executor.submit(runs_until, str(begun), str(may_end))
    waiting = [executor.submit(abs, -1) for _ in range(5000)]
    wait_until(begun.exists)
    executor.shutdown(wait=False, cancel_futures=True)
    assert not running.done() and all(future.cancelled() for future in waiting)
    may_end.touch()
    assert running.result(WATCHDOG) == "done"
    executor.shutdown()


def runs_until(begun, may_end):
    open(begun, "w").close()
    while not os.path.exists(may_end):
        time.sleep(0.01)
    return "done"


@pytest.mark.engine
def test_options_are_of_the_view_that_has_them(executor):
    quick = executor.with_options(timeout=0.1)
    slower = quick.with_options(timeout=3600, retries=1)
    calls = [each.submit(time.sleep, 0.5) for each in (executor, slower)]
    limited = quick.submit(time.sleep, 3600)
    assert [call.result(WATCHDOG) for call in calls] == [None, None]
    with pytest.raises(TaskTimeout):
        limited.result(WATCHDOG)
    with pytest.raises(TaskTimeout):
        list(quick.map(time.sleep, [3600]))
    assert isinstance(quick, concurrent.futures.Executor) and quick.processes == executor.processes
    # Merged with what was said before, which is as it was.
    assert (slower._said.timeout, slower._said.retries, quick._said.retries) == (3600, 1, 0)
    assert list(slower.map(abs, range(-9, 0))) == list(range(9, 0, -1))
    with slower:
        pass
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)


@pytest.mark.engine
def test_shutdown_cancels_what_waits():
    executor = ProcessPoolExecutor(1)
    futures = [executor.submit(time.sleep, 0.2) for _ in range(50)]
    executor.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    assert any(future.cancelled() for future in futures)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)


def test_a_callback_of_a_refused_task_may_submit():
    with ProcessPoolExecutor(1, max_payload=4 << 20) as executor:
        large, added = bytes(2 << 20), []
        # So many of them that those behind the first wait as the objects that they are.
        futures = [executor.submit(len, large) for _ in range(30)]
        refused = executor.submit(len, bytes(5 << 20))
        refused.add_done_callback(lambda _: added.append(executor.submit(abs, -7)))
        futures += [executor.submit(len, large) for _ in range(3)]
        assert [future.result(WATCHDOG) for future in futures] == [2 << 20] * 33
        assert isinstance(refused.exception(WATCHDOG), TooLarge)
        assert [future.result(WATCHDOG) for future in added] == [7]


@pytest.mark.engine
def test_initializer_and_recycling():
    with ProcessPoolExecutor(1, initializer=jobs.start, initargs=(7,), max_tasks_per_child=2) as executor:
        assert executor.submit(jobs.read_state).result(WATCHDOG) == 7
        assert len(set(executor.map(jobs.pid, range(6)))) >= 3
    with ProcessPoolExecutor(1, initializer=jobs.refuse, initargs=("no database",)) as executor:
        with pytest.raises(InitializerFailed, match="no database") as caught:
            executor.submit(abs, 1).result(WATCHDOG)
        assert isinstance(caught.value, concurrent.futures.BrokenExecutor)
        with pytest.raises(concurrent.futures.BrokenExecutor, match="no database"):
            executor.submit(abs, 1)


def test_an_asyncio_loop_runs_things_in_it(executor):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, abs, -n) for n in range(50)))

    assert asyncio.run(main()) == list(range(50))


def test_many_threads_submit(executor):
    sums = []

    def use(number):
        sums.append(sum(executor.map(abs, range(number))))

    threads = [threading.Thread(target=use, args=(1000,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WATCHDOG)
    assert sums == [499500] * 4


def test_what_was_submitted_is_finished_at_the_end_of_a_script(tmp_path):
    script = tmp_path / "script.py"
    path = tmp_path / "done"
    script.write_text(
        "import pathlib, time\n"
        "from aiopool import ProcessPoolExecutor\n"
        "def work():\n"
        "    time.sleep(0.2)\n"
        f"    pathlib.Path({str(path)!r}).touch()\n"
        "if __name__ == '__main__':\n"
        "    ProcessPoolExecutor(1).submit(work)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=WATCHDOG)
    assert done.returncode == 0, done.stderr
    assert path.exists()


def test_wrong_arguments():
    for workers in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            ProcessPoolExecutor(workers)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        ProcessPoolExecutor(1, initializer=3)
    with pytest.raises(ValueError, match="max_tasks_per_child"):
        ProcessPoolExecutor(1, max_tasks_per_child=0)
