"""Submits and receives in asyncio's own event loop, 256 tasks in flight at a time."""

import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aiopool import Pool

COUNT, IN_FLIGHT = 10_000, 256


async def square(x):
    return x * x


async def run(pool, numbers):
    return sum([await pool.apply(square, (x,)) for x in numbers])


async def main():
    numbers = iter(range(COUNT))
    async with Pool(2) as pool:
        sums = await asyncio.gather(*(run(pool, numbers) for _ in range(IN_FLIGHT)))
    print(f"loop: {COUNT} squares, sum {sum(sums)}")


if __name__ == "__main__":
    asyncio.run(main())
