"""Functions of a main module that no worker imports share what the initializer has set."""

import subprocess
import sys

from pools import WATCHDOG

BODY = """
import asyncio, contextlib, enum, functools, multiprocessing
import aiopool

model = None
state = {}
limit = 5
spawn = multiprocessing.get_context("spawn")

class Holder:
    def open(self):
        global model
        model = "opened by a method"

def load(name):
    global model, fresh
    model = fresh = f"the {name}"
    state["db"] = name

async def load_later(name):
    load(name)

@contextlib.contextmanager
def session(name):
    load(name)
    yield

def use():
    return model, state.get("db"), fresh, limit

async def use_later():
    await asyncio.sleep(0)
    return use()

def model_of(_):
    return model

def counts():
    # What a task sets is of its own call.
    global count
    count = globals().get("count", 0) + 1
    return count

class Color(enum.Enum):
    RED = 1

class Wrong(Exception):
    def limit(self):
        return limit

def fail():
    raise Wrong

class Point:
    def __init__(self, x):
        self.x = x

    def limit(self):
        return limit

    async def moved(self, by, queue):
        queue.put(model)
        return Point(self.x + by)

def put(queue, value):
    queue.put(value)

def set_queue(shared, lock):
    global queue
    queue = shared

def put_here(value):
    queue.put(value)

async def main():
    global limit
    for initializer in (load, load_later, session, functools.partial(load)):
        limit = 5
        async with aiopool.Pool(1, initializer, ("model",)) as pool:
            expected = "the model", "model", "the model", 5
            assert await pool.apply(use) == expected, await pool.apply(use)
            assert await pool.apply(use_later) == expected
            assert await pool.apply(lambda: use()) == expected
            assert await pool.map(model_of, range(300)) == ["the model"] * 300
            # What the host changes is seen, since the initializer has not.
            limit = 6
            assert (await pool.apply(use))[3] == 6
            assert [await pool.apply(counts) for _ in range(3)] == [1] * 3
    async with aiopool.Pool(1, Holder().open) as pool:
        assert await pool.apply(model_of, (0,)) == "opened by a method"
    with aiopool.ProcessPoolExecutor(1, initializer=load, initargs=("model",)) as executor:
        assert executor.submit(model_of, 0).result() == "the model"
    queue = spawn.SimpleQueue()
    async with aiopool.Pool(1, set_queue, (queue, spawn.Lock())) as pool:
        await pool.apply(put_here, (1,))
        await pool.apply(put, (queue, 2))
        await pool.apply(functools.partial(put, queue), (3,))
        assert [queue.get() for _ in range(3)] == [1, 2, 3]
    point = await aiopool.Worker(target=Point(3).moved, args=(2, queue), initializer=load, initargs=("x",))
    assert (type(point), point.x, queue.get()) == (Point, 5, "the x")
    await aiopool.Process(target=Point(4).moved, args=(2, queue))
    assert queue.get() is None
    # What comes back leaves the classes of this program alone, and is of them.
    async with aiopool.Pool(1) as pool:
        point = await pool.apply(lambda: Point(limit))
        color = await pool.apply(lambda: Color.RED)
        error = (await pool.map(lambda x: 1 / x if x else fail(), [0], return_exceptions=True))[0]
    limit = 7
    assert (type(point), point.x, point.limit(), color is Color.RED) == (Point, 6, 7, True)
    assert (type(error), error.limit()) == (Wrong, 7)
    print("all")

"""
PROGRAM = BODY + "if __name__ == '__main__':\n    asyncio.run(main())\n"


def run(*words, **options):
    command = [sys.executable, "-W", "error", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, **options)
    assert (done.returncode, done.stdout) == (0, "all\n"), done.stderr


def test_a_command():
    run("-c", PROGRAM)


def test_standard_input():
    run(input=PROGRAM)


def test_a_package_and_a_script(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "__main__.py").write_text(PROGRAM)
    run("-m", "package", cwd=tmp_path)


def test_a_script_without_a_guard(tmp_path):
    (tmp_path / "script.py").write_text(BODY + "asyncio.run(main())\n")
    run(tmp_path / "script.py")


SCRIPT = """
import aiopool

model = None
seen = []

def load():
    global model
    model = "the model"

def make():
    # A closure, which goes by value from a script whose functions go by name.
    return lambda x: (model, x, seen)

if __name__ == "__main__":
    seen.append("by the host")
    with aiopool.ProcessPoolExecutor(1, initializer=load) as executor:
        assert executor.submit(make(), 3).result() == ("the model", 3, ["by the host"])
    print("all")
"""


def test_a_closure_in_a_script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    run(tmp_path / "script.py")
