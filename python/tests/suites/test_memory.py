"""Memory does not grow with the number of items."""

import subprocess
import sys

import pytest

MEMORY = """
import asyncio, resource, sys
import aiopool

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

async def later(x):
    return x

def large(x):
    return b"x" * 100_000

async def main(function, first, count, mode):
    async with aiopool.Pool(2) as pool:
        async def go(count):
            given = 0
            if mode == "iterate":
                async for result in pool.map(function, range(count)):
                    given += 1
            elif mode == "unordered":
                async for result in pool.map(function, range(count)).as_completed():
                    given += 1
            elif mode == "async items":
                async def items():
                    for x in range(count):
                        yield x
                async for result in pool.map(function, items()):
                    given += 1
            assert given == count
        await go(first)
        before = peak()
        await go(count)
        print((peak() - before) >> 20)

if __name__ == "__main__":
    name, first, count, mode = sys.argv[1:]
    asyncio.run(main(globals().get(name) or abs, int(first), int(count), mode))
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
    ],
)
def test_memory_is_constant(tmp_path, function, first, count, mode):
    """However many items there are, the host takes no more than for the first of them."""
    script = tmp_path / "memory.py"
    script.write_text(MEMORY)
    words = [sys.executable, script, function, str(first), str(count), mode]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    # All results would be 1,000 MiB where they are large; of them 8 MiB may wait for the caller, and
    # as much in the memory of the pool.
    assert int(done.stdout) <= (32 if function == "large" else 6)
