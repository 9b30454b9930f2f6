"""What a pool is to a user's other tools: shells, debuggers, signals."""

import ctypes
import os
import signal
import subprocess
import sys

import pytest
from aiopool import WorkerLost
from pools import WATCHDOG, is_gone, run, until, wait_until


def stop_here():
    breakpoint()


def segfault_here():
    ctypes.string_at(0)


def name_of(pid):
    with open(f"/proc/{pid}/comm") as comm:
        return comm.read().strip()


@pytest.mark.engine
@pytest.mark.parametrize("preload", [[], ["json"]])
def test_workers_have_names(preload):
    async def main(pool):
        names = {"aiopool-0", "aiopool-1"}
        await until(lambda: {name_of(pid) for pid in pool.processes} == names)
        assert await pool.apply(own_name) in names

    run(main, 2, preload=preload)


async def own_name():
    return name_of(os.getpid())


def test_a_breakpoint_is_refused_or_goes_to_the_debugger_of_choice(capfd):
    async def main(pool):
        with pytest.raises(RuntimeError, match="PYTHONBREAKPOINT"):
            await pool.apply(stop_here)

    run(main, 1)

    async def chosen(pool):
        await pool.apply(stop_here)

    run(chosen, 1, env={"PYTHONBREAKPOINT": "builtins.print"})


@pytest.mark.parametrize("preload", [[], ["json"]])
@pytest.mark.parametrize("from_start", ["", "1"])
def test_faulthandler_says_where_a_worker_died(tmp_path, monkeypatch, from_start, preload):
    monkeypatch.setenv("PYTHONFAULTHANDLER", from_start)

    async def main(pool):
        with pytest.raises(WorkerLost, match="signal 11"):
            await pool.apply(segfault_here)

    import faulthandler

    was_enabled = faulthandler.is_enabled()
    with open(tmp_path / "host", "w") as file:
        faulthandler.enable(file)
        try:
            run(main, 1, output_to=tmp_path, preload=preload)
        finally:
            faulthandler.disable()
            if was_enabled:
                faulthandler.enable(sys.__stderr__)
    assert "in segfault_here" in (tmp_path / "worker-0.err").read_text()


STOPPED = """
import asyncio, sys
import aiopool

async def main():
    async with aiopool.Pool(2) as pool:
        print("began", flush=True)
        slow = pool.with_options(timeout=60)
        for begin in range(0, 1_000_000, 1000):
            assert await slow.map(abs, range(-begin - 1000, -begin)) == list(range(begin + 1000, begin, -1))
            if not sys.stdin.readline():
                break
            print(begin, flush=True)
    print("ended")

if __name__ == "__main__":
    asyncio.run(main())
"""


def state_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0]


def start(tmp_path, source, **options):
    script = tmp_path / "script.py"
    script.write_text(source)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, script], start_new_session=True, **pipes, **options)


@pytest.mark.engine
def test_a_program_that_is_stopped_goes_on(tmp_path):
    with start(tmp_path, STOPPED, stdin=subprocess.PIPE) as program:
        assert program.stdout.readline() == "began\n"
        for number in range(3):
            # As Ctrl-Z in a terminal does to the host's process group, of which workers are not.
            os.killpg(program.pid, signal.SIGSTOP)
            wait_until(lambda: state_of(program.pid) == "T")
            os.killpg(program.pid, signal.SIGCONT)
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == f"{number * 1000}\n"
        program.stdin.close()
        assert program.stdout.read() == "ended\n"
        assert program.stderr.read() == ""
    assert program.returncode == 0


INTERRUPTED = """
import asyncio, functools
import aiopool

async def main():
    async with aiopool.Pool(2) as pool:
        while True:
            states = [worker["state"] for worker in pool.stats()["workers"]]
            if len(states) == 2 and "starting" not in states:
                break
            await asyncio.sleep(0.01)
        calls = [asyncio.ensure_future(pool.apply(asyncio.sleep, (3600,))) for _ in range(8)]
        await asyncio.sleep(0)
        # Once none of these is in the midst of a step, in which it would be interrupted.
        said = functools.partial(print, *pool.processes, flush=True)
        asyncio.get_running_loop().call_soon(said)
        await asyncio.gather(*calls)

if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_ctrl_c_is_quiet(tmp_path):
    with start(tmp_path, INTERRUPTED) as program:
        pids = list(map(int, program.stdout.readline().split()))
        assert len(pids) == 2
        # To all processes of the terminal.
        for pid in (program.pid, *pids):
            os.kill(pid, signal.SIGINT)
        said, errors = program.communicate(timeout=WATCHDOG)
    assert (said, errors, program.returncode) == ("interrupted\n", "", 0)
    assert all(map(is_gone, pids))


LEFT_OPEN = """
import aiopool

if __name__ == "__main__":
    pool = aiopool.ProcessPoolExecutor(2)
    print(pool.submit(abs, -3).result())
"""


def test_a_script_that_leaves_everything_open_is_quiet(tmp_path):
    with start(tmp_path, LEFT_OPEN) as program:
        said, errors = program.communicate(timeout=WATCHDOG)
    assert (said, errors, program.returncode) == ("3\n", "", 0)
