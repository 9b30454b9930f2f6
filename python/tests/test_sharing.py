"""multiprocessing's things as arguments: they work, or are refused by name."""

import functools
import multiprocessing
import os
import socket
import time
from multiprocessing import reduction, shared_memory

import pytest
from aiopool import ProcessPoolExecutor
from pools import WATCHDOG, run

spawn = multiprocessing.get_context("spawn")
kept = {}


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


def test_what_nobody_else_has_is_kept_until_it_was_used():
    # Locks go with the last who has them, and workers look for them when they start or begin.
    with ProcessPoolExecutor(1, initializer=keep_lock, initargs=(spawn.Lock(),)) as executor:
        assert executor.submit(os._exit, 3).exception(WATCHDOG) is not None
        # In the one that replaces it, too.
        assert executor.submit(kept_lock).result(WATCHDOG)
        busy = executor.submit(time.sleep, 0.2)
        futures = [executor.submit(locked, spawn.Lock()) for _ in range(5)]
        futures += [executor.submit(functools.partial(locked, spawn.Lock())) for _ in range(5)]
        assert [future.result(WATCHDOG) for future in futures] == [True] * 10
        assert busy.done()

    async def main(pool):
        assert await pool.map(locked, (spawn.Lock() for _ in range(40))) == [True] * 40
        assert await pool.map(functools.partial(locked_beside, spawn.Lock()), range(40)) == [True] * 40

    run(main, 1, keep_lock, (spawn.Lock(),))


def keep_lock(lock):
    kept["lock"] = lock


def kept_lock():
    with kept["lock"]:
        return True


def locked_beside(lock, _):
    with lock:
        return True


class Registered:
    """Travels by what `multiprocessing.reduction.register` was told."""

    def __init__(self, value):
        self.value, self.how = value, "made"


def registered(value):
    again = Registered(value)
    again.how = "rebuilt"
    return again


def reduce_registered(thing):
    return registered, (thing.value,)


def how_of(thing):
    return thing.how, thing


def test_reducers_that_were_registered_with_multiprocessing(monkeypatch):
    known = reduction.ForkingPickler._extra_reducers
    monkeypatch.setitem(known, Registered, reduce_registered)

    async def main(pool):
        how, back = await pool.apply(how_of, (Registered(3),))
        assert (how, back.value) == ("rebuilt", 3)
        many = await pool.map(how_of, [Registered(n) for n in range(50)])
        assert [(how, back.value) for how, back in many] == [("rebuilt", n) for n in range(50)]
        queue = spawn.SimpleQueue()
        await pool.apply(put, (queue, 7))
        assert queue.get() == 7
        # Large buffers still go beside the pickle.
        data = bytearray(1 << 20)
        assert await pool.apply(len, (data,)) == len(data)

    run(main, 1)
