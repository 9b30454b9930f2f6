"""Coverage, IPython, pytest, and web servers with a pool in them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

WATCHDOG = 120

WORK = """
import os

async def in_a_worker(x):
    if x > 2:
        return "large"
    return "small"

def plain(x):
    return x + 1
"""

PROGRAM = """
import asyncio
import aiopool, work

async def main():
    async with aiopool.Pool(2, grace=60{options}) as pool:
        print(await pool.map(work.in_a_worker, [1, 5]), await pool.apply(work.plain, (1,)))

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("options", ["", ", preload=['work']"])
def test_coverage_sees_what_workers_run(tmp_path, options):
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "program.py").write_text(PROGRAM.format(options=options))
    (tmp_path / ".coveragerc").write_text("[run]\npatch = subprocess, fork\nparallel = true\n")

    def coverage(*words):
        command = [sys.executable, "-m", "coverage", *words]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=WATCHDOG
        )

    assert coverage("run", "program.py").stdout == "['small', 'large'] 2\n"
    coverage("combine")
    coverage("json", "-o", "report.json")
    files = json.loads((tmp_path / "report.json").read_text())["files"]
    assert files["work.py"]["missing_lines"] == []


def test_ipython(tmp_path):
    lines = [
        "import aiopool, asyncio",
        "pool = aiopool.Pool(2)",
        "print(await pool.map(lambda x: x * x, range(4)))",
        "print(await pool.apply(asyncio.sleep, (0, 'slept')))",
    ]
    # It ends with the pool open.
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "-i"],
        input="\n".join([*lines, "exit"]) + "\n",
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "[0, 1, 4, 9]" in done.stdout and "slept" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


TESTS = """
import asyncio
import aiopool, pytest

@pytest.fixture
def executor():
    with aiopool.ProcessPoolExecutor(1) as executor:
        yield executor

def double(x):
    return 2 * x

def test_one(executor):
    assert list(executor.map(double, range(5))) == [0, 2, 4, 6, 8]

def test_two():
    async def main():
        async with aiopool.Pool(1) as pool:
            return await pool.map(double, range(5))
    assert asyncio.run(main()) == [0, 2, 4, 6, 8]
"""


def test_pytest(tmp_path):
    (tmp_path / "test_pools.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, cwd=tmp_path)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


SERVICE = """
import contextlib
import aiopool, fastapi

@contextlib.asynccontextmanager
async def lifespan(app):
    async with aiopool.Pool(1) as app.state.pool:
        yield

app = fastapi.FastAPI(lifespan=lifespan)

def power(x):
    return x ** 2

@app.get("/{x}")
async def answer(x: int):
    pool = app.state.pool
    return {"power": await pool.apply(power, (x,)), "workers": pool.processes}
"""


def free_port():
    # Below those that the kernel gives to connections, one of which could have it a moment later.
    for number in range(1000):
        port = 10_000 + (os.getpid() * 7919 + number) % 20_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def ask(port, x, until):
    """The service's answer, as soon as it satisfies `until`; no time is asked for but a watchdog's."""
    end = time.monotonic() + WATCHDOG
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{x}", timeout=5) as response:
                answer = json.load(response)
            if until(answer):
                return answer
        except OSError as error:
            answer = error
        assert time.monotonic() < end, answer
        time.sleep(0.05)


def is_gone(pid):
    end = time.monotonic() + WATCHDOG
    while os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("reload", [False, True])
def test_a_service_with_lifespan(tmp_path, reload):
    service = tmp_path / "service.py"
    service.write_text(SERVICE)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "service:app", f"--port={port}", "--log-level=warning"]
    if reload:
        command += ["--reload", "--reload-dir", str(tmp_path)]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, stderr=log, start_new_session=True)
    try:
        first = ask(port, 3, lambda answer: answer["power"] == 9)
        workers = first["workers"]
        if reload:
            service.write_text(SERVICE.replace("x ** 2", "x ** 3"))
            second = ask(port, 3, lambda answer: answer["power"] == 27)
            assert all(map(is_gone, workers))
            workers = second["workers"]
        os.kill(server.pid, signal.SIGTERM if not reload else signal.SIGINT)
        server.wait(WATCHDOG)
        assert all(map(is_gone, workers))
        said = (tmp_path / "log").read_text()
        assert "Traceback" not in said, said
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
