#!/usr/bin/env python3
"""Sizes, kills, cancellations, time-outs and recycling at once: `python stress.py [SECONDS [SEED]]`.

Each round is a pool with other options. Every task must end with its value or with an error that it
can have; a task without retries runs once at most; after a round nothing of the pool is left.
"""

import asyncio
import collections
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time

import aiopool
from pools import WATCHDOG, is_gone

SIZES = [0, 1, 60, 200, 5_000, 70_000, 300_000, 2_000_000]


def mark(folder, number):
    """Says that the task has begun; a second time is an error."""
    os.close(os.open(os.path.join(folder, str(number)), os.O_CREAT | os.O_EXCL))


def echo(folder, number, data):
    mark(folder, number)
    return number, data


async def echo_later(folder, number, data):
    mark(folder, number)
    await asyncio.sleep(random.random() / 200)
    return number, data


def echo_again(number, data):
    return number, data


def double(x):
    return 2 * x


async def double_later(x):
    if x % 7 == 0:
        await asyncio.sleep(0)
    return 2 * x


def die():
    os.kill(os.getpid(), random.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]))
    time.sleep(3600)


def leave():
    os._exit(3)


def fail(text):
    raise LookupError(text)


class Wrong(Exception):
    """The pool has broken a promise."""


class Round:
    """One pool, and what is asked of it."""

    def __init__(self, chance, counts):
        self.chance, self.counts = chance, counts
        self.folder = tempfile.mkdtemp(prefix="aiopool-stress-")
        self.number = 0
        self.pool = self.last_look = None
        self.running = collections.Counter()

    def options(self):
        choose = self.chance.choice
        return {
            "processes": 3,
            "childconcurrency": choose([1, 4, 16]),
            "maxtasksperchild": choose([0, 0, 20, 200]),
            "queuecount": choose([1, 1, 3]),
            "threads": choose([0, 0, 2]),
            "preload": choose([[], ["json"]]),
            "grace": 0.5,
        }

    def next_number(self):
        self.number += 1
        return self.number

    def data(self):
        return os.urandom(8) * (self.chance.choice(SIZES) // 8)

    def note(self, what):
        self.counts[what] += 1

    async def run(self):
        self.chosen = self.options()
        self.pool = aiopool.Pool(**self.chosen)
        verbs = [self.once, self.once, self.again, self.again, self.map, self.map_part, self.cancel]
        verbs += [self.time_out, self.fails, self.dies, self.kill, self.executor_thread]
        limit = asyncio.Semaphore(60)

        async def one(verb):
            async with limit:
                self.running[verb.__name__] += 1
                await verb()
                self.running[verb.__name__] -= 1

        async with self.pool:
            watch = asyncio.create_task(self.watch())
            await asyncio.gather(*(one(self.chance.choice(verbs)) for _ in range(400)))
            await self.nothing_is_left()
            watch.cancel()
            pids = self.pool.processes
        left = [pid for pid in pids if not is_gone(pid)]
        if left:
            raise Wrong(f"workers are left: {left}")
        shutil.rmtree(self.folder)

    async def nothing_is_left(self):
        """Waits until the pool has no task: every caller has had its outcome.

        Tasks that were called off may be there until their workers have let go. Those that never go
        are found by the round's watchdog, which shows the last look.
        """
        waited = False
        while True:
            # Outcomes that nobody waits for are taken when the loop has its turn.
            await asyncio.sleep(0.01)
            stats = self.look()
            left = stats["pool"]["pending"], len(self.pool._engine.pending())
            if left == (0, 0):
                break
            waited = True
            self.running["tasks left at the end"] = sum(left)
        del self.running["tasks left at the end"]
        if waited:
            self.note("rounds whose last tasks went after their callers")

    def look(self):
        stats = self.pool.stats()
        self.last_look = {name: stats[name] for name in ("pool", "workers", "queues")}
        return stats

    async def watch(self):
        """Keeps the pool's numbers of when it is stuck."""
        while True:
            await asyncio.sleep(WATCHDOG / 4)
            self.look()

    async def once(self):
        """No retries: the value, or the loss of the worker."""
        number, data = self.next_number(), self.data()
        function = self.chance.choice([echo, echo_later])
        try:
            found = await self.pool.apply(function, (self.folder, number, data))
        except aiopool.WorkerLost:
            self.note("lost beside a death")
        else:
            self.check(found, (number, data))

    async def again(self):
        """With retries: the value, whatever dies."""
        number, data = self.next_number(), self.data()
        careful = self.pool.with_options(retries=1000)
        self.check(await careful.apply(echo_again, (number, data)), (number, data))

    def check(self, found, expected):
        if found != expected:
            raise Wrong(f"task {expected[0]} gave the value of {found[0]}")
        self.note("values")

    async def map(self):
        # Where workers are recycled, an item is a task, and a worker starts for every few of them.
        count = self.chance.choice([3, 100, 100 if self.chosen["maxtasksperchild"] else 3000])
        function = self.chance.choice([double, double_later])
        careful = self.pool.with_options(retries=1000)
        found = await careful.map(function, range(count))
        if found != [2 * x for x in range(count)]:
            raise Wrong("a map gave other results")
        self.counts["values"] += count

    async def map_part(self):
        function, last = self.chance.choice([double, double_later]), self.chance.randrange(200)
        given = 0
        async for result in self.pool.map(function, range(100_000), return_exceptions=True):
            if result != 2 * given and not isinstance(result, aiopool.WorkerLost):
                raise Wrong(f"item {given} gave {result}")
            given += 1
            if given > last:
                break
        self.note("maps that were left")

    async def cancel(self):
        number = self.next_number()
        call = asyncio.ensure_future(self.pool.apply(echo_later, (self.folder, number, self.data())))
        await asyncio.sleep(self.chance.random() / 100)
        call.cancel()
        try:
            await call
            self.note("values")
        except asyncio.CancelledError:
            self.note("cancelled")
        except aiopool.WorkerLost:
            self.note("lost beside a death")

    async def time_out(self):
        function = self.chance.choice([time.sleep, asyncio.sleep])
        hasty = self.pool.with_options(timeout=0.05)
        try:
            await hasty.apply(function, (3600,))
        except aiopool.TaskTimeout:
            self.note("timed out")
        except aiopool.WorkerLost:
            self.note("lost beside a death")
        except aiopool.ProxyException as error:
            if "another task" not in str(error):
                raise
            self.note("blocked by another")
        else:
            raise Wrong("an hour has passed")

    async def fails(self):
        try:
            await self.pool.apply(fail, ("why",))
        except LookupError:
            self.note("failed")
        except aiopool.WorkerLost:
            self.note("lost beside a death")
        else:
            raise Wrong("an error was lost")

    async def dies(self):
        if self.chance.random() < 0.7:
            return
        try:
            await self.pool.apply(self.chance.choice([die, leave]))
        except aiopool.WorkerLost:
            self.note("deaths of workers")
        else:
            raise Wrong("a death was lost")

    async def kill(self):
        pids = self.pool.processes
        if pids and self.chance.random() < 0.3:
            try:
                # A worker that gets SIGTERM takes no more tasks.
                os.kill(self.chance.choice(pids), self.chance.choice([signal.SIGKILL, signal.SIGTERM]))
                self.note("signals from outside")
            except ProcessLookupError:
                pass

    async def executor_thread(self):
        """The pool is used from another loop in another thread."""
        over = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def other():
            async def use():
                careful = self.pool.with_options(retries=1000)
                return await careful.map(double, range(50))

            try:
                found = asyncio.run(use())
            except BaseException as error:
                loop.call_soon_threadsafe(over.set_exception, error)
            else:
                loop.call_soon_threadsafe(over.set_result, found)

        thread = threading.Thread(target=other)
        thread.start()
        found = await over
        thread.join()
        if found != [2 * x for x in range(50)]:
            raise Wrong("another loop got other results")
        self.note("maps of another thread")


async def start_and_end(preload):
    async with aiopool.Pool(1, preload=preload) as pool:
        await pool.apply(abs, (1,))


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    chance, counts = random.Random(seed), collections.Counter()
    end, rounds = time.monotonic() + seconds, 0
    for preload in ([], ["json"]):
        # What workers of each kind come from stays, and has descriptors.
        asyncio.run(start_and_end(preload))
    descriptors = None
    while rounds < 2 or time.monotonic() < end:
        one = Round(chance, counts)
        try:
            asyncio.run(asyncio.wait_for(one.run(), 5 * WATCHDOG))
        except BaseException:
            running = {name: count for name, count in one.running.items() if count}
            print(f"seed {seed}, round {rounds}, {one.chosen}, {running}, {dict(counts)}", file=sys.stderr)
            print(one.last_look, file=sys.stderr)
            raise
        rounds += 1
        del one
        gc.collect()
        late, now = time.monotonic() + WATCHDOG, len(os.listdir("/proc/self/fd"))
        # A thread that is about to end may have one yet.
        while descriptors is not None and now > descriptors:
            if time.monotonic() > late:
                raise Wrong(f"{now - descriptors} descriptors more after round {rounds}")
            time.sleep(0.01)
            now = len(os.listdir("/proc/self/fd"))
        descriptors = now
    print(f"{rounds} rounds: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
