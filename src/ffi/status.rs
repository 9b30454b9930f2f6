//! Status codes and errors.
//!
//! Every function that can fail returns an `aiopool_status`: `AIOPOOL_OK` or a negative number.
//! Numbers are never changed and never used again. What a call gives back is written to its last
//! arguments, and only when it returns `AIOPOOL_OK`.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

use crate::error::Error;

/// What a call returns: 0 or a negative `AIOPOOL_ERR_*`.
pub type aiopool_status = i32;

/// Done.
pub const AIOPOOL_OK: i32 = 0;
/// A pointer that is required is NULL.
pub const AIOPOOL_ERR_NULL: i32 = -1;
/// An argument or option is outside its range; the text names it and what is allowed.
pub const AIOPOOL_ERR_INVALID: i32 = -2;
/// A `struct_size` of no version of the library, or a reserved field that is not 0.
pub const AIOPOOL_ERR_STRUCT: i32 = -3;
/// The handle is not one of a living object: it was freed or released, or never was one.
pub const AIOPOOL_ERR_HANDLE: i32 = -4;
/// The system refused something: memory, descriptors, processes.
pub const AIOPOOL_ERR_SYSTEM: i32 = -5;
/// Nothing arrived within the time given.
pub const AIOPOOL_ERR_TIMEOUT: i32 = -6;
/// Nothing is available now; ask again later.
pub const AIOPOOL_ERR_EMPTY: i32 = -7;
/// The pool is full: receive some outcomes first.
pub const AIOPOOL_ERR_FULL: i32 = -8;
/// The pool takes no more tasks: it was closed or terminated, or has failed.
pub const AIOPOOL_ERR_CLOSED: i32 = -9;
/// Something of the object is still in use.
pub const AIOPOOL_ERR_BUSY: i32 = -10;
/// The input is larger than the pool takes.
pub const AIOPOOL_ERR_TOO_LARGE: i32 = -11;
/// The call had to come before: see `aiopool_init`.
pub const AIOPOOL_ERR_TOO_LATE: i32 = -12;
/// The call must come after `aiopool_init`.
pub const AIOPOOL_ERR_TOO_EARLY: i32 = -13;
/// The call came from a process that was forked from the pool's host.
pub const AIOPOOL_ERR_FORKED: i32 = -14;
/// The call is for the host and came from inside a worker.
pub const AIOPOOL_ERR_IN_WORKER: i32 = -15;
/// The call is for a worker's event loop and came from elsewhere.
pub const AIOPOOL_ERR_NOT_IN_WORKER: i32 = -16;
/// No such task function, ticket or name.
pub const AIOPOOL_ERR_UNKNOWN: i32 = -17;
/// No worker could be started, or every initializer failed.
pub const AIOPOOL_ERR_NO_WORKERS: i32 = -18;
/// Shared memory holds something that no correct process writes.
pub const AIOPOOL_ERR_CORRUPT: i32 = -19;
/// The call is not allowed at this moment; the text says why.
pub const AIOPOOL_ERR_MISUSE: i32 = -20;
/// The pool has failed as a whole; the text gives the cause.
pub const AIOPOOL_ERR_FAILED: i32 = -21;
/// A bug in aiopool: a panic was caught.
pub const AIOPOOL_ERR_PANIC: i32 = -22;
/// The output found no room in the worker's result arena.
pub const AIOPOOL_ERR_OUTPUT_SPACE: i32 = -23;
/// The task function returned an error.
pub const AIOPOOL_ERR_TASK: i32 = -24;

/// A time without limit, for functions that take one.
pub const AIOPOOL_FOREVER: u64 = u64::MAX;

const TEXTS: [(aiopool_status, &CStr); 25] = [
    (AIOPOOL_OK, c"done"),
    (AIOPOOL_ERR_NULL, c"a required pointer is NULL"),
    (AIOPOOL_ERR_INVALID, c"an argument or option is outside its range"),
    (AIOPOOL_ERR_STRUCT, c"a struct_size or reserved field is wrong"),
    (AIOPOOL_ERR_HANDLE, c"the handle is not one of a living object"),
    (AIOPOOL_ERR_SYSTEM, c"the system refused"),
    (AIOPOOL_ERR_TIMEOUT, c"nothing came within the time given"),
    (AIOPOOL_ERR_EMPTY, c"nothing is available now"),
    (AIOPOOL_ERR_FULL, c"the pool is full"),
    (AIOPOOL_ERR_CLOSED, c"the pool is closed"),
    (AIOPOOL_ERR_BUSY, c"something is still in use"),
    (AIOPOOL_ERR_TOO_LARGE, c"the input is too large"),
    (AIOPOOL_ERR_TOO_LATE, c"the call comes too late"),
    (AIOPOOL_ERR_TOO_EARLY, c"the call comes before aiopool_init"),
    (AIOPOOL_ERR_FORKED, c"the pool belongs to another process"),
    (AIOPOOL_ERR_IN_WORKER, c"the call is not for workers"),
    (AIOPOOL_ERR_NOT_IN_WORKER, c"the call is for a worker's event loop"),
    (AIOPOOL_ERR_UNKNOWN, c"no such function, ticket or name"),
    (AIOPOOL_ERR_NO_WORKERS, c"no worker could be started"),
    (AIOPOOL_ERR_CORRUPT, c"shared memory is corrupt"),
    (AIOPOOL_ERR_MISUSE, c"the call is not allowed now"),
    (AIOPOOL_ERR_FAILED, c"the pool has failed"),
    (AIOPOOL_ERR_PANIC, c"a bug in aiopool"),
    (AIOPOOL_ERR_OUTPUT_SPACE, c"the output found no room"),
    (AIOPOOL_ERR_TASK, c"the task function returned an error"),
];

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

pub(super) fn set_last_error(text: String) {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // A thread that is ending can no longer ask for it.
    let _ = LAST.try_with(|last| *last.borrow_mut() = text);
}

/// Returns the status that a host's error is.
pub(super) fn of_error(error: &Error) -> aiopool_status {
    match error {
        Error::InvalidOption { .. } => AIOPOOL_ERR_INVALID,
        Error::System { .. } => AIOPOOL_ERR_SYSTEM,
        Error::Closed => AIOPOOL_ERR_CLOSED,
        Error::Full => AIOPOOL_ERR_FULL,
        Error::PayloadTooLarge { .. } => AIOPOOL_ERR_TOO_LARGE,
        Error::Corrupt(_) => AIOPOOL_ERR_CORRUPT,
        Error::Forked { .. } => AIOPOOL_ERR_FORKED,
        Error::NoWorkers(_) | Error::Initializer(_) => AIOPOOL_ERR_NO_WORKERS,
        Error::ZygoteLost(_) | Error::Failed(_) => AIOPOOL_ERR_FAILED,
        _ => AIOPOOL_ERR_MISUSE,
    }
}

ffi_fn! {
    /// Returns the meaning of `status` in a few words; static, never freed, never NULL.
    ///
    /// Thread rule: callable from everywhere, at any time.
    fn aiopool_status_str(status: aiopool_status) -> *const c_char = c"".as_ptr() => {
        let known = TEXTS.iter().find(|(number, _)| *number == status);
        known.map_or(c"an unknown status", |(_, text)| text).as_ptr()
    }
}

ffi_fn! {
    /// Returns what was wrong in this thread's last call that failed, and what to do about it.
    ///
    /// Valid until the next call of this thread that fails; calls that succeed, this one and
    /// `aiopool_status_str` leave it as it is. Empty if none failed yet; never NULL.
    fn aiopool_last_error() -> *const c_char = c"".as_ptr() => {
        LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_number_and_its_text() {
        for (at, (status, text)) in TEXTS.iter().enumerate() {
            assert_eq!(*status, -(at as i32));
            assert!(!text.is_empty());
        }
    }
}
