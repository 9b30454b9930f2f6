"""This package beside Python's other pools: each row in turns with its rivals, medians and bars.

    pip install libaiopool aiomultiprocess joblib loky numpy pandas aiohttp
    python compare.py [--rounds N] [ROW ...]

Each figure comes from a process of its own, whose two workers (eight for `first_results`) have run
something before the clock starts, unless the start is what is measured. Rivals that are not
installed are left out. `own` is this package's figure over the rival's (below 1 it is less); the
bar says what the row promises. Beside it stands the processor time, of host and workers together,
and what part of the rival's the own one is.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys

import rows

ONE_BY_ONE = {"aiomultiprocess": 1 / 250, "process_pool": 0.25, "two_loops": 0.5}
# The row, what is counted, and by rival what part of its figure is promised.
TABLE = [
    ("one_by_one", "µs a coroutine", ONE_BY_ONE),
    ("after_idling", "µs a coroutine after 10 ms", {"two_loops": 1.2}),
    ("in_flight", "tasks/s, 256 in flight", {"aiomultiprocess": 14, "process_pool": 25}),
    ("map_coroutines", "coroutines/s", {"aiomultiprocess": 6}),
    ("map_functions", "functions/s", {"multiprocessing_pool": 1, "joblib": 15}),
    ("arrays", "ms for 24 × 8 MB in and out", {"process_pool": 1 / 5, "loky": 1 / 4}),
    ("first_results", "ms, 8 workers, numpy + pandas", {"forkserver": 0.7, "loky": 0.25}),
    ("replacement", "ms from a kill to the next task", {"forkserver": 0.5}),
    ("memory", "MB (USS) an idle worker, numpy + pandas", {"forkserver": 0.4}),
    ("scraper", "ms for 400 pages of 20 KB", {"aiomultiprocess": 0.5}),
    ("scraper_preloaded", "ms for 400 pages of 20 KB", {"aiomultiprocess": 0.5}),
]


def measured(row, who):
    """One figure, with the processor seconds and the peak memory of all its processes."""
    command = [sys.executable, __file__, "--one", row, who]
    # So that forkserver finds `rows`, which it is to preload: up to CPython 3.13 it has not the path of
    # its program, says nothing, and each of its processes imports that, with asyncio.
    path = [os.path.dirname(os.path.abspath(__file__)), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    if done.returncode:
        sys.stderr.write(done.stderr[-2000:])
        return None
    return json.loads(done.stdout.splitlines()[-1])


def one(row, who):
    """Measures in this process."""
    figure, wall, cpu, most = asyncio.run(getattr(rows, row)(who))
    print(json.dumps({"figure": figure, "wall": wall, "cpu": cpu, "most": most}))


def median(found, name):
    return statistics.median(each[name] for each in found)


def main():
    parser = argparse.ArgumentParser(description="The package beside Python's other pools.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", action="store_true", help="one figure: ROW RIVAL")
    parser.add_argument("rows", nargs="*")
    options = parser.parse_args()
    if options.one:
        return one(*options.rows)
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, {rows.processor()}\n")
    print("| row | who | figure | CPU, s | MB | own CPU | own | bar | met |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for row, unit, bars in TABLE:
        if options.rows and row not in options.rows:
            continue
        found = {who: [] for who in ("aiopool", *bars)}
        for _ in range(options.rounds):
            for who, figures in found.items():
                figure = measured(row, who)
                if figure:
                    figures.append(figure)
        own, own_cpu = (median(found["aiopool"], name) for name in ("figure", "cpu"))
        for who, figures in found.items():
            if not figures:
                continue
            figure = median(figures, "figure")
            cpu, most = median(figures, "cpu"), median(figures, "most")
            cells = f"{figure:,.1f} {unit} | {cpu:.2f} | {most:,.0f}"
            promise = "| | | "
            if who in bars:
                is_rate = unit.split()[0].rstrip(",").endswith("/s")
                met = own / figure >= bars[who] if is_rate else own / figure <= bars[who]
                sign = "≥" if is_rate else "≤"
                less = f"{own_cpu / cpu:.2f}" if cpu else "?"
                promise = f"{less} | {own / figure:.3g} | {sign} {bars[who]:.3g} | {'yes' if met else 'no'}"
            print(f"| `{row}` | {who} | {cells} | {promise} |", flush=True)


if __name__ == "__main__":
    main()
