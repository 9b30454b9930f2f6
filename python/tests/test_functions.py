"""Functions as they are: from scripts, `-c`, standard input, `-m`, notebooks; lambdas, closures."""

import asyncio
import functools
import subprocess
import sys

import pytest
from aiopool import Pool
from pools import WATCHDOG

BODY = """
import asyncio, aiopool

class Point:
    def __init__(self, x):
        self.x = x

async def square(x):
    return x * x

def moved(point):
    return Point(point.x + 1)

async def main():
    async with aiopool.Pool(1) as pool:
        print(await pool.map(square, range(4)))
        point = await pool.apply(moved, (Point(3),))
        print(isinstance(point, Point), point.x)

"""
GUARDED = BODY + "if __name__ == '__main__':\n    asyncio.run(main())\n"
UNGUARDED = BODY + "asyncio.run(main())\n"
SAID = "[0, 1, 4, 9]\nTrue 4\n"


def python(*words, **options):
    command = [sys.executable, "-W", "error", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, **options)


def test_a_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(GUARDED)
    done = python(script)
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr


NO_CLOUDPICKLE = "import sys; sys.modules['cloudpickle'] = None\n"


def test_a_script_without_a_guard_runs_once_and_is_told_what_to_do(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("print('once')\n" + UNGUARDED)
    done = python(script)
    assert (done.returncode, done.stdout) == (0, "once\n" + SAID), done.stderr
    (said,) = done.stderr.splitlines()
    assert "put what the script does under `if __name__ == '__main__':`" in said


def test_a_script_without_a_guard_has_the_functions_of_other_modules(tmp_path):
    (tmp_path / "jobs_of_it.py").write_text("async def double(x):\n    return 2 * x\n")
    script = tmp_path / "script.py"
    body = "async def main():\n    async with aiopool.Pool(2) as pool:\n"
    body += "        print(await pool.map(jobs_of_it.double, range(3)))\nasyncio.run(main())\n"
    script.write_text(NO_CLOUDPICKLE + "import asyncio, aiopool, jobs_of_it\nprint('once')\n" + body)
    done = python(script)
    assert (done.returncode, done.stdout) == (0, "once\n[0, 2, 4]\n"), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_its_own_functions_are_refused_where_they_cannot_go_by_value(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("print('once')\n" + NO_CLOUDPICKLE + UNGUARDED)
    done = python(script)
    assert (done.returncode, done.stdout) == (1, "once\n"), done.stderr
    last = done.stderr.splitlines()[-1]
    assert "put what the script does under `if __name__ == '__main__':`" in last, done.stderr


@pytest.mark.parametrize("line", ["main()", "if main():\n    pass", "x = [main() for _ in 'a']"])
def test_a_pool_that_a_function_builds_is_found_too(tmp_path, line):
    body = "import asyncio, aiopool\ndef main():\n    asyncio.run(build())\n    return 1\n"
    body += "async def build():\n    async with aiopool.Pool(1) as pool:\n"
    body += "        print(await pool.apply(len, ('four',)))\n"
    script = tmp_path / "script.py"
    script.write_text(body + line + "\n")
    done = python(script)
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr
    assert "under `if __name__ == '__main__':`" in done.stderr
    script.write_text(body + "if __name__ == '__main__' and True:\n    main()\n")
    done = python(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")


def test_a_command_and_standard_input():
    done = python("-c", UNGUARDED)
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr
    done = python("-", input=UNGUARDED)
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr


def test_a_module_of_a_package(tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(GUARDED)
    done = python("-m", "pkg", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr


class Counter:
    def __init__(self, start):
        self.start = start

    def plus(self, x):
        return self.start + x

    @staticmethod
    def twice(x):
        return 2 * x

    @classmethod
    def named(cls, x):
        return f"{cls.__name__} {x}"

    def __call__(self, x):
        return -x


def test_lambdas_closures_partials_and_methods():
    offset = 10

    async def closure(x):
        return x + offset

    async def main():
        async with Pool(1) as pool:
            for function, expected in [
                (lambda x: x + 1, 4),
                (closure, 13),
                (functools.partial(pow, 2), 8),
                (Counter(5).plus, 8),
                (Counter.twice, 6),
                (Counter.named, "Counter 3"),
                (Counter(0), -3),
                (str.upper, None),
                ([1, 2, 3, 3].count, 2),
            ]:
                if function is str.upper:
                    assert await pool.apply(function, ("a",)) == "A"
                    continue
                assert await asyncio.wait_for(pool.apply(function, (3,)), WATCHDOG) == expected
                assert await asyncio.wait_for(pool.map(function, [3, 3]), WATCHDOG) == [expected] * 2

    asyncio.run(main())


def test_without_cloudpickle_the_refusal_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)

    async def main():
        async with Pool(1) as pool:
            with pytest.raises(TypeError, match="install cloudpickle"):
                await pool.apply(lambda: 1)

    asyncio.run(main())


def test_large_buffers_go_beside_the_pickle():
    class Array:
        """Has its bytes in a buffer, as numpy's arrays do."""

        def __init__(self, data):
            self.data = data

        def __reduce_ex__(self, protocol):
            import pickle

            return Array, (pickle.PickleBuffer(self.data),)

    async def main():
        async with Pool(1) as pool:
            for size in (0, 10, 16 << 10, 5 << 20):
                data = bytearray(range(256)) * (size // 256 + 1)
                same = await pool.apply(lambda array: array, (Array(data),))
                assert bytes(same.data) == data
                assert size < 16 << 10 or not memoryview(same.data).readonly

    asyncio.run(main())
