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

import theirs

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
ALONE = "breaks CPython's executor; here the task alone ends, with its own error or WorkerLost"
EXITS = "expects SystemExit in the caller; what would end its program comes as ProxyException here"
# Each with its reason.
LEFT_OUT = {
    "test_exit_at_task_unpickle": ALONE,
    "test_error_at_task_unpickle": ALONE,
    "test_crash_at_task_unpickle": ALONE,
    "test_crash_during_func_exec_on_worker": ALONE,
    "test_crash_during_result_pickle_on_worker": ALONE,
    "test_crash_big_data": ALONE,
    "test_shutdown_deadlock": ALONE,
    "test_error_during_result_unpickle_in_result_handler": ALONE,
    "test_exit_during_result_unpickle_in_result_handler": ALONE,
    "test_exit_during_func_exec_on_worker": EXITS,
    "test_exit_during_result_pickle_on_worker": EXITS,
    "test_error_during_result_pickle_on_worker": "a result that cannot be pickled: ProxyException here",
    "test_shutdown_deadlock_pickle": THREADS,
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": THREADS,
    "test_cancel_futures": "expects some of 50 tasks to have begun as the last one is submitted",
    "test_processes_terminate": WORKERS,
    "test_context_manager_shutdown": WORKERS,
    "test_del_shutdown": THREADS,
    "test_shutdown_no_wait": THREADS,
    "test_killed_child": BROKEN,
    "test_traceback": "expects CPython's private class as the cause, which is RemoteTraceback here",
    "test_idle_process_reuse_one": WORKERS,
    "test_idle_process_reuse_multiple": WORKERS,
    "test_saturation": WORKERS,
    "test_max_tasks_per_child": WORKERS,
    "test_max_tasks_per_child_defaults_to_spawn_context": "looks at its private context",
    "test_python_finalization_error": THREADS,
}

INSIDE = {
    "ProcessPoolSpawnFailingInitializerTest": "expects a line in the log of CPython's executor",
    "FailingInitializerResourcesTest": "runs that test",
}


def is_ours(test):
    name = type(test).__name__
    if name.startswith("ThreadPool"):
        return False
    if name in INSIDE:
        return False
    # Alike but for the start method.
    return not name.startswith(("ProcessPoolFork", "ProcessPoolForkserver"))


def tests():
    found = unittest.TestSuite()
    chosen = [word for word in sys.argv[1:] if word in PARTS]
    for part in chosen or PARTS:
        module = importlib.import_module(f"test.test_concurrent_futures.{part}")
        for suite in unittest.defaultTestLoader.loadTestsFromModule(module):
            for test in suite:
                if is_ours(test) and test._testMethodName not in LEFT_OUT:
                    found.addTest(test)
    return found


if __name__ == "__main__":
    count = theirs.passed(tests(), verbosity=2 if "-v" in sys.argv else 1)
    if count < (50 if not sys.argv[1:] else 1):
        raise SystemExit(f"only {count} are there")
    print(f"{count} of CPython's own tests pass; {len(LEFT_OUT)} are left out, each with its reason")
