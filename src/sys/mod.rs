//! Floor 0: the system calls, one family per file.
//!
//! Thin safe wrappers over `libc` that return [`std::io::Result`] and keep no state. Used by every
//! floor above; knows nothing of tasks, regions or workers. What is retried after a signal
//! (`EINTR`) is retried here, so that no caller has to think of it.

#![cfg(not(aiopool_loom))]

pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod constructors;
pub(crate) mod cpus;
pub(crate) mod credentials;
pub(crate) mod emulated;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod exec;
pub(crate) mod exit;
pub(crate) mod fd;
pub(crate) mod forked;
pub(crate) mod gate;
pub(crate) mod habits;
pub(crate) mod image;
pub(crate) mod instruments;
#[cfg(feature = "sandbox")]
pub(crate) mod landlock;
pub(crate) mod library;
pub(crate) mod memfd;
pub(crate) mod memory;
pub(crate) mod oom;
pub(crate) mod own_fd;
pub(crate) mod pidfd;
pub(crate) mod place;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod quiet;
pub(crate) mod random;
pub(crate) mod requests;
pub(crate) mod rlimit;
pub(crate) mod scheduling;
#[cfg(feature = "sandbox")]
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod stack;
pub(crate) mod starter;
pub(crate) mod stderr;
pub(crate) mod surroundings;
pub(crate) mod thread;
pub(crate) mod timer;
pub(crate) mod usage;
pub(crate) mod wait;

use std::io;

/// Returns the result of a call that answers −1 and sets `errno` when it failed.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Says which call was refused, where that is for a reason that its text does not give: a filter
/// (seccomp) or an old kernel.
fn named(call: &str, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS) => io::Error::new(
            error.kind(),
            format!("{call} is refused here ({error}): the seccomp profile must allow it"),
        ),
        _ => error,
    }
}

/// Calls again for as long as a signal interrupts the call.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
