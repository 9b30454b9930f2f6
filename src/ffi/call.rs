//! Calls.
//!
//! What is to be run: one call of a task function, as `aiopool_pool_submit` and
//! `aiopool_process_start` take it.
//!
//! Thread rule: callable from everywhere, at any time.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;

use super::loan::aiopool_loan;
use super::outcome::aiopool_complete_fn;
use super::pointer::{Sized32, out};

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
    /// 0.
    pub reserved: [u64; 1],
}

//c /**
//c  * A call with all fields at their defaults: `aiopool_call call = AIOPOOL_CALL_INIT;`
//c  */
//c #define AIOPOOL_CALL_INIT                                                                     \
//c     {sizeof(aiopool_call), 0, 0, 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, {0}}

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
            reserved: [0],
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
