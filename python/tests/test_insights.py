"""Tables and profiles of what workers spend their time on."""

import asyncio
import time

import jobs
import pytest
from aiopool import Pool, ProcessPoolExecutor
from aiopool.insights import duration, table
from pools import WATCHDOG, run, until


def spin(count):
    return sum(range(count))


async def spin_between_waits(count):
    await asyncio.sleep(0)
    return spin(count)


def test_a_table_at_the_end_names_functions_and_workers(capfd):
    async def main(pool):
        await pool.map(jobs.double, range(30))
        await pool.apply(time.sleep, (0,))
        with pytest.raises(ValueError):
            await pool.apply(jobs.fail, ("why",))
        await until(lambda: len(pool.processes) == 2)
        said = pool.insights()
        assert "double" in said and f" {pool.processes[0]} " in said
        stats = pool.stats()
        for function in stats["functions"]:
            function["ran"]["sum_ns"] = len(function["name"])
        said = table(stats)
        # What took longest is the first.
        assert said.index("double") < said.index("sleep") < said.index("fail")

    run(main, 2, insights=True)
    said = capfd.readouterr().err
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line}
    assert rows["double"][1:3] == ["30", "0"]
    assert rows["fail"][1:3] == ["0", "1"]


def test_a_table_that_cannot_be_written_holds_nothing_up(monkeypatch, tmp_path):
    closed = open(tmp_path / "closed", "w")
    closed.close()

    async def main(pool):
        assert await pool.apply(abs, (-1,)) == 1

    monkeypatch.setattr("sys.stderr", closed)
    run(main, 1, insights=True)

    async def in_order():
        pool = Pool(1, insights=True)
        assert await pool.apply(abs, (-1,)) == 1
        pool.close()
        await asyncio.wait_for(pool.join(), WATCHDOG)
        assert pool.processes == []

    asyncio.run(in_order())


def test_durations():
    said = [duration(ns) for ns in (0, 999, 1500, 2_500_000, 90_000_000_000, None)]
    assert said == ["0 ns", "999 ns", "1.5 µs", "2.5 ms", "90.0 s", "-"]


def test_a_profile_is_of_all_workers():
    async def main(pool):
        await asyncio.gather(*(pool.apply(spin_between_waits, (1000,)) for _ in range(40)))
        await pool.map(spin, [1000] * 60)

    # Recycled workers have theirs, too.
    profile = run(main, 2, profile=True, maxtasksperchild=30, grace=WATCHDOG).profile()
    calls = {name: counts[0] for (_, _, name), counts in profile.stats.items()}
    assert calls["spin"] == 100
    assert calls["spin_between_waits"] >= 40

    with pytest.raises(RuntimeError, match="profile=True"):
        run(main_of_nothing, 1).profile()


    async def too_early(pool):
        with pytest.raises(RuntimeError, match="when the pool is over"):
            pool.profile()

    run(too_early, 1, profile=True)


def test_an_executor_has_numbers_a_table_a_timeline_and_a_profile(tmp_path, capfd):
    timeline = tmp_path / "timeline.json"
    with ProcessPoolExecutor(2, insights=True, profile=True, grace=WATCHDOG) as executor:
        with executor.trace(timeline):
            assert [*executor.map(spin, [10] * 50)] == [45] * 50
        assert [function["name"] for function in executor.stats()["functions"]] == ["spin"]
        assert "spin" in executor.insights()
        assert len(executor.processes) == 2
        with pytest.raises(RuntimeError, match="when the pool is over"):
            executor.profile()
    assert any(line.split()[:2] == ["spin", "50"] for line in capfd.readouterr().err.splitlines())
    calls = {name: counts[0] for (_, _, name), counts in executor.profile().stats.items()}
    assert calls["spin"] == 50
    assert "spin" in timeline.read_text()
    assert executor.stats() == {}


async def main_of_nothing(pool):
    assert await pool.apply(abs, (-1,)) == 1
