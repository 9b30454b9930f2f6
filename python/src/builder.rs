//! The options of a pool, by the names that the package gives them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use aiopool::{Limits, PoolBuilder, Sandbox, StartMethod};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::options::{seconds, with_each};

/// Returns `builder` with those of `options` that are not None.
pub(crate) fn with(builder: PoolBuilder, options: &Bound<'_, PyDict>) -> PyResult<PoolBuilder> {
    with_each(builder, options, with_one)
}

/// Returns how `command` starts workers.
pub(crate) fn start_method(command: Vec<OsString>, preloaded: bool) -> StartMethod {
    if preloaded { StartMethod::Preloaded(command) } else { StartMethod::Command(command) }
}

fn with_one(builder: PoolBuilder, name: &str, value: &Bound<'_, PyAny>) -> PyResult<PoolBuilder> {
    Ok(match name {
        "processes" => builder.processes(value.extract()?),
        "queues" => builder.queues(value.extract()?),
        "child_concurrency" => builder.child_concurrency(value.extract()?),
        "max_tasks_per_child" => builder.max_tasks_per_child(value.extract()?),
        "capacity" => builder.capacity(value.extract()?),
        "priorities" => builder.priorities(value.extract()?),
        "max_payload" => builder.max_payload(value.extract()?),
        "input_arena" => builder.input_arena(value.extract()?),
        "output_arena" => builder.output_arena(value.extract()?),
        "grace" => builder.grace(seconds(name, value.extract()?)?),
        "blocked_after" => builder.blocked_after(seconds(name, value.extract()?)?),
        "start_timeout" => builder.start_timeout(seconds(name, value.extract()?)?),
        "probation" => builder.probation(value.extract()?),
        "name" => builder.name(value.extract::<String>()?),
        "observable" => builder.observable(value.extract()?),
        "clear_env" if value.is_truthy()? => builder.env_clear(),
        "clear_env" => builder,
        "env" => with_environment(builder, value.extract()?),
        "current_dir" => builder.current_dir(value.extract::<PathBuf>()?),
        "output_to" => builder.output_to(value.extract::<PathBuf>()?),
        "output_per_task" => builder.output_per_task(value.extract()?),
        "umask" => builder.umask(value.extract()?),
        "nice" => builder.nice(value.extract()?),
        "processors" => builder.processors(value.extract::<Vec<u32>>()?),
        "user" => builder.user(value.extract()?),
        "group" => builder.group(value.extract()?),
        "limits" => builder.limits(limits_of(value.cast()?)?),
        "sandbox" => builder.no_new_privs(true).sandbox(sandbox_of(value.cast()?)?),
        _ => return Err(PyTypeError::new_err(format!("{name} is no option of a pool"))),
    })
}

/// A variable without a value is taken out.
fn with_environment(
    mut builder: PoolBuilder,
    variables: HashMap<OsString, Option<OsString>>,
) -> PoolBuilder {
    for (name, value) in variables {
        builder = match value {
            Some(value) => builder.env(name, value),
            None => builder.env_remove(name),
        };
    }
    builder
}

fn limits_of(options: &Bound<'_, PyDict>) -> PyResult<Limits> {
    let mut limits = Limits::new();
    for (name, value) in options {
        let number: u64 = value.extract()?;
        limits = match name.extract::<String>()?.as_str() {
            _ if number == 0 => limits,
            "address_space" => limits.address_space(number),
            "cpu_seconds" => limits.cpu_seconds(number),
            "open_files" => limits.open_files(number),
            other => return Err(PyTypeError::new_err(format!("{other} is no limit"))),
        };
    }
    Ok(limits)
}

fn sandbox_of(options: &Bound<'_, PyDict>) -> PyResult<Sandbox> {
    let mut sandbox = Sandbox::new();
    for (name, value) in options {
        sandbox = match name.extract::<String>()?.as_str() {
            "read_only" => sandbox.read_only(value.extract::<Vec<PathBuf>>()?),
            "read_write" => sandbox.read_write(value.extract::<Vec<PathBuf>>()?),
            "denied_calls" => sandbox.deny_system_calls(value.extract::<Vec<i64>>()?),
            "no_network" if value.is_truthy()? => sandbox.no_network(),
            "no_signals" if value.is_truthy()? => sandbox.no_signals(),
            "best_effort" if value.is_truthy()? => sandbox.best_effort(),
            _ => sandbox,
        };
    }
    Ok(sandbox)
}
