"""What modules make as they are imported: each worker has its own, unless what was asked for is
preloaded. Whoever makes copying the usual start has these to answer."""

import ast
import os
import subprocess
import sys

import pytest
from pools import WATCHDOG

# As programs have it that run rightly with "spawn".
SCRIPT = """
import asyncio, os, random, sys, uuid
from aiopool import Pool

here = os.getpid()
name = uuid.uuid4().hex
numbers = random.Random()
lines = open("lines")

def own():
    # Read by its descriptor: the place in the file is the kernel's, as what a socket brings is.
    line = os.read(lines.fileno(), 2)
    return os.getpid(), here, name, numbers.random(), line

async def main():
    async with Pool(1, maxtasksperchild=1, preload=sys.argv[1:]) as pool:
        print([await pool.apply(own) for _ in range(3)])

if __name__ == "__main__":
    asyncio.run(main())
"""


def of_three_workers(folder, *preload):
    (folder / "lines").write_text("1\n2\n3\n")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), *preload]
    said = subprocess.run(
        command, check=True, cwd=folder, timeout=WATCHDOG, capture_output=True, text=True
    )
    found = ast.literal_eval(said.stdout)
    assert len({pid for pid, *_ in found}) == 3
    return found


@pytest.mark.parametrize("preload", [[], ["asyncio"]])
def test_each_worker_has_what_its_modules_make(tmp_path, preload):
    found = of_three_workers(tmp_path, *preload)
    assert all(pid == here for pid, here, *_ in found)
    assert len({name for _, _, name, _, _ in found}) == 3
    assert len({number for *_, number, _ in found}) == 3
    assert [line for *_, line in found] == [b"1\n"] * 3


def test_workers_share_what_a_preloaded_module_has_made(tmp_path):
    found = of_three_workers(tmp_path, "__main__")
    heres, names, numbers = ({worker[at] for worker in found} for at in (1, 2, 3))
    assert len(heres) == len(names) == len(numbers) == 1
    assert not heres & {pid for pid, *_ in found}
    # One place in the file for all.
    assert [line for *_, line in found] == [b"1\n", b"2\n", b"3\n"]
