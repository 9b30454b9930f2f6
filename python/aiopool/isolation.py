"""What the workers of a pool may use and open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Union

Path = Union[str, bytes, "PathLike[Any]"]


@dataclass(frozen=True)
class Limits:
    """Limits of each worker process; 0 is as many as this process may use."""

    address_space: int = 0
    """Bytes of address space, the pool's memory included: beyond it comes `MemoryError`."""
    cpu_seconds: int = 0
    """Seconds of processor time in a worker's life; then it dies of `SIGXCPU`."""
    open_files: int = 0
    """Descriptors, the pool's included."""


@dataclass(frozen=True)
class Sandbox:
    """What workers are forbidden; whatever it has, they get no rights by executing a program.

    A worker is an interpreter, which opens its modules: `read_only` has to have them, in
    `sys.prefix`, `/usr`, `/lib` and `/lib64` and where this package and the tasks' modules are.
    """

    read_only: Sequence[Path] = ()
    """The only paths, beside `read_write`, that workers can read and execute; none is no rule."""
    read_write: Sequence[Path] = ()
    """The only paths that they can write, too."""
    network: bool = True
    """Whether they can make sockets."""
    signals: bool = True
    """Whether they can send signals to others than their own children (Linux 6.12)."""
    denied_calls: Sequence[int] = ()
    """Numbers of system calls that answer `PermissionError`."""
    best_effort: bool = False
    """Goes without the rules that the kernel cannot enforce, instead of refusing to start."""
