"""What is known of an event loop's inside: whether it has other work, for those that look for theirs."""

from __future__ import annotations

import asyncio
import sys
from typing import Any


def descriptor(loop: Any) -> int:
    """The descriptor by which an asyncio loop waits for everything else; -1 for other loops."""
    fileno = getattr(getattr(loop, "_selector", None), "fileno", None)
    if fileno is None or not hasattr(loop, "_ready"):
        return -1
    try:
        return int(fileno())
    except (OSError, ValueError):
        return -1


def forget() -> None:
    """Has a plain function that asks for an event loop, and may want to run it, get one of its own, as
    in any program: that of this thread runs already."""
    if sys.version_info >= (3, 14):
        # There is none but the running one.
        return
    local: Any = getattr(asyncio.get_event_loop_policy(), "_local", None)
    if local is not None:
        local._loop, local._set_called = None, False
