"""Programs that PyInstaller has frozen into one file."""

import subprocess
import sys

import pytest

WATCHDOG = 300
PROGRAM = """
import asyncio, sys
import aiopool

def square(x):
    return x * x

async def later(x):
    return 2 * x

async def main():
    async with aiopool.Pool(2) as pool:
        print(await pool.map(square, range(4)), await pool.map(later, range(3)))
    with aiopool.ProcessPoolExecutor(1) as executor:
        print(executor.submit(lambda: "by value").result())

if __name__ == "__main__":
    if "unsupported" not in sys.argv:
        aiopool.freeze_support()
    asyncio.run(main())
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "PyInstaller", "--onefile", "--log-level=ERROR", "program.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=WATCHDOG)
    assert done.returncode == 0, done.stderr
    return folder / "dist" / "program"


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=WATCHDOG)


def test_it_has_pools(program):
    done = run(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[0, 1, 4, 9] [0, 2, 4]\nby value\n"


def test_without_freeze_support_it_is_told_what_to_do(program):
    done = run(program, "unsupported")
    assert done.returncode != 0 and done.stdout == ""
    assert "call aiopool.freeze_support() first thing in `if __name__ == '__main__':`" in done.stderr
