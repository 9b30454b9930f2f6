"""Python has the options that the Rust API has, or says here why not."""

import dataclasses
import inspect
import pathlib
import re

from aiopool import Pool, TaskOptions

SOURCES = pathlib.Path(__file__).resolve().parents[2] / "src"
SETTER = re.compile(r"pub (?:const )?fn (\w+)(?:<[^(]*>)?\(\s*(?:mut )?self\b[^{;]*?-> Self\b")

# By the name in Rust: the name in Python.
OF_POOLS = {
    "child_concurrency": "childconcurrency",
    "exception_handler": "exception_handler",
    "grace": "grace",
    "initializer": "initializer",
    "input_arena": "input_arena",
    "limits": "limits",
    "max_payload": "max_payload",
    "max_tasks_per_child": "maxtasksperchild",
    "output_arena": "output_arena",
    "priorities": "priorities",
    "processes": "processes",
    "queues": "queuecount",
    "runtime_initializer": "loop_initializer",
    "sandbox": "sandbox",
    "scheduler": "scheduler",
    "start_method": "preload",
}
OF_TASKS = {
    "backoff": "backoff",
    "priority": "priority",
    "queue_ttl": "queue_ttl",
    "retries": "retries",
    "retry_if": "retry_on",
    "retry_on_error": "retry_on",
    "timeout": "timeout",
}
# What Python does by itself: the package sets it, or Python has its own way.
BY_ITSELF = {
    "capacity": "what finds no room waits in Python",
    "initializer_bytes": "carries the pickled initializer",
    "keep_fds": "an option of native code that inherits descriptors",
    "no_new_privs": "a sandbox sets it",
}
# What Python does not have yet.
NOT_YET = {
    "alone", "current_dir", "deadline", "env", "env_clear", "env_remove", "envs", "exit_hook",
    "group", "hold", "jitter", "logs", "longest_backoff", "name", "nice", "observable",
    "output_to", "probation", "retry_on_timeout", "start_timeout", "stats_page", "umask", "user",
}


def of_rust_pools():
    found = set()
    for path in (SOURCES / "pool").glob("*.rs"):
        for part in path.read_text().split("\nimpl")[1:]:
            if "PoolBuilder" in part.partition("{")[0]:
                found.update(SETTER.findall(part))
    return found


def test_each_option_of_rust_is_one_of_python_or_has_a_reason():
    tasks = set(SETTER.findall((SOURCES / "task" / "options.rs").read_text()))
    pools = of_rust_pools()
    assert {"processes", "timeout"} <= pools | tasks, "the sources are read"
    known = {*OF_POOLS, *OF_TASKS, *BY_ITSELF, *NOT_YET}
    assert pools | tasks == known, "an option of Rust came or went: say what Python does"


def test_what_python_is_said_to_have_it_has():
    parameters = set(inspect.signature(Pool).parameters)
    assert set(OF_POOLS.values()) <= parameters
    of_python = {"initargs"}
    assert parameters == {*OF_POOLS.values(), *of_python}, "and nothing that Rust has not"
    fields = {field.name for field in dataclasses.fields(TaskOptions)}
    assert fields == set(OF_TASKS.values())
    options = set(inspect.signature(Pool.with_options).parameters) - {"self"}
    assert options == fields or options == {"options"}, options
