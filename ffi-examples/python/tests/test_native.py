"""The structs of `_native` are those of the header."""

import ctypes
import pathlib
import unittest

from aiopool import _native as native

SIZES = pathlib.Path(__file__).parents[3] / "crates" / "aiopool-capi" / "tests" / "abi" / "aiopool.sizes"
STRUCTS = {
    "aiopool_pool_options": native.PoolOptions,
    "aiopool_call": native.Call,
    "aiopool_worker_info": native.WorkerInfo,
    "aiopool_worker_event": native.WorkerEvent,
}


class Native(unittest.TestCase):
    def test_structs_are_those_of_the_header(self):
        compared = 0
        for line in SIZES.read_text().splitlines():
            field, number = line.split()
            name, _, member = field.partition(".")
            struct = STRUCTS.get(name)
            if struct is None:
                continue
            is_now = getattr(struct, member).offset if member else ctypes.sizeof(struct)
            self.assertEqual(is_now, int(number), field)
            compared += 1
        self.assertGreater(compared, 50)
