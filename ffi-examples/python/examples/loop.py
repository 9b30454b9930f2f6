"""Submits and receives in asyncio's own event loop, 256 tasks in flight at a time.

How fast that was, once the workers had begun, and how long one task alone takes there and back, goes
to stderr. `loop.py aiomultiprocess` does the same with that package.
"""

import asyncio
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

if sys.argv[1:] == ["aiomultiprocess"]:
    from aiomultiprocess import Pool
else:
    from aiopool import Pool

COUNT, IN_FLIGHT, ALONE = 10_000, 256, 1000


async def square(x):
    return x * x


async def run(pool, numbers):
    return sum([await pool.apply(square, (x,)) for x in numbers])


async def main():
    numbers = iter(range(COUNT))
    async with Pool(2) as pool:
        # Each worker is an interpreter that starts: not what is measured here.
        await pool.map(square, range(IN_FLIGHT))
        start = time.perf_counter()
        sums = await asyncio.gather(*(run(pool, numbers) for _ in range(IN_FLIGHT)))
        middle = time.perf_counter()
        await run(pool, range(ALONE))
        end = time.perf_counter()
    print(f"{COUNT / (middle - start):.0f} tasks a second", file=sys.stderr)
    print(f"{(end - middle) / ALONE * 1e6:.1f} microseconds a round trip", file=sys.stderr)
    print(f"loop: {COUNT} squares, sum {sum(sums)}")


if __name__ == "__main__":
    asyncio.run(main())
