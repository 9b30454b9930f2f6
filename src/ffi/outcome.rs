//! Outcomes.
//!
//! Peek and wait lend an outcome until `aiopool_outcome_release`. Until then everything that the
//! accessors point to is valid. No accessor fails; each documents what it returns for NULL or a
//! released outcome. A forked child can read the outcomes that were lent to its parent; of one that
//! another thread was using at the fork, it may get what is returned for a released one.
//!
//! Thread rule: any thread, one at a time for one outcome.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::aligned::{ALIGNMENT, Aligned, Few};
use super::inbox::{Arrived, Inbox};
use super::status::*;
use crate::task::{Payload, TaskError};

/// The task function returned 0.
pub const AIOPOOL_OUTCOME_OK: i32 = 0;
/// The task function returned an error, or the task could not be run; see `aiopool_outcome_error`.
pub const AIOPOOL_OUTCOME_ERR: i32 = 1;
/// User code in Rust panicked.
pub const AIOPOOL_OUTCOME_PANICKED: i32 = 2;
/// The task was cancelled.
pub const AIOPOOL_OUTCOME_CANCELLED: i32 = 3;
/// The task did not end, or did not start, in the time it was given.
pub const AIOPOOL_OUTCOME_TIMED_OUT: i32 = 4;
/// The worker that ran the task died.
pub const AIOPOOL_OUTCOME_WORKER_LOST: i32 = 5;
/// The pool ended before the task did.
pub const AIOPOOL_OUTCOME_POOL_CLOSED: i32 = 6;

handle! {
    /// What a task ended with.
    pub struct aiopool_outcome(LentOutcome) in OUTCOMES, gone: "this outcome was released";
}

/// An outcome in the caller's hands.
#[derive(Debug)]
pub struct LentOutcome {
    inbox: Arc<Inbox>,
    arrived: Arrived,
    data: Data,
    /// The text of an error.
    text: Option<CString>,
}

/// Where the bytes of an output are.
#[derive(Debug)]
enum Data {
    /// Where the payload has them, or there are none.
    Payload,
    /// Here: what a payload has in itself moves with it, and lies where it likes.
    Few(Few),
    /// In a copy: the allocator of a program in Rust may align bytes to less than C wants.
    Copy(Aligned),
}

impl Data {
    fn of(payload: &Payload) -> Self {
        if let Some(bytes) = payload.in_itself() {
            return Few::copy_of(bytes)
                .map_or_else(|| Self::Copy(Aligned::copy_of(bytes)), Self::Few);
        }
        if payload.address().0.addr().is_multiple_of(ALIGNMENT) {
            return Self::Payload;
        }
        Self::Copy(Aligned::copy_of(&payload.bytes()))
    }
}

/// Lends an outcome to the caller.
pub(super) fn lend(inbox: &Arc<Inbox>, arrived: Arrived) -> *mut aiopool_outcome {
    inbox.lent.fetch_add(1, Ordering::Relaxed);
    let (data, text) = match &arrived.outcome.result {
        Ok(payload) => (Data::of(payload), None),
        Err(error) => {
            let text = error.to_string().replace('\0', " ");
            (Data::Payload, Some(CString::new(text).unwrap_or_default()))
        }
    };
    aiopool_outcome::own(LentOutcome { inbox: Arc::clone(inbox), arrived, data, text })
}

fn get<T>(outcome: Option<&aiopool_outcome>, f: impl FnOnce(&LentOutcome) -> T) -> Option<T> {
    outcome.and_then(|cell| cell.look()?.as_ref().map(f))
}

fn kind(error: &TaskError) -> i32 {
    match error {
        TaskError::Panicked(_) => AIOPOOL_OUTCOME_PANICKED,
        TaskError::Cancelled => AIOPOOL_OUTCOME_CANCELLED,
        TaskError::TimedOut { .. } => AIOPOOL_OUTCOME_TIMED_OUT,
        TaskError::WorkerLost(_) => AIOPOOL_OUTCOME_WORKER_LOST,
        TaskError::PoolClosed { .. } => AIOPOOL_OUTCOME_POOL_CLOSED,
        _ => AIOPOOL_OUTCOME_ERR,
    }
}

ffi_fn! {
    /// Returns how the task ended: `AIOPOOL_OUTCOME_*`; `AIOPOOL_ERR_HANDLE` for no outcome.
    fn aiopool_outcome_status(outcome: Option<&aiopool_outcome>) -> i32 = AIOPOOL_ERR_PANIC => {
        get(outcome, |lent| lent.arrived.outcome.result.as_ref().err().map_or(AIOPOOL_OUTCOME_OK, kind))
            .unwrap_or(AIOPOOL_ERR_HANDLE)
    }
}

ffi_fn! {
    /// Returns the number that a C task function returned; 0 if it succeeded, or if there is none.
    fn aiopool_outcome_code(outcome: Option<&aiopool_outcome>) -> i32 = 0 => {
        get(outcome, |lent| match &lent.arrived.outcome.result {
            Err(TaskError::Failed(failure)) => failure.code().unwrap_or(0),
            _ => 0,
        })
        .unwrap_or(0)
    }
}

ffi_fn! {
    /// Returns the kind of error behind `AIOPOOL_OUTCOME_ERR`: `AIOPOOL_ERR_TASK` if the task
    /// function returned it, `AIOPOOL_ERR_UNKNOWN` if the worker has no such function,
    /// `AIOPOOL_ERR_OUTPUT_SPACE`, `AIOPOOL_ERR_CORRUPT` or `AIOPOOL_ERR_INVALID` (a value that
    /// cannot be encoded or decoded); else `AIOPOOL_OK`, and `AIOPOOL_ERR_HANDLE` for no outcome.
    fn aiopool_outcome_error(outcome: Option<&aiopool_outcome>) -> aiopool_status = AIOPOOL_ERR_PANIC => {
        get(outcome, |lent| match &lent.arrived.outcome.result {
            Err(TaskError::Failed(_)) => AIOPOOL_ERR_TASK,
            Err(TaskError::Refused(_)) => AIOPOOL_ERR_UNKNOWN,
            Err(TaskError::OutputSpace(_)) => AIOPOOL_ERR_OUTPUT_SPACE,
            Err(TaskError::Corrupt(_)) => AIOPOOL_ERR_CORRUPT,
            Err(TaskError::Value(_)) => AIOPOOL_ERR_INVALID,
            _ => AIOPOOL_OK,
        })
        .unwrap_or(AIOPOOL_ERR_HANDLE)
    }
}

ffi_fn! {
    /// Returns the payload: `aiopool_outcome_len` bytes at a multiple of 16; never NULL for an
    /// outcome that is `OK`.
    fn aiopool_outcome_data(outcome: Option<&aiopool_outcome>) -> *const c_void = std::ptr::null() => {
        get(outcome, |lent| match &lent.arrived.outcome.result {
            Err(_) => std::ptr::null(),
            Ok(payload) => match &lent.data {
                Data::Payload => payload.address().0.cast(),
                Data::Few(few) => few.0.as_ptr().cast(),
                Data::Copy(copy) => copy.as_ptr().cast(),
            },
        })
        .unwrap_or(std::ptr::null())
    }
}

ffi_fn! {
    /// Returns the length of the payload in bytes; 0 for an outcome that is not `OK`.
    fn aiopool_outcome_len(outcome: Option<&aiopool_outcome>) -> usize = 0 => {
        get(outcome, |lent| {
            lent.arrived.outcome.result.as_ref().map_or(0, |payload| payload.address().1)
        })
        .unwrap_or(0)
    }
}

ffi_fn! {
    /// Returns the text of the error, earlier attempts included; empty for an outcome that is `OK`;
    /// never NULL.
    fn aiopool_outcome_text(outcome: Option<&aiopool_outcome>) -> *const c_char = c"".as_ptr() => {
        get(outcome, |lent| lent.text.as_deref().map(CStr::as_ptr)).flatten().unwrap_or(c"".as_ptr())
    }
}

ffi_fn! {
    /// Returns the ticket of the task; 0 for no outcome.
    fn aiopool_outcome_ticket(outcome: Option<&aiopool_outcome>) -> u64 = 0 => {
        get(outcome, |lent| lent.arrived.task).unwrap_or(0)
    }
}

ffi_fn! {
    /// Returns the `user_data` of the call; 0 for no outcome.
    fn aiopool_outcome_user_data(outcome: Option<&aiopool_outcome>) -> u64 = 0 => {
        get(outcome, |lent| lent.arrived.user_data).unwrap_or(0)
    }
}

ffi_fn! {
    /// Returns the number of attempts made; 0 for no outcome.
    fn aiopool_outcome_attempts(outcome: Option<&aiopool_outcome>) -> u32 = 0 => {
        get(outcome, |lent| lent.arrived.outcome.attempts).unwrap_or(0)
    }
}

ffi_fn! {
    /// Returns the nanoseconds from the submission to the start of the last attempt; 0 if that
    /// attempt did not end.
    fn aiopool_outcome_waited_ns(outcome: Option<&aiopool_outcome>) -> u64 = 0 => {
        get(outcome, |lent| lent.arrived.outcome.waited_ns).unwrap_or(0)
    }
}

ffi_fn! {
    /// Returns the nanoseconds that the last attempt ran; 0 if it did not end.
    fn aiopool_outcome_ran_ns(outcome: Option<&aiopool_outcome>) -> u64 = 0 => {
        get(outcome, |lent| lent.arrived.outcome.ran_ns).unwrap_or(0)
    }
}

ffi_fn! {
    /// Releases an outcome; what its accessors pointed to is invalid after this. NULL is accepted
    /// and does nothing.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_HANDLE` if it was released before; `AIOPOOL_ERR_FORKED`
    /// in a forked child, whose copy ends with the child.
    fn aiopool_outcome_release(outcome: Option<&'static aiopool_outcome>) -> aiopool_status {
        let Some(cell) = outcome else { return Ok(()) };
        // Dropped where it is: it is long, and moving it costs more than all else here.
        cell.end(|lent| {
            lent.inbox.lent.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        })
    }
}
