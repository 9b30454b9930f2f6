"""Whether workers can import the main module without running the program once more."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from . import _state

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


def look_for_guard() -> None:
    """Says what to do, once, if the main module starts processes outside of a guard: they do not import
    it then."""
    path = None if _state.importing_main else unguarded()
    if path is not None and not _state.main_is_unguarded:
        text = "workers do not import it, so that they have no functions of it"
        print(f"aiopool: {path} builds a pool at its top level: {text}: {HINT}", file=sys.stderr)
    _state.main_is_unguarded = path is not None


@contextmanager
def as_workers_see_it(importable: bool) -> Iterator[None]:
    """Has multiprocessing not look for the main module where that is not `importable`."""
    names: Any = vars(sys.modules["__main__"])
    hidden = {name: names[name] for name in ("__file__", "__spec__") if name in names and not importable}
    for name in hidden:
        names[name] = None
    try:
        yield
    finally:
        names.update(hidden)


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
