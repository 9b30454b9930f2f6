"""An interpreter that imports what all workers of a pool are to share, and is forked for each.

The process that is forked does nothing in Python any more once it serves: it has one thread, and
stays as it was when it had imported everything.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from . import _steps, _threads, _wire, _worker
from ._native import Template


def main(modules: Sequence[str], path: Sequence[str]) -> None:
    """The life of such a process, and of the workers that are its copies."""
    # As in a worker that is executed: what a terminal sends to all is the host's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    template = Template()
    sys.path[:] = path
    # A library that starts threads cannot be copied; workers get theirs afterwards.
    _threads.limit(1)
    # pyarrow, which pandas imports where it is, has an allocator with a thread in the background.
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    _steps.install()
    for name in modules:
        before = _count()
        try:
            importlib.import_module(name)
        except BaseException as error:
            template.refuse(f"preload={name!r} cannot be imported:\n{_wire.error_text(error)}")
        started = _count() - before
        if started > 0:
            template.refuse(
                f"preload={name!r} cannot be shared: its import starts threads ({started}), which "
                "copies of a process do not have; leave it out of preload"
            )
    sys.stdout.flush()
    sys.stderr.flush()
    # Objects that a collection touches are copied; these are left alone.
    gc.collect()
    gc.freeze()
    worker = template.serve()
    _reseed()
    _worker.serve(worker)


def _count() -> int:
    return len(os.listdir("/proc/self/task"))


def _reseed() -> None:
    """Makes each copy draw other random numbers; `random` itself is seen to by Python."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
