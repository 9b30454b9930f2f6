"""Large payloads: what is copied, what stays, and what is given back."""

import asyncio
import os
import time

import pytest
from aiopool import Pool, TooLarge

WATCHDOG = 120
MIB = 1 << 20


def run(main, *args, **options):
    async def with_pool():
        async with Pool(*args, **options) as pool:
            await asyncio.wait_for(main(pool), WATCHDOG)

    asyncio.run(with_pool())


class Array:
    """Has its bytes in a buffer, as numpy's arrays do."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        import pickle

        return Array, (pickle.PickleBuffer(self.data),)


def same(array):
    return array


def made(size, value):
    return Array(bytes([value]) * size)


def shared_memory(pids):
    """Bytes of shared memory that these processes have mapped and the system holds."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        total = max(total, int(fields["RssShmem"].split()[0]) << 10)
    return total


def test_large_results_are_given_back_to_the_system():
    async def main(pool):
        results = [result async for result in pool.starmap(made, [(24 * MIB, n) for n in range(12)])]
        assert [result.data[-1] for result in results] == list(range(12))
        del results
        until = time.monotonic() + WATCHDOG
        # Seen in the worker, which has touched every page of its results.
        while (held := shared_memory(pool.processes)) > 20 * MIB:
            assert time.monotonic() < until, f"{held >> 20} MiB are held"
            await asyncio.sleep(0.01)
        # And it goes on.
        assert bytes((await pool.apply(made, (30 * MIB, 7))).data) == b"\7" * (30 * MIB)

    run(main, 1)


def test_payloads_beyond_64_mib():
    async def main(pool):
        data = bytearray(150 * MIB)
        data[-1] = 9
        back = await pool.apply(same, (Array(data),))
        assert (len(back.data), back.data[-1]) == (150 * MIB, 9)
        assert not memoryview(back.data).readonly

    run(main, 1)


def test_what_is_too_large_names_the_option():
    async def main(pool):
        with pytest.raises(TooLarge, match="max_payload"):
            await pool.apply(len, (bytes(2 * MIB),))
        with pytest.raises(TooLarge, match="output_arena"):
            await pool.apply(bytes, (9 * MIB,))
        assert await pool.apply(abs, (-3,)) == 3

    run(main, 1, max_payload=MIB, output_arena=8 * MIB)


def test_many_large_arguments_wait_for_their_turn():
    async def main(pool):
        arrays = [Array(bytes([n]) * (4 * MIB)) for n in range(24)]
        back = await pool.map(same, arrays)
        assert [array.data[0] for array in back] == list(range(24))

    run(main, 2, max_payload=8 * MIB, input_arena=16 * MIB, output_arena=16 * MIB)


def test_an_executor_has_the_same_limits():
    from aiopool import ProcessPoolExecutor

    with ProcessPoolExecutor(1) as executor:
        assert executor.submit(len, bytes(100 * MIB)).result(WATCHDOG) == 100 * MIB
        assert executor.submit(os.getpid).result(WATCHDOG) > 0


def test_results_are_freed_without_a_collection_of_garbage():
    import gc
    import weakref

    from aiopool import ProcessPoolExecutor

    with ProcessPoolExecutor(1) as executor:
        gc.collect()
        gc.disable()
        try:
            future = executor.submit(same, Array(bytes(MIB)))
            result = weakref.ref(future.result(WATCHDOG))
            assert result() is not None
            # The thread that has set it may be about to let go of it.
            executor.submit(abs, 1).result(WATCHDOG)
            del future
            assert result() is None
        finally:
            gc.enable()
