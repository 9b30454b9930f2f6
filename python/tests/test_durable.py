"""Durable jobs: what a killed, a leaving and a resuming process find of theirs."""

import asyncio
import collections
import subprocess
import sys

import aiopool
import cluster_jobs as jobs
import nats
import pytest
from pools import wait_until

LEASE = 4


@pytest.fixture(scope="module")
def server():
    """A server with one node, which runs two tasks at a time."""
    with nats.Server() as server, nats.Node(server.url, "jobs", "--child-concurrency", "1"):
        yield server


def run(main, url, watchdog=nats.WATCHDOG, **options):
    """Runs `main(cluster)`."""

    async def with_cluster():
        async with aiopool.Cluster(url, pool="jobs", lease=LEASE, **options) as cluster:
            await asyncio.wait_for(main(cluster), watchdog)

    asyncio.run(with_cluster())


def runs(folder):
    """How often each item was begun."""
    return collections.Counter(int(path.name.partition(".")[0]) for path in folder.iterdir())


def folder_of(tmp_path, name="book"):
    folder = tmp_path / name
    folder.mkdir()
    return folder


def test_a_killed_submitter_is_resumed_and_each_item_runs_once(server, tmp_path):
    book, taken = folder_of(tmp_path), tmp_path / "taken"
    script = tmp_path / "script.py"
    script.write_text(f"""
import asyncio, sys, aiopool
sys.path.insert(0, {nats.TESTS!r})
import cluster_jobs as jobs

async def main():
    async with aiopool.Cluster({server.url!r}, pool="jobs", lease={LEASE}) as cluster:
        async with cluster.job("nightly") as job:
            async for item in job.starmap(jobs.note, [({str(book)!r}, n, 0.1) for n in range(50)]):
                with open({str(taken)!r}, "a") as file:
                    print(item, file=file)

asyncio.run(main())
""")
    submitter = subprocess.Popen([sys.executable, script])
    wait_until(lambda: taken.exists() and len(taken.read_text().split()) >= 10)
    submitter.kill()
    submitter.wait()
    before = [int(word) for word in taken.read_text().split()]
    assert before == list(range(len(before))) and len(before) < 50

    async def main(cluster):
        async with cluster.job("nightly") as job:
            assert "'nightly'" in repr(job) and "open" in repr(job)
            # What was noted in the last second before the death may come again, and nothing else.
            assert job.taken <= len(before)
            items = [(str(book), n, 0.1) for n in range(50)]
            given = [item async for item in job.starmap(jobs.note, items)]
            assert given == list(range(job.taken, 50))
            await job.finish()
        # The job is gone, and what the nodes had of it.
        assert not [job for job in await cluster.jobs() if job["durable"]]
        while any(node["taken"] for node in await cluster.nodes()):
            await asyncio.sleep(0.2)

    run(main, server.url)
    assert runs(book) == {n: 1 for n in range(50)}


def test_what_was_taken_is_given_once_and_the_rest_without_running_again(server, tmp_path):
    book = folder_of(tmp_path)
    items = [(str(book), n) for n in range(20)]

    async def first(cluster):
        job = await cluster.job("parts")
        assert job.taken == 0
        given = []
        async for item in job.starmap(jobs.note, items):
            given.append(item)
            if item == 7:
                break
        assert given == list(range(8))
        # Not asked for the one after 7: that one is given again.
        await job.leave()
        assert "over" in repr(job)
        with pytest.raises(RuntimeError, match="job is closed"):
            await job.apply(jobs.square, (1,))
        with pytest.raises(RuntimeError, match="left before it was finished"):
            await job.finish()

    async def second(cluster):
        async with cluster.job("parts") as job:
            assert job.taken == 7
            seen = []
            results = job.starmap(jobs.note, items).progress(lambda done, total: seen.append((done, total)))
            # In a list alone: noted by `finish`.
            assert await results == list(range(7, 20))
            assert seen[-1] == (20, 20)

    async def third(cluster):
        async with cluster.job("parts") as job:
            done = [item async for item in job.starmap(jobs.note, items).as_completed()]
            assert sorted(done) == list(range(7, 20))
            # A call behind the map has the next number.
            assert await job.apply(jobs.note, (str(book), 20)) == 20
            await job.finish()

    async def fourth(cluster):
        async with cluster.job("parts") as job:
            assert job.taken == 0
            job.terminate()
            await job.join()
        assert not [job for job in await cluster.jobs() if job["durable"]]

    run(first, server.url)
    run(second, server.url)
    run(third, server.url)
    run(fourth, server.url)
    assert runs(book) == {n: 1 for n in range(21)}


def test_a_full_cluster_does_not_change_the_numbers_of_tasks(server):
    async def first(cluster):
        async with cluster.job("full") as job:
            calls = [asyncio.ensure_future(job.apply(jobs.square, (n,))) for n in range(20)]
            assert await job.map(jobs.square, range(100)) == [n * n for n in range(100)]
            assert await asyncio.gather(*calls) == [n * n for n in range(20)]

    async def second(cluster):
        async with cluster.job("full") as job:
            calls = [asyncio.ensure_future(job.apply(jobs.square, (n,))) for n in range(20)]
            assert await job.map(jobs.square, range(100)) == [n * n for n in range(100)]
            assert await asyncio.gather(*calls) == [n * n for n in range(20)]
            await job.finish()

    run(first, server.url, capacity=3)
    run(second, server.url)


def test_a_job_has_one_holder_and_its_items(server):
    async def main(cluster):
        async with cluster.job("once") as job:
            assert await job.map(jobs.square, [1, 2, 3]) == [1, 4, 9]
            with pytest.raises(aiopool.JobHeld, match="the job once is held by"):
                await cluster.job("once")
            with pytest.raises(aiopool.JobHeld):
                await cluster.end_job("once")
            (seen,) = [job for job in await cluster.jobs() if job["durable"]]
            assert (seen["job"], seen["held"]) == ("once", True)
        # Left: its outcomes are there, and were not taken.
        async with cluster.job("once") as job:
            again = await job.map(jobs.square, [1, 5, 3], return_exceptions=True)
            assert (again[0], again[2]) == (1, 9)
            assert isinstance(again[1], aiopool.ItemsChanged) and "item 1 is another one" in str(again[1])
        assert await cluster.end_job("once")
        assert not await cluster.end_job("once")

    run(main, server.url)


def test_an_outcome_that_was_taken_has_no_second_caller(server):
    async def main(cluster):
        async with cluster.job("twice") as job:
            assert [value async for value in job.map(jobs.square, [1, 2])] == [1, 4]
        async with cluster.job("twice") as job:
            assert job.taken == 2
            with pytest.raises(aiopool.Taken, match="item 0 was taken before"):
                await job.apply(jobs.square, (1,))
            await job.finish()

    run(main, server.url)


def test_an_item_that_fails_does_so_for_each_holder(server):
    async def main(cluster):
        for _ in range(2):
            async with cluster.job("fails") as job:
                with pytest.raises(jobs.Refused, match="not today"):
                    await job.map(jobs.refuse, range(5))
        async with cluster.job("fails") as job:
            errors = [e async for e in job.map(jobs.refuse, range(5), return_exceptions=True)]
            assert [error.code for error in errors] == list(range(5))
        async with cluster.job("fails") as job:
            assert job.taken == 5
            await job.finish()

    run(main, server.url)


def test_a_cancelled_caller_leaves_its_task_to_the_next_one(server, tmp_path):
    book = folder_of(tmp_path)

    async def main(cluster):
        async with cluster.job("cancelled") as job:
            call = asyncio.ensure_future(job.apply(jobs.note, (str(book), 1, 1)))
            while not runs(book):
                await asyncio.sleep(0.02)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        async with cluster.job("cancelled") as job:
            assert await job.apply(jobs.note, (str(book), 1, 1)) == 1
            await job.finish()

    run(main, server.url)
    assert runs(book) == {1: 1}


def test_close_finishes_what_was_asked_for_and_leaves_the_job(server):
    async def main(cluster):
        job = await cluster.job("closed")
        results = job.map(jobs.square, range(30))
        job.close()
        assert await results == [n * n for n in range(30)]
        await job.join()
        (seen,) = [job for job in await cluster.jobs() if job["durable"]]
        assert (seen["job"], seen["held"], seen["tasks"]) == ("closed", False, 30)
        async with cluster.job("closed") as job:
            results = job.map(jobs.square, range(30))
            await job.finish()
            assert await results == [n * n for n in range(30)]

    run(main, server.url)


def test_what_is_not_the_same_the_next_time_is_refused(server, monkeypatch):
    def of_main(x):
        return x

    main_module = sys.modules["__main__"]
    monkeypatch.setattr(main_module, "of_main", of_main, raising=False)
    of_main.__module__, of_main.__qualname__ = "__main__", "of_main"

    async def main(cluster):
        assert await cluster.apply(of_main, (1,)) == 1
        async with cluster.job("refuses") as job:
            for function in (of_main, lambda x: x):
                with pytest.raises(TypeError, match="cannot be in a durable job.*move it to a module"):
                    await job.apply(function, (1,))
                with pytest.raises(TypeError, match="cannot be in a durable job"):
                    job.map(function, [1])
            with pytest.raises(TypeError, match="cannot be in a durable job"):
                await job.map(jobs.square, [lambda: 1])
            with pytest.raises(ValueError, match="retry_on=.* is not possible in a durable job"):
                job.with_options(retry_on=OSError)
            assert await job.with_options(retries=2).apply(jobs.square, (2,)) == 4
            await job.finish()
        for name in ("", "a.b", "*", "x" * 31):
            with pytest.raises(ValueError, match="job=.* is not possible: 1 to 30"):
                await cluster.job(name)
        with pytest.raises(TypeError, match="name must be a string"):
            cluster.job(7)
        job = cluster.job("unbegun")
        with pytest.raises(RuntimeError, match="the job is not connected"):
            await job.apply(jobs.square, (1,))

    run(main, server.url)


def test_a_job_of_a_cluster_that_is_not_connected_is_refused():
    async def main():
        with pytest.raises(RuntimeError, match="the cluster is not connected"):
            await aiopool.Cluster("nats://127.0.0.1:1").job("j")

    asyncio.run(main())
