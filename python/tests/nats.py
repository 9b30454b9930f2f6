"""A NATS server and nodes for tests."""

import contextlib
import itertools
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

from pools import WATCHDOG, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = str(pathlib.Path(__file__).resolve().parent)


def program():
    """The server's program; fetched by its pinned hash where CI has not said where it is."""
    if "AIOPOOL_NATS_SERVER" not in os.environ:
        words = ["cargo", "run", "--quiet", "-p", "aiopool-nats"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        os.environ["AIOPOOL_NATS_SERVER"] = done.stdout.strip()
    return os.environ["AIOPOOL_NATS_SERVER"]


_PORTS = itertools.count(os.getpid() * 7919)


def free_port():
    """A port that nobody has, below those that the kernel gives to connections: while a server is
    down, one of these could have its port."""
    for number in _PORTS:
        port = 10_000 + number % 20_000
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """A server on a port of its own; what it has stored outlives a kill."""

    def __init__(self, *, jetstream=True, config=""):
        self.port = free_port()
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
        wait_until(self._has_started)

    def _has_started(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return self._answers()

    def _answers(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def kill(self):
        if self.process.poll() is None:
            # The group: `timeout` and the server.
            os.killpg(self.process.pid, 9)
        self.process.wait()
        # It is no child of this process, and has its port until it is gone.
        wait_until(lambda: not self._answers())

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
        """The agent's process, the child of `timeout`."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        # `timeout` may have just begun.
        wait_until(lambda: self.process.poll() is not None or children.read_text())
        return int(children.read_text().split()[0])

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


