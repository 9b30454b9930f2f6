//! Options of a task.

use std::time::Duration;

use aiopool::TaskOptions;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What a caller asks for a task besides its call.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Options(pub(crate) TaskOptions);

#[pymethods]
impl Options {
    #[new]
    #[pyo3(signature = (*, timeout=None, queue_ttl=None, retries=0, retry_on_error=false, backoff=0.0, priority=0))]
    fn new(
        timeout: Option<f64>,
        queue_ttl: Option<f64>,
        retries: u32,
        retry_on_error: bool,
        backoff: f64,
        priority: u8,
    ) -> PyResult<Self> {
        let mut options = TaskOptions::new()
            .retries(retries)
            .retry_on_error(retry_on_error)
            .backoff(seconds("backoff", backoff)?)
            .priority(priority);
        if let Some(limit) = timeout {
            options = options.timeout(seconds("timeout", limit)?);
        }
        if let Some(limit) = queue_ttl {
            options = options.queue_ttl(seconds("queue_ttl", limit)?);
        }
        Ok(Self(options))
    }
}

/// `value` seconds; an endless time is as long as there is.
pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    if value.is_nan() || value < 0.0 {
        let text = format!("{name}={value} is not possible: a number of seconds, 0 or more");
        return Err(PyValueError::new_err(text));
    }
    Ok(Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX))
}
