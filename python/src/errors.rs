//! How the engine's errors reach Python.

use aiopool::{Error, LossCause, TaskError, WorkerExit};
use aiopool_cluster::ClusterError;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception for a call that the engine refuses.
pub(crate) fn raised(error: &Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::InvalidOption { .. } => PyValueError::new_err(text),
        Error::System { error, .. } => match error.raw_os_error() {
            Some(number) => PyOSError::new_err((number, text)),
            None => PyOSError::new_err(text),
        },
        _ => PyRuntimeError::new_err(text),
    }
}

/// What a task ended with, as a word and what else is known: the package makes its classes of it.
pub(crate) fn described<'py>(
    py: Python<'py>,
    error: &TaskError,
) -> PyResult<(&'static str, Bound<'py, PyDict>)> {
    let details = PyDict::new(py);
    details.set_item("text", error.to_string())?;
    let kind = match error {
        TaskError::Failed(failure) => {
            details.set_item("text", failure.message())?;
            "failed"
        }
        TaskError::Cancelled => "cancelled",
        TaskError::TimedOut { limit, started } => {
            details.set_item("limit", limit.as_secs_f64())?;
            details.set_item("started", started)?;
            "timed_out"
        }
        TaskError::WorkerLost(lost) => {
            details.set_item("task", lost.task)?;
            details.set_item("pid", lost.pid)?;
            details.set_item("worker", lost.worker)?;
            details.set_item("attempt", lost.attempt)?;
            details.set_item("progress", lost.progress)?;
            details.set_item("running", lost.running.as_secs_f64())?;
            let exitcode = match lost.exit {
                WorkerExit::Exited(status) => Some(status),
                _ => None,
            };
            let signal = lost.exit.signal();
            let out_of_memory = lost.exit == WorkerExit::OutOfMemory;
            details.set_item("signal", signal)?;
            details.set_item("exitcode", exitcode)?;
            details.set_item("out_of_memory", out_of_memory)?;
            details.set_item("stderr", &lost.stderr)?;
            details.set_item("suspect", lost.suspect)?;
            details.set_item("cause", cause(lost.cause))?;
            details.set_item("earlier", &lost.earlier)?;
            "worker_lost"
        }
        TaskError::PoolClosed { reason } => {
            if let Some(Error::Initializer(text)) = reason.as_deref() {
                details.set_item("text", text)?;
                return Ok(("initializer", details));
            }
            "pool_closed"
        }
        TaskError::NotSubmitted(error) if matches!(**error, Error::PayloadTooLarge { .. }) => {
            "too_large"
        }
        TaskError::OutputSpace(_) => "too_large",
        TaskError::Value(text) => {
            details.set_item("text", text)?;
            "failed"
        }
        _ => "other",
    };
    Ok((kind, details))
}

/// Returns the word for why a worker was lost.
fn cause(cause: LossCause) -> &'static str {
    match cause {
        LossCause::NeighbourTimedOut => "timed out",
        LossCause::Damage => "damage",
        LossCause::Replaced => "replaced",
        _ => "death",
    }
}

/// [`described`] for a task of a cluster.
pub(crate) fn described_there<'py>(
    py: Python<'py>,
    error: &ClusterError,
) -> PyResult<(&'static str, Bound<'py, PyDict>)> {
    use aiopool_cluster::Error::{Connect, InvalidOption, NameTaken, Server};
    let kind = match error {
        ClusterError::Task(error) => return described(py, error),
        ClusterError::NodeLost { .. } => "node_lost",
        ClusterError::ItemsChanged { .. } => "items_changed",
        ClusterError::Taken { .. } => "taken",
        ClusterError::Ended(InvalidOption { name: "input", .. }) => "too_large",
        ClusterError::Ended(InvalidOption { .. } | NameTaken { .. }) => "cluster",
        ClusterError::Ended(Server(_) | Connect { .. }) => "server",
        ClusterError::Ended(_) => "pool_closed",
        _ => "cluster",
    };
    let details = PyDict::new(py);
    details.set_item("text", error.to_string())?;
    if let ClusterError::NodeLost { node, attempt, silent_for } = error {
        details.set_item("node", node)?;
        details.set_item("attempt", attempt)?;
        details.set_item("silent_for", silent_for.as_secs_f64())?;
    }
    Ok((kind, details))
}
