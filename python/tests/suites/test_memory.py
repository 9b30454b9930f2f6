"""Memory does not grow with the number of items."""

import subprocess
import sys

import pytest

MEMORY = """
import asyncio, builtins, resource, sys
import aiopool

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

async def later(x):
    return x

def large(x):
    return b"x" * 100_000

async def size(x):
    return len(x)

def inputs(function, count):
    if function in (len, size):
        return (bytes(1 << 20) for _ in range(count))
    return range(count)

async def main(function, first, count, mode):
    async with aiopool.Pool(2) as pool:
        async def go(count):
            given = 0
            if mode == "iterate":
                async for result in pool.map(function, inputs(function, count)):
                    given += 1
            elif mode == "unordered":
                async for result in pool.map(function, range(count)).as_completed():
                    given += 1
            elif mode == "async items":
                async def items():
                    for x in inputs(function, count):
                        yield x
                async for result in pool.map(function, items()):
                    given += 1
            elif mode == "all":
                given = len(await pool.map(function, inputs(function, count)))
            assert given == count
        await go(first)
        before = peak()
        await go(count)
        print((peak() - before) >> 20)

if __name__ == "__main__":
    name, first, count, mode = sys.argv[1:]
    asyncio.run(main(globals().get(name) or getattr(builtins, name), int(first), int(count), mode))
"""


@pytest.mark.parametrize(
    "function, first, count, mode",
    [
        ("abs", 20_000, 1_000_000, "iterate"),
        ("abs", 20_000, 1_000_000, "unordered"),
        ("later", 20_000, 100_000, "iterate"),
        ("later", 20_000, 100_000, "async items"),
        ("large", 500, 10_000, "iterate"),
        ("large", 500, 10_000, "unordered"),
        ("len", 200, 1000, "iterate"),
        ("len", 200, 1000, "async items"),
        ("len", 200, 1000, "all"),
        ("size", 200, 1000, "iterate"),
        ("size", 200, 1000, "async items"),
        ("size", 200, 1000, "all"),
    ],
)
def test_memory_is_constant(tmp_path, function, first, count, mode):
    """However many items there are, the host takes no more than for the first of them."""
    script = tmp_path / "memory.py"
    script.write_text(MEMORY)
    words = [sys.executable, script, function, str(first), str(count), mode]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    # All results, or all items, would be 1,000 MiB where they are large; of them 8 MiB may wait for the
    # caller, and as much in the memory of the pool.
    assert int(done.stdout) <= (6 if function in ("abs", "later") else 32)
