"""Maps a coroutine function over 1,000 inputs in worker processes."""

import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aiopool import Pool


async def square(x):
    return x * x


async def main():
    async with Pool(4) as pool:
        squares = [result async for result in pool.map(square, range(1000))]
    assert squares == [x * x for x in range(1000)]
    print(f"map: {len(squares)} squares, sum {sum(squares)}")


if __name__ == "__main__":
    asyncio.run(main())
