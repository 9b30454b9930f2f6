"""This package beside Python's other pools: blocks in turns, medians and ratios at the end.

    pip install libaiopool aiomultiprocess joblib numpy   # the rivals that are there are measured
    python compare.py [rounds]

Each block is a process of its own, with two workers that have run something before the clock starts.
Beside the wall time stands the processor time of host and workers for each task.
"""

import asyncio
import concurrent.futures
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time

WORKERS = 2


async def same(x):
    return x


def same_now(x):
    return x


async def apply_each(pool, count):
    for number in range(count):
        await pool.apply(same, (number,))


async def in_flight(pool, count, width=256):
    numbers = iter(range(count))

    async def run():
        for number in numbers:
            await pool.apply(same, (number,))

    await asyncio.gather(*(run() for _ in range(width)))


async def map_coroutines(pool, count):
    assert len(await pool.map(same, range(count))) == count


async def map_functions(pool, count):
    assert len(await pool.map(same_now, range(count))) == count


def eight_megabytes_each(count):
    import numpy

    return [numpy.full(1 << 20, number, dtype="f8") for number in range(count)]


async def arrays(pool, data):
    back = await pool.map(same, data)
    assert [float(array[0]) for array in back] == list(map(float, range(len(data))))


# Made before the clock starts.
arrays.prepare = eight_megabytes_each


class Executor:
    """`concurrent.futures` by the verbs of an asyncio pool."""

    def __init__(self, executor):
        self.executor = executor

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        self.executor.shutdown()

    async def apply(self, function, args):
        function = same_now if function is same else function
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, function, *args)

    async def map(self, function, items):
        function = same_now if function is same else function
        return list(self.executor.map(function, items))


def aiopool():
    return __import__("aiopool").Pool(WORKERS)


def aiopool_executor():
    return Executor(__import__("aiopool").ProcessPoolExecutor(WORKERS))


def aiomultiprocess():
    return __import__("aiomultiprocess").Pool(WORKERS)


def process_pool_executor():
    return Executor(concurrent.futures.ProcessPoolExecutor(WORKERS))


def loky():
    from joblib.externals.loky import ProcessPoolExecutor

    return Executor(ProcessPoolExecutor(WORKERS))


POOLS = [aiopool, aiopool_executor, aiomultiprocess, process_pool_executor, loky]
# The block, its number of tasks, and how many where each task takes aiomultiprocess milliseconds.
BLOCKS = [
    (apply_each, 2000, 50),
    (in_flight, 20_000, 5000),
    (map_coroutines, 50_000, 10_000),
    (map_functions, 50_000, 10_000),
    (arrays, 24, 24),
]


async def measure(make, block, count):
    async with make() as pool:
        await in_flight(pool, 64, 64)
        work = getattr(block, "prepare", int)(count)
        before, began = os.times(), time.perf_counter()
        await block(pool, work)
        wall = time.perf_counter() - began
        after = os.times()
    host = (after.user + after.system - before.user - before.system) / count
    print(json.dumps({"wall": wall / count, "host": host}))


def run(make, block, count):
    command = [sys.executable, __file__, "--block", make.__name__, block.__name__, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def main(rounds):
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    for block, count, few in BLOCKS:
        figures = {make.__name__: [] for make in POOLS}
        for _ in range(rounds):
            for make in POOLS:
                if make is aiomultiprocess and block is map_functions:
                    # It takes coroutine functions only, and waits for ever for others.
                    continue
                figure = run(make, block, count if make in (aiopool, aiopool_executor) else few)
                if figure:
                    figures[make.__name__].append(figure)
        print(f"\n{block.__name__}: microseconds a task, host's processor time, times ours")
        ours = statistics.median(figure["wall"] for figure in figures["aiopool"]) or math.nan
        for name, rows in figures.items():
            if rows:
                wall = statistics.median(row["wall"] for row in rows)
                host = statistics.median(row["host"] for row in rows)
                print(f"  {name:<22} {wall * 1e6:>10.1f} {host * 1e6:>10.1f} {wall / ours:>8.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--block"]:
        _, _, make, block, count = sys.argv
        asyncio.run(measure(globals()[make], globals()[block], int(count)))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 5)
