"""`Process` and `Worker`."""

import asyncio
import ctypes
import os
import subprocess
import sys
import tempfile
import unittest

from aiopool import Process, Worker, WorkerLost, aiomultiprocess, set_start_method

import jobs
from pools import is_gone, wait_until


class Core(unittest.IsolatedAsyncioTestCase):
    async def test_a_worker_gives_the_result(self):
        worker = Worker(target=jobs.greet, args=("you",), kwargs={"greeting": "hi"}, name="greeter")
        with self.assertRaisesRegex(ValueError, "not completed"):
            worker.result
        self.assertEqual(await worker, "hi, you")
        self.assertEqual((worker.result, worker.name, worker.exitcode), ("hi, you", "greeter", 0))

    async def test_a_result_that_no_pipe_holds(self):
        value = os.urandom(5 << 20)
        self.assertEqual(await Worker(target=jobs.echo, args=(value,)), value)

    async def test_an_error_is_raised(self):
        worker = Worker(target=jobs.fail, args=("no",))
        with self.assertRaisesRegex(ValueError, "no") as caught:
            await worker
        self.assertIn("in fail", str(caught.exception.__cause__))
        with self.assertRaisesRegex(ValueError, "no"):
            worker.result
        given = await aiomultiprocess.Worker(target=jobs.fail, args=("no",))
        self.assertIsInstance(given, ValueError)
        with self.assertRaisesRegex(TypeError, "pickle"):
            await Worker(target=jobs.unpicklable)

    async def test_a_worker_that_dies_is_lost(self):
        with self.assertRaises(WorkerLost) as caught:
            await Worker(target=jobs.die, name="dying")
        self.assertEqual((caught.exception.signal, caught.exception.function), (9, "dying"))

    def test_a_process_dies_with_its_host(self):
        self.check_that_it_dies("waits")

    def test_it_dies_too_while_it_holds_the_interpreters_lock(self):
        for method in ("spawn", "fork", "forkserver"):
            with self.subTest(method):
                self.check_that_it_dies("holds", method)

    def check_that_it_dies(self, how, method="spawn"):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "wait")
            host = subprocess.Popen([sys.executable, __file__, path, how, method])
            wait_until(lambda: os.path.exists(path + ".started"))
            host.kill()
            host.wait()
            with open(path + ".pid") as file:
                pid = int(file.read())
            wait_until(lambda: is_gone(pid))

    async def test_a_process_ends(self):
        process = Process(target=jobs.double, args=(1,))
        with self.assertRaisesRegex(ValueError, "must start process before joining it"):
            await process.join()
        self.assertIsNone(await process)
        self.assertEqual((process.exitcode, process.is_alive()), (0, False))
        process.close()
        with self.assertRaises(ValueError):
            process.exitcode

    async def test_join_gives_up_in_time_and_kill_kills(self):
        process = Process(target=jobs.wait_for_ever)
        process.start()
        with self.assertRaises(asyncio.TimeoutError):
            await process.join(0.05)
        process.kill()
        await process.join()
        self.assertEqual(process.exitcode, -9)

    async def test_initializer_and_loop(self):
        worker = Worker(target=jobs.read_state, initializer=jobs.start, initargs=(7,))
        self.assertEqual(await worker, 7)
        self.assertEqual(await Worker(target=jobs.loop_name, loop_initializer=jobs.loop_with_name), "ours")

    async def test_fork_takes_inner_functions(self):
        async def inner():
            return "inner"

        set_start_method("fork")
        try:
            self.assertEqual(await Worker(target=inner), "inner")
        finally:
            set_start_method()

    def test_wrong_arguments(self):
        with self.assertRaisesRegex(ValueError, "target must be coroutine function"):
            Process(target=jobs.plain)
        with self.assertRaises(ValueError):
            set_start_method("by magic")


async def wait_and_say(path):
    with open(path + ".pid", "w") as file:
        file.write(str(os.getpid()))
    await jobs.wait_for_ever(path)


async def hold_and_say(path):
    with open(path + ".pid", "w") as file:
        file.write(str(os.getpid()))
    open(path + ".started", "w").close()
    # Without letting go of the lock.
    ctypes.PyDLL(None).sleep(1000)


if __name__ == "__main__":

    async def host():
        set_start_method(sys.argv[3])
        target = {"waits": wait_and_say, "holds": hold_and_say}[sys.argv[2]]
        await Process(target=target, args=(sys.argv[1],))

    asyncio.run(host())
