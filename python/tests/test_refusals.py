"""What is wrong is said at once, with the name of the option and what it may be."""

import asyncio
import concurrent.futures
import re
import threading

import jobs
import pytest
from aiopool import Limits, Node, NotPicklable, Pool, PoolClosed, ProcessPoolExecutor, Sandbox, TaskOptions
from pools import run

pytestmark = pytest.mark.engine
OPTIONS = [
    ({"processes": "2"}, TypeError, "processes must be an integer, and is '2'"),
    ({"processes": 1.5}, TypeError, "processes must be an integer, and is 1.5"),
    ({"processes": 100_000}, ValueError, "processes = 100000 is not possible: 1 to 65536"),
    ({"childconcurrency": 10**9}, ValueError, "childconcurrency = 1000000000 is not possible"),
    ({"childconcurrency": 10**30}, ValueError, "childconcurrency=1000"),
    ({"maxtasksperchild": "1"}, TypeError, "maxtasksperchild must be an integer"),
    ({"queuecount": "1"}, TypeError, "queuecount must be an integer"),
    ({"threads": "8"}, TypeError, "threads must be an integer"),
    ({"threads": -1}, ValueError, "threads=-1 is not possible: a whole number, 0 or more"),
    ({"processes": -1}, ValueError, "processes=-1 is not possible: a whole number, 0 or more"),
    ({"maxtasksperchild": -3}, ValueError, "maxtasksperchild=-3 is not possible: a whole number"),
    ({"childconcurrency": -2}, ValueError, "childconcurrency=-2 is not possible: a whole number"),
    ({"queuecount": -1}, ValueError, "queuecount=-1 is not possible: a whole number, 0 or more"),
    ({"priorities": "2"}, TypeError, "priorities='2' is not possible"),
    ({"priorities": -1}, ValueError, "priorities=-1 is not possible: a whole number, 0 or more"),
    ({"max_payload": -1}, ValueError, "max_payload=-1 is not possible"),
    ({"grace": "1"}, TypeError, "grace='1' is not possible"),
    ({"name": 5}, TypeError, "name=5 is not possible"),
    ({"env": {"A": 3}}, TypeError, "env={'A': 3} is not possible"),
    ({"user": "nobody"}, TypeError, "user='nobody' is not possible"),
    ({"limits": 4}, TypeError, "limits must be aiopool.Limits, and is 4"),
    ({"sandbox": Limits()}, TypeError, "sandbox must be aiopool.Sandbox"),
    ({"limits": Limits(open_files="x")}, TypeError, "limits={"),
    ({"sandbox": Sandbox(denied_calls=["x"])}, TypeError, "sandbox={"),
    ({"initializer": 5}, TypeError, "initializer must be a callable, and is 5"),
    ({"exit_hook": 5}, TypeError, "exit_hook must be a callable"),
    ({"exception_handler": 5}, TypeError, "exception_handler must be a callable"),
    ({"loop_initializer": 5}, TypeError, "loop_initializer must be a callable"),
]


@pytest.mark.parametrize("options, kind, text", OPTIONS, ids=[str(case[0])[:40] for case in OPTIONS])
def test_an_option_of_a_pool(options, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        Pool(**{"processes": 1, **options})


def test_an_option_of_a_node():
    for name in ("processes", "maxtasksperchild", "childconcurrency", "threads", "replicas"):
        with pytest.raises(ValueError, match=f"{name}=-1 is not possible: a whole number, 0 or more"):
            Node("nats://127.0.0.1:4222", **{name: -1})


def test_zero_is_what_is_chosen_for_the_caller():
    async def main(pool):
        assert await pool.apply(abs, (-1,)) == 1
        assert len(pool.processes) == pool.process_count >= 1

    run(main, 0, maxtasksperchild=0, childconcurrency=0, queuecount=0, threads=0)


TASKS = [
    ({"timeout": "3"}, TypeError, "timeout='3' is not possible"),
    ({"timeout": -1}, ValueError, "timeout=-1 is not possible: a number of seconds, 0 or more"),
    ({"retries": -1}, ValueError, "retries=-1 is not possible: a whole number, 0 or more"),
    ({"retries": 1.5}, TypeError, "retries=1.5 is not possible"),
    ({"priority": -1}, ValueError, "priority=-1 is not possible"),
    ({"kill_after": "3"}, TypeError, "kill_after='3' is not possible: a number of seconds"),
    ({"kill_after": -1}, ValueError, "kill_after=-1 is not possible: a number of seconds, 0 or more"),
    ({"kill_after": float("nan")}, ValueError, "kill_after=nan is not possible"),
    ({"jitter": 3}, TypeError, "jitter=3 is not possible"),
]


@pytest.mark.parametrize("options, kind, text", TASKS, ids=[str(case[0]) for case in TASKS])
def test_an_option_of_a_task(options, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        TaskOptions(**options)._native()


def test_options_of_an_executor():
    for options, text in [
        ({"max_workers": "2"}, "max_workers must be an integer"),
        ({"exit_hook": 3}, "exit_hook must be a callable"),
        ({"nonsense": 3}, "nonsense is no option of a pool"),
    ]:
        with pytest.raises(TypeError, match=text):
            ProcessPoolExecutor(**options)
    with pytest.raises(ValueError, match="max_workers = 100000 is not possible"):
        ProcessPoolExecutor(100_000)
    with ProcessPoolExecutor(1) as executor:
        with pytest.raises(TypeError, match="buffersize must be an integer or None"):
            executor.map(abs, [1], buffersize=1.5)
        with pytest.raises(TypeError, match="'abs' is nothing that a worker can call"):
            executor.submit("abs", 1).result(60)
        assert isinstance(executor, concurrent.futures.Executor)
        for options, text in [
            ({"retry_on": OSError}, "retry_on=<class 'OSError'> is not possible with an executor"),
            ({"key": 3}, "key=3 is not possible with an executor, which has one queue"),
            ({"timeout": -1}, "timeout=-1 is not possible"),
        ]:
            with pytest.raises(ValueError, match=text):
                executor.with_options(**options)
        with pytest.raises(TypeError, match="nonsense"):
            executor.with_options(nonsense=3)


def test_calls_that_cannot_be():
    async def main(pool):
        with pytest.raises(TypeError, match=re.escape("args must be a sequence of arguments, such as (x,)")):
            await pool.apply(abs, 5)
        with pytest.raises(TypeError, match="kwds must be a dictionary"):
            await pool.apply(abs, (5,), 7)
        with pytest.raises(TypeError, match="'abs' is nothing that a worker can call: a function"):
            await pool.apply("abs", (5,))
        # Not the coroutine that a call has made; and it is no coroutine that nobody awaited.
        with pytest.raises(TypeError, match="give the function, and its arguments beside it"):
            await pool.apply(jobs.double(3))
        with pytest.raises(TypeError, match="None is nothing that a worker can call"):
            pool.map(None, [1])

    run(main, 1)


def test_a_closed_pool_says_so_by_one_class():
    async def main():
        pool = Pool(1)
        pool.close()
        for call in (lambda: pool.apply(abs, (1,)), lambda: pool.starmap(abs, [(1,)]).results()):
            with pytest.raises(PoolClosed, match="pool is closed") as caught:
                await call()
            assert isinstance(caught.value, RuntimeError)
        await asyncio.wait_for(pool.join(), 60)
        for call in (lambda: pool.printed(1), lambda: pool.trace("trace.json")):
            with pytest.raises(PoolClosed, match="pool is closed"):
                call()

    asyncio.run(main())
    executor = ProcessPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(PoolClosed, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, 1)


def test_what_cannot_be_sent_is_refused_by_a_public_class():
    async def main(pool):
        with pytest.raises(NotPicklable, match="cannot be sent to a worker"):
            await pool.apply(len, ([threading.Lock()],))

    run(main, 1)


def test_results_are_given_once():
    async def main(pool):
        for function in (abs, jobs.double):
            results = pool.map(function, range(3))
            assert len(await results) == 3
            with pytest.raises(RuntimeError, match="asked for already"):
                await results
            results = pool.map(function, range(3))
            async for _ in results:
                break
            with pytest.raises(RuntimeError, match="asked for already"):
                await asyncio.wait_for(results.results(), 60)
            with pytest.raises(RuntimeError, match="asked for already"):
                async for _ in results.as_completed():
                    pass

    run(main, 1)
