//! The pools of this user that can be observed, of any process.

use pyo3::prelude::*;

/// Gives each pool's host, name and snapshot as JSON; None for one that does not answer.
#[pyfunction]
pub(crate) fn observed_pools(py: Python<'_>) -> Vec<(u32, String, Option<String>)> {
    py.detach(|| {
        let mut found = Vec::new();
        for address in aiopool::view::pools() {
            // One that a killed host has left refuses, and is none; one whose host is stopped is.
            let Ok(mut observer) = address.connect() else { continue };
            found.push((address.host_pid(), address.name().to_owned(), observer.ask().ok()));
        }
        found
    })
}
