"""`python -m aiopool ps` and `top`: the pools of this user, of any process."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from ._native import observed_pools

_HEAD = ["HOST", "NAME", "STAGE", "WORKERS", "PENDING", "SUBMITTED", "DEATHS"]
_OF_WORKERS = ["  PID", "STATE", "DONE", "RUNS", "CPU", "MEMORY"]
_CLEAR = "\x1b[H\x1b[2J"


def _plain(text: str) -> str:
    """The text with nothing in it that a terminal would act on."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip() for row in rows]


def _of_pool(host: int, name: str, pool: dict[str, Any] | None) -> list[str]:
    if pool is None:
        return [str(host), _plain(name), "no answer", "-", "-", "-", "-"]
    workers = f"{pool['workers']}/{pool['processes']}"
    counts = [str(pool[key]) for key in ("pending", "submitted", "deaths")]
    return [str(host), _plain(name), _plain(pool["stage"]), workers, *counts]


def _of_worker(worker: dict[str, Any]) -> list[str]:
    tasks = [_plain(str(task["function"])) for task in worker["tasks"]]
    runs = ", ".join(tasks[:3]) + (" …" if len(tasks) > 3 else "") or str(worker["in_flight"])
    cpu = f"{(worker['cpu_ns'] or 0) / 1e9:.1f} s"
    memory = f"{(worker['rss_bytes'] or 0) >> 20} MiB"
    return [f"  {worker['pid']}", worker["state"], str(worker["done"]), runs, cpu, memory]


def lines(with_workers: bool) -> list[str]:
    """What `ps` or `top` says now."""
    found = observed_pools()
    snapshots = [None if text is None else json.loads(text) for _, _, text in found]
    rows = [_of_pool(host, name, one and one["pool"]) for (host, name, _), one in zip(found, snapshots)]
    if not with_workers:
        return _table([_HEAD, *rows])
    said: list[str] = []
    for row, one in zip(rows, snapshots):
        said += _table([_HEAD, row])
        if one is not None:
            said += _table([_OF_WORKERS, *map(_of_worker, one["workers"])])
        said.append("")
    return said or ["no pool of this user is running that can be observed"]


def ps() -> int:
    """Says which pools there are."""
    print("\n".join(lines(with_workers=False)))
    return 0


def top() -> int:
    """Says which pools and workers there are: once, or each second where that is a terminal."""
    if not sys.stdout.isatty():
        print("\n".join(lines(with_workers=True)))
        return 0
    try:
        while True:
            print(_CLEAR + "\n".join(lines(with_workers=True)), flush=True)
            time.sleep(1)
    except KeyboardInterrupt:
        return 0
