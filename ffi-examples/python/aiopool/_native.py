"""libaiopool through ctypes: the part of `aiopool.h` that the package uses."""

import ctypes
import os
from ctypes import POINTER, byref, c_char_p, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

OK, TIMEOUT, EMPTY, FULL, CLOSED = 0, -6, -7, -8, -9
START_COMMAND = 2
CALL_BORROW_OUTPUT = 4
NO_NEW_PRIVS, NO_NETWORK, NO_SIGNALS, BEST_EFFORT = 2, 4, 16, 32
OUTCOMES = OUTCOME_OK, OUTCOME_ERR, OUTCOME_PANICKED, OUTCOME_CANCELLED = range(4)
OUTCOME_TIMED_OUT, OUTCOME_WORKER_LOST, OUTCOME_POOL_CLOSED = 4, 5, 6
CALL_ON_QUEUE = 8
EVENT_NOTHING, EVENT_RUN, EVENT_CANCEL, EVENT_LEAVE = range(4)
END_OK, END_FAILED, END_REFUSED, END_UNENCODABLE, END_CANCELLED = range(5)


class PoolOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("processes", c_uint32),
        ("queues", c_uint32),
        ("child_concurrency", c_uint32),
        ("priorities", c_uint32),
        ("max_tasks_per_child", c_uint64),
        ("capacity", c_uint64),
        ("max_payload", c_uint64),
        ("input_arena", c_uint64),
        ("output_arena", c_uint64),
        ("grace_ms", c_uint64),
        ("start_method", c_uint32),
        ("scheduler", c_uint32),
        ("command", POINTER(c_char_p)),
        ("init_function", c_uint32),
        ("exit_function", c_uint32),
        ("init_input", c_char_p),
        ("init_input_len", c_size_t),
        ("exit_input", c_char_p),
        ("exit_input_len", c_size_t),
        ("limit_address_space", c_uint64),
        ("limit_cpu_seconds", c_uint64),
        ("limit_open_files", c_uint64),
        ("read_only", POINTER(c_char_p)),
        ("read_write", POINTER(c_char_p)),
        ("denied_calls", c_void_p),
        ("denied_calls_len", c_size_t),
        ("custom_scheduler", c_void_p),
        ("stats_page", c_char_p),
        ("exception_function", c_uint32),
        ("start_timeout_ms", c_uint32),
        ("reserved", c_uint64 * 5),
    ]


class Call(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("function", c_uint32),
        ("priority", c_uint32),
        ("name", c_char_p),
        ("input", c_char_p),
        ("input_len", c_size_t),
        ("user_data", c_uint64),
        ("run_limit_ms", c_uint64),
        ("wait_limit_ms", c_uint64),
        ("backoff_ms", c_uint64),
        ("retries", c_uint32),
        ("queue", c_uint32),
        ("loan", c_void_p),
        ("on_complete", c_void_p),
        ("parts", c_void_p),
        ("parts_len", c_size_t),
        ("reserved", c_uint64 * 1),
    ]


class WorkerInfo(ctypes.Structure):
    _fields_ = [
        ("seat", c_uint32),
        ("child_concurrency", c_uint32),
        ("init_input", c_void_p),
        ("init_input_len", c_size_t),
        ("reserved", c_uint64 * 4),
    ]


class WorkerEvent(ctypes.Structure):
    _fields_ = [
        ("kind", c_uint32),
        ("reserved_0", c_uint32),
        ("task", c_uint64),
        ("function", c_char_p),
        ("input", c_void_p),
        ("input_len", c_size_t),
        ("reserved", c_uint64 * 2),
    ]


def find_library() -> str:
    """`AIOPOOL_LIBRARY`, the package's own copy, the build beside it, or what is installed."""
    named = os.environ.get("AIOPOOL_LIBRARY")
    if named:
        return named
    # Not pathlib, and ctypes.util only where it is needed: each worker begins by this.
    here = os.path.dirname(os.path.realpath(__file__))
    roots = [os.path.join(here, *[".."] * up) for up in (2, 3, 4)]
    builds = [os.path.join(root, "target", kind) for kind in ("release", "debug") for root in roots]
    for folder in (here, *builds):
        place = os.path.join(folder, "libaiopool.so")
        if os.path.exists(place):
            return place
    import ctypes.util

    installed = ctypes.util.find_library("aiopool")
    if installed:
        return installed
    raise ImportError(
        "libaiopool.so is not there: install it, or set AIOPOOL_LIBRARY to its path "
        "(cargo build --release makes target/release/libaiopool.so)"
    )


_PROTOTYPES = {
    "aiopool_last_error": (c_char_p, []),
    "aiopool_pool_options_init": (c_int32, [POINTER(PoolOptions)]),
    "aiopool_call_init": (c_int32, [POINTER(Call)]),
    "aiopool_function_declare": (c_int32, [c_char_p, POINTER(c_uint32)]),
    "aiopool_pool_start": (c_int32, [POINTER(PoolOptions), POINTER(c_void_p)]),
    "aiopool_pool_free": (c_int32, [c_void_p]),
    "aiopool_pool_close": (c_int32, [c_void_p]),
    "aiopool_pool_terminate": (c_int32, [c_void_p]),
    "aiopool_pool_join": (c_int32, [c_void_p, c_uint64]),
    "aiopool_pool_fd": (c_int32, [c_void_p, POINTER(c_int32)]),
    "aiopool_pool_try_submit": (c_int32, [c_void_p, POINTER(Call), POINTER(c_uint64)]),
    "aiopool_pool_loan": (c_int32, [c_void_p, c_size_t, POINTER(c_void_p), POINTER(c_void_p)]),
    "aiopool_pool_workers": (c_int32, [c_void_p, POINTER(c_uint32), c_size_t, POINTER(c_size_t)]),
    "aiopool_pool_cancel": (c_int32, [c_void_p, c_uint64]),
    "aiopool_pool_try_wait": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "aiopool_outcome_kind": (c_int32, [c_void_p]),
    "aiopool_outcome_data": (c_void_p, [c_void_p]),
    "aiopool_outcome_len": (c_size_t, [c_void_p]),
    "aiopool_outcome_text": (c_char_p, [c_void_p]),
    "aiopool_outcome_user_data": (c_uint64, [c_void_p]),
    "aiopool_outcome_release": (c_int32, [c_void_p]),
    "aiopool_worker_attach": (c_int32, [POINTER(c_void_p)]),
    "aiopool_worker_describe": (c_int32, [c_void_p, POINTER(WorkerInfo)]),
    "aiopool_worker_fd": (c_int32, [c_void_p, POINTER(c_int32)]),
    "aiopool_worker_next": (c_int32, [c_void_p, POINTER(WorkerEvent)]),
    "aiopool_worker_complete": (c_int32, [c_void_p, c_uint64, c_uint32, c_char_p, c_size_t]),
    "aiopool_worker_fail": (c_int32, [c_void_p, c_char_p]),
    "aiopool_worker_leave": (c_int32, [c_void_p]),
}


class Error(RuntimeError):
    """A call of libaiopool failed; the text says why."""

    def __init__(self, status: int) -> None:
        super().__init__(last_error())
        self.status = status


PATH = find_library()
if os.sep in PATH:
    # Workers may be in another directory than this process was.
    PATH = os.path.realpath(PATH)
lib = ctypes.CDLL(PATH)
# The same for calls that never wait: without giving up the interpreter's lock for each.
quick = ctypes.PyDLL(PATH)
for _name, (_result, _arguments) in _PROTOTYPES.items():
    for _library in (lib, quick):
        _function = getattr(_library, _name)
        _function.restype, _function.argtypes = _result, _arguments


def last_error() -> str:
    return lib.aiopool_last_error().decode(errors="replace")


def bytes_at(address: int, size: int) -> bytes:
    """A copy of memory; quicker than `ctypes.string_at` for what is small."""
    if size > 4096:
        # A type for each size is made and kept.
        return ctypes.string_at(address, size)
    return (ctypes.c_char * size).from_address(address).raw if size else b""


def check(status: int) -> None:
    """Raises what a call's status says."""
    if status != OK:
        raise Error(status)


def give(function, *arguments, of):
    """Calls a function whose last argument is its output of type `of`, and gives that."""
    value = of()
    check(function(*arguments, byref(value)))
    return value.value
