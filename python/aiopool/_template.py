"""An interpreter that imports what all workers of a pool are to share, and is forked for each.

The process that is forked does nothing in Python any more once it serves: it has one thread, and
stays as it was when it had imported everything.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import multiprocessing.resource_tracker  # noqa: F401  each worker would import it after the fork
import os
import pkgutil  # noqa: F401  and this
import signal
import sys
import types
from collections.abc import Sequence
from multiprocessing import spawn
from typing import Any

from . import _leaving, _manners, _state, _steps, _threads, _wire, _worker
from ._native import Template, keep_shared

# The state of the generator behind `numpy.random`, and its position when all are used up.
_MT19937_WORDS = 624
# What copies never let go of, so that they share it: what code consists of, …
_OWNERS = (
    types.FunctionType,
    types.ModuleType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.ClassMethodDescriptorType,
    property,
    classmethod,
    staticmethod,
)
# … what belongs to that, …
_PARTS = (types.CodeType, tuple, dict, types.CellType, types.MappingProxyType)
# … and what this has in it.
_LEAVES = (str, int, float, bytes)


def main(
    modules: Sequence[str], path: Sequence[str], host_main: dict[str, Any] | None = None
) -> None:
    """The life of such a process, and of the workers that are its copies.

    `host_main` says where the host's main module is, if that is among the modules; its words are
    this process's.
    """
    # As in a worker that is executed: what a terminal sends to all is the host's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    template = Template()
    _manners.name("aiopool-preload")
    sys.path[:] = path
    # A library that starts threads cannot be copied; workers get theirs afterwards.
    _threads.limit(1)
    # pyarrow, which pandas imports where it is, has an allocator with a thread in the background.
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    _steps.install()
    # What is made here stays: a collection would find little, and take a fifth of the imports' time.
    collects = gc.isenabled()
    gc.disable()
    for name in modules:
        before = _count()
        try:
            if name == "__main__" and host_main is not None:
                _import_main(host_main)
            else:
                importlib.import_module(name)
        except BaseException as error:
            template.refuse(f"preload={name!r} cannot be imported:\n{_wire.error_text(error)}")
        started = _count() - before
        if started > 0:
            template.refuse(
                f"preload={name!r} cannot be shared: its import starts threads ({started}), which "
                "copies of a process do not have; leave it out of preload"
            )
    _rehearse()
    _leaving.forget_handlers()
    files, end = _leaving.open_files(), _leaving.exit_of_c()
    # What is in a buffer now would be written by every copy.
    _leaving.flush(file() for file in files)
    # Objects that are counted or that a collection touches are copied; these are left alone.
    keep_shared(gc.get_objects(), _OWNERS, _PARTS, _LEAVES)
    gc.freeze()
    worker = template.serve()
    if collects:
        gc.enable()
    _reseed()
    _worker.serve(worker)
    _leaving.of_copy(files, end)


def _import_main(host_main: dict[str, Any]) -> None:
    """Imports the host's main module as each worker would, which then finds it imported."""
    _state.importing_main = True
    try:
        spawn.prepare({**host_main, "sys_argv": sys.argv[1:]})
    finally:
        _state.importing_main = False


def _rehearse() -> None:
    """Does once what each copy does first, so that they share what it leaves: modules, caches, code
    that the interpreter has adapted, and room in the heap where each would take its own."""
    _reseed()
    _threads.loaded()
    asyncio.SelectorEventLoop().close()
    os.environ.update(dict(os.environ))


def _count() -> int:
    return len(os.listdir("/proc/self/task"))


def _reseed() -> None:
    """Makes each copy draw other random numbers; `random` itself is seen to by Python."""
    numpy, numbers = sys.modules.get("numpy"), sys.modules.get("numpy.random")
    if numpy is not None and numbers is not None:
        # What `seed()` does, by less code: a copy of this process copies each page that runs.
        key = numpy.frombuffer(os.urandom(4 * _MT19937_WORDS), "u4")
        try:
            numbers.set_state(("MT19937", key, _MT19937_WORDS))
        except ValueError:
            # A module has given it another generator.
            numbers.seed()
