"""A pool's verbs, and what becomes of tasks and workers that fail."""

import asyncio
import json
import os
import pathlib
import tempfile
import threading
import unittest

import aiopool
import pytest
from aiopool import InitializerFailed, Limits, Pool, ProxyException, Sandbox, Scheduler, WorkerLost, _stack

import jobs
from pools import WATCHDOG, all_are_ready, is_gone, until


class Case(unittest.IsolatedAsyncioTestCase):
    async def within(self, awaitable):
        return await asyncio.wait_for(awaitable, WATCHDOG)


class Verbs(Case):
    async def test_map_keeps_the_order_of_its_items(self):
        async with Pool(2) as pool:
            self.assertEqual(await self.within(pool.map(jobs.slowest_first, range(5))), [0, 1, 2, 3, 4])
            seen = [result async for result in pool.map(jobs.slowest_first, range(5))]
            self.assertEqual(seen, [0, 1, 2, 3, 4])

    @pytest.mark.engine
    async def test_more_tasks_than_the_pool_holds(self):
        async with Pool(2, queuecount=2) as pool:
            expected = [2 * x for x in range(20_000)]
            self.assertEqual(await self.within(pool.map(jobs.double, range(20_000))), expected)

    @pytest.mark.engine
    async def test_stats_count_what_the_tasks_did(self):
        async with Pool(2) as pool:
            self.assertEqual(await self.within(pool.map(jobs.double, range(100))), [2 * x for x in range(100)])
            await self.within(all_are_ready(pool))
            stats = pool.stats()
            self.assertGreaterEqual(stats["pool"]["ok"], 1)
            self.assertEqual({worker["pid"] for worker in stats["workers"]}, set(pool.processes))
            self.assertEqual(stats["pool"]["pending"], 0)
            self.assertGreaterEqual(len(stats["queues"]), 1)

    @pytest.mark.engine
    async def test_a_trace_has_every_task_of_the_block(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "trace.json"
            async with Pool(1) as pool:
                with pool.trace(path):
                    self.assertEqual(await self.within(pool.apply(jobs.double, (4,))), 8)
                    self.assertFalse(path.exists())
                timeline = json.loads(path.read_text())
                tasks = {event["args"]["task"] for event in timeline["traceEvents"] if event["ph"] == "b"}
                self.assertEqual((len(tasks), timeline["otherData"]["lost"]), (1, 0))
                with self.assertRaises(OSError):
                    pool.trace(path / "no" / "such.json")

    async def test_a_stuck_worker_tells_where_it_is_and_goes_on(self):
        with tempfile.TemporaryDirectory() as folder:
            go = os.path.join(folder, "go")
            async with Pool(1) as pool:
                stuck = asyncio.ensure_future(pool.apply(jobs.wait_for_a_file, (go,)))
                await self.within(until(lambda: os.path.exists(go + ".begun")))
                (pid,) = pool.processes
                links = {entry: os.readlink(entry) for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
                (told,) = (entry for entry, link in links.items() if "aiopool-stack" in link)
                for times in (1, 2):
                    os.kill(pid, _stack.SIGNAL)
                    await self.within(until(lambda: told.read_text().count("in wait_for_a_file") >= times))
                pathlib.Path(go).touch()
                self.assertEqual(await self.within(stuck), pid)

    async def test_apply_and_starmap(self):
        async with Pool(1) as pool:
            self.assertEqual(await self.within(pool.apply(jobs.add, (1, 2))), 3)
            text = await self.within(pool.apply(jobs.greet, ("you",), {"greeting": "bye"}))
            self.assertEqual(text, "bye, you")
            self.assertEqual(await self.within(pool.starmap(jobs.add, [(1, 2), (3, 4)])), [3, 7])
            results = await self.within(asyncio.gather(*(pool.apply(jobs.double, (x,)) for x in range(50))))
            self.assertEqual(results, [2 * x for x in range(50)])

    async def test_a_plain_function_is_called_too(self):
        async with Pool(1) as pool:
            self.assertEqual(await self.within(pool.map(jobs.plain, [1, 2])), [2, 3])

    async def test_values_of_any_size(self):
        async with Pool(1) as pool:
            for size in (0, 60, 130, 5000, 9 << 20):
                value = os.urandom(size)
                self.assertEqual(await self.within(pool.apply(jobs.echo, (value,))), value)

    async def test_a_worker_runs_as_many_at_once_as_it_may(self):
        async with Pool(1, childconcurrency=5) as pool:
            self.assertEqual(await self.within(pool.map(jobs.meet, [5] * 5)), [5] * 5)

    async def test_no_thread_of_python(self):
        before = set(threading.enumerate())
        async with Pool(2) as pool:
            await self.within(pool.map(jobs.double, range(100)))
            self.assertLessEqual(set(threading.enumerate()), before)

    async def test_a_function_of_the_main_module(self):
        # As a script, in whose workers it is imported under another name.
        script = os.path.join(os.path.dirname(__file__), "as_script.py")
        process = await asyncio.create_subprocess_exec(
            os.sys.executable, script, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await self.within(process.communicate())
        self.assertEqual((process.returncode, output), (0, b"[0, 1, 4, 9]\n"))


class Failures(Case):
    async def test_an_error_brings_the_traceback_of_the_worker(self):
        async with Pool(1) as pool:
            with self.assertRaises(ValueError) as caught:
                await self.within(pool.apply(jobs.fail, ("no such thing",)))
            self.assertEqual(caught.exception.args, ("no such thing",))
            text = str(caught.exception.__cause__)
            self.assertIn("ValueError: no such thing", text)
            self.assertIn("jobs.py", text)
            with self.assertRaisesRegex(ProxyException, "cancelled itself"):
                await self.within(pool.apply(jobs.cancel_itself))

    async def test_a_result_that_cannot_be_pickled(self):
        async with Pool(1) as pool:
            with self.assertRaisesRegex(ProxyException, "cannot be pickled"):
                await self.within(pool.apply(jobs.unpicklable))
            self.assertEqual(await self.within(pool.apply(jobs.double, (2,))), 4)

    async def test_a_worker_that_dies_takes_only_its_own_tasks(self):
        async with Pool(2, childconcurrency=1) as pool:
            with self.assertRaisesRegex(WorkerLost, "signal 9"):
                await self.within(pool.apply(jobs.die))
            self.assertEqual(await self.within(pool.map(jobs.double, range(100))), [2 * x for x in range(100)])
            results = await self.within(
                asyncio.gather(
                    *(pool.apply(jobs.die if x == 10 else jobs.double, (x,)) for x in range(20)),
                    return_exceptions=True,
                )
            )
            self.assertIsInstance(results.pop(10), WorkerLost)
            self.assertEqual(results, [2 * x for x in range(20) if x != 10])

    async def test_a_cancelled_task_is_cancelled_in_its_worker(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "task")
            async with Pool(1, childconcurrency=1) as pool:
                task = asyncio.ensure_future(pool.apply(jobs.wait_for_ever, (path,)))
                await self.within(until(lambda: os.path.exists(path + ".started")))
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                # The only place in the only worker is free again.
                self.assertEqual(await self.within(pool.apply(jobs.double, (2,))), 4)
                self.assertTrue(os.path.exists(path + ".cancelled"))

    async def test_a_timeout_calls_off_a_whole_map(self):
        async with Pool(1, childconcurrency=2) as pool:
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.map(jobs.wait_for_ever, [None] * 6), 0.2)
            self.assertEqual(await self.within(pool.apply(jobs.double, (2,))), 4)

    async def test_the_exception_handler_sees_the_error_in_the_worker(self):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["AIOPOOL_TEST_NOTES"] = os.path.join(folder, "notes")
            async with Pool(1, exception_handler=jobs.note) as pool:
                with self.assertRaises(ValueError):
                    await self.within(pool.apply(jobs.fail, ("for the notes",)))
            with open(os.environ["AIOPOOL_TEST_NOTES"]) as notes:
                self.assertEqual(notes.read(), "for the notes\n")


class Lives(Case):
    @pytest.mark.engine
    async def test_the_initializer_runs_in_every_worker(self):
        async with Pool(2, jobs.start, ({"url": "x"},), maxtasksperchild=2) as pool:
            states = await self.within(asyncio.gather(*(pool.apply(jobs.read_state) for _ in range(20))))
            self.assertEqual(states, [{"url": "x"}] * 20)

    async def test_an_initializer_that_fails_fails_the_pool(self):
        with self.assertRaisesRegex(RuntimeError, "there is no database"):
            async with Pool(1, jobs.refuse, ("there is no database",)) as pool:
                with self.assertRaisesRegex(InitializerFailed, "there is no database"):
                    await self.within(pool.apply(jobs.double, (1,)))

    async def test_the_loop_is_the_one_of_the_loop_initializer(self):
        async with Pool(1, loop_initializer=jobs.loop_with_name) as pool:
            self.assertEqual(await self.within(pool.apply(jobs.loop_name)), "ours")

    async def test_workers_have_the_environment_of_the_pools_start(self):
        os.environ["AIOPOOL_TEST_LATE"] = "seen"
        async with Pool(1) as pool:
            self.assertEqual(await self.within(pool.apply(jobs.environment, ("AIOPOOL_TEST_LATE",))), "seen")

    @pytest.mark.engine
    async def test_recycles_at_its_limit(self):
        async with Pool(1, maxtasksperchild=3, childconcurrency=1) as pool:
            pids = await self.within(pool.map(jobs.pid, range(9)))
            self.assertEqual(len(set(pids)), 3)
            self.assertTrue(all(pids.count(pid) == 3 for pid in pids))

    async def test_close_finishes_what_was_submitted(self):
        pool = Pool(2)
        with self.assertRaisesRegex(RuntimeError, "still open"):
            await pool.join()
        result = pool.map(jobs.double, range(10_000))
        pid = await self.within(pool.apply(jobs.pid))
        pool.close()
        with self.assertRaisesRegex(RuntimeError, "pool is closed"):
            pool.map(jobs.double, [1])
        with self.assertRaisesRegex(RuntimeError, "pool is closed"):
            await pool.apply(jobs.double, (1,))
        await self.within(pool.join())
        self.assertEqual(await self.within(result), [2 * x for x in range(10_000)])
        self.assertTrue(is_gone(pid))

    async def test_leaving_the_block_ends_what_runs(self):
        async with Pool(1) as pool:
            result = pool.map(jobs.wait_for_ever, [None] * 40)
        with self.assertRaises(aiopool.PoolClosed):
            await self.within(result)

    def test_wrong_arguments(self):
        with self.assertRaisesRegex(ValueError, "queue count must be <= process count"):
            Pool(1, queuecount=2)
        with self.assertRaisesRegex(ValueError, "loop_initializer must be synchronous"):
            Pool(1, loop_initializer=jobs.double)


class ToTheLast(Scheduler):
    """All tasks to the last queue."""

    def __init__(self):
        self.queues, self.processes, self.open = 0, [], set()

    def register_queue(self, tx):
        self.queues += 1
        return self.queues - 1

    def register_process(self, queue_id):
        self.processes.append(queue_id)

    def schedule_task(self, task_id, func, args, kwargs):
        self.open.add(task_id)
        return self.queues - 1

    def complete_task(self, task_id):
        self.open.discard(task_id)


@pytest.mark.engine
class Queues(Case):
    async def test_the_scheduler_chooses(self):
        scheduler = ToTheLast()
        async with Pool(3, queuecount=3, scheduler=scheduler) as pool:
            pids = await self.within(pool.map(jobs.pid, range(60)))
            self.assertEqual(len(set(pids)), 1)
        self.assertEqual((scheduler.processes, scheduler.open), ([0, 1, 2], set()))

    async def test_a_scheduler_that_raises(self):
        class Raises(ToTheLast):
            def complete_task(self, task_id):
                raise LookupError(task_id)

        async with Pool(2, queuecount=2, scheduler=Raises()) as pool:
            with self.assertLogs("aiopool", "ERROR") as logs:
                self.assertEqual(await self.within(pool.map(jobs.double, range(50))), [2 * x for x in range(50)])
                self.assertEqual(await self.within(pool.apply(abs, (-1,))), 1)
            self.assertIn("complete_task has raised an error", logs.output[0])
            self.assertIn("LookupError", logs.output[0])

    async def test_a_scheduler_hears_only_of_what_it_has_scheduled(self):
        class Strict(ToTheLast):
            def __init__(self):
                super().__init__()
                self.ended = []

            def complete_task(self, task_id):
                self.ended.append(task_id)
                self.open.remove(task_id)

        scheduler = Strict()
        async with Pool(2, queuecount=2, scheduler=scheduler) as pool:
            with self.assertNoLogs("aiopool"):
                self.assertEqual(await self.within(pool.with_options(key=1).apply(abs, (-1,))), 1)
                self.assertEqual(scheduler.ended, [])
                again = pool.with_options(retry_on=ValueError, retries=2)
                results = await self.within(again.map(jobs.fail, ["a", "b"], return_exceptions=True))
                self.assertEqual([str(error) for error in results], ["a", "b"])
                self.assertEqual(await self.within(pool.apply(jobs.double, (2,))), 4)
        self.assertEqual((len(scheduler.ended), scheduler.open), (3, set()))

    async def test_each_task_of_two_threads_has_a_number_of_its_own(self):
        scheduler, seen = ToTheLast(), []
        async with Pool(2, queuecount=2, scheduler=scheduler) as pool:
            both, submit = threading.Barrier(2), pool._engine.submit

            def submit_together(task):
                # Both have a queue now.
                seen.append(sorted(scheduler.open))
                both.wait(WATCHDOG)
                submit(task)

            pool._engine.submit = submit_together
            calls = (asyncio.to_thread(asyncio.run, pool.apply(jobs.double, (n,))) for n in (1, 2))
            self.assertEqual(await self.within(asyncio.gather(*calls)), [2, 4])
            self.assertEqual(seen[-1], [1, 2])
        self.assertEqual(scheduler.open, set())

    async def test_round_robin_uses_every_queue(self):
        async with Pool(3, queuecount=3) as pool:
            self.assertEqual(len(set(await self.within(pool.map(jobs.pid, range(60))))), 3)


@pytest.mark.engine
class Isolation(Case):
    async def test_memory_beyond_the_limit_is_an_error_of_the_task(self):
        async with Pool(1, limits=Limits(address_space=2 << 30)) as pool:
            self.assertEqual(await self.within(pool.apply(jobs.allocate, (1 << 20,))), 1 << 20)
            with self.assertRaises(MemoryError):
                await self.within(pool.apply(jobs.allocate, (3 << 30,)))
            self.assertEqual(await self.within(pool.apply(jobs.double, (2,))), 4)

    async def test_denied_calls_are_refused(self):
        getpriority = {"x86_64": 140, "aarch64": 141}[os.uname().machine]
        async with Pool(1, sandbox=Sandbox(denied_calls=[getpriority])) as pool:
            with self.assertRaises(PermissionError):
                await self.within(pool.apply(os.getpriority, (os.PRIO_PROCESS, 0)))

    async def test_a_path_that_is_not_there_is_refused_at_the_start(self):
        with self.assertRaisesRegex(ValueError, "no/such/path"):
            Pool(1, sandbox=Sandbox(read_only=["/no/such/path"]))
