"""Python has the verbs that the Rust API has, or says here why not."""

import pathlib
import re

from aiopool import Cluster, Job, Pool, PoolResult

ROOT = pathlib.Path(__file__).resolve().parents[2]
POOL = ROOT / "src" / "pool"
CLUSTER = ROOT / "crates" / "aiopool-cluster" / "src"
VERB = re.compile(r"\n    pub (?:const |async )*fn (\w+)")
BLOCK = re.compile(r"\nimpl(?:<.*?>)? (\w+)(?:<[^{]*>)?[^{]*\{\n(.*?)\n\}", re.DOTALL)

# By the name in Rust: the name in Python. What begins with `try_` is for functions that return a
# `Result`: Python's raise, so it is the verb without that. What ends in `_blocking` is for code that is
# not async, which `ProcessPoolExecutor` is for.
OF_POOLS = {
    "apply": "apply",
    "apply_star": "apply",
    "broadcast": "broadcast",
    "close": "close",
    "drain": "drain",
    "join": "join",
    "map": "map",
    "map_stream": "map",
    "printed": "printed",
    "ready": "ready",
    "snapshot": "stats",
    "starmap": "starmap",
    "stats": "stats",
    "terminate": "terminate",
    "trace": "trace",
    "trace_sampled": "trace",
    "with": "with_options",
    "worker_pids": "processes",
}
OF_CLUSTERS = {"connect": "connect", "job": "job", "outcomes_by_node": "stats"}
OF_JOBS = {"finish": "finish", "taken": "taken"}
OF_RESULTS = {"as_completed": "as_completed", "next": "__aiter__", "progress": "progress", "results": "results"}
# What Python has another way for.
OTHERWISE = {
    "apply_many": "`map` takes an iterable of arguments, and `as_completed` gives results as they come",
    "apply_named": "functions go as they are",
    "builder": "options are keyword arguments",
    "child_concurrency": "the option `childconcurrency`, which the caller knows",
    "enumerate": "`map` gives results in the items' order: the builtin `enumerate` counts them",
    "extend_deadline": "of the option `deadline`, which a node of a cluster sets",
    "finish_when_over": "`finish` is a coroutine: `asyncio.create_task` has it not waited for",
    "into_blocking_iter": "for code that is not async there is `ProcessPoolExecutor`",
    "map_flat": "a loop over the lists that `map` gives is as short",
    "map_keyed": "the key can be an argument and a part of the result",
    "map_parts": "a task that returns some values and what it is to be called with next can be called so",
    "new": "the class is called",
    "note_taken": "iteration does it",
    "processes": "`process_count`, an attribute",
    "submit": "`asyncio.ensure_future(pool.apply(...))`: what finds no room waits in Python",
    "submit_now": "what finds no room waits in Python",
    "task_set": "`asyncio.TaskGroup` and `asyncio.gather` have it",
    "window": "the pool sees to how many results wait, by their size",
}
# What of a pool's is of this machine alone.
OF_ONE_MACHINE = {"broadcast", "extend_deadline", "new", "printed", "processes", "snapshot", "trace",
                  "trace_sampled", "worker_pids"}


def verbs(kind, *places):
    """The public functions of a type in the sources at `places`, for code that is async."""
    found = set()
    for place in places:
        for path in place.glob("*.rs") if place.is_dir() else [place]:
            for name, body in BLOCK.findall(path.read_text()):
                if name == kind:
                    found.update(VERB.findall("\n" + body))
    named = {verb.removeprefix("try_").removesuffix("_blocking") for verb in found}
    assert named, f"the sources of {kind} are read"
    return named


def check(rust, python, kind):
    """Each verb of `rust` is in `python`, and there in `kind`; or it is said why not."""
    assert rust - set(python) - set(OTHERWISE) == set(), "a verb of Rust came: say what Python does"
    assert set(python) - rust == set(), "a verb of Rust went"
    for verb in python.values():
        assert hasattr(kind, verb), verb


def test_pools_have_the_verbs_of_rust():
    found = verbs("Pool", POOL) | verbs("Submit", POOL)
    assert {"ready", "broadcast", "map_parts", "drain", "map"} <= found
    check(found, OF_POOLS, Pool)
    check(verbs("Map", POOL / "map"), OF_RESULTS, PoolResult)


def test_clusters_and_jobs_have_the_verbs_of_rust():
    sources = CLUSTER / "cluster.rs", CLUSTER / "cluster"
    found = verbs("Cluster", *sources) | verbs("Submit", *sources)
    of_pools = {rust: python for rust, python in OF_POOLS.items() if rust not in OF_ONE_MACHINE}
    check(found, of_pools | OF_CLUSTERS, Cluster)
    check(verbs("Map", CLUSTER / "cluster"), OF_RESULTS, PoolResult)
    check(verbs("Job", CLUSTER / "cluster"), OF_JOBS, Job)
    assert all(hasattr(Job, python) for python in of_pools.values())


def test_no_reason_is_said_for_nothing():
    sources = CLUSTER / "cluster.rs", CLUSTER / "cluster"
    found = verbs("Pool", POOL) | verbs("Submit", POOL) | verbs("Map", POOL / "map")
    found |= verbs("Job", *sources)
    assert set(OTHERWISE) - found == set()
