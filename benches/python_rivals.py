#!/usr/bin/env python3
"""Python's pools, to be compared with aiopool.

    python_rivals.py --setup DIR    makes a virtual environment with aiomultiprocess in it
    aiopool bench --python DIR/bin/python
    DIR/bin/python python_rivals.py --alone     the same blocks, printed

With --serve the script reads one block a line and answers with its figure; that is how
`aiopool bench` runs it, turn by turn with its own blocks.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

AIOMULTIPROCESS = "aiomultiprocess==0.9.1"
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

    def run(self, line):
        kind, _, rival = line.partition(" ")
        return getattr(self, kind)(rival)


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
        subprocess.run([*pip, AIOMULTIPROCESS], check=True)
        return
    pools = Pools()
    if arguments.alone:
        for block in BLOCKS:
            pools.run(block)
            print(f"{block}: {pools.run(block):.6g}")
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
    import os

    os._exit(0)
