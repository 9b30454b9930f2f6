//! An interpreter that has imported what workers are to share, and is forked for each of them.

#![allow(unsafe_code)] // An island: what CPython is to do around a fork that is not its own.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::errors::raised;
use crate::shared;
use crate::worker::Worker;

/// This process as the one that workers are forked from.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Template(Mutex<Option<aiopool::Template>>);

impl Template {
    fn take(&self) -> PyResult<aiopool::Template> {
        let template = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        template.ok_or_else(|| PyRuntimeError::new_err("this process serves already"))
    }
}

#[pymethods]
impl Template {
    #[new]
    fn new() -> PyResult<Self> {
        let template = aiopool::Template::attach().map_err(|error| raised(&error))?;
        Ok(Self(Mutex::new(Some(template))))
    }

    /// Tells the host why its workers cannot be forked from here, and ends this process.
    fn refuse(&self, reason: &str) -> PyResult<()> {
        self.take()?.refuse(reason)
    }

    /// Serves until the pool has ended, which ends this process; returns in each worker.
    fn serve(&self, py: Python<'_>) -> PyResult<Worker> {
        let template = self.take()?;
        shared::fill_holes();
        // SAFETY: this thread is attached to the interpreter, here and in the copy. What the
        // process that serves does after this is no Python.
        unsafe { ffi::PyOS_BeforeFork() };
        let worker = template.serve();
        // SAFETY: the one thread of the copy is attached, and has called `PyOS_BeforeFork`.
        unsafe { ffi::PyOS_AfterFork_Child() };
        Worker::of(py, worker.map_err(|error| raised(&error))?)
    }
}
