"""How workers start: preloaded modules, threads of numerical libraries, refusals."""

import os
import random
import signal
import subprocess
import sys

import jobs
import pytest
from aiopool import Node, Pool, ProcessPoolExecutor, WorkerLost, _native, _threads
from pools import WATCHDOG, is_gone, run, wait_until


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


def test_a_worker_imports_nothing_that_only_a_host_needs():
    async def main(pool):
        loaded = await pool.apply(jobs.loaded)
        assert "aiopool._worker" in loaded
        assert not {"aiopool.pool", "aiopool._engine", "aiopool.executor"} & loaded

    run(main, 1)


def test_the_package_has_all_that_it_names():
    program = (
        "import aiopool\n"
        "for name in aiopool.__all__:\n"
        "    assert getattr(aiopool, name) is not None and name in dir(aiopool), name\n"
        "assert aiopool.pool.Pool is aiopool.Pool and aiopool.errors and 'Pool' in vars(aiopool)\n"
        "assert not hasattr(aiopool, 'no_such_name')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=WATCHDOG)


def test_the_main_module_is_imported_once_where_it_is_preloaded(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio, os, sys\n"
        "from aiopool import Pool, WorkerLost\n"
        "with open('imports', 'a') as notes:\n"
        "    notes.write(f'{os.getpid()} {sys.argv[1:]}\\n')\n"
        "class Found(Exception): ...\n"
        "def find(x):\n"
        "    raise Found(x, sys.argv[1:], sys.modules['__main__'].__file__)\n"
        "async def main():\n"
        "    async with Pool(2, preload=['json', '__main__']) as pool:\n"
        "        for x in range(4):\n"
        "            try:\n"
        "                await pool.apply(find, (x,))\n"
        "            except Found as found:\n"
        "                assert found.args == (x, ['two', 'words'], __file__), found\n"
        "            try:\n"
        "                await pool.apply(os._exit, (3,))\n"
        "            except WorkerLost:\n"
        "                pass\n"
        "        await asyncio.gather(*(pool.apply(os.getpid) for _ in range(20)))\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    command = [sys.executable, str(script), "two", "words"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=WATCHDOG)
    imports = (tmp_path / "imports").read_text().splitlines()
    # By the program itself, and by the process of which all workers are copies.
    assert len(imports) == 2 and all(line.endswith("['two', 'words']") for line in imports), imports


def test_a_main_module_that_nobody_can_import_is_not_preloaded(tmp_path):
    program = (
        "import asyncio, os, aiopool\n"
        "async def main():\n"
        "    async with aiopool.Pool(1, preload=['__main__']) as pool:\n"
        "        assert await pool.apply(os.getpid) != os.getpid()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=WATCHDOG)
    # It builds its pool at its top level: it is told so, and is not run again.
    script = tmp_path / "script.py"
    script.write_text(program)
    said = subprocess.run([sys.executable, str(script)], capture_output=True, timeout=WATCHDOG)
    assert said.returncode == 0 and said.stderr.count(b"builds a pool at its top level") == 1, said


@pytest.mark.engine
def test_a_main_module_that_raises_in_the_preload_says_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import aiopool\n"
        "if __name__ != '__main__':\n"
        "    raise LookupError('only as a program')\n"
        "if __name__ == '__main__':\n"
        "    aiopool.ProcessPoolExecutor(1, preload=['__main__']).submit(print).result()\n"
    )
    said = subprocess.run([sys.executable, str(script)], capture_output=True, timeout=WATCHDOG)
    assert said.returncode == 1 and b"preload='__main__' cannot be imported" in said.stderr, said
    assert b"only as a program" in said.stderr


@pytest.mark.engine
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


@pytest.mark.engine
def test_workers_of_an_executor_are_preloaded(shared):
    with ProcessPoolExecutor(2, preload=["heavy"]) as executor:
        assert executor.submit(is_loaded, "heavy").result(WATCHDOG)
    assert len(shared.read_text().split()) == 1


@pytest.mark.engine
def test_the_process_that_was_preloaded_goes_with_its_pool(shared):
    zygote = []

    async def main(pool):
        zygote.append(await pool.apply(os.getppid))

    run(main, 1, preload=["heavy"])
    # It leaves once its line is closed.
    wait_until(lambda: is_gone(zygote[0]))


def threads_were_limited():
    import threadpoolctl

    return threadpoolctl.imported_in, os.getpid(), threadpoolctl.calls


def test_copies_import_nothing_to_limit_the_threads_of_what_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").touch()
    (tmp_path / "threadpoolctl.py").write_text(
        "import os\n"
        "imported_in, calls = os.getpid(), []\n"
        "def threadpool_limits(threads):\n"
        "    calls.append((os.getpid(), threads))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    # A share of two processors.
    monkeypatch.setattr(_threads, "share", lambda processes, numbers: 2)

    async def main(pool):
        imported_in, worker, calls = await pool.apply(threads_were_limited)
        assert imported_in != worker
        assert calls == [(worker, 2)]

    run(main, 1, preload=["numpy"])


KEPT = """
import sys

class Thing:
    def __init__(self):
        self.names = ["a list"]

    def __del__(self):
        ended.append(self.names)

def made():
    def inner(word="text", /, *, number=12345.5):
        return thing, word, number
    return inner

ended, thing, inner = [], Thing(), made()

def counts():
    used = [made, made.__code__, inner, Thing, Thing.__init__, sys.modules[__name__], globals()]
    return [sys.getrefcount(one) for one in used], [sys.getrefcount(one) for one in (thing, ended)]

def drop():
    global thing
    thing = None
    return ended
"""


def test_what_calls_use_is_counted_in_no_copy_and_all_else_ends_as_ever(tmp_path, monkeypatch):
    (tmp_path / "kept_by_copies.py").write_text(KEPT)
    monkeypatch.syspath_prepend(str(tmp_path))
    import kept_by_copies

    async def main(pool):
        used, others = await pool.apply(kept_by_copies.counts)
        has_immortal = (3, 12) <= sys.version_info < (3, 14)
        assert [count > 1 << 31 for count in used] == [has_immortal] * len(used)
        assert max(others) < 100
        assert await pool.apply(kept_by_copies.drop) == [["a list"]]

    run(main, 1, preload=["kept_by_copies"])
    assert max(kept_by_copies.counts()[0]) < 10_000


@pytest.mark.engine
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


@pytest.mark.engine
def test_threads_of_numerical_libraries_are_the_workers_share(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    processors = _native.processors()

    async def main(pool):
        share = str(max(1, processors // pool.process_count))
        assert await pool.apply(jobs.environment, ("OMP_NUM_THREADS",)) == share
        assert await pool.apply(jobs.environment, ("MKL_NUM_THREADS",)) == "3"

    run(main, 1)
    run(main, processors)
    assert "OMP_NUM_THREADS" not in os.environ


def test_workers_are_as_many_as_processors_can_be_kept_busy(monkeypatch):
    assert 1 <= _native.processors() <= len(os.sched_getaffinity(0))
    # As where the control group's quota is lower than what the process may run on.
    for module in ("_threads", "_native"):
        monkeypatch.setattr(f"aiopool.{module}.processors", lambda: 1)

    async def main(pool):
        assert pool.process_count == len(pool.processes) == 1
        assert await pool.apply(jobs.environment, ("OMP_NUM_THREADS",)) == "1"

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run(main)
    with ProcessPoolExecutor() as executor:
        assert len(executor.processes) == 1
    assert Node("nats://127.0.0.1:4222")._options["processes"] == 1
