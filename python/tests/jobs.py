"""Coroutine functions that the tests run in workers."""

import asyncio
import os
import signal
import sys
import threading
import time

state = None


def start(value):
    global state
    state = value


def loaded():
    return set(sys.modules)


def refuse(reason):
    raise RuntimeError(reason)


async def read_state():
    return state


async def allocate(size):
    return len(bytearray(size))


async def double(x):
    return x * 2


async def add(a, b):
    return a + b


async def greet(name, *, greeting="hello"):
    return f"{greeting}, {name}"


async def slowest_first(x):
    await asyncio.sleep(0.02 * (5 - x))
    return x


async def pid(_=None):
    return os.getpid()


async def fail(text):
    raise ValueError(text)


async def die(_=None):
    os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(60)


async def unpicklable(_=None):
    return threading.Lock()


async def cancel_itself():
    raise asyncio.CancelledError


def plain(x):
    return x + 1


async def echo(x):
    return x


async def wait_for_ever(path=None):
    try:
        if path:
            open(path + ".started", "w").close()
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        if path:
            open(path + ".cancelled", "w").close()
        raise


def wait_for_a_file(path):
    # A directory: no descriptor is open for it when others see it.
    os.mkdir(path + ".begun")
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()


async def meet(party):
    """Comes back when `party` of these run at once in this process."""
    meet.here = getattr(meet, "here", 0) + 1
    meet.bell = getattr(meet, "bell", None) or asyncio.Event()
    if meet.here >= party:
        meet.bell.set()
    await meet.bell.wait()
    return meet.here


def note(error):
    with open(os.environ["AIOPOOL_TEST_NOTES"], "a") as notes:
        notes.write(f"{error}\n")


def loop_with_name():
    loop = asyncio.new_event_loop()
    loop.name = "ours"
    return loop


async def loop_name():
    return asyncio.get_running_loop().name


async def environment(name):
    return os.environ.get(name)
