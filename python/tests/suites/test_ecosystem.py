"""Libraries that take an executor or a backend of joblib, with ours."""

import asyncio
import functools
import io
import operator

import aiopool.joblib  # noqa: F401
import dask
import dask.bag
import joblib
import numpy
import pytest
import rich.console
import rich.progress
import tqdm
import tqdm.asyncio
from aiopool import Pool, ProcessPoolExecutor
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

WATCHDOG = 120


@pytest.fixture(scope="module")
def executor():
    with ProcessPoolExecutor(2) as shared:
        yield shared


def square(x):
    return x * x


def test_cross_validation_of_scikit_learn():
    features, labels = make_classification(200, random_state=0)
    score = functools.partial(cross_val_score, LogisticRegression(), features, labels, cv=5)
    alone = score()
    with joblib.parallel_config("aiopool", n_jobs=2):
        assert (score() == alone).all()
        search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1, 10]}, cv=3).fit(features, labels)
    assert search.best_params_["C"] in (0.1, 1, 10)
    assert not numpy.isnan(search.cv_results_["mean_test_score"]).any()


def test_the_local_scheduler_of_dask(executor):
    total = functools.reduce(operator.add, map(dask.delayed(square), range(20)))
    with dask.config.set(scheduler="processes", pool=executor):
        assert total.compute() == sum(map(square, range(20)))
        counts = dask.bag.from_sequence(range(100), npartitions=4).map(square).sum()
        assert counts.compute() == sum(map(square, range(100)))
        with pytest.raises(ZeroDivisionError):
            dask.delayed(divmod)(1, 0).compute()


def test_tqdm(executor):
    said = io.StringIO()
    results = list(tqdm.tqdm(executor.map(square, range(50)), total=50, file=said))
    assert results == list(map(square, range(50)))
    assert "50/50" in said.getvalue()

    async def main():
        said = io.StringIO()
        async with Pool(2) as pool:
            bar = tqdm.asyncio.tqdm(pool.map(square, range(50)), total=50, file=said)
            assert [result async for result in bar] == results
            calls = [pool.apply(square, (x,)) for x in range(50)]
            assert await tqdm.asyncio.tqdm.gather(*calls, file=io.StringIO()) == results
        assert "50/50" in said.getvalue()

    asyncio.run(asyncio.wait_for(main(), WATCHDOG))


def test_rich(executor):
    console = rich.console.Console(file=io.StringIO(), force_terminal=True)
    results = rich.progress.track(executor.map(square, range(50)), total=50, console=console)
    assert list(results) == list(map(square, range(50)))
    assert "100%" in console.file.getvalue()


def test_an_event_loop_takes_it_as_its_executor(executor):
    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, square, x) for x in range(50)]
        assert await asyncio.gather(*calls) == list(map(square, range(50)))

    asyncio.run(asyncio.wait_for(main(), WATCHDOG))
