//! The last limits on a process: by threads that need nothing of Python's, so that code which never
//! lets go of the interpreter's lock cannot hold them up.

#![allow(unsafe_code)] // An island: the calls that end a process without anything of it.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
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

/// Has this process be killed as soon as the other end of `descriptor` is gone, which its host has.
#[pyfunction]
pub(crate) fn end_with(descriptor: i32) -> PyResult<()> {
    if descriptor < 0 {
        return Err(PyValueError::new_err(format!("{descriptor} is no descriptor")));
    }
    // SAFETY: the caller has it open.
    let host = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()?;
    let wait = move || {
        let mut fds = libc::pollfd { fd: host.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // Interrupted, or refused memory for now; there is nothing else to go wrong.
        // SAFETY: it is one descriptor, which is open, and `fds` is alive.
        while unsafe { libc::poll(&raw mut fds, 1, -1) } < 0 {}
        // SAFETY: takes numbers; a signal to this process itself is not refused.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    };
    std::thread::Builder::new().name("aiopool-host".to_owned()).spawn(wait)?;
    Ok(())
}

fn end() -> ! {
    // SAFETY: takes a number and does not come back.
    unsafe { libc::_exit(0) }
}
