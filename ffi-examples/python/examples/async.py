"""One worker keeps 200 coroutines in flight."""

import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aiopool import Pool


async def slow_double(x):
    await asyncio.sleep(0.05)
    return 2 * x


async def main():
    async with Pool(1, childconcurrency=200) as pool:
        doubled = await pool.map(slow_double, range(200))
    print(f"async: {len(doubled)} tasks in one worker, sum {sum(doubled)}")


if __name__ == "__main__":
    asyncio.run(main())
