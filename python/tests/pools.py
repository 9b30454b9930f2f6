"""What many test files run their coroutines in."""

import asyncio

from aiopool import Pool

# Seconds: far above what any of them takes.
WATCHDOG = 60


def run(main, *args, watchdog=WATCHDOG, **options):
    """Runs `main(pool)` in a pool with these arguments, and returns the pool when it is closed."""

    async def with_pool():
        async with Pool(*args, **options) as pool:
            await asyncio.wait_for(main(pool), watchdog)
        return pool

    return asyncio.run(with_pool())
