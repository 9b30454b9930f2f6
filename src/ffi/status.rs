//! Status codes and errors.
//!
//! Every function that can fail returns an `aiopool_status`: `AIOPOOL_OK` or a negative number.
//! Numbers are never changed and never used again. What a call gives back is written to its last
//! arguments, and only when it returns `AIOPOOL_OK`.
//!
//! Four kinds of numbers say how something ended, and each has its own name: a *status* is what a
//! call returns (`aiopool_status`), a *kind* is how a task ended (`aiopool_kind`), a *code* is what
//! a task function returned (`aiopool_outcome_code`), and an *exit code* is what a process ended
//! with (`aiopool_process_exit_code`).
//!
//! An argument `timeout_ms` is how long the call may wait, in all calls: `AIOPOOL_NO_WAIT` (0) not
//! at all, `AIOPOOL_FOREVER` as long as it takes. A field `..._limit_...` bounds something else
//! than a call's wait: `AIOPOOL_NO_LIMIT` (0) is no bound, so that a struct of zeros sets none.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

use crate::error::Error;

c_enum! {
    /// What a call returns: 0 or a negative number.
    pub enum aiopool_status: i32 {
        /// Done.
        AIOPOOL_OK = 0,
        /// A pointer that is required is NULL.
        AIOPOOL_ERR_NULL = -1,
        /// An argument or option is outside its range; the text names it and what is allowed.
        AIOPOOL_ERR_INVALID = -2,
        /// A `struct_size` of no version of the library, or a reserved field that is not 0.
        AIOPOOL_ERR_STRUCT = -3,
        /// The handle is not one of a living object: it was freed or released, or never was one.
        AIOPOOL_ERR_HANDLE = -4,
        /// The system refused something: memory, descriptors, processes.
        AIOPOOL_ERR_SYSTEM = -5,
        /// Nothing arrived within the time given.
        AIOPOOL_ERR_TIMEOUT = -6,
        /// Nothing is available now; ask again later.
        AIOPOOL_ERR_EMPTY = -7,
        /// The pool is full: receive some outcomes first.
        AIOPOOL_ERR_FULL = -8,
        /// The pool takes no more tasks: it was closed or terminated, or has failed.
        AIOPOOL_ERR_CLOSED = -9,
        /// Something of the object is still in use.
        AIOPOOL_ERR_BUSY = -10,
        /// The input is larger than the pool takes.
        AIOPOOL_ERR_TOO_LARGE = -11,
        /// The call had to come before: see `aiopool_init`.
        AIOPOOL_ERR_TOO_LATE = -12,
        /// The call must come after `aiopool_init`.
        AIOPOOL_ERR_TOO_EARLY = -13,
        /// The call came from a process that was forked from the pool's host.
        AIOPOOL_ERR_FORKED = -14,
        /// The call is for the host and came from inside a worker.
        AIOPOOL_ERR_IN_WORKER = -15,
        /// The call is for a worker's event loop and came from elsewhere.
        AIOPOOL_ERR_NOT_IN_WORKER = -16,
        /// No such task function, ticket or name.
        AIOPOOL_ERR_UNKNOWN = -17,
        /// No worker could be started, or every initializer failed.
        AIOPOOL_ERR_NO_WORKERS = -18,
        /// Shared memory holds something that no correct process writes.
        AIOPOOL_ERR_CORRUPT = -19,
        /// The call is not allowed at this moment; the text says why.
        AIOPOOL_ERR_MISUSE = -20,
        /// The pool has failed as a whole; the text gives the cause.
        AIOPOOL_ERR_FAILED = -21,
        /// A bug in aiopool: a panic was caught.
        AIOPOOL_ERR_PANIC = -22,
        /// The output found no room in the worker's result arena.
        AIOPOOL_ERR_OUTPUT_SPACE = -23,
        /// The task function returned an error.
        AIOPOOL_ERR_TASK = -24,
    }
}

/// A `timeout_ms` of a call that waits as long as it takes.
pub const AIOPOOL_FOREVER: u64 = u64::MAX;
/// A `timeout_ms` of a call that does not wait.
pub const AIOPOOL_NO_WAIT: u64 = 0;
/// A field `..._limit_...` without limit.
pub const AIOPOOL_NO_LIMIT: u64 = 0;

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

/// The text of a call that failed: made for C when it is asked for.
#[derive(Default)]
struct Text {
    said: Cow<'static, str>,
    in_c: CString,
}

thread_local! {
    static LAST: RefCell<Text> = RefCell::default();
}

/// Sets this thread's text; costs no allocation where it is always the same.
pub(super) fn set_last_error(text: Cow<'static, str>) {
    // A thread that is ending can no longer ask for it.
    let _ = LAST.try_with(|last| last.borrow_mut().said = text);
}

/// Returns the status that a host's error is.
pub(super) fn of_error(error: &Error) -> aiopool_status {
    match error {
        Error::InvalidOption { .. } => AIOPOOL_ERR_INVALID,
        Error::System { .. } => AIOPOOL_ERR_SYSTEM,
        Error::Closed => AIOPOOL_ERR_CLOSED,
        Error::Full => AIOPOOL_ERR_FULL,
        Error::TimedOut { .. } => AIOPOOL_ERR_TIMEOUT,
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
        let text = LAST.try_with(|last| {
            let Text { said, in_c } = &mut *last.borrow_mut();
            let said = std::mem::take(said);
            // Empty: it was asked for before, and is where it was then.
            if !said.is_empty() {
                *in_c = CString::new(said.replace('\0', " ")).unwrap_or_default();
            }
            in_c.as_ptr()
        });
        text.unwrap_or(c"".as_ptr())
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
