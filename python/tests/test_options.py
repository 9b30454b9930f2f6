"""Python has the options that the Rust API has, or says here why not."""

import dataclasses
import inspect
import pathlib
import re

import pytest
from aiopool import Cluster, Job, Node, Pool, TaskOptions

pytestmark = pytest.mark.engine
ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src"
CLUSTER = ROOT / "crates" / "aiopool-cluster" / "src"
SETTER = re.compile(r"pub (?:const )?fn (\w+)(?:<[^(]*>)?\(\s*(?:mut )?self\b[^{;]*?-> Self\b")

# By the name in Rust: the name in Python.
OF_POOLS = {
    "blocked_after": "blocked_after",
    "child_concurrency": "childconcurrency",
    "current_dir": "current_dir",
    "env": "env",
    "env_clear": "clear_env",
    "env_remove": "env",
    "envs": "env",
    "exception_handler": "exception_handler",
    "exit_hook": "exit_hook",
    "grace": "grace",
    "group": "group",
    "initializer": "initializer",
    "input_arena": "input_arena",
    "limits": "limits",
    "logs": "logs",
    "max_payload": "max_payload",
    "max_tasks_per_child": "maxtasksperchild",
    "name": "name",
    "nice": "nice",
    "observable": "observable",
    "output_arena": "output_arena",
    "output_per_task": "output_per_task",
    "output_to": "output_to",
    "priorities": "priorities",
    "probation": "probation",
    "processes": "processes",
    "processors": "processors",
    "queues": "queuecount",
    "runtime_initializer": "loop_initializer",
    "sandbox": "sandbox",
    "scheduler": "scheduler",
    "start_method": "preload",
    "start_timeout": "start_timeout",
    "umask": "umask",
    "user": "user",
}
OF_TASKS = {
    "alone": "alone",
    "backoff": "backoff",
    "jitter": "jitter",
    "longest_backoff": "longest_backoff",
    "priority": "priority",
    "queue_ttl": "queue_ttl",
    "retries": "retries",
    "retry_if": "retry_on",
    "retry_on_error": "retry_on",
    "retry_on_timeout": "retry_on_timeout",
    "timeout": "timeout",
}
# What Python does by itself or has no use for: the package sets it, or Python has its own way.
BY_ITSELF = {
    "capacity": "what finds no room waits in Python",
    "deadline": "a dead man's switch, which a node of a cluster sets",
    "hold": "keeps a lock of such a node until its last worker is gone",
    "initializer_bytes": "carries the pickled initializer",
    "keep_fds": "an option of native code that inherits descriptors",
    "metrics": "for recorders of the crate metrics: `aiopool --metrics` serves Prometheus from any pool",
    "no_new_privs": "a sandbox sets it",
    "stats_page": "a feature that the wheel is built without: stats() and `aiopool top` say more",
}
OF_CONNECTIONS = {
    "client_certificate": {"client_certificate"},
    "credentials_file": {"credentials_file"},
    "inbox_prefix": {"inbox_prefix"},
    "nkey_seed": {"nkey_seed"},
    "replicas": {"replicas"},
    "root_certificates": {"root_certificates"},
    "tls": {"tls"},
    "token": {"token"},
    "user": {"user", "password"},
}
OF_CLUSTERS = {"capacity": "capacity", "lease": "lease", "pool": "pool", "version": "version"}
OF_NODES = {
    "child_concurrency": "childconcurrency",
    "lease": "lease",
    "name": "name",
    "pool": "pool",
    "processes": "processes",
    "start_method": "preload",
    "version": "version",
}
# What Python does by itself.
CLUSTER_BY_ITSELF = {"items_per_message": "plain functions travel several at a time as in a pool"}
NODE_BY_ITSELF = {"pool_options": "the options of `Pool` that a node has go there"}
# Those of `Pool` that nodes have besides.
OF_NODES_POOLS = {"exit_hook", "grace", "initargs", "initializer", "maxtasksperchild", "start_timeout", "threads"}
# What Python has and Rust has not.
OF_PYTHON_POOLS = {"initargs", "insights", "profile", "threads"}
OF_PYTHON_TASKS = {"key", "kill_after"}


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
    known = {*OF_POOLS, *OF_TASKS, *BY_ITSELF}
    assert pools | tasks == known, "an option of Rust came or went: say what Python does"


def test_what_python_is_said_to_have_it_has():
    parameters = set(inspect.signature(Pool).parameters)
    assert set(OF_POOLS.values()) <= parameters
    assert parameters == {*OF_POOLS.values(), *OF_PYTHON_POOLS}, "and nothing that Rust has not"
    fields = {field.name for field in dataclasses.fields(TaskOptions)}
    assert fields == {*OF_TASKS.values(), *OF_PYTHON_TASKS}
    options = set(inspect.signature(Pool.with_options).parameters) - {"self"}
    assert options == fields or options == {"options"}, options


def setters(name, of):
    """The options of the type `of` in a source of the cluster."""
    parts = (CLUSTER / name).read_text().split("\nimpl ")[1:]
    return {one for part in parts if part.startswith(f"{of} ") for one in SETTER.findall(part)}


def test_clusters_and_nodes_have_the_options_of_rust():
    access = setters("connection.rs", "Connection")
    clusters, nodes = setters("cluster.rs", "ClusterBuilder"), setters("node.rs", "Node")
    assert access == set(OF_CONNECTIONS)
    assert clusters == {*OF_CLUSTERS, *CLUSTER_BY_ITSELF}
    assert nodes == {*OF_NODES, *NODE_BY_ITSELF}
    connecting = {"url"}.union(*OF_CONNECTIONS.values())
    assert set(inspect.signature(Cluster).parameters) == connecting | set(OF_CLUSTERS.values())
    assert set(inspect.signature(Node).parameters) == connecting | set(OF_NODES.values()) | OF_NODES_POOLS
    assert OF_NODES_POOLS <= set(inspect.signature(Pool).parameters)


def test_a_cluster_has_the_verbs_of_a_pool_or_a_reason():
    def verbs(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    of_pools = {
        "insights": "of workers of this machine",
        "printed": "of workers of this machine",
        "processes": "nodes() says more",
        "profile": "of workers of this machine",
        "queue_count": "set in each pool",
        "trace": "of workers of this machine",
    }
    assert verbs(Pool) - verbs(Cluster) <= set(of_pools)
    assert verbs(Cluster) - verbs(Pool) == {"connect", "end_job", "job", "jobs", "nodes"}
    of_clusters = {"connect", "job"}
    assert verbs(Cluster) - verbs(Job) == of_clusters
    assert verbs(Job) - verbs(Cluster) == {"finish", "leave", "taken"}
