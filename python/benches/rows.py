"""The rows of `compare.py`: each measures one rival once."""

import asyncio
import concurrent.futures
import contextlib
import mmap
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import time

WORKERS = 2
# This module and the program, too, or each worker imports them anew. (multiprocessing's fork server
# leaves `__main__` out in CPython up to 3.13: each of its processes imports that.)
PRELOADED = ["numpy", "pandas", "rows", "__main__"]


async def same(x):
    return x


def same_now(x):
    return x


def frames(_):
    """Uses both libraries, long enough for each worker to have one; says which it was."""
    import numpy
    import pandas

    pandas.DataFrame({"a": numpy.arange(3)}).sum()
    time.sleep(0.005)
    return os.getpid()


async def frames_async(number):
    return frames(number)


def pid_now(_):
    return os.getpid()


class Executor:
    """`concurrent.futures` by the verbs of an asyncio pool."""

    def __init__(self, executor):
        self.executor = executor

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        self.executor.shutdown()

    async def apply(self, function, args):
        function = {same: same_now, frames_async: frames}.get(function, function)
        return await asyncio.get_running_loop().run_in_executor(self.executor, function, *args)

    async def map(self, function, items):
        function = same_now if function is same else function
        return list(self.executor.map(function, items))


class Blocking:
    """A pool that only maps."""

    def __init__(self, pool, map):
        self.pool, self.mapped = pool, map

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        if hasattr(self.pool, "terminate"):
            self.pool.terminate()

    async def map(self, function, items):
        return self.mapped(self.pool, function, items)


class TwoLoops:
    """What asyncio itself needs: a number in shared memory, two eventfds, two loops."""

    async def __aenter__(self):
        self.there, self.back = os.eventfd(0), os.eventfd(0)
        self.memory = mmap.mmap(-1, 16)
        self.child = os.fork()
        if not self.child:
            # The loop of this process is its parent's to end.
            asyncio._set_running_loop(None)
            asyncio.run(self.serve())
            os._exit(0)
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.back, self.arrived)
        return self

    async def __aexit__(self, *error):
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        self.loop.remove_reader(self.back)

    async def serve(self):
        loop = asyncio.get_running_loop()

        async def answer():
            number = await same(struct.unpack_from("Q", self.memory, 0)[0])
            struct.pack_into("Q", self.memory, 8, number)
            os.eventfd_write(self.back, 1)

        def asked():
            os.eventfd_read(self.there)
            loop.create_task(answer())

        loop.add_reader(self.there, asked)
        await loop.create_future()

    def arrived(self):
        os.eventfd_read(self.back)
        self.future.set_result(struct.unpack_from("Q", self.memory, 8)[0])

    async def apply(self, function, args):
        self.future = self.loop.create_future()
        struct.pack_into("Q", self.memory, 0, *args)
        os.eventfd_write(self.there, 1)
        return await self.future


def joblib_map(pool, function, items):
    from joblib import delayed

    return pool(delayed(function)(item) for item in items)


def make(who, workers=WORKERS, **options):
    """The rival of that name; `numpy` and `pandas` preloaded where it can."""
    if who == "aiopool":
        import aiopool

        return aiopool.Pool(workers, **options)
    if who == "aiomultiprocess":
        import aiomultiprocess

        return aiomultiprocess.Pool(workers)
    if who == "process_pool":
        return Executor(concurrent.futures.ProcessPoolExecutor(workers))
    if who == "forkserver":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        return Executor(concurrent.futures.ProcessPoolExecutor(workers, mp_context=context))
    if who == "loky":
        from loky import ProcessPoolExecutor

        return Executor(ProcessPoolExecutor(workers))
    if who == "multiprocessing_pool":
        return Blocking(multiprocessing.Pool(workers), lambda pool, *call: pool.map(*call))
    if who == "joblib":
        from joblib import Parallel

        return Blocking(Parallel(n_jobs=workers), joblib_map)
    return TwoLoops()


class Clock:
    """Wall time, and the processor time and the peak memory of this process and of its workers."""

    def __init__(self, pool=None, without=()):
        self.pool, self.without = pool, without
        self.cpu, self.begun = self.processor_seconds(), time.perf_counter()

    def stop(self):
        self.wall = time.perf_counter() - self.begun
        self.cpu = self.processor_seconds() - self.cpu
        self.most = sum(map(peak, self.family())) / 1e6
        return self.wall

    def gives(self, figure):
        return figure, self.wall, self.cpu, self.most

    def family(self):
        # The workers of this package are not descendants of their host: their fork server is not.
        own = [pid for pid in getattr(self.pool, "processes", ()) if isinstance(pid, int)]
        servers = [parent(pid) for pid in own[:1]]
        return family([os.getpid(), *own, *servers]).difference(self.without)

    def processor_seconds(self):
        """Of all that are alive, with those that have ended and that one of these has waited for,
        such as the process that imports what a pool preloads: its host waits for it."""
        total = 0
        for pid in self.family():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
                total += sum(map(int, file.read().rpartition(")")[2].split()[11:15]))
        return total / os.sysconf("SC_CLK_TCK")


def parent(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def family(roots):
    """These processes and their descendants."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            children.setdefault(parent(name), []).append(int(name))
    found, new = set(), roots
    while new:
        found.update(new)
        new = [child for pid in new for child in children.get(pid, [])]
    return found


def peak(pid):
    """The most memory that a process had at once; what it shares is counted in each."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def own_memory(pid):
    """What would be free if the process ended: USS."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        lines = [line.split() for line in file]
    return sum(int(line[1]) for line in lines if line[0].startswith("Private_")) * 1024


def processor():
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else "?"


async def warm(pool):
    await asyncio.gather(*(pool.apply(same, (number,)) for number in range(64)))


async def one_by_one(who):
    async with make(who) as pool:
        count = 50 if who == "aiomultiprocess" else 3000
        for number in range(count // 10):
            await pool.apply(same, (number,))
        clock = Clock(pool)
        for number in range(count):
            assert await pool.apply(same, (number,)) == number
        return clock.gives(clock.stop() / count * 1e6)


async def after_idling(who):
    async with make(who) as pool:
        for number in range(50):
            await pool.apply(same, (number,))
        times, clock = [], Clock(pool)
        for number in range(100):
            await asyncio.sleep(0.01)
            begun = time.perf_counter()
            await pool.apply(same, (number,))
            times.append(time.perf_counter() - begun)
        clock.stop()
        return clock.gives(sorted(times)[50] * 1e6)


async def in_flight(who, width=256):
    async with make(who) as pool:
        await warm(pool)
        count = 40_000 if who == "aiopool" else 5000
        numbers = iter(range(count))

        async def run():
            for number in numbers:
                assert await pool.apply(same, (number,)) == number

        clock = Clock(pool)
        await asyncio.gather(*(run() for _ in range(width)))
        return clock.gives(count / clock.stop())


async def clocked_map(pool, function, count):
    clock = Clock(pool)
    results = await pool.map(function, range(count))
    clock.stop()
    assert list(results) == list(range(count))
    return clock.gives(count / clock.wall)


async def map_coroutines(who):
    async with make(who) as pool:
        await warm(pool)
        return await clocked_map(pool, same, 100_000 if who == "aiopool" else 10_000)


async def map_functions(who):
    async with make(who) as pool:
        await pool.map(same_now, range(10_000))
        return await clocked_map(pool, same_now, 100_000 if who == "joblib" else 2_000_000)


async def arrays(who):
    import numpy

    data = [numpy.full(1 << 20, number, dtype="f8") for number in range(24)]
    async with make(who) as pool:
        await warm(pool)
        clock = Clock(pool)
        back = list(await pool.map(same, data))
        clock.stop()
        assert [float(array[-1]) for array in back] == list(map(float, range(24)))
        return clock.gives(clock.wall * 1e3)


async def every_worker(pool, function, workers):
    """Runs tasks until each worker has had one; gives the pids."""
    pids = set()
    while len(pids) < workers:
        pids.update(await asyncio.gather(*(pool.apply(function, (n,)) for n in range(workers))))
    return pids


async def first_results(who):
    clock = Clock()
    options = {"preload": PRELOADED, "childconcurrency": 1} if who == "aiopool" else {}
    async with make(who, 8, **options) as pool:
        await every_worker(pool, frames, 8)
        clock.pool = pool
        return clock.gives(clock.stop() * 1e3)


async def replacement(who):
    if who == "forkserver":
        return replaced_by_hand()
    times = []
    async with make(who, 1, preload=PRELOADED) as pool:
        pid = await pool.apply(frames, (0,))
        clock = Clock(pool)
        for _ in range(10):
            os.kill(pid, signal.SIGKILL)
            begun, old = time.perf_counter(), pid
            pid = await pool.apply(frames, (0,))
            times.append(time.perf_counter() - begun)
            assert pid != old
        clock.stop()
    return clock.gives(sorted(times)[5] * 1e3)


def serve_pipe(pipe):
    while True:
        pipe.send(frames(pipe.recv()))


def replaced_by_hand():
    """multiprocessing has no pool that replaces workers at once: its sentinel says of a death."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)

    def start():
        ours, theirs = context.Pipe()
        process = context.Process(target=serve_pipe, args=(theirs,), daemon=True)
        process.start()
        ours.send(0)
        # Without its pipe it would end by itself.
        return process, ours.recv(), ours

    process, pid, pipe = start()
    times, clock = [], Clock()
    for _ in range(10):
        os.kill(pid, signal.SIGKILL)
        begun = time.perf_counter()
        process.join()
        process, pid, pipe = start()
        times.append(time.perf_counter() - begun)
    clock.stop()
    process.kill()
    pipe.close()
    return clock.gives(sorted(times)[5] * 1e3)


async def memory(who):
    options = {"preload": PRELOADED, "childconcurrency": 1} if who == "aiopool" else {}
    async with make(who, 4, **options) as pool:
        pids = await every_worker(pool, frames, 4)
        clock = Clock(pool)
        clock.stop()
        return clock.gives(sum(map(own_memory, pids)) / len(pids) / 1e6)


PAGE = b"<p>" + b"x" * 20_000


async def fetched(url):
    import aiohttp

    async with aiohttp.request("GET", url) as response:
        return len(await response.text("utf-8"))


SITE = """
import asyncio
PAGE = b"<p>" + b"x" * 20_000
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n" % len(PAGE)
async def served(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    await asyncio.sleep(0.01)
    writer.write(HEAD + PAGE)
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(served, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


async def scraper(who, **options):
    """As aiomultiprocess's own page has it, from the pool's start to its end."""
    site = subprocess.Popen([sys.executable, "-c", SITE], stdout=subprocess.PIPE, text=True)
    port = int(site.stdout.readline())
    urls = [f"http://127.0.0.1:{port}/{n}" for n in range(400)]
    clock = Clock(without=[site.pid])
    async with make(who, **options) as pool:
        lengths = [length async for length in pool.map(fetched, urls)]
        clock.pool = pool
        clock.stop()
    # The pool's end is part of it.
    wall = time.perf_counter() - clock.begun
    site.kill()
    site.wait()
    assert lengths == [len(PAGE)] * 400
    return clock.gives(wall * 1e3)


async def scraper_preloaded(who):
    """The same, with what each worker imports imported once where that is possible."""
    options = {"preload": ["aiohttp", "rows", "__main__"]} if who == "aiopool" else {}
    return await scraper(who, **options)
