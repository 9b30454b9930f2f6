"""Runs aiomultiprocess's own tests on this package: all that is changed is what the import finds.

Needs aiomultiprocess installed, for its tests only.
"""

import importlib
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import aiopool

NAME = "aiomultiprocess"
# What they test of its inside, or cannot be had where workers are programs of their own.
INSIDE = {
    "test_not_implemented": "calls its function not_implemented",
    "test_pool_worker_max_tasks": "runs its class PoolWorker by hand",
    "test_pool_worker_stop": "runs its class PoolWorker by hand",
    "test_pool_worker_exceptions": "runs its class PoolWorker by hand",
    "test_pool_exception_handler": "gives a multiprocessing.Queue to workers by inheritance",
}


def tests():
    import aiomultiprocess

    paths = aiomultiprocess.__path__
    for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
        del sys.modules[name]
    sys.modules[NAME] = aiopool
    for part in ("core", "pool", "scheduler", "types"):
        sys.modules[f"{NAME}.{part}"] = importlib.import_module(f"aiopool.{part}")
    # Only for the import of a name; the tests that use it are in INSIDE.
    aiopool.pool.PoolWorker = None
    aiopool.__path__ += [path for path in paths if path not in aiopool.__path__]
    found = unittest.TestSuite()
    for part in ("core", "pool", "scheduler"):
        module = importlib.import_module(f"{NAME}.tests.{part}")
        for test in unittest.defaultTestLoader.loadTestsFromModule(module):
            found.addTests(one for one in test if one._testMethodName not in INSIDE)
    return found


# Workers import this module again, for the functions that it makes importable.
suite = tests()

if __name__ == "__main__":
    result = unittest.TextTestRunner(stream=sys.stderr).run(suite)
    passed = result.testsRun - len(result.errors) - len(result.failures) - len(result.skipped)
    if not result.wasSuccessful() or passed < 20:
        raise SystemExit(1)
    print(f"{passed} of aiomultiprocess's own tests pass; {len(INSIDE)} of its inside are left out")
