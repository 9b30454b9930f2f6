"""How pools end: in any thread, dropped, and what is left of them."""

import asyncio
import gc
import gzip
import os
import subprocess
import sys
import threading

import pytest
from aiopool import Pool, PoolClosed, ProcessPoolExecutor
from pools import WATCHDOG, is_gone, wait_until


LEAVES = """\
import atexit, ctypes, gzip, io, os, sys, tempfile, threading, time

class Noted:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        with open(FILE, "a") as file:
            file.write(f"{self.name}\\n")

FILE = os.path.join(sys.path[0], "noted")
of_preload = None
if "aiopool._worker" in sys.modules:
    # Not in the host.
    of_preload = Noted("the preload's")
early = open(os.path.join(sys.path[0], "early"), "w")
if of_preload:
    early.write("once, ")
kept = []

class Answers(type):
    def __getattr__(cls, name):
        raise KeyError(name)

class Answered(metaclass=Answers):
    def __init__(self):
        self.itself = self

def suspended():
    try:
        yield
    finally:
        Noted("a generator's")

def begin():
    late = io.TextIOWrapper(io.BufferedWriter(io.FileIO(os.path.join(sys.path[0], "late"), "w")))
    late.write("written")
    early.write("written")
    temporary = tempfile.NamedTemporaryFile()
    raw = open(os.path.join(sys.path[0], "zipped"), "wb")
    zipped = gzip.GzipFile(fileobj=raw, mode="wb")
    zipped.write(b"written")
    goes_on = suspended()
    next(goes_on)
    kept.extend([late, temporary, Noted("a task's"), raw, zipped, goes_on, Answered()])
    atexit.register(Noted("a handler's").__del__)
    threading.Thread(target=wait).start()
    ctypes.CDLL(None).printf(b"C's output")
    sys.stdout.write("Python's output")
    return temporary.name

def wait():
    time.sleep(0.1)
    Noted("a thread's")
"""

MAIN = """
import asyncio, aiopool, leaves

async def main():
    async with aiopool.Pool(2, preload=["leaves"], grace=60) as pool:
        return await pool.apply(leaves.begin)

if __name__ == "__main__":
    print(asyncio.run(main()), end="")
"""


def test_a_preloaded_worker_that_leaves_ends_what_its_tasks_have_begun(tmp_path):
    (tmp_path / "leaves.py").write_text(LEAVES)
    (tmp_path / "main.py").write_text(MAIN)
    words = [sys.executable, "main.py"]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": WATCHDOG}
    ended = subprocess.run(words, check=True, **options)
    assert ended.stderr == ""
    temporary = ended.stdout.rpartition("output")[2]
    assert "C's output" in ended.stdout and "Python's output" in ended.stdout
    assert temporary and not os.path.exists(temporary)
    assert (tmp_path / "late").read_text() == "written"
    # What was in its buffer before is not written by each copy, and is written before what they write.
    assert (tmp_path / "early").read_text() == "once, written"
    assert gzip.decompress((tmp_path / "zipped").read_bytes()) == b"written"
    noted = (tmp_path / "noted").read_text().splitlines()
    assert {"a task's", "a handler's", "a thread's", "a generator's"} <= set(noted)
    # It is every copy's, and so none's.
    assert "the preload's" not in noted


OF_MAIN = """
import asyncio, sys, aiopool, text

kept = None

def begin(name):
    global kept
    kept = open(name, "w")
    kept.write("written")

async def begin_async(name):
    begin(name)

async def main():
    options = {"preload": sys.argv[1:], "grace": 60}
    async with aiopool.Pool(1, **options) as pool:
        await pool.apply(text.begin, ("plain of a module",))
        await pool.apply(begin, ("plain",))
    async with aiopool.Pool(1, **options) as pool:
        await pool.apply(begin_async, ("async",))
        await asyncio.gather(pool.apply(begin_async, ("in a chunk",)))
    async with aiopool.Pool(1, **options) as pool:
        await pool.map(begin, ["of a map"])

if __name__ == "__main__":
    asyncio.run(main())
"""
TEXT = """
kept = None

def begin(name):
    global kept
    kept = open(name, "w")
    kept.write("written")
"""


@pytest.mark.parametrize("preload", [(), ("text",), ("text", "__main__")])
def test_files_that_tasks_leave_open_are_written_at_a_workers_end(tmp_path, preload):
    (tmp_path / "main.py").write_text(OF_MAIN)
    (tmp_path / "text.py").write_text(TEXT)
    words = [sys.executable, "main.py", *preload]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=WATCHDOG)
    for name in ("plain of a module", "plain", "async", "in a chunk", "of a map"):
        assert (tmp_path / name).read_text() == "written", name


HANDLERS = """
import atexit, os, sys, tempfile, weakref

def note(text):
    with open(os.path.join(sys.path[0], "noted"), "a") as file:
        file.write(text + "\\n")

class Thing:
    pass

in_worker = "aiopool._worker" in sys.modules
if in_worker:
    shared = tempfile.TemporaryDirectory(dir=sys.path[0])
    thing = Thing()
    weakref.finalize(thing, note, "a finalizer of the preload's")
    atexit.register(note, "a handler of the preload's")
kept = []

def begin():
    own = tempfile.TemporaryDirectory(dir=sys.path[0])
    kept.extend([own, Thing()])
    weakref.finalize(kept[-1], note, "a finalizer of a task's")
    atexit.register(note, "a handler of a task's")
    assert os.path.isdir(shared.name)
    return shared.name, own.name
"""


TWICE = """
import asyncio, aiopool, leaves

async def main():
    async with aiopool.Pool(1, preload=["leaves"], maxtasksperchild=1, grace=60) as pool:
        for _ in range(2):
            print(*await pool.apply(leaves.begin), sep="\\n")

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_copies_run_no_exit_handlers_of_what_was_preloaded(tmp_path):
    (tmp_path / "leaves.py").write_text(HANDLERS)
    (tmp_path / "main.py").write_text(TWICE)
    words = [sys.executable, "main.py"]
    ended = subprocess.run(
        words, cwd=tmp_path, check=True, timeout=WATCHDOG, capture_output=True, text=True
    )
    assert ended.stderr == ""
    shared, first, again, second = ended.stdout.splitlines()
    assert shared == again and os.path.isdir(shared)
    assert not os.path.exists(first) and not os.path.exists(second)
    noted = sorted((tmp_path / "noted").read_text().splitlines())
    assert noted == ["a finalizer of a task's"] * 2 + ["a handler of a task's"] * 2


FULL = """
import asyncio, sys, aiopool

async def print_and_die():
    sys.stdout = open("/dev/full", "w")
    sys.stdout.write("cannot be written")
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(3600)

async def main():
    async with aiopool.Pool(1) as pool:
        try:
            await pool.apply(print_and_die)
        except aiopool.WorkerLost as error:
            print(error)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_worker_that_dies_says_what_it_cannot_write(tmp_path):
    (tmp_path / "main.py").write_text(FULL)
    ended = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, timeout=WATCHDOG, capture_output=True, text=True
    )
    assert "3" in ended.stdout
    assert "No space left on device" in ended.stderr


@pytest.mark.engine
def test_terminate_from_another_thread_while_join_waits():
    async def main():
        pool = Pool(2)
        waits = [asyncio.ensure_future(pool.apply(asyncio.sleep, (3600,))) for _ in range(4)]
        await asyncio.sleep(0)
        await pool.apply(abs, (1,))
        pids = pool.processes
        pool.close()
        joined = asyncio.ensure_future(pool.join())
        done, _ = await asyncio.wait([joined], timeout=0.2)
        assert not done
        thread = threading.Thread(target=pool.terminate)
        thread.start()
        await asyncio.wait_for(joined, WATCHDOG)
        for wait in waits:
            with pytest.raises(PoolClosed):
                await wait
        thread.join()
        assert all(map(is_gone, pids))

    for _ in range(5):
        asyncio.run(main())


@pytest.mark.engine
def test_several_join_and_terminate():
    async def main():
        pool = Pool(1)
        await pool.apply(abs, (1,))
        pool.close()
        threads = [threading.Thread(target=pool.terminate) for _ in range(4)]
        for thread in threads:
            thread.start()
        await asyncio.wait_for(asyncio.gather(*(pool.join() for _ in range(8))), WATCHDOG)
        pool.terminate()
        await pool.join()
        for thread in threads:
            thread.join()

    asyncio.run(main())


def drop_pools(count):
    """Returns the workers that dropped pools had."""
    pids = []

    async def main():
        for _ in range(count):
            pool = Pool(2)
            await pool.map(pid_of_worker, range(4))
            while len(pool.processes) < 2:
                await asyncio.sleep(0.01)
            pids.extend(pool.processes)
            del pool
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed <aiopool.Pool"):
        asyncio.run(main())
    return set(pids)


async def pid_of_worker(_):
    return os.getpid()


def test_dropped_pools_leave_no_worker_and_no_descriptor():
    drop_pools(1)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    pids = drop_pools(4)
    assert len(pids) == 8
    assert all(map(is_gone, pids))
    # A thread that has ended may still be about to go.
    wait_until(lambda: (len(os.listdir("/proc/self/fd")), threading.active_count()) == before)


@pytest.mark.parametrize("function", [pid_of_worker, abs])
def test_a_pool_that_is_dropped_after_a_map_goes_at_once(function):
    async def main():
        pool = Pool(1)
        assert len(await pool.map(function, range(40))) == 40
        (pid,) = pool.processes
        with pytest.warns(ResourceWarning, match="unclosed <aiopool.Pool"):
            del pool
        return pid

    # The last reference ends it, and no collection of what refers to itself.
    gc.collect()
    gc.disable()
    try:
        assert is_gone(asyncio.run(main()))
    finally:
        gc.enable()


def test_a_dropped_executor_finishes_and_goes():
    executor = ProcessPoolExecutor(1)
    pid = executor.submit(os.getpid).result(WATCHDOG)
    last = executor.submit(abs, -5)
    receiver = executor._receiver
    with pytest.warns(ResourceWarning, match="unclosed <aiopool"):
        del executor
        gc.collect()
    assert last.result(WATCHDOG) == 5
    receiver.join(WATCHDOG)
    assert is_gone(pid)


LEFT = """
import asyncio, warnings
import aiopool
warnings.simplefilter("error", ResourceWarning)

async def main():
    global pool
    pool = aiopool.Pool(2)
    print(*await pool.map(abs, [-1, -2]), *pool.processes)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_script_that_never_closes_its_pool_ends_with_it(tmp_path):
    script = tmp_path / "left.py"
    script.write_text(LEFT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=WATCHDOG)
    assert done.returncode == 0
    one, two, *pids = done.stdout.split()
    assert (one, two) == ("1", "2")
    # Their output ends a moment before they do.
    wait_until(lambda: all(map(is_gone, pids)))
