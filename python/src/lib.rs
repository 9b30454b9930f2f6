//! `aiopool._native`: what the Python package needs of the engine.
//!
//! Bytes in and bytes out: what they mean is the package's business.

mod buffer;
mod errors;
mod options;
mod pool;
mod template;
mod worker;

use pyo3::prelude::*;

/// The engine below the package `aiopool`.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::options::Options;
    #[pymodule_export]
    use super::pool::{Pool, Ticket};
    #[pymodule_export]
    use super::template::Template;
    #[pymodule_export]
    use super::worker::Worker;

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
