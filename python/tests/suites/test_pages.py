"""The code on the pages for those who come from other pools runs as it stands there."""

import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

DOCS = pathlib.Path(__file__).parents[3] / "docs"
PAGES = ["aiomultiprocess", "concurrent-futures", "joblib", "mpire", "multiprocessing-pool"]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)

# What the pages leave to their readers.
BEFORE = """
import asyncio, math
import aiopool
from aiopool import Pool

x, items, pairs, numbers = 5, range(100), [(1, 2), (3, 4)], range(100)

def f(x, y=0):
    return x + y

async def double(x):
    return 2 * x

async def main():
"""
AFTER = """
    print("ran")

if __name__ == "__main__":
    asyncio.run(main())
"""


def ours(block):
    """The code of a block; of one that shows two ways side by side, the right column."""
    lines = block.splitlines()
    column = lines[0].find("# after") if lines[0].startswith("# before") else 0
    return "\n".join(line[column:] for line in lines)


@pytest.mark.parametrize("page", PAGES)
def test_its_code_runs(page, tmp_path):
    blocks = BLOCK.findall((DOCS / f"coming-from-{page}.md").read_text())
    assert blocks
    for number, block in enumerate(blocks):
        script = tmp_path / f"block_{number}.py"
        script.write_text(BEFORE + textwrap.indent(ours(block), "    ") + AFTER)
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, "ran\n"), f"{script.read_text()}\n{done.stderr}"
