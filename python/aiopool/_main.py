"""Whether workers can import the main module without running the program once more."""

from __future__ import annotations

import ast
import sys
import threading
from types import FrameType

HINT = "put what the script does under `if __name__ == '__main__':`"


class Unguarded(RuntimeError):
    """A worker that imports the main module is about to build a pool."""


def unguarded() -> str | None:
    """The main module's path, if it is building a pool outside of `if __name__ == '__main__':`."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    line = _line_of(main.__dict__) if main is not None else None
    if path is None or line is None:
        return None
    try:
        with open(path, "rb") as file:
            statements = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return None
    for statement in statements:
        if statement.lineno <= line <= (statement.end_lineno or line):
            return None if _is_guard(statement) else path
    return None


def _line_of(module: dict[str, object]) -> int | None:
    """The line at which the main thread is in the top level of a module."""
    ident = threading.main_thread().ident
    frame: FrameType | None = sys._current_frames().get(ident) if ident is not None else None
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals is module:
            return frame.f_lineno
        frame = frame.f_back
    return None


def _is_guard(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.If):
        return False
    names = (node for node in ast.walk(statement.test) if isinstance(node, ast.Name))
    return any(name.id == "__name__" for name in names)
