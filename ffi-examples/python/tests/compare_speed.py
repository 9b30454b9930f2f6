"""This package beside aiomultiprocess: each in processes of its own, in turns, medians at the end.

Run by hand with a Python that has aiomultiprocess: compare_speed.py [rounds]
"""

import asyncio
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

COUNT, IN_FLIGHT, ALONE = 10_000, 256, 100
PACKAGES = ["aiopool", "aiomultiprocess"]


async def square(x):
    return x * x


async def run(pool, numbers):
    return sum([await pool.apply(square, (x,)) for x in numbers])


async def measure(package):
    async with __import__(package).Pool(2) as pool:
        # Each worker is an interpreter that starts: not what is measured here.
        await pool.map(square, range(IN_FLIGHT))
        times = [time.perf_counter()]
        numbers = iter(range(COUNT))
        sums = await asyncio.gather(*(run(pool, numbers) for _ in range(IN_FLIGHT)))
        times.append(time.perf_counter())
        squares = await pool.map(square, range(COUNT))
        times.append(time.perf_counter())
        await run(pool, range(ALONE))
        times.append(time.perf_counter())
    assert sum(sums) == sum(squares) == sum(x * x for x in range(COUNT))
    apply, map, alone = (end - start for start, end in zip(times, times[1:]))
    print(COUNT / apply, COUNT / map, alone / ALONE * 1e6)


def main(rounds):
    results = {package: [] for package in PACKAGES}
    for _ in range(rounds):
        for package in PACKAGES:
            said = subprocess.run([sys.executable, __file__, package], capture_output=True, check=True)
            results[package].append([float(word) for word in said.stdout.split()])
    for package in PACKAGES:
        apply, map, alone = medians(results[package])
        print(f"{package}: apply {apply:.0f} a second, map {map:.0f} a second, alone {alone:.0f} us")


def medians(rows):
    return [statistics.median(column) for column in zip(*rows)]


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in PACKAGES:
        asyncio.run(measure(sys.argv[1]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 7)
