"""Runs aiomultiprocess's own tests on this package: all that is changed is what the import finds.

Needs aiomultiprocess installed, for its tests only. `test_suites.py` runs it.
"""

import importlib
import sys
import types
import unittest

import aiopool.aiomultiprocess

import theirs

NAME = "aiomultiprocess"
# What they test of its inside, or cannot be had where workers are programs of their own.
INSIDE = {
    "test_not_implemented": "calls its function not_implemented",
    "test_pool_worker_max_tasks": "runs its class PoolWorker by hand",
    "test_pool_worker_stop": "runs its class PoolWorker by hand",
    "test_pool_worker_exceptions": "runs its class PoolWorker by hand",
    "test_pool_exception_handler": "gives a multiprocessing.Queue to workers by inheritance",
}
if sys.version_info >= (3, 12):
    INSIDE["test_spawn_method"] = "expects the words of an older pickle"


def tests():
    import aiomultiprocess

    paths = aiomultiprocess.__path__
    for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
        del sys.modules[name]
    ours = aiopool.aiomultiprocess
    sys.modules[NAME] = ours
    ours.__path__ = list(paths)
    for part in ("core", "pool", "scheduler", "types"):
        module = sys.modules[f"{NAME}.{part}"] = importlib.import_module(f"aiopool.{part}")
        setattr(ours, part, module)
    pool = sys.modules[f"{NAME}.pool"] = types.ModuleType(f"{NAME}.pool")
    pool.__dict__.update(vars(aiopool.pool), Pool=ours.Pool, PoolResult=ours.PoolResult)
    # Only for the import of a name; the tests that use it are in INSIDE.
    pool.PoolWorker = None
    found = unittest.TestSuite()
    for part in ("core", "pool", "scheduler"):
        module = importlib.import_module(f"{NAME}.tests.{part}")
        for test in unittest.defaultTestLoader.loadTestsFromModule(module):
            found.addTests(one for one in test if one._testMethodName not in INSIDE)
    return found


# Workers import this module again, for the functions that it makes importable.
suite = tests()

if __name__ == "__main__":
    count = theirs.passed(suite)
    if count < 19:
        raise SystemExit(f"only {count} are there")
    print(f"{count} of aiomultiprocess's own tests pass; {len(INSIDE)} of its inside are left out")
