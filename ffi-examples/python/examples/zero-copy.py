"""Large inputs and outputs without a copy: each is written where the other side reads it.

Pickled arguments are copies by their nature, so this one speaks to libaiopool itself, and its task
function is one in C (`../../tasks`), which sees the same memory.
"""

import asyncio
import ctypes
import os
import pathlib
import sys
from ctypes import byref, c_int32, c_uint32, c_void_p

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aiopool import _native as native

COUNT, SIZE = 8, 4 << 20


def start():
    words = [os.environ["AIOPOOL"], "worker", "--load", os.environ["AIOPOOL_TASKS"], None]
    command = (ctypes.c_char_p * len(words))(*(word and word.encode() for word in words))
    options = native.PoolOptions()
    native.check(native.lib.aiopool_pool_options_init(byref(options)))
    options.processes = 2
    options.start_method, options.command = native.START_COMMAND, command
    return c_void_p(native.give(native.lib.aiopool_pool_start, byref(options), of=c_void_p))


def submit(pool, function, value):
    memory, loan = c_void_p(), c_void_p()
    native.check(native.lib.aiopool_pool_loan(pool, SIZE, byref(memory), byref(loan)))
    ctypes.memset(memory, value, SIZE)
    call = native.Call()
    native.check(native.lib.aiopool_call_init(byref(call)))
    call.function, call.loan, call.flags = function, loan, native.CALL_BORROW_OUTPUT
    native.check(native.lib.aiopool_pool_try_submit(pool, byref(call), None))


def receive(pool):
    """The sums of the outputs that are there."""
    outcome = c_void_p()
    while (status := native.lib.aiopool_pool_try_wait(pool, byref(outcome))) == native.OK:
        if native.lib.aiopool_outcome_kind(outcome) != native.OUTCOME_OK:
            raise RuntimeError(native.lib.aiopool_outcome_text(outcome).decode())
        size = native.lib.aiopool_outcome_len(outcome)
        data = native.lib.aiopool_outcome_data(outcome)
        with memoryview((ctypes.c_ubyte * size).from_address(data)).cast("B") as view:
            yield sum(view)
        # Until here it was the worker's own memory.
        native.check(native.lib.aiopool_outcome_release(outcome))
    if status != native.EMPTY:
        native.check(status)


async def main():
    pool = start()
    function = native.give(native.lib.aiopool_function_declare, b"invert", of=c_uint32)
    sums, all_there = [], asyncio.Event()

    def readable():
        sums.extend(receive(pool))
        if len(sums) == COUNT:
            all_there.set()

    fd = native.give(native.lib.aiopool_pool_fd, pool, of=c_int32)
    asyncio.get_running_loop().add_reader(fd, readable)
    for i in range(COUNT):
        submit(pool, function, i + 1)
    await all_there.wait()
    asyncio.get_running_loop().remove_reader(fd)
    native.check(native.lib.aiopool_pool_free(pool))
    print(f"zero-copy: {COUNT} inputs and outputs of {SIZE >> 20} MiB, sum {sum(sums)}")


if __name__ == "__main__":
    asyncio.run(main())
