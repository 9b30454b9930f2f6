"""The suites of others, each in a process of its own."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


def run(script, *words):
    command = [sys.executable, str(HERE / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_aiomultiprocess():
    assert "of aiomultiprocess's own tests pass" in run("of_aiomultiprocess.py")


@pytest.mark.skipif(sys.version_info < (3, 13), reason="they are those of CPython 3.13")
def test_concurrent_futures():
    pytest.importorskip("test.test_concurrent_futures", reason="this Python has no tests")
    assert "of CPython's own tests pass" in run("of_concurrent_futures.py")


def test_joblibs_own():
    assert "of joblib's own tests pass" in run("of_joblib.py", "--quick")


def fail_at(x, bad):
    if x == bad:
        raise LookupError(x)
    return 2 * x


def die(x):
    if x == 7:
        os._exit(1)
    return x


def test_joblib():
    import joblib

    import aiopool.joblib  # noqa: F401

    with joblib.parallel_config("aiopool", n_jobs=2):
        calls = (joblib.delayed(fail_at)(x, None) for x in range(500))
        assert joblib.Parallel()(calls) == list(range(0, 1000, 2))
        assert joblib.Parallel()(joblib.delayed(lambda x: -x)(x) for x in range(9)) == [-x for x in range(9)]
        with pytest.raises(LookupError):
            joblib.Parallel()(joblib.delayed(fail_at)(x, 300) for x in range(500))
        with pytest.raises(aiopool.WorkerLost):
            joblib.Parallel()(joblib.delayed(die)(x) for x in range(9))
        generator = joblib.Parallel(return_as="generator")(joblib.delayed(abs)(-x) for x in range(99))
        assert list(generator) == list(range(99))


def remember(value):
    return value


def remembered(fails):
    import aiopool

    if fails:
        raise LookupError
    return aiopool.worker_state()


def test_joblib_keeps_its_options_after_an_error():
    import joblib

    import aiopool.joblib  # noqa: F401

    options = {"initializer": remember, "initargs": ("state",)}
    with joblib.Parallel(2, backend="aiopool", **options) as parallel:
        call = joblib.delayed(remembered)
        assert parallel(call(False) for _ in range(3)) == ["state"] * 3
        with pytest.raises(LookupError):
            parallel(call(True) for _ in range(3))
        assert parallel(call(False) for _ in range(3)) == ["state"] * 3
