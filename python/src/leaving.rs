//! The last limit on a process that ends.

#![allow(unsafe_code)] // An island: the one call that ends a process without anything of it.

use std::time::Duration;

use pyo3::prelude::*;

/// Has this process end in `seconds` at most, by a thread that needs nothing of Python's: what ends
/// the interpreter, or C's exit handlers, may never let go of it. At once if there can be no thread.
#[pyfunction]
pub(crate) fn end_within(seconds: f64) {
    let limit = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    let wait = move || {
        std::thread::sleep(limit);
        end()
    };
    if std::thread::Builder::new().name("aiopool-end".to_owned()).spawn(wait).is_err() {
        end();
    }
}

fn end() -> ! {
    // SAFETY: takes a number and does not come back.
    unsafe { libc::_exit(0) }
}
