"""What a pool of this machine tells of its workers."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ._engine import Engine
from ._native import Trace
from .insights import table

if TYPE_CHECKING:
    import pstats

    from ._profile import Profiles


class Printed(NamedTuple):
    """What a task has printed, of all its attempts."""

    #: What went to its standard output.
    stdout: bytes
    #: What went to its standard error.
    stderr: bytes


class OfThisMachine:
    """What `Pool` and `ProcessPoolExecutor` have in common: the workers are processes of this machine."""

    _engine: Engine
    _profiles: Profiles | None = None

    def _profiled(self, profile: bool) -> str | None:
        """Where workers write their profiles, if they are to."""
        if not profile:
            return None
        from ._profile import Profiles

        self._profiles = Profiles()
        return self._profiles.folder

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers that are alive."""
        return self._engine.workers()

    def stats(self) -> dict[str, Any]:
        """The pool as it is now: a dictionary of `pool` (its counts), `workers`, `queues`,
        `functions` and `events`, with the names that `aiopool top --json` has; empty after the
        pool's end."""
        found: dict[str, Any] = json.loads(self._engine.snapshot())
        return found

    def insights(self) -> str:
        """Returns a table of how long the pool's functions took and of what its workers did."""
        return table(self.stats())

    def profile(self) -> pstats.Stats:
        """Returns what the workers' time went to, of all together: after the end of a pool with
        `profile=True`."""
        if self._profiles is None:
            raise RuntimeError("the pool has no profile: build it with profile=True")
        return self._profiles.merged()

    def trace(self, path: str | os.PathLike[str], every: int = 1) -> Trace:
        """Records what the workers do, for https://ui.perfetto.dev: `with pool.trace("out.json"):`.

        The file is written at the end of the block, or by `finish()`. `every=100` records each
        hundredth task, for long runs. `AIOPOOL_TRACE=out.json` in the environment records any
        program's pools, `aiopool trace` one that runs."""
        return self._engine.trace(path, every)

    def printed(self, task: int) -> Printed:
        """Returns what a task has printed until now: all of it, once its outcome is there (of a stream
        that the program has put in the place of `sys.stdout`, what that has written).

        `task` is its number in the pool: `aiopool.task_number()` inside of it, or `WorkerLost.task`.
        Items of a `map` that travel together are one task. A pool with `output_per_task` keeps it in
        the directory `output_to`: of task 17 in `task-17.out` and `task-17.err`, also after its
        end."""
        return Printed(*self._engine.printed(task))


def say_insights(snapshot: str) -> None:
    """Writes the table of a pool that has ended to the standard error."""
    print(table(json.loads(snapshot)), file=sys.stderr)
