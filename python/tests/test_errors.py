"""An error comes back as what it was: its type, arguments, attributes and notes, whatever its class
asks for."""

import asyncio
import concurrent.futures
import dataclasses
import os
import pickle
import sys
import threading
import time

import jobs
import pytest
from aiopool import Pool, ProcessPoolExecutor, ProxyException, RemoteTraceback, TaskTimeout, WorkerLost
from pools import WATCHDOG, run


class Asks(Exception):
    """Its constructor takes other arguments than it keeps."""

    def __init__(self, code, place):
        super().__init__(f"code {code} at {place}")
        self.code, self.place = code, place


class AsksByName(Exception):
    def __init__(self, text="a text", *, response):
        super().__init__(text)
        self.response = response


class KeepsNothing(Exception):
    def __init__(self, first, second):
        self.both = [first, second]


class OfTheSystem(OSError):
    def __init__(self, path, reason):
        super().__init__(2, reason, path)
        self.reason = reason


class OfAnImport(ImportError):
    def __init__(self, module, reason):
        super().__init__(f"{module}: {reason}", name=module)
        self.reason = reason


class OfText(UnicodeDecodeError):
    def __init__(self, data):
        super().__init__("utf-8", data, 0, 1, "no")
        self.data = data


class WithSlots(Exception):
    __slots__ = ("code", "never_set")

    def __init__(self, text, code=1):
        super().__init__(text)
        self.code = code


class New(Exception):
    def __new__(cls, first, second):
        self = super().__new__(cls, first)
        self.second = second
        return self

    def __init__(self, first, second):
        super().__init__(first)


class Refuses(Exception):
    """Its attributes cannot be set, as those of a frozen dataclass."""

    def __init__(self, code, text):
        self.__dict__.update(code=code, text=text)

    def __setattr__(self, name, value):
        raise AttributeError(name)


@dataclasses.dataclass
class Data(Exception):
    code: int
    text: str = "text"


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Reduced(Exception):
    """Knows itself how it is pickled."""

    def __init__(self, code, place):
        super().__init__("reduced")
        self.code, self.place = code, place

    def __reduce__(self):
        return Reduced, (self.code, "from __reduce__")


class Asked(Asks):
    """Takes another number of arguments again."""

    def __init__(self, code):
        super().__init__(code, "there")


class HasALock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Unknown(Exception):
    """Cannot be read by the host."""

    def __reduce__(self):
        return explode, ()


def explode():
    raise LookupError("the reader explodes")


MADE = [
    (Asks, (3, "here"), {}),
    (AsksByName, (), {"response": {"status": 500}}),
    (KeepsNothing, (1, 2), {}),
    (OfTheSystem, ("/no/such", "why"), {}),
    (OfAnImport, ("module", "why"), {}),
    (OfText, (b"\xff",), {}),
    (WithSlots, ("text", 9), {}),
    (New, (1, 2), {}),
    (Refuses, (1, "text"), {}),
    (Data, (4,), {}),
    (Frozen, (5,), {}),
    (Reduced, (6, "from __reduce__"), {}),
    (Asked, (7,), {}),
    (FileNotFoundError, (2, "no", "file"), {}),
    (ModuleNotFoundError, ("no",), {"name": "module"}),
    (KeyError, ("key",), {}),
]
SEEN = ("errno", "strerror", "filename", "name", "path", "encoding", "object", "start", "reason", "code")


def make(number):
    kind, arguments, keywords = MADE[number]
    return kind(*arguments, **keywords)


def throw(number):
    raise make(number)


async def throw_later(number):
    await asyncio.sleep(0)
    raise make(number)


def what_is(error):
    """All of an error that a program can ask for."""
    slots = {name: getattr(error, name) for name in SEEN if hasattr(error, name)}
    return type(error), error.args, error.__dict__, slots, str(error), repr(error)


@pytest.fixture(scope="module")
def executor():
    with ProcessPoolExecutor(1) as executor:
        yield executor


@pytest.mark.parametrize("function", [throw, throw_later])
@pytest.mark.parametrize("number", range(len(MADE)), ids=[kind.__name__ for kind, _, _ in MADE])
def test_an_error_is_what_it_was(executor, function, number):
    error = executor.submit(function, number).exception(WATCHDOG)
    assert what_is(error) == what_is(make(number))
    assert isinstance(error.__cause__, RemoteTraceback)
    assert function.__name__ in str(error.__cause__)


def test_errors_of_a_map():
    async def main(pool):
        for function in (throw, throw_later):
            errors = await pool.map(function, range(len(MADE)), return_exceptions=True)
            assert [what_is(error) for error in errors] == [what_is(make(n)) for n in range(len(MADE))]

    run(main, 1)


if sys.version_info >= (3, 11):

    def test_groups_and_notes(executor):
        group = executor.submit(throw_a_group).exception(WATCHDOG)
        assert type(group) is ExceptionGroup
        first, inner = group.exceptions
        assert what_is(first) == what_is(with_note(Asks(1, "here")))
        assert (inner.message, [what_is(one) for one in inner.exceptions]) == ("inner", [what_is(Frozen(2))])


def with_note(error):
    error.add_note("a note")
    return error


def throw_a_group():
    inner = ExceptionGroup("inner", [Frozen(2)])
    raise ExceptionGroup("outer", [with_note(Asks(1, "here")), inner])


def throw_kind(kind, *arguments):
    raise kind(*arguments)


def test_what_comes_as_a_text_says_why():
    async def main(pool):
        with pytest.raises(ProxyException, match="HasALock: text(.|\n)*cannot be pickled.*lock"):
            await pool.apply(throw_kind, (HasALock, "text"))
        with pytest.raises(ProxyException, match="cannot be unpickled here: LookupError: the reader explodes"):
            await pool.apply(throw_kind, (Unknown,))

    run(main, 1)


def test_a_timeout_is_what_programs_catch_as_one():
    kinds = TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError
    assert all(issubclass(TaskTimeout, kind) for kind in kinds)
    error = pickle.loads(pickle.dumps(TaskTimeout("too long", limit=1.5)))
    assert (type(error), str(error), error.limit) == (TaskTimeout, "too long", 1.5)


async def until_there(path):
    # The only way to see what another process has done to a file.
    while not os.path.exists(path):
        await asyncio.sleep(0.01)


def test_a_lost_worker_tells_whose_fault_it_may_be(tmp_path):
    async def main(pool):
        waits = asyncio.ensure_future(pool.apply(jobs.wait_for_ever, (str(tmp_path / "waits"),)))
        await until_there(tmp_path / "waits.started")
        with pytest.raises(TaskTimeout):
            await pool.with_options(timeout=0.2).apply(time.sleep, (3600,))
        with pytest.raises(WorkerLost, match="another task in it did not obey its deadline") as caught:
            await waits
        lost = caught.value
        assert (lost.cause, lost.suspect, lost.is_bystander) == ("timed out", False, True)

        with pytest.raises(WorkerLost) as caught:
            await pool.apply(jobs.die)
        lost = caught.value
        assert (lost.cause, lost.suspect, lost.is_bystander) == ("death", True, False)
        assert lost.earlier == []

        with pytest.raises(WorkerLost) as caught:
            await pool.with_options(retries=2).apply(jobs.die)
        assert len(caught.value.earlier) == 2
        assert all("killed by signal 9" in text for text in caught.value.earlier)

    run(main, 1, grace=0.2)


def test_errors_of_classes_that_no_worker_imports():
    class Local(Exception):
        def __init__(self, code, place):
            super().__init__("local")
            self.code, self.place = code, place

    def fails():
        raise Local(3, "here")

    async def main():
        async with Pool(1) as pool:
            with pytest.raises(Local) as caught:
                await asyncio.wait_for(pool.apply(fails), WATCHDOG)
            assert what_is(caught.value) == what_is(Local(3, "here"))

    asyncio.run(main())
