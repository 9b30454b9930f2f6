"""`python -m aiopool`."""

import os
import subprocess
import sys

import pytest
from aiopool import ProcessPoolExecutor, doctor
from pools import WATCHDOG, wait_until

pytestmark = pytest.mark.engine


def run(*words):
    command = [sys.executable, "-m", "aiopool", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG)


def test_the_doctor_finds_that_pools_work_here():
    done = run("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first result after" in done.stdout
    assert "FAIL" not in done.stdout
    for what in ("seccomp", "landlock", "processes", "address space", "preload"):
        assert f"ok   {what} " in done.stdout


def test_what_is_wrong_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setattr(doctor.platform, "release", lambda: "4.19.0-generic")

    def refused(*_):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(doctor.os, "memfd_create", refused)
    lines = []
    assert doctor.main(lines.append) == 1
    text = "\n".join(lines)
    assert "FAIL kernel" in text and "5.9 or newer" in text
    assert "FAIL memfd" in text and "not permitted" in text
    assert "ok   pidfd_open" in text


def test_limits_are_those_of_the_own_control_group(monkeypatch, tmp_path):
    real, root = open, tmp_path
    (root / "a" / "b").mkdir(parents=True)
    (root / "own").write_text("0::/a/b\n")
    (root / "a" / "memory.max").write_text(f"{128 << 20}\n")
    (root / "a" / "b" / "memory.max").write_text("max\n")
    (root / "a" / "b" / "pids.max").write_text("7\n")
    (root / "a" / "b" / "cpu.max").write_text("50000 100000\n")

    def redirected(path, *rest):
        path = "/own" if path == "/proc/self/cgroup" else path
        path = str(path).replace("/sys/fs/cgroup", str(root))
        return real(str(root) + path if path == "/own" else path, *rest)

    monkeypatch.setattr(doctor, "open", redirected, raising=False)
    memory, processes, processors = doctor._memory(), doctor._processes(), doctor._processors()
    assert not memory.is_fine and memory.found.endswith("limit is 128 MiB")
    assert not processes.is_fine and "control group 7" in processes.found and "wants about" in processes.advice
    assert "the time of 0.5: a pool has" in processors.found


def test_advice_is_said_in_full(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    lines = []
    assert doctor.main(lines.append) == 0
    assert any(line.endswith("pip install 'libaiopool[cloudpickle]'") for line in lines)
    assert not any("ulimit" in line for line in lines)


def test_other_words_are_answered_with_the_usage():
    done = run("diagnose")
    assert (done.returncode, "usage: python -m aiopool doctor" in done.stderr) == (2, True)


def test_ps_and_top_show_the_pools_of_other_processes():
    with ProcessPoolExecutor(2, name="our-pool") as executor:
        assert executor.submit(abs, -3).result(WATCHDOG) == 3

        def said(word):
            done = run(word)
            assert done.returncode == 0, done.stderr
            return done.stdout

        def rows(text):
            lines = [line.split() for line in text.splitlines()]
            return [line[1:4] for line in lines if line[:2] == [str(os.getpid()), "our-pool"]]

        def row():
            return next(iter(rows(said("ps"))), None)

        def are_in(text):
            return "MiB" in text and all(f"  {pid}  " in text for pid in executor.processes)

        # A worker that has only begun to start has no number yet, and a busy pool may answer late.
        wait_until(lambda: row() == ["our-pool", "open", "2/2"])
        wait_until(lambda: are_in(said("top")))
    assert not rows(run("ps").stdout)
