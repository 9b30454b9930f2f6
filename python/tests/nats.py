"""A NATS server and nodes for tests."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = str(pathlib.Path(__file__).resolve().parent)
# Seconds: far above what any wait takes.
WATCHDOG = 60


def program():
    """The server's program; fetched by its pinned hash where CI has not said where it is."""
    if "AIOPOOL_NATS_SERVER" not in os.environ:
        words = ["cargo", "run", "--quiet", "-p", "aiopool-nats"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        os.environ["AIOPOOL_NATS_SERVER"] = done.stdout.strip()
    return os.environ["AIOPOOL_NATS_SERVER"]


def until(true):
    """Waits until `true()` is."""
    end = time.monotonic() + WATCHDOG
    while not true():
        assert time.monotonic() < end, true
        time.sleep(0.05)


class Server:
    """A server on a port of its own; what it has stored outlives a kill."""

    def __init__(self, *, jetstream=True, config=""):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="aiopool-nats-"))
        lines = f'listen: "127.0.0.1:{self.port}"\n{config}\n'
        if jetstream:
            lines += f'jetstream {{ store_dir: "{self.folder}/store" }}\n'
        (self.folder / "config").write_text(lines)
        self.start()

    def start(self):
        # Bounded: a test run that is killed leaves no server behind for longer than this.
        words = ["timeout", "--kill-after=1", "600", program(), "-c", self.folder / "config"]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        log.close()
        until(self._answers)

    def _answers(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def kill(self):
        if self.process.poll() is None:
            # The group: `timeout` and the server.
            os.killpg(self.process.pid, 9)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Node:
    """`python -m aiopool node`, which finds the modules of the tests."""

    def __init__(self, url, pool, *words, processes=2, lease=20):
        command = [sys.executable, "-m", "aiopool", "node", "--nats", url, "--pool", pool]
        command += ["--processes", str(processes), "--lease", str(lease), *words]
        path = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            ["timeout", "--foreground", "--signal=KILL", "600", *command],
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def pid(self):
        """The agent's process."""
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return int(pathlib.Path(children).read_text().split()[0])

    def kill(self):
        """Kills the agent, as the machine's end would."""
        with contextlib.suppress(OSError, IndexError):
            os.kill(self.pid, 9)

    def end(self, signal):
        """Sends a signal; gives what the node has printed, and its status."""
        os.kill(self.pid, signal)
        said, _ = self.process.communicate(timeout=WATCHDOG)
        return said, self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.communicate(timeout=WATCHDOG)


