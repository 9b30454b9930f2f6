//! The boundary: what every exported function is made of.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::status::{self, AIOPOOL_ERR_PANIC, AIOPOOL_OK, aiopool_status};
use crate::error::Error;
use crate::sys::thread::Uncancelled;
use crate::task::panic_text;

/// Why a call fails: a status and the text for `aiopool_last_error`.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: aiopool_status,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(status: aiopool_status, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// A required pointer is NULL.
    pub(super) fn null(name: &str) -> Self {
        Self::new(status::AIOPOOL_ERR_NULL, format!("{name} is NULL, and this call requires it"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(status::of_error(&error), in_c(&error))
    }
}

/// Returns what an error says to a program in C: calls by their names there, no advice about Rust.
fn in_c(error: &Error) -> String {
    match error {
        Error::Closed => "the pool is closed: it takes no more tasks; start another one".to_owned(),
        Error::Full => {
            "the pool is full: receive some outcomes first, or submit with a time-out".to_owned()
        }
        other => other
            .to_string()
            .replace(" (a multi-threaded #[tokio::main] has)", "")
            .replace(", outside of #[tokio::main] and block_on", "")
            .replace("aiopool::init()", "aiopool_init()")
            .replace("an earlier init()", "an earlier aiopool_init()")
            .replace("since init()", "since aiopool_init()"),
    }
}

/// Runs the body of an exported function that returns a status.
pub(super) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> aiopool_status {
    // A thread that the C library cancels is unwound, which Rust takes for a foreign exception.
    let _whole = Uncancelled::begin();
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => AIOPOOL_OK,
        Ok(Err(Failure { status, text })) => {
            status::set_last_error(text);
            status
        }
        Err(panic) => {
            status::set_last_error(format!(
                "a panic in aiopool, please report it: {}",
                panic_text(&*panic)
            ));
            AIOPOOL_ERR_PANIC
        }
    }
}

/// Runs the body of an exported function that returns a value; `fallback` after a panic.
pub(super) fn guard_value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        status::set_last_error(format!(
            "a panic in aiopool, please report it: {}",
            panic_text(&*panic)
        ));
        fallback
    })
}

/// Makes an exported function: `fn name(arguments) -> aiopool_status { body of a Result }`, or
/// `fn name(arguments) -> T = value_after_a_panic => { body of a T }`, which makes no system call
/// at which a thread could be cancelled.
///
/// `fn name(arguments) -> aiopool_status = waits => { body }` is for a body that waits until
/// [`turns::deadline`](super::turns::deadline) and can be run again after `AIOPOOL_ERR_TIMEOUT`.
macro_rules! ffi_fn {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> aiopool_status = waits => $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $crate::ffi::aiopool_status {
            $crate::ffi::turns::begin();
            loop {
                let status = {
                    // SAFETY: an argument has nothing to drop, and one turn uses it at a time.
                    let ($($arg,)*) = unsafe { ($(std::ptr::read(&raw const $arg),)*) };
                    $crate::ffi::boundary::guard(|| $body)
                };
                if !$crate::ffi::turns::goes_on(status) {
                    return status;
                }
                // SAFETY: this frame has nothing to drop, and C called it.
                unsafe { $crate::sys::thread::end_if_cancelled() };
            }
        }
    };
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> aiopool_status $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $crate::ffi::aiopool_status {
            $crate::ffi::boundary::guard(|| $body)
        }
    };
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty = $fallback:expr => $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
            $crate::ffi::boundary::guard_value($fallback, || $body)
        }
    };
}
