//! Options of a task.

use std::time::Duration;

use aiopool::TaskOptions;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// What a caller asks for a task besides its call.
#[pyclass(frozen, module = "aiopool._native")]
#[derive(Debug)]
pub struct Options(pub(crate) TaskOptions);

#[pymethods]
impl Options {
    /// Those that are not said are the pool's.
    #[new]
    #[pyo3(signature = (**said))]
    fn new(said: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let options = TaskOptions::new();
        Ok(Self(match said {
            Some(said) => with_each(options, said, with_one)?,
            None => options,
        }))
    }
}

fn with_one(options: TaskOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<TaskOptions> {
    Ok(match name {
        "timeout" => options.timeout(seconds(name, value.extract()?)?),
        "queue_ttl" => options.queue_ttl(seconds(name, value.extract()?)?),
        "retries" => options.retries(value.extract()?),
        "retry_on_timeout" => options.retry_on_timeout(value.extract()?),
        "backoff" => options.backoff(seconds(name, value.extract()?)?),
        "longest_backoff" => options.longest_backoff(seconds(name, value.extract()?)?),
        "jitter" => options.jitter(value.extract()?),
        "priority" => options.priority(value.extract()?),
        "alone" => options.alone(value.extract()?),
        _ => return Err(PyTypeError::new_err(format!("{name} is no option of a task"))),
    })
}

/// Returns `start` with those of `options` that are not None, each added by `with_one`.
pub(crate) fn with_each<T>(
    start: T,
    options: &Bound<'_, PyDict>,
    mut with_one: impl FnMut(T, &str, &Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<T> {
    let mut all = start;
    for (name, value) in options {
        if !value.is_none() {
            let name = name.extract::<String>()?;
            all = with_one(all, &name, &value).map_err(|error| named(error, &name, &value))?;
        }
    }
    Ok(all)
}

/// Makes the error of a value that is of no use to the option `name` say so.
pub(crate) fn named(error: PyErr, name: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let py = value.py();
    let shown = value.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
    if error.is_instance_of::<PyOverflowError>(py) {
        let text =
            format!("{name}={shown} is not possible: a whole number, 0 or more, of few digits");
        return PyValueError::new_err(text);
    }
    let text = error.value(py).to_string();
    if error.is_instance_of::<PyTypeError>(py) && !text.starts_with(name) {
        return PyTypeError::new_err(format!("{name}={shown} is not possible: {text}"));
    }
    error
}

/// `value` seconds; an endless time is as long as there is.
pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    if value.is_nan() || value < 0.0 {
        let text = format!("{name}={value} is not possible: a number of seconds, 0 or more");
        return Err(PyValueError::new_err(text));
    }
    Ok(Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX))
}
