"""How many threads numerical libraries start: a worker's share of the processors."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from functools import cache
from typing import Any

from ._native import processors

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)

#: What `limit` has set here, so that a later call may set it again.
_ours: set[str] = set()


def usable(numbers: Collection[int] | None) -> int:
    """Returns how many processors there are for workers, which are kept to those of `numbers`."""
    return processors() if numbers is None else max(1, len(set(numbers)))


def share(processes: int, numbers: Collection[int] | None = None) -> int:
    """Returns how many of these processors each of `processes` workers can have."""
    return max(1, usable(numbers) // max(1, processes))


def limit(threads: int) -> None:
    """Has libraries that are loaded from now on use so many threads, unless the user says else."""
    for name in _VARIABLES:
        if name not in os.environ or name in _ours:
            # What is the same stays shared, where this process is a copy.
            if os.environ.get(name) != str(threads):
                os.environ[name] = str(threads)
            _ours.add(name)
    # Loaded already, in a process that this one is a copy of.
    control = loaded() if threads > 1 else None
    if control is not None:
        control.threadpool_limits(threads)


@cache
def loaded() -> Any:
    """Returns what sets the threads of libraries that are loaded, if there are such and it is installed.

    It is looked for once: a copy of this process does not look again.
    """
    if "numpy" not in sys.modules:
        return None
    try:
        import threadpoolctl  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    return threadpoolctl
