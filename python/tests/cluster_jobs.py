"""Functions that the tests of the cluster run on nodes."""

import asyncio
import os
import pathlib
import threading
import time


class Refused(Exception):
    def __init__(self, code, *, reason):
        super().__init__(f"{reason} ({code})")
        self.code, self.reason = code, reason


def square(x):
    return x * x


async def slow_square(x):
    await asyncio.sleep(0.05)
    return x * x


def add(a, b):
    return a + b


def refuse(code):
    raise Refused(code, reason="not today")


def backwards(data):
    return data[::-1]


def pid(_=None):
    return os.getpid()


async def note(folder, item, seconds=0.0):
    """Leaves a file for each run of an item."""
    begun = pathlib.Path(folder, f"{item}.{os.getpid()}.{time.monotonic_ns()}")
    begun.touch()
    await asyncio.sleep(seconds)
    return item


def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def die():
    os.kill(os.getpid(), 9)


def die_once(path):
    """Dies, unless it did so before."""
    if not os.path.exists(path):
        pathlib.Path(path).touch()
        die()
    return "alive"


def unpicklable():
    return threading.Lock()


def fail_until(path, times):
    """Raises for some times."""
    with open(path, "a") as file:
        file.write(".")
    if os.path.getsize(path) < times:
        raise ConnectionResetError("again")
    return os.path.getsize(path)
