"""The README's programs, as they stand there."""

import pathlib
import re
import subprocess
import sys

import nats
import pytest

HERE = pathlib.Path(__file__)
URL = "nats://127.0.0.1:4222"
pytestmark = pytest.mark.engine


# The package's own, and that of the repository, which has a section on Python.
@pytest.mark.parametrize("folder", HERE.parents[1:3])
def test_its_python_runs(tmp_path, folder):
    text = (folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        script = tmp_path / f"block_{number}.py"
        if URL in block:
            with nats.Server() as server:
                script.write_text(block.replace(URL, server.url))
                with nats.Node(server.url, "books"), nats.Node(server.url, "books"):
                    check(script)
        else:
            script.write_text(block)
            check(script)


def check(script):
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout
