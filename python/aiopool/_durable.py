"""The results of a durable job's `map` and `starmap`."""

from __future__ import annotations

from typing import Any, TypeVar

from ._results import PoolResult, _Item
from .errors import Taken

T = TypeVar("T")

# Stands for a result that was taken before the job was resumed.
_TAKEN: Any = object()


class JobResult(PoolResult[T]):
    """Those that were not taken before the job was resumed.

    A result that iteration has given is noted as taken when the next one is asked for. Leaving the
    iteration leaves the tasks: they go on, for the next holder of the job.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        # By their places, the numbers in the job of items whose results wait here.
        self._numbers: dict[int, int] = {}
        self._with_caller: int | None = None
        super().__init__(*args, **options)

    def arrived(self, task: _Item, value: Any, error: BaseException | None) -> None:
        number = None if task.ticket is None else task.ticket.number
        if number is not None:
            self._numbers[task.index] = number
        super().arrived(task, value, error)

    def item_arrived(self, index: int, value: Any, error: BaseException | None, size: int) -> None:
        if isinstance(error, Taken):
            value, error = _TAKEN, None
        super().item_arrived(index, value, error, size)

    async def results(self) -> list[T]:
        """All results; the first failure is raised at once."""
        return [value for value in await super().results() if value is not _TAKEN]

    def _take(self, index: int) -> list[T]:
        values = super()._take(index)
        self._with_caller = self._numbers.pop(index, None)
        return [] if values[0] is _TAKEN else values

    def _taken(self, count: int) -> None:
        number, self._with_caller = self._with_caller, None
        if number is not None:
            self.pool._engine.note_taken(number)
        super()._taken(count)
