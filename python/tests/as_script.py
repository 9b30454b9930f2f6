"""A script whose own functions run in workers."""

import asyncio

from aiopool import Pool


async def square(x):
    return x * x


async def main():
    async with Pool(2) as pool:
        print(await pool.map(square, range(4)))


if __name__ == "__main__":
    asyncio.run(main())
