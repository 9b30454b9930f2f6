"""The suites of others, each in a process of its own."""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def run(script, *words):
    command = [sys.executable, str(HERE / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_aiomultiprocess():
    assert "of aiomultiprocess's own tests pass" in run("of_aiomultiprocess.py")
