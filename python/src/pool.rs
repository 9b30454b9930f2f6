//! The host's side: a pool whose outcomes an event loop of Python receives.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use aiopool::{
    Arrived, Limits, NamedFunction, PolledPool, PolledTask, Sandbox, StartMethod, TaskOptions,
};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::buffer::{Buffer, output};
use crate::errors::{described, raised};
use crate::options::{Options, seconds};

/// The one function that workers of this package know: the call is in the input.
pub(crate) const CALL: &str = "aiopool.call";

/// Names a submitted task.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Ticket(PolledTask);

/// A pool of worker processes.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Pool {
    pool: Mutex<Option<Arc<PolledPool>>>,
    call: NamedFunction,
}

/// Inputs larger than this are copied without holding the interpreter up, in bytes.
const LARGE: usize = 256 << 10;

impl Pool {
    fn get(&self) -> PyResult<Arc<PolledPool>> {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.clone().ok_or_else(|| PyRuntimeError::new_err("the pool is gone"))
    }
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (
        command, setup, *, processes=None, queues=1, child_concurrency=16, max_tasks_per_child=0,
        capacity=4096, priorities=1, max_payload=None, input_arena=None, output_arena=None,
        grace=None, keep_fds=false, address_space=None, cpu_seconds=None, open_files=None,
        sandbox=None, preloaded=false
    ))]
    #[expect(clippy::too_many_arguments, reason = "the options of a pool, all by keyword")]
    fn new(
        py: Python<'_>,
        command: Vec<OsString>,
        setup: Vec<u8>,
        processes: Option<usize>,
        queues: usize,
        child_concurrency: usize,
        max_tasks_per_child: u64,
        capacity: usize,
        priorities: usize,
        max_payload: Option<usize>,
        input_arena: Option<usize>,
        output_arena: Option<usize>,
        grace: Option<f64>,
        keep_fds: bool,
        address_space: Option<u64>,
        cpu_seconds: Option<u64>,
        open_files: Option<u64>,
        sandbox: Option<&Bound<'_, PyDict>>,
        preloaded: bool,
    ) -> PyResult<Self> {
        let mut limits = Limits::new();
        if let Some(bytes) = address_space {
            limits = limits.address_space(bytes);
        }
        if let Some(seconds) = cpu_seconds {
            limits = limits.cpu_seconds(seconds);
        }
        if let Some(files) = open_files {
            limits = limits.open_files(files);
        }
        let mut builder = aiopool::Pool::builder()
            .start_method(if preloaded {
                StartMethod::Preloaded(command)
            } else {
                StartMethod::Command(command)
            })
            .initializer_bytes(setup)
            .queues(queues)
            .child_concurrency(child_concurrency)
            .max_tasks_per_child(max_tasks_per_child)
            .capacity(capacity)
            .priorities(priorities)
            .keep_fds(keep_fds)
            .limits(limits);
        if let Some(processes) = processes {
            builder = builder.processes(processes);
        }
        if let Some(bytes) = max_payload {
            builder = builder.max_payload(bytes);
        }
        if let Some(bytes) = input_arena {
            builder = builder.input_arena(bytes);
        }
        if let Some(bytes) = output_arena {
            builder = builder.output_arena(bytes);
        }
        if let Some(period) = grace {
            builder = builder.grace(seconds("grace", period)?);
        }
        if let Some(options) = sandbox {
            builder = builder.no_new_privs(true).sandbox(sandbox_of(options)?);
        }
        let started = py.detach(|| {
            let pool = PolledPool::new(builder.build()?)?;
            let call = pool.function(CALL)?;
            Ok((pool, call))
        });
        let (pool, call) = started.map_err(|error| raised(&error))?;
        Ok(Self { pool: Mutex::new(Some(Arc::new(pool))), call })
    }

    /// The descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.get()?.as_fd().as_raw_fd())
    }

    /// Submits a task whose input is in `parts`. None if the pool is full; a tuple as `receive`
    /// gives it if the task was refused.
    #[pyo3(signature = (parts, token, options=None, queue=None))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        parts: &Bound<'py, PyList>,
        token: u64,
        options: Option<&Bound<'py, Options>>,
        queue: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let pool = self.get()?;
        let options = options.map_or_else(TaskOptions::new, |options| options.get().0);
        let buffers = parts.iter().map(|part| Buffer::of(&part)).collect::<PyResult<Vec<_>>>()?;
        let bytes: Vec<&[u8]> = buffers.iter().map(Buffer::bytes).collect();
        let push = || pool.submit(self.call, &bytes, options, queue, token);
        let large = bytes.iter().map(|part| part.len()).sum::<usize>() > LARGE;
        match if large { py.detach(push) } else { push() } {
            Ok(task) => Ok(Bound::new(py, Ticket(task))?.into_any()),
            Err(error) if error.is_full() => Ok(py.None().into_bound(py)),
            Err(error) => Ok(described(py, &error)?.into_pyobject(py)?.into_any()),
        }
    }

    /// Takes up to `limit` outcomes: `(token, None, bytes)` or `(token, kind, details)`.
    fn receive<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let Ok(pool) = self.get() else { return Ok(list) };
        let mut arrived = Vec::new();
        pool.receive(limit, &mut arrived);
        for Arrived { token, result, attempts, .. } in arrived {
            let tuple = match result {
                Ok(bytes) => (token, py.None(), output(py, &bytes)?).into_pyobject(py)?,
                Err(error) => {
                    let (kind, details) = described(py, &error)?;
                    details.set_item("attempts", attempts)?;
                    (token, kind, details).into_pyobject(py)?
                }
            };
            list.append(tuple)?;
        }
        Ok(list)
    }

    /// Calls a task off. False if it was over.
    fn cancel(&self, task: &Bound<'_, Ticket>) -> bool {
        self.get().is_ok_and(|pool| pool.cancel(task.get().0))
    }

    /// Takes no more tasks.
    fn close(&self, py: Python<'_>) {
        if let Ok(pool) = self.get() {
            py.detach(|| pool.close());
        }
    }

    /// Ends every task, and has the workers leave.
    fn terminate(&self, py: Python<'_>) {
        if let Ok(pool) = self.get() {
            py.detach(|| pool.terminate());
        }
    }

    /// Whether the pool has ended; raises what ended it, if that was not its owner.
    fn ended(&self) -> PyResult<bool> {
        match self.get()?.ended() {
            None => Ok(false),
            Some(ended) => ended.map(|()| true).map_err(|error| raised(&error)),
        }
    }

    /// Waits until a closed or terminated pool has ended, without holding the interpreter up.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        let Ok(pool) = self.get() else { return Ok(()) };
        py.detach(|| pool.pool().join_blocking()).map_err(|error| raised(&error))
    }

    /// Kills what is left of the pool and waits for that.
    fn free(&self, py: Python<'_>) {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(pool));
    }

    /// The process ids of the workers that are alive.
    fn workers(&self) -> Vec<u32> {
        self.get().map(|pool| pool.pool().worker_pids()).unwrap_or_default()
    }

    /// The pool as it is now, as JSON.
    fn snapshot(&self, py: Python<'_>) -> PyResult<String> {
        let pool = self.get()?;
        Ok(py.detach(|| pool.pool().snapshot().to_json()))
    }

    /// How many workers the pool keeps.
    fn processes(&self) -> PyResult<usize> {
        Ok(self.get()?.pool().processes())
    }

    fn __repr__(&self) -> String {
        format!("<aiopool._native.Pool of {:?}>", self.workers())
    }
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

/// A tuple of one event or outcome.
pub(crate) type Tuple<'py> = Bound<'py, PyTuple>;
