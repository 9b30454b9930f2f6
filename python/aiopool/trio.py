"""An executor's tasks, awaited in trio.

>>> import math, aiopool, aiopool.trio, trio
>>> async def main():
...     with aiopool.ProcessPoolExecutor(2) as executor:
...         return await aiopool.trio.run(executor, math.sqrt, 9)
>>> trio.run(main)
3.0
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar, overload

import trio  # type: ignore[import-not-found,import-untyped,unused-ignore]

T = TypeVar("T")


@overload
async def run(
    executor: Executor, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
) -> T: ...


@overload
async def run(executor: Executor, function: Callable[..., T], *args: Any, **kwargs: Any) -> T: ...


async def run(executor: Executor, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs `function(*args, **kwargs)` in a worker and gives its result; a coroutine function is
    awaited there. Cancelling the call cancels the task."""
    token = trio.lowlevel.current_trio_token()
    over = trio.Event()

    def tell(_: Future[Any]) -> None:
        try:
            token.run_sync_soon(over.set)
        except trio.RunFinishedError:
            # Nobody waits any more.
            pass

    future = executor.submit(function, *args, **kwargs)
    future.add_done_callback(tell)
    try:
        await over.wait()
    except BaseException:
        future.cancel()
        raise
    return future.result()
