//! `aiopool._native`: what the Python package needs of the engine.
//!
//! Bytes in and bytes out: what they mean is the package's business.

mod buffer;
mod builder;
mod call;
mod cluster;
mod connection;
mod direct;
mod errors;
mod handle;
mod in_place;
mod leaving;
mod logs;
mod node;
mod observed;
mod on_the_way;
mod options;
mod plain;
mod pool;
mod ready;
mod serve;
mod shared;
mod step;
mod template;
mod trace;
mod worker;

use pyo3::prelude::*;

/// The engine below the package `aiopool`.
// Said, since PyO3 takes the opposite for granted: the Python side of the package counts on the
// interpreter's lock, and no test runs without one. A free-threaded interpreter takes it then.
#[pymodule(gil_used = true)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::call::{Awakened, Call};
    #[pymodule_export]
    use super::cluster::{Cluster, end_job, nodes};
    #[pymodule_export]
    use super::direct::Items;
    #[pymodule_export]
    use super::in_place::own_results;
    #[pymodule_export]
    use super::leaving::{end_with, end_within};
    #[pymodule_export]
    use super::logs::Records;
    #[pymodule_export]
    use super::node::Node;
    #[pymodule_export]
    use super::observed::observed_pools;
    #[pymodule_export]
    use super::options::Options;
    #[pymodule_export]
    use super::pool::{Pool, Ticket};
    #[pymodule_export]
    use super::ready::Ready;
    #[pymodule_export]
    use super::shared::keep_shared;
    #[pymodule_export]
    use super::step::current_step;
    #[pymodule_export]
    use super::template::Template;
    #[pymodule_export]
    use super::trace::Trace;
    #[pymodule_export]
    use super::worker::Worker;

    /// How many processors this process may keep busy.
    #[pyfunction]
    fn processors() -> usize {
        aiopool::processors()
    }

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// Where a program loads Python after its start, its zygote has to have it from the start.
    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        aiopool::needs_library_of(pyo3::ffi::Py_IncRef as *const () as usize);
        Ok(())
    }
}
