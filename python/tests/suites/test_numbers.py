"""Arrays and tables, and the libraries that they come from."""

import asyncio

import numpy
import pyarrow
from aiopool import Pool, _wire

WATCHDOG = 120


def run(main, *args, **options):
    async def with_pool():
        async with Pool(*args, **options) as pool:
            await asyncio.wait_for(main(pool), WATCHDOG)

    asyncio.run(with_pool())


def same(value):
    return value


def draw():
    return float(numpy.random.random())


def test_arrays_go_both_ways_and_can_be_written():
    async def main(pool):
        array = numpy.arange(1 << 20, dtype="f8").reshape(1024, -1)
        (square,) = await pool.map(numpy.square, [array])
        assert (square == array * array).all()
        square += 1
        # Not contiguous: it travels in the pickle.
        assert (await pool.apply(same, (array[:, ::2],)) == array[:, ::2]).all()

    run(main, 1)


def test_tables():
    async def main(pool):
        table = pyarrow.table({"a": range(100_000), "b": [str(n) for n in range(100_000)]})
        assert (await pool.apply(same, (table,))).equals(table)

    run(main, 1)


def test_tables_go_beside_the_pickle():
    table = pyarrow.table({"a": numpy.arange(1 << 20)})
    parts = _wire.call(_wire.head(len), (table,), {})
    beside = sum(part.nbytes for part in parts if isinstance(part, memoryview))
    assert beside >= 8 << 20
    assert sum(len(part) for part in parts if isinstance(part, bytes)) < 16 << 10


def test_numpy_is_shared_and_its_generators_differ():
    async def main(pool):
        assert float(await pool.apply(numpy.dot, (numpy.ones(1000), numpy.ones(1000)))) == 1000
        assert len({await pool.apply(draw) for _ in range(4)}) == 4

    run(main, 1, preload=["numpy"], maxtasksperchild=2)
