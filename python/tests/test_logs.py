"""What workers log and warn of reaches the loggers of the host."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

from aiopool import Pool, ProcessPoolExecutor, WorkerLost
from pools import WATCHDOG

LOGGER = logging.getLogger("jobs.logs")


def say(text):
    LOGGER.warning("said: %s", text)
    LOGGER.info("in passing")
    return os.getpid()


async def say_later(text):
    await asyncio.sleep(0.01)
    LOGGER.warning("later: %s", text)
    return os.getpid()


def fail_and_say():
    try:
        1 / 0
    except ZeroDivisionError:
        LOGGER.exception("it failed")


def warn():
    warnings.warn("this is old", DeprecationWarning, stacklevel=1)


def say_many(count):
    for number in range(count):
        LOGGER.warning("%d", number)


def say_and_die():
    LOGGER.error("my last words")
    os.kill(os.getpid(), signal.SIGKILL)


def own_way():
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)


def odd_texts():
    LOGGER.warning("two\nlines, \udcff and \x1b[2J")
    LOGGER.warning("x" * 100_000)


class Kept(logging.Handler):
    """Keeps records; waits at each while its gate is shut."""

    def __init__(self):
        super().__init__()
        self.records, self.open = [], threading.Event()
        self.open.set()

    def emit(self, record):
        self.open.wait(WATCHDOG)
        self.records.append(record)

    def texts(self):
        return [record.getMessage() for record in self.records]


@pytest.fixture
def kept():
    handler, root = Kept(), logging.getLogger()
    root.addHandler(handler)
    yield handler
    handler.open.set()
    root.removeHandler(handler)


def run(pool, *functions):
    async def all_of_them():
        async with pool:
            results = []
            for function, *arguments in functions:
                waits = pool.apply(function, arguments)
                results.append(await asyncio.wait_for(waits, WATCHDOG))
        await asyncio.wait_for(pool.join(), WATCHDOG)
        return results

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("preload", [[], ["json"]])
def test_a_record_arrives_with_its_logger_its_place_its_worker_and_its_task(kept, preload):
    pids = run(Pool(1, preload=preload), (say, "a"), (say_later, "b"))
    ours = [record for record in kept.records if record.name == "jobs.logs"]
    assert [record.getMessage() for record in ours] == ["said: a", "later: b"]
    for record, pid, number, function in zip(ours, pids, (1, 2), ("say", "say_later")):
        assert (record.process, record.worker, record.task) == (pid, 0, number)
        assert (record.levelno, record.levelname, record.funcName) == (30, "WARNING", function)
        assert record.pathname == __file__ and record.lineno > 1
        assert abs(record.created - time.time()) < WATCHDOG


def test_the_levels_are_those_of_the_host(kept):
    LOGGER.setLevel(logging.INFO)
    try:
        run(Pool(1), (say, "a"))
    finally:
        LOGGER.setLevel(logging.NOTSET)
    assert kept.texts() == ["said: a", "in passing"]


def test_an_exception_comes_with_its_traceback_and_a_warning_is_one(kept):
    run(Pool(1), (fail_and_say,))
    assert kept.texts()[0].startswith("it failed\nTraceback (most recent call last):")
    assert kept.texts()[0].endswith("ZeroDivisionError: division by zero")
    os.environ["PYTHONWARNINGS"] = "always"
    try:
        run(Pool(1), (warn,))
    finally:
        del os.environ["PYTHONWARNINGS"]
    (record,) = [record for record in kept.records if record.name == "py.warnings"]
    assert "DeprecationWarning: this is old" in record.getMessage()


def test_long_and_strange_texts_are_cut_and_do_no_harm(kept):
    run(Pool(1), (odd_texts,), (say, "after"))
    first, second, third = kept.texts()
    assert first == "two\nlines, ? and \x1b[2J"
    assert 1000 < len(second) < 10_000 and set(second) == {"x"}
    assert third == "said: after"


def told(kept):
    """How many numbers came, and of how many it was said that they were dropped."""
    texts = kept.texts()
    dropped = sum(int(text.split()[0]) for text in texts if "were dropped" in text)
    return sum(text.isdigit() for text in texts), dropped


@pytest.mark.engine
def test_a_slow_host_holds_up_no_task_and_learns_how_many_were_dropped(kept):
    count = 20_000
    kept.open.clear()

    said = count
    with ProcessPoolExecutor(1) as pool:
        pool.submit(say_many, count).result(WATCHDOG)
        # The task is over while the host's handler has not returned once.
        assert not kept.records
        kept.open.set()
        # What was dropped last is said with the next record that finds room.
        end = time.monotonic() + WATCHDOG
        while sum(told(kept)) != said:
            assert time.monotonic() < end, (told(kept), said)
            pool.submit(say_many, 1).result(WATCHDOG)
            said += 1
            time.sleep(0.1)
    came, dropped = told(kept)
    assert came + dropped == said and dropped > 0


@pytest.mark.engine
def test_what_a_worker_said_before_it_died_arrives(kept):
    async def dies():
        async with Pool(1) as pool:
            with pytest.raises(WorkerLost):
                await asyncio.wait_for(pool.apply(say_and_die), WATCHDOG)
        await asyncio.wait_for(pool.join(), WATCHDOG)

    asyncio.run(dies())
    assert kept.texts() == ["my last words"]


def test_workers_that_log_in_their_own_way_do_and_logs_can_be_off(kept):
    run(Pool(1, initializer=own_way), (say, "a"))
    run(Pool(1, logs=False), (say, "a"))
    assert kept.texts() == []


def test_executors_have_it_too(kept):
    with ProcessPoolExecutor(1) as pool:
        pool.submit(say, "a").result(WATCHDOG)
    assert kept.texts() == ["said: a"]


SCRIPT = """
import asyncio, logging
from aiopool import Pool

logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO)

def say():
    logging.getLogger("app").info("whole lines")

async def main():
    async with Pool(2) as pool:
        await asyncio.gather(*(pool.apply(say) for _ in range(50)))

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_script_that_sets_up_logging_at_its_top_has_one_log(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    command = [sys.executable, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, check=True)
    assert said.stderr.splitlines() == ["INFO app whole lines"] * 50
