"""A cluster over real servers and nodes: the pool's verbs, and what the death of each part leaves."""

import asyncio
import collections
import multiprocessing
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing import shared_memory

import aiopool
import cluster_jobs as jobs
import nats
import pytest
from pools import WATCHDOG, wait_until


@pytest.fixture(scope="module")
def server():
    with nats.Server() as server:
        yield server


@pytest.fixture(scope="module")
def two(server):
    """A server with two nodes of the pool `two`."""

    async def both_are_there(cluster):
        while len([node for node in await cluster.nodes() if node["alive"]]) < 2:
            await asyncio.sleep(0.05)

    with nats.Node(server.url, "two", "--name", "a"), nats.Node(server.url, "two", "--name", "b"):
        run(both_are_there, server.url)
        yield server


def run(main, url, pool="two", watchdog=WATCHDOG, **options):
    """Runs `main(cluster)`."""

    async def with_cluster():
        async with aiopool.Cluster(url, pool=pool, lease=options.pop("lease", 30), **options) as cluster:
            await asyncio.wait_for(main(cluster), watchdog)

    asyncio.run(with_cluster())


def test_the_counts_are_those_of_rust(two):
    source = (nats.ROOT / "crates" / "aiopool-cluster" / "src" / "cluster.rs").read_text()
    fields = source.partition("pub struct ClusterStats {")[2].partition("\n}")[0]
    of_rust = re.findall(r"\n    pub (\w+):", fields)
    assert {"submitted", "worker_lost", "retries"} <= set(of_rust), "the source is read"

    async def main(cluster):
        before = cluster.stats()
        assert {*before} == {*of_rust, "nodes"}
        assert await cluster.apply(jobs.square, (7,)) == 49
        with pytest.raises(jobs.Refused):
            await cluster.apply(jobs.refuse, (1,))
        with pytest.raises(aiopool.TaskTimeout):
            await cluster.with_options(timeout=0.2).apply(asyncio.sleep, (3600,))
        with pytest.raises(aiopool.WorkerLost):
            await cluster.with_options(retries=1).apply(jobs.die)
        stats = cluster.stats()
        counts = {name: stats[name] for name in of_rust if stats[name] != before[name]}
        assert counts == {
            "submitted": 4, "ok": 1, "failed": 1, "timed_out": 1, "worker_lost": 1, "retries": 1
        }
        with pytest.raises(RuntimeError, match="broadcast is not possible in a cluster"):
            await cluster.broadcast(jobs.square, (1,))

    run(main, two.url)


def test_calls_and_maps_give_their_values(two):
    async def main(cluster):
        assert await cluster.apply(jobs.square, (7,)) == 49
        assert await cluster.apply(jobs.slow_square, (7,)) == 49
        assert await cluster.apply(jobs.add, (1,), {"b": 2}) == 3
        assert await cluster.starmap(jobs.add, [(1, 2), (3, 4)]) == [3, 7]
        assert await cluster.map(jobs.square, range(1000)) == [x * x for x in range(1000)]
        assert await cluster.map(jobs.slow_square, range(1000)) == [x * x for x in range(1000)]
        done = [value async for value in cluster.map(jobs.slow_square, range(50)).as_completed()]
        assert sorted(done) == [x * x for x in range(50)]
        stats = cluster.stats()
        assert stats["outstanding"] == 0 and set(stats["nodes"]) == {"a", "b"}, stats
        assert {node["name"] for node in await cluster.nodes() if node["alive"]} == {"a", "b"}

    run(main, two.url)


def test_an_async_iterable_is_taken_as_there_is_room(two):
    taken = 0

    async def items():
        nonlocal taken
        while True:
            taken += 1
            yield taken

    async def main(cluster):
        async for value in cluster.map(jobs.slow_square, items()):
            assert value == 1
            break
        assert 1 <= taken < 10_000
        # What is left was called off: the next call is not behind it.
        assert await cluster.apply(jobs.square, (3,)) == 9

    run(main, two.url)


def test_connect_is_awaited_too_and_close_finishes_what_was_asked_for(two):
    async def main():
        cluster = await aiopool.Cluster.connect(two.url, pool="two", lease=30)
        results = cluster.map(jobs.slow_square, range(3000))
        calls = [asyncio.ensure_future(cluster.apply(jobs.square, (x,))) for x in range(5000)]
        await asyncio.sleep(0)
        cluster.close()
        assert await results == [x * x for x in range(3000)]
        assert await asyncio.gather(*calls) == [x * x for x in range(5000)]
        await cluster.join()
        with pytest.raises(RuntimeError, match="cluster is closed"):
            await cluster.apply(jobs.square, (1,))
        assert "over" in repr(cluster)

    asyncio.run(asyncio.wait_for(main(), WATCHDOG))


def test_errors_come_as_themselves(two):
    async def main(cluster):
        with pytest.raises(jobs.Refused, match="not today") as caught:
            await cluster.apply(jobs.refuse, (7,))
        assert caught.value.code == 7
        assert isinstance(caught.value.__cause__, aiopool.RemoteTraceback)
        assert "cluster_jobs.py" in str(caught.value.__cause__)
        with pytest.raises(aiopool.ProxyException, match="cannot be pickled"):
            await cluster.apply(jobs.unpicklable)
        with pytest.raises(aiopool.WorkerLost, match="die") as lost:
            await cluster.apply(jobs.die)
        assert lost.value.signal == signal.SIGKILL
        some = await cluster.map(jobs.refuse, [1, 2], return_exceptions=True)
        assert [error.code for error in some] == [1, 2]
        with pytest.raises(jobs.Refused):
            await cluster.map(jobs.refuse, range(10_000))

    run(main, two.url)


def test_options_of_a_call(two, tmp_path):
    async def main(cluster):
        with pytest.raises(aiopool.TaskTimeout) as late:
            await cluster.with_options(timeout=0.3).apply(jobs.compute, (30,))
        assert late.value.started
        assert await cluster.with_options(retries=2).apply(jobs.die_once, (str(tmp_path / "d"),)) == "alive"
        again = cluster.with_options(retries=5, retry_on=ConnectionError, backoff=0.01)
        assert await again.apply(jobs.fail_until, (str(tmp_path / "f"), 3)) == 3
        assert await cluster.with_options(priority=3, alone=True).apply(jobs.square, (2,)) == 4
        with pytest.raises(ValueError, match="priority=4 is not possible: the cluster has"):
            cluster.with_options(priority=4)
        with pytest.raises(ValueError, match="key='x' is not possible: nodes take what comes"):
            cluster.with_options(key="x")

    run(main, two.url)


def test_a_task_without_a_node_waits_as_long_as_it_may(server):
    async def main(cluster):
        with pytest.raises(aiopool.TaskTimeout) as late:
            await cluster.with_options(queue_ttl=0.5).apply(jobs.square, (1,))
        assert not late.value.started

    run(main, server.url, pool="nobody")


@pytest.mark.parametrize("size", [100, 1 << 20, 8 << 20])
def test_payloads_of_all_sizes_go_both_ways(two, size):
    data = os.urandom(size)

    async def main(cluster):
        assert await cluster.apply(jobs.backwards, (data,)) == data[::-1]
        array = bytearray(data)
        results = await cluster.map(jobs.backwards, [array] * 4)
        assert all(bytes(result) == data[::-1] for result in results)

    run(main, two.url)


def test_what_is_too_large_is_refused_and_said(two):
    async def main(cluster):
        with pytest.raises(aiopool.TooLarge, match="64 MiB"):
            await cluster.apply(len, (bytes(65 << 20),))
        assert await cluster.apply(jobs.square, (2,)) == 4

    run(main, two.url)


def test_cancelled_calls_end_on_their_nodes(two, tmp_path):
    async def main(cluster):
        call = asyncio.ensure_future(cluster.apply(jobs.note, (str(tmp_path), "x", 3600)))
        while not list(tmp_path.iterdir()):
            await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        # All places of both nodes: they are free again.
        assert len(await cluster.map(jobs.slow_square, range(64))) == 64

    run(main, two.url)


def test_terminate_from_another_thread_ends_calls_and_join(two):
    async def main():
        cluster = await aiopool.Cluster.connect(two.url, pool="two", lease=30)
        calls = [asyncio.ensure_future(cluster.apply(asyncio.sleep, (3600,))) for _ in range(100)]
        await asyncio.sleep(0.5)
        thread = threading.Thread(target=cluster.terminate)
        thread.start()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(
            isinstance(outcome, (aiopool.PoolClosed, asyncio.CancelledError)) for outcome in outcomes
        ), collections.Counter(map(repr, outcomes))
        await cluster.join()
        thread.join()

    asyncio.run(asyncio.wait_for(main(), WATCHDOG))


def test_several_loops_share_a_cluster(two):
    async def main(cluster):
        sums = []

        def other():
            async def both():
                sums.append(sum(await cluster.map(jobs.slow_square, range(200))))

            asyncio.run(both())

        threads = [threading.Thread(target=other) for _ in range(3)]
        for thread in threads:
            thread.start()
        own = await cluster.map(jobs.square, range(200))
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.02)
        assert sums == [sum(own)] * 3

    run(main, two.url)


def test_what_only_this_machine_has_is_refused_by_name(two):
    async def refused(cluster, thing, name):
        with pytest.raises(TypeError, match=f"{name}.* is of this machine alone"):
            await cluster.apply(jobs.square, (thing,))

    async def main(cluster):
        context = multiprocessing.get_context("spawn")
        await refused(cluster, context.Lock(), "multiprocessing.synchronize.Lock")
        await refused(cluster, context.Queue(), "multiprocessing.queues.Queue")
        ends = context.Pipe()
        await refused(cluster, ends[0], "multiprocessing.connection.Connection")
        block = shared_memory.SharedMemory(create=True, size=64)
        try:
            await refused(cluster, block, "multiprocessing.shared_memory.SharedMemory")
        finally:
            block.close()
            block.unlink()
        with socket.socket() as unconnected:
            await refused(cluster, unconnected, "socket.socket")
        for end in ends:
            end.close()
        assert await cluster.apply(jobs.square, (2,)) == 4

    run(main, two.url)


def test_functions_of_a_script_go_by_value(two, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import asyncio, aiopool

class Point:
    def __init__(self, x):
        self.x = x

def moved(point):
    return Point(point.x + 1)

async def main():
    async with aiopool.Cluster({two.url!r}, pool="two", lease=30) as cluster:
        print([type(p) is Point and p.x for p in await cluster.map(moved, [Point(1), Point(2)])])
        print(await cluster.apply(lambda: 42))

if __name__ == "__main__":
    asyncio.run(main())
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=WATCHDOG)
    assert done.stdout.split("\n")[:2] == ["[2, 3]", "42"], done.stderr


def test_a_killed_worker_costs_what_ran_in_it(two, tmp_path):
    async def main(cluster):
        workers = set(await cluster.map(jobs.pid, range(64)))
        retrying = cluster.with_options(retries=10)
        calls = [
            asyncio.ensure_future(retrying.apply(jobs.note, (str(tmp_path), item, 0.02)))
            for item in range(1000)
        ]
        while not list(tmp_path.iterdir()):
            await asyncio.sleep(0.01)
        os.kill(workers.pop(), signal.SIGKILL)
        assert await asyncio.gather(*calls) == list(range(1000))

    run(main, two.url)
    runs = collections.Counter(path.name.partition(".")[0] for path in tmp_path.iterdir())
    assert len(runs) == 1000 and max(runs.values()) <= 11


def test_a_killed_node_is_said_by_its_name_and_tasks_are_tried_elsewhere(server, tmp_path):
    async def main(cluster):
        with nats.Node(server.url, "dying", "--name", "first", lease=6) as first:
            lost = asyncio.ensure_future(cluster.apply(jobs.note, (str(tmp_path), "lost", 3600)))
            kept = [
                asyncio.ensure_future(
                    cluster.with_options(retries=1).apply(jobs.note, (str(tmp_path), item, 1))
                )
                for item in range(8)
            ]
            while len(list(tmp_path.iterdir())) < 9:
                await asyncio.sleep(0.02)
            first.kill()
            with nats.Node(server.url, "dying", "--name", "second"):
                assert await asyncio.gather(*kept) == list(range(8))
                with pytest.raises(aiopool.NodeLost, match="node first was lost") as caught:
                    await lost
        error = caught.value
        assert (error.node, error.attempt) == ("first", 1) and error.silent_for > 0
        assert error.function == "note"
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is aiopool.NodeLost and vars(again) == vars(error)

    run(main, server.url, pool="dying")


def test_nothing_is_left_of_a_killed_submitter(two, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import asyncio, sys, aiopool
sys.path.insert(0, {nats.TESTS!r})
import cluster_jobs as jobs

async def main():
    async with aiopool.Cluster({two.url!r}, pool="two", lease=4) as cluster:
        await cluster.apply(jobs.note, ({str(tmp_path / "notes")!r}, "x", 3600))

asyncio.run(main())
""")
    notes = tmp_path / "notes"
    notes.mkdir()
    submitter = subprocess.Popen([sys.executable, script])
    wait_until(lambda: list(notes.iterdir()))
    submitter.kill()
    submitter.wait()

    async def main(cluster):
        # The nodes call its task off once its lease is over.
        while any(node["taken"] for node in await cluster.nodes()):
            await asyncio.sleep(0.2)
        assert await cluster.apply(jobs.square, (2,)) == 4

    run(main, two.url)


def test_versions_run_side_by_side(server):
    async def main():
        async with (
            aiopool.Cluster(server.url, pool="deploy", version="1", lease=30) as old,
            aiopool.Cluster(server.url, pool="deploy", version="2", lease=30) as new,
        ):
            await asyncio.wait_for(old.map(jobs.square, range(20)), WATCHDOG)
            await asyncio.wait_for(new.map(jobs.square, range(20)), WATCHDOG)
            assert set(old.stats()["nodes"]) == {"old"}
            assert set(new.stats()["nodes"]) == {"new"}

    old = nats.Node(server.url, "deploy", "--name", "old", "--version", "1")
    with old, nats.Node(server.url, "deploy", "--name", "new", "--version", "2"):
        asyncio.run(main())


def test_a_node_drains_at_sigterm(server, tmp_path):
    async def main(cluster):
        with nats.Node(server.url, "drain") as node:
            call = asyncio.ensure_future(cluster.apply(jobs.note, (str(tmp_path), "x", 1)))
            while not list(tmp_path.iterdir()):
                await asyncio.sleep(0.02)
            said, status = await asyncio.to_thread(node.end, signal.SIGTERM)
            assert await call == "x"
            assert (said, status) == ("1 done, 0 failed\n", 0)

    run(main, server.url, pool="drain")


def test_a_node_in_this_process_preloads_and_stops(server):
    node = aiopool.Node(server.url, pool="own", processes=1, lease=30, preload=["cluster_jobs"])
    reports = []
    thread = threading.Thread(target=lambda: reports.append(node.run()))
    thread.start()

    async def main(cluster):
        assert await cluster.map(jobs.slow_square, range(10)) == [x * x for x in range(10)]

    try:
        run(main, server.url, pool="own")
    finally:
        node.stop()
        thread.join(WATCHDOG)
    assert reports == [aiopool.NodeReport(done=10, failed=0, lost=0)]


def test_a_second_node_of_a_name_is_refused(two):
    with nats.Node(two.url, "two", "--name", "a") as node:
        said, _ = node.process.communicate(timeout=WATCHDOG)
        assert "a node named a is alive" in said and node.process.returncode == 1


def connects(url, **options):
    async def main():
        async with aiopool.Cluster(url, **options):
            pass

    asyncio.run(main())


def test_servers_that_cannot_be_used_are_said_at_the_connect():
    # While it is bound and does not listen, nobody can connect, and nobody else has the port.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(aiopool.ServerError, match=f"cannot connect to {url}"):
            connects(url)
    with nats.Server(jetstream=False) as server, pytest.raises(ConnectionError, match="`-js`|JetStream"):
        connects(server.url)
    users = 'authorization { users: [ { user: "me", password: "secret" } ] }'
    with nats.Server(config=users) as server:
        with pytest.raises(aiopool.ServerError, match="authorization"):
            connects(server.url, user="me", password="wrong")
        connects(server.url, user="me", password="secret")


def test_a_server_that_is_away_for_a_while_costs_nothing(tmp_path):
    async def main(cluster):
        calls = [
            asyncio.ensure_future(cluster.apply(jobs.note, (str(tmp_path), item, 0.02)))
            for item in range(300)
        ]
        while not list(tmp_path.iterdir()):
            await asyncio.sleep(0.02)
        server.kill()
        await asyncio.sleep(0.5)
        server.start()
        assert await asyncio.gather(*calls) == list(range(300))

    with nats.Server() as server, nats.Node(server.url, "away"):
        run(main, server.url, pool="away")
    runs = collections.Counter(path.name.partition(".")[0] for path in tmp_path.iterdir())
    assert set(runs.values()) == {1} and len(runs) == 300


def test_a_server_that_is_gone_holds_no_exit_up(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import asyncio, sys, aiopool

async def main():
    cluster = await aiopool.Cluster.connect(sys.argv[1], lease=4)
    print("connected", flush=True)
    sys.stdin.readline()

asyncio.run(main())
""")
    with nats.Server() as server:
        words = [sys.executable, "-W", "ignore", script, server.url]
        script = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert script.stdout.readline() == "connected\n"
        server.kill()
        script.communicate("\n", timeout=WATCHDOG)
        assert script.returncode == 0


def test_a_lost_job_is_said_and_ends():
    async def main():
        with nats.Server() as server:
            cluster = await aiopool.Cluster.connect(server.url, lease=4)
            call = asyncio.ensure_future(cluster.apply(jobs.square, (1,)))
            await asyncio.sleep(0.1)
            server.kill()
            with pytest.raises(aiopool.PoolClosed, match="the job is lost: its lease ran out"):
                await call
            with pytest.raises(aiopool.PoolClosed, match="the job is lost"):
                await cluster.apply(jobs.square, (1,))
            cluster.terminate()
            await cluster.join()

    asyncio.run(asyncio.wait_for(main(), WATCHDOG))


def test_a_fork_is_told_to_connect_itself(two):
    async def main(cluster):
        loop = asyncio.get_running_loop()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                asyncio._set_running_loop(None)

                async def other():
                    with pytest.raises(RuntimeError, match="is a fork of process"):
                        await cluster.apply(jobs.square, (2,))

                asyncio.run(other())
                status = 0
            finally:
                os._exit(status)
        _, status = await loop.run_in_executor(None, os.waitpid, child, 0)
        assert status == 0
        assert await cluster.apply(jobs.square, (2,)) == 4

    run(main, two.url)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lease": 1}, "lease=1s is not possible: 4 to 150 seconds"),
        ({"pool": "a.b"}, "pool=a.b is not possible"),
        ({"capacity": 0}, "capacity=0 is not possible"),
        ({"version": "x" * 40}, "version='x+' is not possible"),
        ({"replicas": 2}, "replicas=2 is not possible: 1, 3 or 5"),
        ({"user": "me"}, "user and password go together"),
        ({"credentials_file": "/nowhere"}, "credentials_file=/nowhere is not possible"),
    ],
)
def test_options_that_cannot_be_are_refused(server, options, text):
    with pytest.raises(ValueError, match=text):
        connects(server.url, **options)


def test_verbs_before_the_connect_say_so():
    cluster = aiopool.Cluster("nats://127.0.0.1:1")
    for verb in (cluster.close, cluster.terminate, cluster.stats):
        with pytest.raises(RuntimeError, match="not connected"):
            verb()
    with pytest.raises(RuntimeError, match="not connected"):
        asyncio.run(cluster.apply(jobs.square, (1,)))
    assert "not connected" in repr(cluster)


def test_the_command_says_what_it_cannot_use():
    def said(*words):
        command = [sys.executable, "-m", "aiopool", "node", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG)
        assert done.returncode == 2
        return done.stderr

    assert "--import nowhere" in said("--import", "nowhere")
    assert "NATS_PASSWORD" in said("--user", "me")
    assert "lease=1s is not possible" in said("--lease", "1")


