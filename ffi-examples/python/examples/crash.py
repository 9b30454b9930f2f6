"""A task that crashes takes its worker down, and nothing else."""

import asyncio
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aiopool import Pool, WorkerLost


async def fragile(x):
    if x % 20 == 7:
        os.kill(os.getpid(), signal.SIGSEGV)
    return x


async def main():
    async with Pool(2, childconcurrency=1) as pool:
        calls = [pool.apply(fragile, (x,)) for x in range(100)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
    lost = [x for x, end in enumerate(ends) if isinstance(end, WorkerLost)]
    assert lost == [7, 27, 47, 67, 87], lost
    done = len(ends) - len(lost)
    print(f"crash: {done} done, {len(lost)} lost with their workers, each replaced")


if __name__ == "__main__":
    asyncio.run(main())
