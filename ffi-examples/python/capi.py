"""libaiopool from Python through ctypes, in asyncio's event loop: `capi.py map|crash|zero-copy|sizes`.

The task functions are those in C of `../tasks`. To run functions of Python there is the package,
`pip install libaiopool`.
"""

import asyncio
import ctypes
import os
import pathlib
import sys
from ctypes import POINTER, byref, c_char_p, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

OK, EMPTY = 0, -7
START_COMMAND, CALL_BORROW_OUTPUT = 2, 4
OUTCOME_OK, OUTCOME_WORKER_LOST = 0, 5


class PoolOptions(ctypes.Structure):
    _fields_ = [
        *((name, c_uint32) for name in ("struct_size", "flags", "processes", "queues")),
        *((name, c_uint32) for name in ("child_concurrency", "priorities")),
        *((name, c_uint64) for name in ("max_tasks_per_child", "capacity", "max_payload")),
        *((name, c_uint64) for name in ("input_arena", "output_arena", "grace_ms")),
        *((name, c_uint32) for name in ("start_method", "scheduler")),
        ("command", POINTER(c_char_p)),
        *((name, c_uint32) for name in ("init_function", "exit_function")),
        *(("init_input", c_char_p), ("init_input_len", c_size_t)),
        *(("exit_input", c_char_p), ("exit_input_len", c_size_t)),
        *((f"limit_{name}", c_uint64) for name in ("address_space", "cpu_seconds", "open_files")),
        *((name, POINTER(c_char_p)) for name in ("read_only", "read_write")),
        *(("denied_calls", c_void_p), ("denied_calls_len", c_size_t)),
        *(("custom_scheduler", c_void_p), ("stats_page", c_char_p)),
        *((name, c_uint32) for name in ("exception_function", "start_timeout_ms")),
        *(("name", c_char_p), ("surroundings", c_void_p), ("context", c_void_p)),
        *(("blocked_after_ms", c_uint64), ("probation", c_uint32), ("held_fd", c_int32)),
        *(("deadline_ns", c_uint64), ("reserved", c_uint64 * 4)),
    ]


class Call(ctypes.Structure):
    _fields_ = [
        *((name, c_uint32) for name in ("struct_size", "flags", "function", "priority")),
        *(("name", c_char_p), ("input", c_char_p), ("input_len", c_size_t)),
        *((name, c_uint64) for name in ("user_data", "run_limit_ms", "wait_limit_ms", "backoff_ms")),
        *((name, c_uint32) for name in ("retries", "queue")),
        *((name, c_void_p) for name in ("loan", "on_complete", "parts")),
        *(("parts_len", c_size_t), ("retry_if", c_void_p), ("longest_backoff_ms", c_uint64)),
        ("reserved", c_uint64 * 4),
    ]


lib = ctypes.CDLL(os.environ.get("AIOPOOL_LIBRARY", "libaiopool.so"))
lib.aiopool_last_error.restype = lib.aiopool_outcome_text.restype = c_char_p
lib.aiopool_outcome_data.restype = c_void_p
lib.aiopool_outcome_len.restype = c_size_t
lib.aiopool_outcome_user_data.restype = c_uint64
lib.aiopool_pool_loan.argtypes = [c_void_p, c_size_t, c_void_p, c_void_p]


def check(status):
    """Raises what a call's status says."""
    if status != OK:
        raise RuntimeError(lib.aiopool_last_error().decode())


def start(concurrency=0):
    """Starts a pool of workers that have the functions of a library."""
    words = [os.environ["AIOPOOL"], "worker", "--load", os.environ["AIOPOOL_TASKS"], None]
    options, pool = PoolOptions(), c_void_p()
    check(lib.aiopool_pool_options_init(byref(options)))
    options.processes, options.child_concurrency = 2, concurrency or options.child_concurrency
    options.start_method = START_COMMAND
    options.command = (c_char_p * len(words))(*(word and word.encode() for word in words))
    check(lib.aiopool_pool_start(byref(options), byref(pool)))
    return pool


def declare(name):
    """Returns the number of a function that workers know by its name."""
    function = c_uint32()
    check(lib.aiopool_function_declare(name, byref(function)))
    return function


def submit(pool, function, number, size=0):
    """Submits a task: of a number, or of `size` bytes that are written where the worker reads them."""
    call = Call()
    check(lib.aiopool_call_init(byref(call)))
    call.function, call.user_data = function, number
    if size:
        memory, loan = c_void_p(), c_void_p()
        check(lib.aiopool_pool_loan(pool, size, byref(memory), byref(loan)))
        ctypes.memset(memory, number, size)
        call.loan, call.flags = loan, CALL_BORROW_OUTPUT
    else:
        call.input, call.input_len = number.to_bytes(8, sys.byteorder), 8
    check(lib.aiopool_pool_try_submit(pool, byref(call), None))


async def outcomes(pool, count):
    """Gives the outcomes as they come: number, kind, and the output where the worker has put it."""
    descriptor, outcome, rung = c_int32(), c_void_p(), asyncio.Event()
    check(lib.aiopool_pool_fd(pool, byref(descriptor)))
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor.value, rung.set)
    while count > 0:
        status = lib.aiopool_pool_try_wait(pool, byref(outcome))
        if status == EMPTY:
            rung.clear()
            await rung.wait()
            continue
        check(status)
        data, size = lib.aiopool_outcome_data(outcome), lib.aiopool_outcome_len(outcome)
        view = memoryview((ctypes.c_ubyte * size).from_address(data)) if size else memoryview(b"")
        yield lib.aiopool_outcome_user_data(outcome), lib.aiopool_outcome_kind(outcome), view.cast("B")
        # Until here the output was the worker's own memory.
        check(lib.aiopool_outcome_release(outcome))
        count -= 1
    loop.remove_reader(descriptor.value)


async def run(name):
    count = {"map": 1000, "crash": 100, "zero-copy": 8}[name]
    size = 4 << 20 if name == "zero-copy" else 0
    pool = start(1 if name == "crash" else 0)
    function = declare({"map": b"square", "crash": b"fragile", "zero-copy": b"invert"}[name])
    for number in range(count):
        submit(pool, function, number + bool(size), size)
    total, lost = 0, []
    async for number, kind, view in outcomes(pool, count):
        if kind == OUTCOME_WORKER_LOST:
            lost.append(number)
        else:
            assert kind == OUTCOME_OK, kind
            total += sum(view) if size else int.from_bytes(view, sys.byteorder)
    check(lib.aiopool_pool_free(pool))
    if name == "map":
        assert total == sum(x * x for x in range(count)), total
        return f"map: {count} squares, sum {total}"
    if name == "crash":
        assert sorted(lost) == [7, 27, 47, 67, 87], lost
        return f"crash: {count - len(lost)} done, {len(lost)} lost with their workers, each replaced"
    return f"zero-copy: {count} inputs and outputs of {size >> 20} MiB, sum {total}"


def sizes():
    """Compares the structs with those of the header, field by field."""
    compared = 0
    known = pathlib.Path(__file__).parents[2] / "crates/aiopool-capi/tests/abi/aiopool.sizes"
    structs = {"aiopool_pool_options": PoolOptions, "aiopool_call": Call}
    for line in known.read_text().splitlines():
        field, number = line.split()
        name, _, member = field.partition(".")
        if name in structs:
            struct = structs[name]
            found = getattr(struct, member).offset if member else ctypes.sizeof(struct)
            assert found == int(number), f"{field} is at {found}, not {number}"
            compared += 1
    assert compared > 45, compared
    return f"sizes: {compared} as in the header"


if __name__ == "__main__":
    print(sizes() if sys.argv[1] == "sizes" else asyncio.run(run(sys.argv[1])))
