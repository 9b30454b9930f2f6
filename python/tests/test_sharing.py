"""multiprocessing's things as arguments: they work, or are refused by name."""

import asyncio
import multiprocessing
import socket
from multiprocessing import shared_memory

import pytest
from aiopool import Pool, ProcessPoolExecutor

WATCHDOG = 60
spawn = multiprocessing.get_context("spawn")
kept = {}


def run(main, *args, **options):
    async def with_pool():
        async with Pool(*args, **options) as pool:
            await asyncio.wait_for(main(pool), WATCHDOG)

    asyncio.run(with_pool())


def keep(**things):
    kept.update(things)


def start(queue, lock, shared):
    keep(queue=queue, lock=lock, shared=shared)


def append(shared, value):
    shared.append(value)


def put(queue, value):
    queue.put(value)


def put_kept(value):
    with kept["lock"]:
        kept["shared"][value] = True
    kept["queue"].put(value)


def send(connection, value):
    connection.send(value)


def say(end, text):
    end.sendall(text)


def locked(lock):
    return lock.acquire(timeout=0)


def write(memory, value):
    memory.buf[0] = value
    memory.close()


def test_proxies_of_a_manager():
    with spawn.Manager() as manager:
        shared = manager.list()

        async def main(pool):
            await pool.starmap(append, [(shared, n) for n in range(20)])
            assert sorted(shared) == list(range(20))

        run(main, 2)


def test_things_for_every_worker_and_its_replacements():
    with spawn.Manager() as manager:
        queue, lock, shared = spawn.SimpleQueue(), spawn.Lock(), manager.dict()

        async def main(pool):
            await pool.map(put_kept, range(12))
            assert sorted(queue.get() for _ in range(12)) == list(range(12))
            assert sorted(shared.keys()) == list(range(12))

        run(main, 2, start, (queue, lock, shared), maxtasksperchild=3)


def test_queues_connections_locks_and_sockets_as_arguments():
    async def main(pool):
        queue = spawn.Queue()
        await pool.apply(put, (queue, 5))
        assert queue.get(timeout=WATCHDOG) == 5
        ours, theirs = spawn.Pipe()
        await pool.apply(send, (theirs, {"a": 1}))
        assert ours.recv() == {"a": 1}
        lock = spawn.Lock()
        assert await pool.apply(locked, (lock,))
        assert not lock.acquire(block=False)
        mine, its = socket.socketpair()
        await pool.apply(say, (its, b"hello"))
        assert mine.recv(5) == b"hello"
        for end in (ours, theirs, mine, its):
            end.close()
        queue.close()

    run(main, 1)


def test_shared_memory():
    memory = shared_memory.SharedMemory(create=True, size=64)
    try:
        with ProcessPoolExecutor(1) as executor:
            executor.submit(write, memory, 7).result(WATCHDOG)
        assert memory.buf[0] == 7
    finally:
        memory.close()
        memory.unlink()


def test_what_only_a_forked_child_can_have_is_refused_with_what_to_do():
    lock = multiprocessing.get_context("fork").Lock()

    async def main(pool):
        with pytest.raises(RuntimeError, match=r"get_context\('spawn'\)"):
            await pool.apply(locked, (lock,))
        assert await pool.apply(abs, (-1,)) == 1

    run(main, 1)
