#!/usr/bin/env python3
"""Python's pools, to be compared with aiopool.

    python_rivals.py --setup DIR    makes a virtual environment with what they need
    aiopool bench --python DIR/bin/python
    DIR/bin/python python_rivals.py --alone     the same blocks, printed

With --serve the script reads one block a line and answers with its figure; that is how
`aiopool bench` runs it, turn by turn with its own blocks.
"""

import argparse
import asyncio
import csv
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

PACKAGES = ["aiomultiprocess==0.9.1", "aiohttp>=3.14", "beautifulsoup4>=4.15"]
# The article's scraper; only the import tells on whose pool it runs.
SCRAPER = Path(__file__).parent.parent / "ffi-examples" / "python" / "scraper.py"
WORKERS = 2
# At least so long, or one operation where one takes longer.
BLOCK = 0.01


async def same(x):
    return x


def same_now(x):
    return x


class Pools:
    """The pools, made when first asked for and kept."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.made = {}

    def get(self, name, make):
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    def aiomultiprocess(self):
        def make():
            import aiomultiprocess

            async def started():
                # As its documentation advises for throughput: several queues, many in flight.
                pool = aiomultiprocess.Pool(
                    processes=WORKERS, queuecount=2, childconcurrency=64
                )
                await pool.apply(same, (1,))
                return pool

            return self.loop.run_until_complete(started())

        return self.get("aiomultiprocess", make)

    def executor(self):
        def make():
            context = multiprocessing.get_context("fork")
            pool = ProcessPoolExecutor(WORKERS, mp_context=context)
            assert pool.submit(same_now, 1).result() == 1
            return pool

        return self.get("ProcessPoolExecutor", make)

    def pool(self):
        def make():
            pool = multiprocessing.get_context("fork").Pool(WORKERS)
            assert pool.apply(same_now, (1,)) == 1
            return pool

        return self.get("multiprocessing.Pool", make)

    # One by one, microseconds, the median.

    def apply(self, rival):
        times = []
        end = time.perf_counter() + BLOCK
        if rival == "aiomultiprocess":
            pool = self.aiomultiprocess()

            async def run():
                while not times or time.perf_counter() < end:
                    before = time.perf_counter()
                    assert await pool.apply(same, (7,)) == 7
                    times.append(time.perf_counter() - before)

            self.loop.run_until_complete(run())
        else:
            pool = self.executor()
            while not times or time.perf_counter() < end:
                before = time.perf_counter()
                assert pool.submit(same_now, 7).result() == 7
                times.append(time.perf_counter() - before)
        return statistics.median(times) * 1e6

    # In bulk, millions a second. Blocks of a second or less: a start-up of the machinery must not
    # count, and a process pool of Python needs that long to be at its best.

    def map(self, rival):
        if rival == "aiomultiprocess":
            pool, tasks = self.aiomultiprocess(), 2_000

            async def run():
                return await pool.map(same, range(tasks))

            def block():
                return self.loop.run_until_complete(run())

        elif rival == "ProcessPoolExecutor":
            pool, tasks = self.executor(), 500

            def block():
                return list(pool.map(same_now, range(tasks), chunksize=1))

        else:
            pool, tasks = self.pool(), 5_000

            def block():
                return sorted(pool.imap_unordered(same_now, range(tasks), chunksize=100))

        start = time.perf_counter()
        results = block()
        took = time.perf_counter() - start
        assert list(results) == list(range(tasks))
        return tasks / took / 1e6

    # A pool made and its first result back, milliseconds.

    def start(self, rival):
        start = time.perf_counter()
        if rival == "aiomultiprocess":
            import aiomultiprocess

            async def run():
                # Its default start method: spawn.
                async with aiomultiprocess.Pool(processes=WORKERS) as pool:
                    assert await pool.apply(same, (1,)) == 1
                    return time.perf_counter() - start

            took = self.loop.run_until_complete(run())
        else:
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
                assert pool.submit(same_now, 1).result() == 1
                took = time.perf_counter() - start
        return took * 1e3

    # From one process to another through a managed queue, millions a second.

    def queue(self, _):
        def make():
            manager = multiprocessing.Manager()
            return manager, manager.Queue()

        _, queue = self.get("Manager().Queue()", make)
        items = 200
        ready = multiprocessing.Event()
        producer = multiprocessing.get_context("fork").Process(
            target=produce, args=(queue, ready, items)
        )
        producer.start()
        ready.wait()
        start = time.perf_counter()
        for i in range(items):
            assert queue.get() == i
        took = time.perf_counter() - start
        producer.join()
        return items / took / 1e6

    # The article's scraper against the site at `url`, a program of its own: seconds by the clock,
    # and of processor time, of all its processes.

    def scrape(self, url):
        text = SCRAPER.read_text(encoding="utf-8")
        ours, theirs = "from aiopool import Pool", "from aiomultiprocess import Pool"
        assert text.count(f"\n{ours}\n") == 1
        with tempfile.TemporaryDirectory() as folder:
            script, books = Path(folder, "scraper.py"), Path(folder, "books.csv")
            script.write_text(text.replace(f"\n{ours}\n", f"\n{theirs}\n"), encoding="utf-8")
            start = time.perf_counter()
            command = [sys.executable, script, url, books]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            # With the processor time of its children, which it has waited for.
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            with books.open(encoding="utf-8", newline="") as file:
                assert sum(1 for _ in csv.DictReader(file)) == 1000
        return wall, usage.ru_utime + usage.ru_stime

    # The figures of one block, as text.

    def run(self, line):
        kind, _, rival = line.partition(" ")
        figures = getattr(self, kind)(rival)
        figures = figures if isinstance(figures, tuple) else (figures,)
        return " ".join(f"{figure:.9g}" for figure in figures)


def produce(queue, ready, items):
    ready.set()
    for i in range(items):
        queue.put(i)


BLOCKS = [
    "apply aiomultiprocess",
    "apply ProcessPoolExecutor",
    "map aiomultiprocess",
    "map ProcessPoolExecutor",
    "map multiprocessing.Pool",
    "start aiomultiprocess",
    "start ProcessPoolExecutor",
    "queue Manager",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--setup", metavar="DIR", help="make a virtual environment there")
    what.add_argument("--serve", action="store_true", help="run the blocks that stdin names")
    what.add_argument("--alone", action="store_true", help="run every block once")
    arguments = parser.parse_args()
    if arguments.setup:
        subprocess.run([sys.executable, "-m", "venv", arguments.setup], check=True)
        pip = [f"{arguments.setup}/bin/python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *PACKAGES], check=True)
        return
    pools = Pools()
    if arguments.alone:
        for block in BLOCKS:
            pools.run(block)
            print(f"{block}: {pools.run(block)}")
        return
    for line in iter(sys.stdin.readline, ""):
        if line.strip() == "end":
            return
        print(pools.run(line.strip()), flush=True)


if __name__ == "__main__":
    main()
    # Pools of several kinds are alive; none of them is worth waiting for.
    for child in multiprocessing.active_children():
        child.kill()
    sys.stdout.flush()
    os._exit(0)
