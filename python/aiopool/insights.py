"""What a pool's numbers say, as a table: which functions took how long, and what workers did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

# Ends of a task besides a value, by the names that `Pool.stats` has.
_OTHER_ENDS = ("failed", "panicked", "cancelled", "timed_out", "worker_lost", "pool_closed", "other")


def table(stats: dict[str, Any]) -> str:
    """Returns the table for what `Pool.stats` gives."""
    if not stats:
        return "there are no numbers of a pool that is over\n"
    pool = stats["pool"]
    seconds = pool["age_ns"] / 1e9
    head = f"{pool['ok']} of {pool['submitted']} tasks gave a value in {seconds:.2f} s"
    functions = sorted(stats["functions"], key=_total, reverse=True)
    parts = [f"aiopool {pool['name']}: {head}, {pool['deaths']} workers died\n"]
    parts.append(_columns(("function", "values", "other", "total", "mean", "p50", "p99", "longest", "waited"),
                          map(_of_function, functions)))
    if stats["workers"]:
        rows = (_of_worker(worker, pool["age_ns"]) for worker in stats["workers"])
        parts.append(_columns(("worker", "pid", "tasks", "processor", "of its life", "memory"), rows))
    return "\n".join(parts)


def _total(function: dict[str, Any]) -> int:
    total: int = function["ran"]["sum_ns"]
    return total


def _of_function(function: dict[str, Any]) -> Sequence[str]:
    ran, waited = function["ran"], function["waited"]
    other = sum(function[end] for end in _OTHER_ENDS)
    mean = ran["sum_ns"] // max(1, ran["count"])
    times = (ran["sum_ns"], mean, ran["p50_ns"], ran["p99_ns"], ran["max_ns"])
    mean_wait = waited["sum_ns"] // max(1, waited["count"])
    return function["name"], str(function["ok"]), str(other), *map(duration, times), duration(mean_wait)


def _of_worker(worker: dict[str, Any], pool_age: int) -> Sequence[str]:
    processor = worker["cpu_ns"] or 0
    share = f"{100 * processor / max(1, worker['age_ns'] or pool_age):.0f} %"
    memory = f"{(worker['rss_bytes'] or 0) >> 20} MiB"
    return (
        str(worker["seat"]),
        str(worker["pid"] or "-"),
        str(worker["done"]),
        duration(processor),
        share,
        memory,
    )


def duration(ns: int | None) -> str:
    """Returns a time in the unit that reads best."""
    if ns is None:
        return "-"
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if ns >= size:
            return f"{ns / size:.1f} {unit}"
    return f"{ns} ns"


def _columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = ""
    for first, *rest in lines:
        cells = [first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]
        text += "  ".join(cells).rstrip() + "\n"
    return text
