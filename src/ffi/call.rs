//! Calls.
//!
//! What is to be run: one call of a task function, as `aiopool_pool_submit` and
//! `aiopool_process_start` take it.
//!
//! Thread rule: callable from everywhere, at any time.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::time::Duration;

use super::boundary::{Failure, end_in_c};
use super::loan::aiopool_loan;
use super::outcome::{aiopool_complete_fn, aiopool_kind, kind};
use super::pointer::{Sized32, out};
use super::status::AIOPOOL_ERR_INVALID;
use crate::task::{Ended, TaskError, TaskOptions};

/// The outcome is kept for `aiopool_pool_wait_ticket`, never given to try_wait or wait.
pub const AIOPOOL_CALL_BY_TICKET: u32 = 1;
/// Retries also apply to an error that the function returns, not only to its worker's death.
pub const AIOPOOL_CALL_RETRY_ON_ERROR: u32 = 2;
/// A large payload is not copied: the outcome's data points to where the worker wrote it, and that
/// memory stays taken until the outcome's release. At most half of a worker's `output_arena` is
/// lent in this way; payloads beyond that are copied, so release early.
pub const AIOPOOL_CALL_BORROW_OUTPUT: u32 = 4;

/// The task goes to the queue numbered `queue`, whatever the pool's scheduler would choose.
pub const AIOPOOL_CALL_ON_QUEUE: u32 = 8;

/// Retries also apply to a run limit that the task itself used up.
pub const AIOPOOL_CALL_RETRY_ON_TIMEOUT: u32 = 16;
/// Each pause before a further attempt is shortened by chance, down to half of it: tasks that
/// failed together do not come back together.
pub const AIOPOOL_CALL_JITTER: u32 = 32;
/// The task runs with no other beside it in its worker, so that its crash costs no other. It waits
/// until a worker has nothing else, and other tasks wait for it.
pub const AIOPOOL_CALL_ALONE: u32 = 64;

/// What `flags` can have.
pub(super) const FLAGS: u32 = AIOPOOL_CALL_BY_TICKET
    | AIOPOOL_CALL_RETRY_ON_ERROR
    | AIOPOOL_CALL_BORROW_OUTPUT
    | AIOPOOL_CALL_ON_QUEUE
    | AIOPOOL_CALL_RETRY_ON_TIMEOUT
    | AIOPOOL_CALL_JITTER
    | AIOPOOL_CALL_ALONE;

/// A part of an input; laid out as the system's `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_part {
    /// The part's bytes; may be NULL if `len` is 0.
    pub data: *const c_void,
    /// Number of bytes.
    pub len: usize,
}

/// How an attempt of a task ended, for the function that decides whether another follows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_attempt {
    /// `sizeof(aiopool_attempt)` of the library.
    pub struct_size: u32,
    /// The number of the attempt, from 1.
    pub number: u32,
    /// How it ended: `AIOPOOL_OUTCOME_ERR`, `_PANICKED`, `_TIMED_OUT` of a task that was running,
    /// `_WORKER_LOST` or `_NEIGHBOUR_BLOCKED`.
    pub kind: aiopool_kind,
    /// The number that a C task function returned; else 0.
    pub code: i32,
    /// 1 if another task is what ended it, else 0; see `aiopool_outcome_is_bystander`.
    pub bystander: u32,
    /// 0.
    pub reserved_0: u32,
    /// The text of the error, never NULL; valid during the call.
    pub text: *const c_char,
    /// 0.
    pub reserved: [u64; 4],
}

/// Decides whether another attempt follows `attempt`, which is valid during the call; `user_data`
/// is the call's.
///
/// It is called from any thread of the host, the library's own among them, several at once, and
/// while other outcomes wait: it must be quick, must not block and must not call this library.
pub type aiopool_retry_fn =
    Option<unsafe extern "C" fn(attempt: *const aiopool_attempt, user_data: u64) -> bool>;

/// Asks the function of C at `address` about the end of an attempt.
fn ask(address: usize, ended: &Ended<'_>) -> bool {
    // SAFETY: `retrying` gave the address of such a function, and none is where NULL is.
    let function = unsafe { std::mem::transmute::<usize, aiopool_retry_fn>(address) };
    let text = CString::new(end_in_c(ended.error).replace('\0', " ")).unwrap_or_default();
    let attempt = aiopool_attempt {
        struct_size: size_of::<aiopool_attempt>() as u32,
        number: ended.attempt,
        kind: kind(ended.error),
        code: match ended.error {
            TaskError::Failed(failure) => failure.code().unwrap_or(0),
            _ => 0,
        },
        bystander: ended.error.is_bystander().into(),
        reserved_0: 0,
        text: text.as_ptr(),
        reserved: [0; 4],
    };
    // SAFETY: the call named a function of this type; nothing is locked.
    function.is_some_and(|function| unsafe { function(&raw const attempt, ended.token) })
}

/// Returns `options` with what a call says about further attempts beside their number.
pub(super) fn retrying(options: TaskOptions, call: &aiopool_call) -> Result<TaskOptions, Failure> {
    let options = match call.longest_backoff_ms {
        0 => options,
        limit => options.longest_backoff(Duration::from_millis(limit)),
    };
    let Some(function) = call.retry_if else { return Ok(options) };
    options.retry_if_foreign(function as usize, ask).ok_or_else(|| {
        let text = "retry_if: 65,535 functions have decided in this process, and no more can";
        Failure::new(AIOPOOL_ERR_INVALID, text)
    })
}

/// What to run: one call of a task function.
///
/// Everything but `struct_size` and `function` (or `name`) may be 0: begin with
/// `AIOPOOL_CALL_INIT` or `aiopool_call_init`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_call {
    /// `sizeof(aiopool_call)`.
    pub struct_size: u32,
    /// `AIOPOOL_CALL_*`, or 0.
    pub flags: u32,
    /// The number of the function; 0 to find it by `name`.
    pub function: u32,
    /// The priority class, 0 the most urgent, below the pool's `priorities`.
    pub priority: u32,
    /// The name of the function, where `function` is 0.
    pub name: *const c_char,
    /// The input, which is copied; may be NULL if `input_len` is 0.
    pub input: *const c_void,
    /// Bytes of input.
    pub input_len: usize,
    /// Passed through to the outcome.
    pub user_data: u64,
    /// Milliseconds that an attempt may run; `AIOPOOL_NO_LIMIT`, 0, for as long as it takes.
    pub run_limit_ms: u64,
    /// Milliseconds that the task may wait for a worker; `AIOPOOL_NO_LIMIT`, 0, for as long as it
    /// takes.
    pub wait_limit_ms: u64,
    /// Milliseconds to wait before the second attempt, doubled for each one after.
    pub backoff_ms: u64,
    /// Number of further attempts that the task gets when its worker dies.
    pub retries: u32,
    /// With `AIOPOOL_CALL_ON_QUEUE` the queue, 0 to the pool's `queues - 1`; else 0.
    pub queue: u32,
    /// Instead of `input`: a loan of this pool, of which the first `input_len` bytes are the input
    /// (0 for all). The loan ends when the task is submitted; if the task is refused it stays the
    /// caller's.
    pub loan: *mut aiopool_loan,
    /// Called with the outcome by the thread that receives, instead of giving it to that thread;
    /// NULL, the default, for no function. See `aiopool_complete_fn`.
    pub on_complete: aiopool_complete_fn,
    /// Instead of `input`: parts that are copied one behind the other, at most 1024.
    pub parts: *const aiopool_part,
    /// Number of parts.
    pub parts_len: usize,
    /// Decides whether an attempt that ended without a value is made again, as long as there are
    /// `retries`: in place of `AIOPOOL_CALL_RETRY_ON_ERROR` and `AIOPOOL_CALL_RETRY_ON_TIMEOUT`,
    /// and for the death of a worker, too. NULL, the default, for no function. See
    /// `aiopool_retry_fn`.
    pub retry_if: aiopool_retry_fn,
    /// Most milliseconds that `backoff_ms` is doubled to; 0, the default, for a minute. A first
    /// pause that is longer stays what it is.
    pub longest_backoff_ms: u64,
    /// 0.
    pub reserved: [u64; 4],
}

//c /**
//c  * A call with all fields at their defaults: `aiopool_call call = AIOPOOL_CALL_INIT;`
//c  */
//c #define AIOPOOL_CALL_INIT                                                                     \
//c     {sizeof(aiopool_call), 0, 0, 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, 0,      \
//c      NULL, 0, {0}}

// SAFETY: integers and pointers only, and the size comes first.
unsafe impl Sized32 for aiopool_call {
    const NAME: &'static str = "aiopool_call";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            flags: 0,
            function: 0,
            priority: 0,
            name: std::ptr::null(),
            input: std::ptr::null(),
            input_len: 0,
            user_data: 0,
            run_limit_ms: 0,
            wait_limit_ms: 0,
            backoff_ms: 0,
            retries: 0,
            queue: 0,
            loan: std::ptr::null_mut(),
            on_complete: None,
            parts: std::ptr::null(),
            parts_len: 0,
            retry_if: None,
            longest_backoff_ms: 0,
            reserved: [0; 4],
        }
    }
}

ffi_fn! {
    /// Sets all fields of a call to their defaults.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
    fn aiopool_call_init(
        call_out: Option<&mut MaybeUninit<aiopool_call>>,
    ) -> aiopool_status = at_once {
        call_out?.write(aiopool_call::defaults());
        Some(())
    } waits => {
        out("call_out", call_out)?.write(aiopool_call::defaults());
        Ok(())
    }
}
