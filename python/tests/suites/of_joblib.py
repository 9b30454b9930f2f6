"""joblib's own tests of its backends, run on `aiopool.joblib`.

joblib has them in its package. With `--quick`, of the variants that differ in the number of jobs only
those with 1 and 2. They are parametrized by the names of its backends; here the processes
among these are ours.
"""

import os
import pathlib
import re
import sys
import tempfile

import joblib.test.test_parallel as original
import pytest

import aiopool.joblib  # noqa: F401

FILES = "about the files that joblib puts arrays into; here they go through shared memory"

# Tests whose worth is in what a backend is, not in what it does.
LEFT_OUT = {
    "test_auto_memmap_on_arrays_from_generator": FILES,
    "test_memmapping_leaks": FILES,
    "test_error_capture": "expects KeyboardInterrupt as itself from a worker: ProxyException here",
}
#: Of these the variants without a number of jobs, which is 1 for joblib and all processors here.
NOT_WITHOUT_NUMBER = {"test_nested_backend_in_sequential"}


class Chosen:
    """Leaves those tests that run on our backend, and counts them."""

    def __init__(self, quick):
        self.quick = quick
        self.passed, self.failed, self.left_out = 0, [], set()

    def pytest_collection_modifyitems(self, items):
        ours = []
        for item in items:
            params = item.callspec.params if hasattr(item, "callspec") else {}
            if "aiopool" not in [value for value in params.values() if isinstance(value, str)]:
                continue
            name, jobs = item.originalname, params.get("n_jobs", 2)
            if name in LEFT_OUT or name in NOT_WITHOUT_NUMBER and jobs is None:
                self.left_out.add(name)
            elif not self.quick or jobs in (1, 2):
                ours.append(item)
        items[:] = ours

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(f"{report.nodeid}\n{report.longreprtext}")
        elif report.when == "call" and report.passed:
            self.passed += 1


def main():
    source = pathlib.Path(original.__file__).read_text()
    ours, replaced = re.subn(r'\["multiprocessing", "loky"\]', '["aiopool"]', source)
    assert replaced, "joblib's tests name their backends in another way"
    with tempfile.TemporaryDirectory() as folder:
        tests = pathlib.Path(folder, "test_parallel_of_joblib.py")
        tests.write_text("import aiopool.joblib\n" + ours)
        # For the scripts that tests start.
        pathlib.Path(folder, "sitecustomize.py").write_text("import aiopool.joblib\n")
        os.environ["PYTHONPATH"] = folder
        chosen = Chosen("--quick" in sys.argv)
        words = ["-q", "-p", "no:cacheprovider", "--rootdir", folder, "-o", "addopts=", str(tests)]
        pytest.main(words, plugins=[chosen])
    assert chosen.left_out == {*LEFT_OUT, *NOT_WITHOUT_NUMBER}, "a test that is left out is gone"
    if chosen.failed or chosen.passed < 50:
        raise SystemExit("\n".join([*chosen.failed, f"{chosen.passed} pass"]))
    print(f"{chosen.passed} of joblib's own tests pass; {len(LEFT_OUT)} are left out, each with its reason")


if __name__ == "__main__":
    main()
