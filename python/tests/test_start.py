"""How workers start: preloaded modules, threads of numerical libraries, refusals."""

import asyncio
import os
import random
import signal
import sys

import jobs
import pytest
from aiopool import Pool, ProcessPoolExecutor, WorkerLost

WATCHDOG = 60


def run(main, *args, **options):
    async def with_pool():
        async with Pool(*args, **options) as pool:
            await asyncio.wait_for(main(pool), WATCHDOG)

    asyncio.run(with_pool())


def is_loaded(name):
    return name in sys.modules


def memory_of_its_own():
    """Bytes that this process alone has."""
    with open("/proc/self/smaps_rollup") as rollup:
        fields = dict(line.split(":", 1) for line in rollup if line.count(":") == 1)
    private = ("Private_Clean", "Private_Dirty")
    return sum(int(fields[name].split()[0]) for name in private) << 10


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """A module that takes much memory, and notes the processes that import it."""
    (tmp_path / "heavy.py").write_text(
        "import os\n"
        f"with open({str(tmp_path / 'imports')!r}, 'a') as notes:\n"
        "    notes.write(f'{os.getpid()}\\n')\n"
        "data = bytearray(os.urandom(1 << 20)) * 64\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "imports"


def test_what_is_preloaded_is_imported_once_and_shared(shared):
    async def main(pool):
        pids = set(await pool.map(jobs.pid, range(200)))
        assert await pool.apply(is_loaded, ("heavy",))
        assert len(shared.read_text().split()) == 1
        assert int(shared.read_text()) not in pids
        # The 64 MiB are shared.
        assert await pool.apply(memory_of_its_own) < 32 << 20

    run(main, 2, preload=["heavy"])


def test_a_replacement_is_a_copy_too(shared):
    async def main(pool):
        before = await pool.apply(os.getpid)
        with pytest.raises(WorkerLost, match="signal 9"):
            await pool.apply(jobs.die)
        assert await pool.apply(is_loaded, ("heavy",))
        assert await pool.apply(os.getpid) != before
        assert len(shared.read_text().split()) == 1

    run(main, 1, preload=["heavy"])


def test_a_preloaded_worker_is_like_another(tmp_path):
    async def main(pool):
        assert await pool.map(jobs.double, range(1000)) == list(range(0, 2000, 2))
        assert await pool.apply(lambda: 5) == 5
        assert await pool.apply(jobs.environment, ("AIOPOOL_TEST_LATE",)) == "seen"
        assert await pool.apply(jobs.read_state) == 7
        assert await pool.apply(os.getcwd) == os.getcwd()
        with pytest.raises(WorkerLost):
            await pool.apply(os._exit, (3,))
        # No descriptors but those that a worker has that is not preloaded.
        assert await pool.apply(len_of_descriptors) < 30
        handler = await pool.apply(interrupt)
        assert handler == "went on"

    os.environ["AIOPOOL_TEST_LATE"] = "seen"
    run(main, 2, jobs.start, (7,), preload=["json"], maxtasksperchild=400)


def len_of_descriptors():
    return len(os.listdir("/proc/self/fd"))


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    return "went on"


def draw():
    return random.random()


def test_copies_draw_different_random_numbers():
    async def main(pool):
        firsts = [await pool.apply(draw) for _ in range(4)]
        assert len(set(firsts)) == 4

    run(main, 1, preload=["random"], maxtasksperchild=1)


def test_workers_of_an_executor_are_preloaded(shared):
    with ProcessPoolExecutor(2, preload=["heavy"]) as executor:
        assert executor.submit(is_loaded, "heavy").result(WATCHDOG)
    assert len(shared.read_text().split()) == 1


def test_the_process_that_was_preloaded_goes_with_its_pool(shared):
    zygote = []

    async def main(pool):
        zygote.append(await pool.apply(os.getppid))

    run(main, 1, preload=["heavy"])
    # It leaves once its line is closed; no test's time.
    while os.path.exists(f"/proc/{zygote[0]}") and not is_zombie(zygote[0]):
        pass


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_what_cannot_be_preloaded_says_why(tmp_path, monkeypatch):
    (tmp_path / "starts_a_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(OSError, match="No module named 'no_such_module'"):
        Pool(1, preload=["no_such_module"])
    with pytest.raises(OSError, match="starts_a_thread.*starts threads"):
        Pool(1, preload=["starts_a_thread"])
    with pytest.raises(TypeError, match="a list of the names"):
        Pool(1, preload="numpy")


def test_threads_of_numerical_libraries_are_the_workers_share(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    processors = len(os.sched_getaffinity(0))

    async def main(pool):
        share = str(max(1, processors // pool.process_count))
        assert await pool.apply(jobs.environment, ("OMP_NUM_THREADS",)) == share
        assert await pool.apply(jobs.environment, ("MKL_NUM_THREADS",)) == "3"

    run(main, 1)
    run(main, processors)
    assert "OMP_NUM_THREADS" not in os.environ
