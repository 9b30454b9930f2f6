//! A timeline that is being recorded.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::errors::raised;

/// A timeline that is being recorded: written when it is finished, which leaving a `with` block does.
#[pyclass(frozen, module = "aiopool")]
#[derive(Debug)]
pub struct Trace(Mutex<Option<aiopool::Trace>>);

impl Trace {
    pub(crate) fn new(trace: aiopool::Trace) -> Self {
        Self(Mutex::new(Some(trace)))
    }
}

#[pymethods]
impl Trace {
    /// Ends the recording and writes the file; nothing the second time.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let trace = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(trace) = trace else { return Ok(()) };
        py.detach(|| trace.finish()).map_err(|error| raised(&error))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.finish(py)
    }
}
