"""How a worker behaves towards its user's tools: `ps`, `breakpoint()`, faulthandler."""

from __future__ import annotations

import faulthandler
import os
import sys
from typing import Any, NoReturn


def of_host() -> dict[str, Any]:
    """Returns what workers are to take over from this process."""
    return {"faulthandler": faulthandler.is_enabled()}


def take_over(seat: int, said: dict[str, Any]) -> None:
    """Makes this process a worker that tools know."""
    name(f"aiopool-{seat}")
    if said["faulthandler"]:
        try:
            # A copy of a process in which it was enabled has the signals of a new one.
            faulthandler.disable()
            faulthandler.enable()
        except (OSError, ValueError, RuntimeError, AttributeError):
            # There is no standard error to write to.
            pass
    if sys.breakpointhook is sys.__breakpointhook__ and not os.environ.get("PYTHONBREAKPOINT"):
        sys.breakpointhook = _refuse


def name(text: str) -> None:
    """Names this process for `ps` and `top`."""
    try:
        comm = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(comm, text.encode())
        finally:
            os.close(comm)
    except OSError:
        # A sandbox may forbid it.
        pass


def _refuse(*arguments: Any, **keywords: Any) -> NoReturn:
    raise RuntimeError(
        "breakpoint() is not possible in a worker, which has no terminal: call the function in the "
        "host, or set PYTHONBREAKPOINT to a debugger that listens, such as remote_pdb.set_trace"
    )
