"""What a type checker is to see; checked by mypy, never run."""

import math

from typing_extensions import assert_type

import aiopool


async def fetch(url: str) -> bytes:
    return url.encode()


async def main() -> None:
    async with aiopool.Pool(2) as pool:
        assert_type(await pool.apply(fetch, ("x",)), bytes)
        assert_type(await pool.apply(math.sqrt, (4,)), float)
        assert_type(await pool.map(fetch, ["x", "y"]), list[bytes])
        async for root in pool.map(math.sqrt, [1, 4]):
            assert_type(root, float)
        async for page in pool.starmap(fetch, [("x",)]).as_completed():
            assert_type(page, bytes)
        assert_type(await pool.with_options(timeout=1.5).apply(fetch, ("x",)), bytes)
