"""Where a worker's Python code is: what `aiopool stack` asks for, with a signal, of a worker that
answers nobody else. `faulthandler` needs neither the interpreter's lock nor its memory for that."""

import contextlib
import faulthandler
import os

# SIGSTKFLT: no kernel sends it and no library has a use for it.
SIGNAL = 16


def tell() -> None:
    """From now on the signal writes the stacks of all threads into a file in memory."""
    # Without it nothing is missing but the stack.
    with contextlib.suppress(OSError):
        descriptor = os.memfd_create("aiopool-stack", os.MFD_CLOEXEC)
        faulthandler.register(SIGNAL, file=descriptor, all_threads=True)
