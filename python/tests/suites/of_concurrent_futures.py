"""Runs CPython's own tests of `concurrent.futures` on this package's `ProcessPoolExecutor`.

They come with the interpreter (`test.test_concurrent_futures`, 3.13). All that is changed is what
`concurrent.futures.ProcessPoolExecutor` is. The start method makes no difference here, so of the
classes that differ in nothing else the one of "spawn" is run. `test_suites.py` runs it.
"""

import concurrent.futures
import concurrent.futures.process
import importlib
import sys
import unittest

from aiopool import ProcessPoolExecutor

concurrent.futures.ProcessPoolExecutor = ProcessPoolExecutor
concurrent.futures.process.ProcessPoolExecutor = ProcessPoolExecutor

PARTS = (
    "test_as_completed",
    "test_deadlock",
    "test_future",
    "test_init",
    "test_process_pool",
    "test_shutdown",
    "test_wait",
)
BROKEN = "expects that the death of one worker breaks the executor, which it does not here"
THREADS = "looks into the threads, queues and pipes of CPython's executor"
WORKERS = "looks into its dictionary of workers, which CPython starts one by one"
# Each with its reason.
LEFT_OUT = {
    "test_killed_child": BROKEN,
    "test_traceback": "expects CPython's private class as the cause, which is RemoteTraceback here",
    "test_idle_process_reuse_one": WORKERS,
    "test_idle_process_reuse_multiple": WORKERS,
    "test_saturation": WORKERS,
    "test_max_tasks_per_child": WORKERS,
    "test_max_tasks_per_child_defaults_to_spawn_context": "looks at its private context",
    "test_python_finalization_error": THREADS,
}


def is_ours(test):
    name = type(test).__name__
    if name.startswith("ThreadPool"):
        return False
    # Alike but for the start method.
    return not name.startswith(("ProcessPoolFork", "ProcessPoolForkserver"))


def tests():
    found = unittest.TestSuite()
    for part in PARTS:
        module = importlib.import_module(f"test.test_concurrent_futures.{part}")
        for suite in unittest.defaultTestLoader.loadTestsFromModule(module):
            for test in suite:
                if is_ours(test) and test._testMethodName not in LEFT_OUT:
                    found.addTest(test)
    return found


if __name__ == "__main__":
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2 if "-v" in sys.argv else 1).run(tests())
    passed = result.testsRun - len(result.errors) - len(result.failures) - len(result.skipped)
    if not result.wasSuccessful() or passed < 60:
        raise SystemExit(f"{passed} pass")
    print(f"{passed} of CPython's own tests pass; {len(LEFT_OUT)} are left out, each with its reason")
