"""What many test files run their coroutines in, and wait by."""

import asyncio
import time

from aiopool import Pool

# Seconds: far above what any of them takes, also on a slow machine with much else to do.
WATCHDOG = 120


def run(main, *args, watchdog=WATCHDOG, **options):
    """Runs `main(pool)` in a pool with these arguments, and returns the pool when it is closed."""

    async def with_pool():
        async with Pool(*args, **options) as pool:
            await asyncio.wait_for(main(pool), watchdog)
        return pool

    return asyncio.run(with_pool())


async def until(true):
    """Waits until `true()` is; `run` has a watchdog for it."""
    while not true():
        await asyncio.sleep(0.01)


def wait_until(true):
    """Waits until `true()` is, without an event loop."""
    end = time.monotonic() + WATCHDOG
    while not true():
        assert time.monotonic() < end, true
        time.sleep(0.01)


async def all_are_ready(pool):
    """Waits until each worker of a pool can take tasks: the first may have ended many by then."""

    def are_ready():
        workers = pool.stats()["workers"]
        is_starting = (worker["state"] == "starting" for worker in workers)
        return len(workers) == pool.process_count and not any(is_starting)

    await until(are_ready)


def is_gone(pid):
    """Whether a process has ended; its parent may not have looked yet."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True
