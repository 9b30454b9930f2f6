"""`python -m aiopool doctor`: what this machine allows, and what to change where it does not."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ._native import VERSION


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    is_fine: bool
    found: str
    advice: str = ""


def findings() -> Iterator[Finding]:
    """Looks at everything that a pool needs, in the order in which a pool needs it."""
    for look in (_kernel, _memfd, _pidfd, _files, _memory, _processors, _cloudpickle, _pool):
        try:
            yield look()
        except Exception as error:
            yield Finding(look.__name__.strip("_"), False, f"{type(error).__name__}: {error}")


def _kernel() -> Finding:
    release = platform.release()
    numbers = [int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit()]
    advice = "pidfds and close_range need Linux 5.9 or newer"
    return Finding("kernel", numbers >= [5, 9], f"{platform.system()} {release}", advice)


def _memfd() -> Finding:
    descriptor = os.memfd_create("aiopool-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, 1 << 20)
        os.pwrite(descriptor, b"x", 0)
    finally:
        os.close(descriptor)
    return Finding("memfd_create", True, "works")


def _pidfd() -> Finding:
    os.close(os.pidfd_open(os.getpid()))
    return Finding("pidfd_open", True, "works")


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Three descriptors a worker slot, two slots a worker, and some for the pool.
    needed = 6 * len(os.sched_getaffinity(0)) + 64
    advice = f"a pool of all processors wants about {needed}: ulimit -n {needed}"
    return Finding("open files", soft >= needed, f"{soft} (hard limit {hard})", advice)


def _memory() -> Finding:
    limit = None
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if os.path.exists(path):
            with open(path) as file:
                text = file.read().strip()
            limit = int(text) if text.isdigit() and int(text) < 1 << 60 else None
            break
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":", 1) for line in file)
    available = int(fields["MemAvailable"].split()[0]) << 10
    least = min(available, limit or available)
    found = f"{available >> 20} MiB available, the control group's limit is "
    found += "none" if limit is None else f"{limit >> 20} MiB"
    advice = "an interpreter takes some 10 MiB, one with numpy and pandas some 50"
    return Finding("memory", least > 256 << 20, found, advice)


def _processors() -> Finding:
    allowed, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    return Finding("processors", True, f"{allowed} of {there} may be used")


def _cloudpickle() -> Finding:
    try:
        import cloudpickle  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        advice = "lambdas, closures and notebooks want it: pip install 'libaiopool[cloudpickle]'"
        return Finding("cloudpickle", True, f"is not installed; {advice}")
    return Finding("cloudpickle", True, str(cloudpickle.__version__))


def _pool() -> Finding:
    import time

    from .executor import ProcessPoolExecutor

    began = time.perf_counter()
    with ProcessPoolExecutor(1) as executor:
        executor.submit(abs, -1).result(60)
        started = time.perf_counter()
        for _ in range(100):
            executor.submit(abs, -1).result(60)
        each = (time.perf_counter() - started) / 100
    found = f"first result after {started - began:.2f} s, then {each * 1e6:.0f} us a task"
    return Finding("a pool", True, found)


def main(write: Callable[[str], object] = print) -> int:
    """Prints the findings. 1 if something has to be changed."""
    write(f"libaiopool {VERSION}, Python {platform.python_version()}, {sys.executable}")
    width = min(100, shutil.get_terminal_size().columns)
    wrong = 0
    for finding in findings():
        mark = "ok  " if finding.is_fine else "FAIL"
        write(f"{mark} {finding.what:<14} {finding.found}"[: max(width, 40)])
        if not finding.is_fine:
            wrong += 1
            if finding.advice:
                write(f"     {'':<14} {finding.advice}")
    return 1 if wrong else 0
