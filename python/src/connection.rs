//! How servers are reached, and what of that fails.

use std::path::PathBuf;

use aiopool_cluster::{Connection, Error};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::options::named;

/// Returns how to reach the servers at `url`, with those of `options` that are not None.
pub(crate) fn connection(url: &str, options: &Bound<'_, PyDict>) -> PyResult<Connection> {
    let mut connection = Connection::new(url);
    for (name, value) in options {
        if !value.is_none() {
            let name = name.extract::<String>()?;
            // A secret stands in no message.
            let shown = if name == "credentials_file" || name == "replicas" || name == "tls" {
                value.clone()
            } else {
                "...".into_pyobject(value.py())?.into_any()
            };
            connection =
                with_one(connection, &name, &value).map_err(|error| named(error, &name, &shown))?;
        }
    }
    Ok(connection)
}

fn with_one(connection: Connection, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Connection> {
    Ok(match name {
        "user" => {
            let (user, password): (String, String) = value.extract()?;
            connection.user(user, password)
        }
        "token" => connection.token(value.extract::<String>()?),
        "nkey_seed" => connection.nkey_seed(value.extract::<String>()?),
        "credentials_file" => connection.credentials_file(value.extract::<PathBuf>()?),
        "tls" => connection.tls(value.extract()?),
        "root_certificates" => connection.root_certificates(value.extract::<PathBuf>()?),
        "client_certificate" => {
            let (certificate, key): (PathBuf, PathBuf) = value.extract()?;
            connection.client_certificate(certificate, key)
        }
        "inbox_prefix" => connection.inbox_prefix(value.extract::<String>()?),
        "replicas" => connection.replicas(value.extract()?),
        _ => return Err(PyTypeError::new_err(format!("{name} is no option of a connection"))),
    })
}

/// The exception for what a cluster or a node cannot be had for. Its class is the package's.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let text = error.to_string();
    let class = match error {
        Error::InvalidOption { name, value, allowed } => {
            return PyValueError::new_err(format!("{name}={value} is not possible: {allowed}"));
        }
        Error::Connect { .. } | Error::Server(_) => "ServerError",
        Error::JobLost(_) => "PoolClosed",
        Error::JobHeld { .. } => "JobHeld",
        _ => "ClusterError",
    };
    of_package(py, class, &text)
}

/// An exception of the package's, by the name of its class.
pub(crate) fn of_package(py: Python<'_>, class: &str, text: &str) -> PyErr {
    let made = py.import("aiopool.errors").and_then(|errors| errors.getattr(class)?.call1((text,)));
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
