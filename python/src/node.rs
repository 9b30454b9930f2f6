//! A node: this process serves a pool over NATS with workers of Python's.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiopool_cluster::{Error, Node as Engine, NodeReport};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::sync::oneshot;

use crate::builder::start_method;
use crate::connection::{connection, raised};
use crate::options::{seconds, with_each};

/// What the local pool of each life is made with besides what `aiopool_cluster::Node` sets.
#[derive(Clone, Debug, Default)]
struct Local {
    setup: Vec<u8>,
    max_tasks_per_child: u64,
    grace: Option<Duration>,
    start_timeout: Option<Duration>,
}

impl Local {
    fn builder(&self) -> aiopool::PoolBuilder {
        let mut builder = aiopool::Pool::builder().initializer_bytes(self.setup.clone());
        builder = builder.max_tasks_per_child(self.max_tasks_per_child);
        if let Some(grace) = self.grace {
            builder = builder.grace(grace);
        }
        if let Some(timeout) = self.start_timeout {
            builder = builder.start_timeout(timeout);
        }
        builder
    }
}

/// A node that runs in a thread of its own until it is told to stop.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Node {
    stop: Mutex<Option<oneshot::Sender<()>>>,
    outcome: Arc<Mutex<Option<Result<NodeReport, Error>>>>,
    /// Readable once the node has ended.
    over: UnixStream,
}

#[pymethods]
impl Node {
    /// Starts the node. `command` starts a worker, which is given `setup`.
    #[new]
    #[pyo3(signature = (url, connect, command, setup, options, *, preloaded=false))]
    fn new(
        url: &str,
        connect: &Bound<'_, PyDict>,
        command: Vec<OsString>,
        setup: Vec<u8>,
        options: &Bound<'_, PyDict>,
        preloaded: bool,
    ) -> PyResult<Self> {
        let node = Engine::builder(connection(url, connect)?)
            .start_method(start_method(command, preloaded));
        let mut local = Local { setup, ..Local::default() };
        let node =
            with_each(node, options, |node, name, value| with_one(node, &mut local, name, value))?;
        let node = node.pool_options(move || local.builder());
        let (stop, stopped) = oneshot::channel();
        let (over, mut ended) = UnixStream::pair()?;
        let outcome = Arc::new(Mutex::new(None));
        let into = Arc::clone(&outcome);
        let run = move || {
            // A handle that is dropped stops its node, too.
            let stopped = async { drop(stopped.await) };
            let result = aiopool::block_on(node.run_until(stopped));
            *into.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            let _ = ended.write(&[1]);
        };
        std::thread::Builder::new().name("aiopool-node".to_owned()).spawn(run)?;
        Ok(Self { stop: Mutex::new(Some(stop)), outcome, over })
    }

    /// The descriptor that is readable once the node has ended.
    fn fileno(&self) -> i32 {
        self.over.as_raw_fd()
    }

    /// Has the node take no more tasks, and end when what it runs is over.
    fn stop(&self) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stop) = stop {
            // It has ended.
            let _ = stop.send(());
        }
    }

    /// What the node did, `(done, failed, lost)`, once it has ended; raises what ended it.
    fn report(&self, py: Python<'_>) -> PyResult<(u64, u64, u64)> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome.as_ref() {
            None => Err(PyRuntimeError::new_err("the node has not ended")),
            Some(Ok(report)) => Ok((report.done, report.failed, report.lost)),
            Some(Err(error)) => Err(raised(py, error)),
        }
    }
}

fn with_one(
    node: Engine,
    local: &mut Local,
    name: &str,
    value: &Bound<'_, PyAny>,
) -> PyResult<Engine> {
    Ok(match name {
        "pool" => node.pool(value.extract::<String>()?),
        "name" => node.name(value.extract::<String>()?),
        "version" => node.version(value.extract::<String>()?),
        "lease" => node.lease(seconds(name, value.extract()?)?),
        "processes" => node.processes(value.extract()?),
        "child_concurrency" => node.child_concurrency(value.extract()?),
        "max_tasks_per_child" => {
            local.max_tasks_per_child = value.extract()?;
            node
        }
        "grace" => {
            local.grace = Some(seconds(name, value.extract()?)?);
            node
        }
        "start_timeout" => {
            local.start_timeout = Some(seconds(name, value.extract()?)?);
            node
        }
        _ => return Err(PyTypeError::new_err(format!("{name} is no option of a node"))),
    })
}
