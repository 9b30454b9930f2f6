"""Runs tests of others."""

import sys
import unittest

#: Some assert how long something takes, which a busy machine may not keep: what fails has more runs.
RUNS = 3


def passed(tests, verbosity=1):
    """How many of these tests pass; ends the program if one passes in no run."""
    count = 0
    for _ in range(RUNS):
        result = unittest.TextTestRunner(stream=sys.stderr, verbosity=verbosity).run(tests)
        count = count or result.testsRun - len(result.skipped)
        if result.wasSuccessful():
            return count
        failed = [test for test, _ in result.failures + result.errors]
        # The failure of a part of a test names that.
        tests = unittest.TestSuite({getattr(test, "test_case", test) for test in failed})
    raise SystemExit(1)
