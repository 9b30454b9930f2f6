"""`python -m aiopool doctor`: what this machine allows, and what to change where it does not."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ._native import VERSION, processors


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    is_fine: bool
    found: str
    #: What to change; something that is fine has one if there is something to gain.
    advice: str = ""


def _finding(what: str, is_fine: bool, found: str, advice: str) -> Finding:
    return Finding(what, is_fine, found, "" if is_fine else advice)


def findings() -> Iterator[Finding]:
    """Looks at everything that a pool needs, in the order in which a pool needs it."""
    for look in _LOOKS:
        try:
            yield look()
        except Exception as error:
            yield Finding(look.__name__.strip("_"), False, f"{type(error).__name__}: {error}")


def _kernel() -> Finding:
    release = platform.release()
    numbers = [int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit()]
    advice = "pidfds and close_range need Linux 5.9 or newer"
    return _finding("kernel", numbers >= [5, 9], f"{platform.system()} {release}", advice)


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
    needed = 6 * processors() + 64
    advice = f"a pool of all processors wants about {needed}: ulimit -n {needed}"
    return _finding("open files", soft >= needed, f"{soft} (hard limit {hard})", advice)


def _of_group(controller: str, name: str, old_name: str) -> list[str]:
    """Returns what the control groups of this process say, from its own to the root; `old_name` is
    the file's in the first version of control groups."""
    found = []
    with open("/proc/self/cgroup") as file:
        groups = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in groups:
        if controllers == "":
            root, wanted = "/sys/fs/cgroup", name
        elif controller in controllers.split(","):
            root, wanted = f"/sys/fs/cgroup/{controllers}", old_name
        else:
            continue
        parts = [part for part in path.split("/") if part]
        # A container sees its own group as the root.
        for length in range(len(parts), -1, -1):
            try:
                with open(os.path.join(root, *parts[:length], wanted)) as file:
                    found.append(file.read().strip())
            except OSError:
                continue
    return found


def _least(said: list[str]) -> int | None:
    """Returns the lowest of the limits that groups say; None if none limits."""
    # Without a limit the first version of control groups says a number like 1 << 63.
    limits = [int(text) for text in said if text.isdigit() and int(text) < 1 << 60]
    return min(limits, default=None)


def _memory() -> Finding:
    limit = _least(_of_group("memory", "memory.max", "memory.limit_in_bytes"))
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":", 1) for line in file)
    available = int(fields["MemAvailable"].split()[0]) << 10
    least = available if limit is None else min(available, limit)
    found = f"{available >> 20} MiB available, the control group's limit is "
    found += "none" if limit is None else f"{limit >> 20} MiB"
    advice = "an interpreter takes some 10 MiB, one with numpy and pandas some 50"
    return _finding("memory", least > 256 << 20, found, advice)


def _address_space() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return Finding("address space", True, "is not limited")
    advice = "arenas are smaller then, see max_payload; numpy wants some GiB: ulimit -v unlimited"
    return _finding("address space", soft >= 4 << 30, f"{soft >> 20} MiB", advice)


def _processes() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    of_user = None if soft == resource.RLIM_INFINITY else soft
    of_group = _least(_of_group("pids", "pids.max", "pids.max"))
    limits = [limit for limit in (of_user, of_group) if limit is not None]
    # Each worker has threads of its own, and is there twice while it is replaced.
    needed = 8 * processors() + 32
    found = f"the user may have {'any number' if of_user is None else of_user} of them and of threads, "
    found += f"the control group {'any number' if of_group is None else of_group}"
    advice = f"a pool of all processors wants about {needed}: ulimit -u, or the container's limit of pids"
    return _finding("processes", min(limits, default=needed) >= needed, found, advice)


def _processors() -> Finding:
    allowed, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    found = f"{allowed} of {there} may be used"
    shares = []
    for text in _of_group("cpu", "cpu.max", "cpu.cfs_quota_us"):
        quota, _, period = text.partition(" ")
        if quota.isdigit():
            # In the first version of control groups the period is a file of its own, 100 ms by default.
            shares.append(int(quota) / int(period or 100_000))
    if not shares or min(shares) >= allowed:
        return Finding("processors", True, found)
    found += f", the control group has the time of {min(shares):.1f}: a pool has {processors()} workers"
    return Finding("processors", True, found)


def _filter() -> Finding:
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    mode = {"0": "none", "1": "strict", "2": "a filter"}.get(fields.get("Seccomp", "").strip(), "unknown")
    return Finding("seccomp", True, f"{mode} on this process; what it forbids is said below")


def _landlock() -> Finding:
    # landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION), the same on all machines.
    library = ctypes.CDLL(None, use_errno=True)
    version = library.syscall(444, None, ctypes.c_size_t(0), 1)
    if version > 0:
        return Finding("landlock", True, f"version {version}: a sandbox can name files")
    why = os.strerror(ctypes.get_errno())
    advice = "a Sandbox with read_only or read_write wants it, or best_effort=True"
    return Finding("landlock", True, f"is not there: {why}", advice)


def _cloudpickle() -> Finding:
    try:
        import cloudpickle  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        advice = "lambdas, closures and notebooks want it: pip install 'libaiopool[cloudpickle]'"
        return Finding("cloudpickle", True, "is not installed", advice)
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


def _preload() -> Finding:
    from .executor import ProcessPoolExecutor

    with ProcessPoolExecutor(1, preload=["asyncio"]) as executor:
        executor.submit(abs, -1).result(60)
    return Finding("preload", True, "works: workers can be copies of one process")


_LOOKS: tuple[Callable[[], Finding], ...] = (
    *(_kernel, _filter, _landlock, _memfd, _pidfd, _files, _processes, _address_space, _memory),
    *(_processors, _cloudpickle, _pool, _preload),
)


def main(write: Callable[[str], object] = print) -> int:
    """Prints the findings. 1 if something has to be changed."""
    write(f"libaiopool {VERSION}, Python {platform.python_version()}, {sys.executable}")
    width = min(100, shutil.get_terminal_size().columns)
    wrong = 0
    for finding in findings():
        mark = "ok  " if finding.is_fine else "FAIL"
        write(f"{mark} {finding.what:<14} {finding.found}"[: max(width, 40)])
        wrong += not finding.is_fine
        if finding.advice:
            write(f"     {'':<14} {finding.advice}")
    return 1 if wrong else 0
