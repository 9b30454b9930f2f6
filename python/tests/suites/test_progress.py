"""The bar of tqdm over a map that is awaited."""

import asyncio
import operator
import os

from aiopool import Pool
from tqdm import tqdm

WATCHDOG = 120


def test_a_bar_of_tqdm_is_drawn_to_its_end():
    async def main():
        async with Pool(2) as pool:
            with open(os.devnull, "w") as nowhere, tqdm(total=1000, file=nowhere) as bar:
                results = pool.map(operator.neg, range(1000))
                results.progress(lambda done, _: bar.update(done - bar.n))
                assert await asyncio.wait_for(results.results(), WATCHDOG) == [-x for x in range(1000)]
                assert bar.n == 1000

    asyncio.run(main())
