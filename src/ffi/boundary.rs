//! The boundary: what every exported function is made of.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::status::{self, AIOPOOL_ERR_PANIC, AIOPOOL_OK, aiopool_status};
use crate::error::Error;
use crate::sys::thread::Uncancelled;
use crate::task::panic_text;

/// Why a call fails: a status and the text for `aiopool_last_error`.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: aiopool_status,
    pub(super) text: Cow<'static, str>,
}

impl Failure {
    pub(super) fn new(status: aiopool_status, text: impl Into<Cow<'static, str>>) -> Self {
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
#[inline]
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
            status::set_last_error(panicked(&*panic));
            AIOPOOL_ERR_PANIC
        }
    }
}

/// Runs the short way of an exported function; false if the long one is to be gone.
///
/// A panic is the long one's to find and to report.
#[inline]
pub(super) fn at_once(quick: impl FnOnce() -> Option<()>) -> bool {
    matches!(catch_unwind(AssertUnwindSafe(quick)), Ok(Some(())))
}

/// Runs the body of an exported function that returns a value; `fallback` after a panic.
#[inline]
pub(super) fn guard_value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        status::set_last_error(panicked(&*panic));
        fallback
    })
}

#[cold]
fn panicked(panic: &(dyn Any + Send)) -> Cow<'static, str> {
    format!("a panic in aiopool, please report it: {}", panic_text(panic)).into()
}

/// Makes an enum of C: a number of a fixed type here, since C may give any, and an enum in the
/// header.
macro_rules! c_enum {
    ($(#[$meta:meta])* pub enum $name:ident: $int:ty {
        $($(#[$of_one:meta])* $constant:ident = $value:expr,)+
    }) => {
        $(#[$meta])*
        pub type $name = $int;
        $($(#[$of_one])* pub const $constant: $name = $value;)+
    };
}

/// Makes an exported function: `fn name(arguments) -> aiopool_status { body of a Result }`, or
/// `fn name(arguments) -> T = value_after_a_panic => { body of a T }`, which makes no system call
/// at which a thread could be cancelled.
///
/// `fn name(arguments) -> aiopool_status = at_once { quick } waits => { body }` tries `quick`
/// first, which returns `Some(())` when all is done and `None` before anything is; it makes no call
/// at which a thread could be cancelled.
///
/// `fn name(arguments) -> aiopool_status = waits => { body }` is for a body that waits until
/// [`turns::deadline`](super::turns::deadline) and can be run again after `AIOPOOL_ERR_TIMEOUT`.
macro_rules! ffi_fn {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> aiopool_status = at_once $quick:block waits => $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $crate::ffi::aiopool_status {
            {
                // SAFETY: an argument has nothing to drop, and is used by one of the two.
                let ($($arg,)*) = unsafe { ($(std::ptr::read(&raw const $arg),)*) };
                let _ = ($(&$arg,)*);
                if $crate::ffi::boundary::at_once(|| $quick) {
                    return $crate::ffi::AIOPOOL_OK;
                }
            }
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
