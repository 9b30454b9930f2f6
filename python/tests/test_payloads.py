"""Large payloads: what is copied, what stays, and what is given back."""

import asyncio
import contextlib
import os
import warnings

import pytest
from aiopool import TooLarge, WorkerLost
from pools import WATCHDOG, run, until

pytestmark = pytest.mark.engine
MIB = 1 << 20


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
    return Array(bytearray([value]) * size)


def result_memory(pids):
    """Bytes that the system holds for the results of one of these workers, the most of all; too few
    where a worker closes a file meanwhile."""
    most = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            folder = f"/proc/{pid}/fd"
            files = [f"{folder}/{name}" for name in os.listdir(folder)]
            results = [file for file in files if "aiopool-results" in os.readlink(file)]
            assert results, [os.readlink(file) for file in files]
            most = max(most, sum(os.stat(file).st_blocks * 512 for file in results))
    return most


def test_large_results_are_given_back_to_the_system():
    async def main(pool):
        results = [result async for result in pool.starmap(made, [(24 * MIB, n) for n in range(12)])]
        assert [result.data[-1] for result in results] == list(range(12))
        await until(lambda: result_memory(pool.processes) > 24 * MIB)
        del results
        await until(lambda: result_memory(pool.processes) <= 20 * MIB)
        # And it goes on.
        assert bytes((await pool.apply(made, (30 * MIB, 7))).data) == b"\7" * (30 * MIB)

    run(main, 1)


def test_results_that_are_kept_change_no_more():
    async def main(pool):
        kept = [await pool.apply(made, (2 * MIB, n)) for n in range(1, 5)]
        for result in kept[:2]:
            memoryview(result.data)[5] = 100
        # What was let go of is used again, many times.
        for n in range(40):
            assert (await pool.apply(made, (2 * MIB, 200))).data[n] == 200
        for n, result in enumerate(kept, 1):
            data = bytes(result.data)
            if n <= 2:
                assert data[5] == 100
                data = data.replace(b"d", bytes([n]))
            assert data == bytes([n]) * (2 * MIB), n
        # After the worker's death, and after the pool's end.
        with pytest.raises(WorkerLost):
            await pool.apply(os._exit, (3,))
        assert (await pool.apply(made, (2 * MIB, 9))).data[0] == 9
        outlive.append(kept[3])

    outlive = []
    run(main, 1)
    assert bytes(outlive[0].data) == b"\4" * (2 * MIB)


def test_a_forked_child_has_the_results_as_they_were():
    async def main(pool):
        kept = await pool.apply(made, (4 * MIB, 1))
        ready, go = os.pipe()
        child = os.fork()
        if not child:
            # Not back into the event loop, whatever happens.
            try:
                os.close(go)
                os.read(ready, 1)
                os._exit(0 if bytes(kept.data) == b"\1" * (4 * MIB) else 1)
            finally:
                os._exit(2)
        del kept
        for _ in range(20):
            await pool.apply(made, (4 * MIB, 200))
        os.write(go, b"x")
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        os.close(ready), os.close(go)

    with warnings.catch_warnings():
        # Newer Pythons warn of forks beside threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        run(main, 1)


def test_results_beyond_what_is_lent_are_copied():
    async def main(pool):
        results = await pool.starmap(made, [(2 * MIB, n) for n in range(40)])
        # All of the arena, and more, is kept by the caller.
        for n, result in enumerate(results):
            assert bytes(result.data) == bytes([n]) * (2 * MIB)
        assert (await pool.apply(made, (8 * MIB, 7))).data[-1] == 7

    run(main, 1, max_payload=16 * MIB, output_arena=64 * MIB)


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
