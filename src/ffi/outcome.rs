//! Outcomes.
//!
//! The calls that receive lend an outcome until `aiopool_outcome_release`. Until then everything
//! that the accessors point to is valid, also when the pool is freed. No accessor fails; each
//! documents what it returns for NULL or a released outcome.
//!
//! Thread rule: any thread, one at a time for one outcome.

use std::cell::{RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::aligned::{ALIGNMENT, Aligned, Few};
use super::boundary::{Failure, end_in_c};
use super::handle::{Cells, QUARANTINE, check_process, of_handle};
use super::status::*;
use crate::queue::Delivery;
use crate::sys::forked;
use crate::task::{Payload, TaskError};

c_enum! {
    /// How a task ended.
    pub enum aiopool_kind: i32 {
        /// There is no outcome: the handle is NULL or was released.
        AIOPOOL_OUTCOME_NONE = -1,
        /// The task function returned 0.
        AIOPOOL_OUTCOME_OK = 0,
        /// The task function returned an error, or the task could not be run; see
        /// `aiopool_outcome_error`.
        AIOPOOL_OUTCOME_ERR = 1,
        /// User code in Rust panicked.
        AIOPOOL_OUTCOME_PANICKED = 2,
        /// The task was cancelled.
        AIOPOOL_OUTCOME_CANCELLED = 3,
        /// The task did not end, or did not start, in the time it was given.
        AIOPOOL_OUTCOME_TIMED_OUT = 4,
        /// The worker that ran the task died.
        AIOPOOL_OUTCOME_WORKER_LOST = 5,
        /// The pool ended before the task did.
        AIOPOOL_OUTCOME_POOL_CLOSED = 6,
        /// Another task held the worker until its own run limit, and the worker was killed for
        /// that.
        AIOPOOL_OUTCOME_NEIGHBOUR_BLOCKED = 7,
    }
}

/// Called with the outcome of a call that named it, and with the call's `user_data`, by the thread
/// that receives: inside of `aiopool_pool_try_wait`, `aiopool_pool_wait`, `aiopool_pool_wait_many`
/// or `aiopool_pool_wait_idle`. It releases the outcome, then or later, and may use the pool.
pub type aiopool_complete_fn =
    Option<unsafe extern "C" fn(outcome: *mut aiopool_outcome, user_data: u64)>;

/// What `aiopool_complete_fn` is where it is not NULL.
pub(super) type CompleteFn = unsafe extern "C" fn(*mut aiopool_outcome, u64);

/// What a task ended with.
#[derive(Debug)]
pub struct aiopool_outcome {
    /// [`EMPTY`] or [`LENT`].
    state: AtomicU32,
    content: UnsafeCell<MaybeUninit<Content>>,
}

/// The handle was released.
const EMPTY: u32 = 0;
/// The caller has the handle.
const LENT: u32 = 1;

static OUTCOMES: Cells<aiopool_outcome> = Cells::new();

// SAFETY: the content is reached by one thread at a time: the one that receives it, and then the
// caller's, by the rule of this section.
unsafe impl Sync for aiopool_outcome {}

impl Default for aiopool_outcome {
    fn default() -> Self {
        let content = UnsafeCell::new(MaybeUninit::uninit());
        Self { state: AtomicU32::new(EMPTY), content }
    }
}

/// What is behind a handle.
#[derive(Debug)]
struct Content {
    /// Few bytes, where C may cast them to any type: what a payload has in itself moves with it.
    few: Few,
    arrived: Delivery,
    /// The process that has it, by `forked::generation`.
    generation: u32,
    /// Where the payload is, when it is lent.
    data: *const u8,
    len: usize,
    /// The payload once more: the allocator of a program in Rust may align bytes to less than C
    /// wants.
    copy: Option<Aligned>,
    /// The text of an error.
    text: Option<CString>,
}

/// Lends an outcome that has come to the caller.
#[inline(always)] // once a task: as a call, it is moved through memory
pub(super) fn lend(arrived: Delivery) -> *mut aiopool_outcome {
    let cell = empty_cell();
    let (few, generation) = (Few([0; Few::MOST]), forked::generation());
    let (data, len, copy, text) = (std::ptr::null(), 0, None, None);
    let content = Content { few, arrived, generation, data, len, copy, text };
    // SAFETY: the cell is empty and this thread's alone.
    let content = unsafe { (*cell.content.get()).write(content) };
    if let Ok(Payload::Word { len, bytes }) = &content.arrived.outcome.result {
        content.few.0[..size_of_val(&bytes.0)].copy_from_slice(&bytes.0);
        (content.data, content.len) = (content.few.0.as_ptr(), usize::from(*len));
    } else {
        content.prepare();
    }
    // Release: pairs with the Acquire of `get`, where C hands the handle to another thread.
    cell.state.store(LENT, Ordering::Release);
    std::ptr::from_ref(cell).cast_mut()
}

impl Content {
    /// Puts the payload where C reads it, or the text of the error.
    #[cold]
    fn prepare(&mut self) {
        match &self.arrived.outcome.result {
            Ok(payload) => {
                let (data, len) = payload.address();
                (self.data, self.len) = (data, len);
                if let Payload::Inline { bytes, .. } = payload {
                    self.few.0[..size_of_val(bytes)].copy_from_slice(bytes);
                    self.data = self.few.0.as_ptr();
                } else if !data.addr().is_multiple_of(ALIGNMENT) {
                    self.data = self.copy.insert(Aligned::copy_of(&payload.bytes())).as_ptr();
                }
            }
            Err(error) => {
                let text = end_in_c(error).replace('\0', " ");
                self.text = Some(CString::new(text).unwrap_or_default());
            }
        }
    }
}

/// The empty handles that a thread keeps, so that it takes and gives back most without a lock.
#[derive(Debug)]
struct Kept {
    /// Those that it has released, oldest first.
    released: VecDeque<&'static aiopool_outcome>,
    /// Those that it has taken from all threads' together.
    taken: Vec<&'static aiopool_outcome>,
}

/// As many are taken from all threads' together at once.
const REFILL: usize = 32;

/// As many released ones are kept before they go to all threads' together.
const MOST_KEPT: usize = 512;

impl Kept {
    /// Returns an empty handle, one that has been empty for a while.
    #[inline]
    fn take(&mut self) -> &'static aiopool_outcome {
        if self.released.len() > QUARANTINE
            && let Some(cell) = self.released.pop_front()
        {
            return cell;
        }
        self.taken.pop().unwrap_or_else(|| self.refill())
    }

    #[cold]
    fn refill(&mut self) -> &'static aiopool_outcome {
        OUTCOMES.take_many(REFILL, &mut self.taken);
        self.taken.pop().unwrap_or_else(|| Box::leak(Box::default()))
    }

    #[inline]
    fn give_back(&mut self, cell: &'static aiopool_outcome) {
        self.released.push_back(cell);
        if self.released.len() >= MOST_KEPT {
            OUTCOMES.give_back_all(&mut self.released);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.released.extend(self.taken.drain(..));
        OUTCOMES.give_back_all(&mut self.released);
    }
}

thread_local! {
    static KEPT: RefCell<Kept> =
        const { RefCell::new(Kept { released: VecDeque::new(), taken: Vec::new() }) };
}

/// Returns an empty handle of this thread's alone.
#[inline]
fn empty_cell() -> &'static aiopool_outcome {
    // A thread that is ending keeps none any more.
    KEPT.try_with(|kept| kept.borrow_mut().take()).unwrap_or_else(|_| OUTCOMES.take())
}

/// Drops the content of a cell that is full and the caller's alone.
#[inline]
fn empty(cell: &'static aiopool_outcome) {
    cell.state.store(EMPTY, Ordering::Relaxed);
    // SAFETY: the caller says so; the handle is dead from here on.
    let content = unsafe { &mut *cell.content.get() };
    // SAFETY: likewise.
    let full = unsafe { content.assume_init_ref() };
    if !matches!(full.arrived.outcome.result, Ok(Payload::Word { .. })) {
        // A word has nothing to drop, and nothing beside it, which the compiler does not know.
        // SAFETY: likewise.
        unsafe { content.assume_init_drop() };
    }
    if KEPT.try_with(|kept| kept.borrow_mut().give_back(cell)).is_err() {
        OUTCOMES.give_back(cell);
    }
}

/// Ends a handle that may be released; false if another thread has just done that.
#[inline]
fn release(cell: &'static aiopool_outcome) -> bool {
    // Acquire: as in `get`. Of two threads that release it, one does.
    let released = cell.state.compare_exchange(LENT, EMPTY, Ordering::Acquire, Ordering::Relaxed);
    if released.is_ok() {
        empty(cell);
    }
    released.is_ok()
}

/// Returns what a handle has that is not released.
#[inline]
fn get(outcome: Option<&aiopool_outcome>) -> Option<&Content> {
    let cell = outcome?;
    // Acquire: pairs with the Release of `lend`.
    if cell.state.load(Ordering::Acquire) != LENT {
        return None;
    }
    // SAFETY: full, and by the rule of this section no other thread releases it meanwhile.
    Some(unsafe { (*cell.content.get()).assume_init_ref() })
}

impl Content {
    #[inline]
    fn kind(&self) -> aiopool_kind {
        self.arrived.outcome.result.as_ref().err().map_or(AIOPOOL_OUTCOME_OK, kind)
    }
}

pub(super) fn kind(error: &TaskError) -> aiopool_kind {
    match error {
        TaskError::Panicked(_) => AIOPOOL_OUTCOME_PANICKED,
        TaskError::Cancelled => AIOPOOL_OUTCOME_CANCELLED,
        TaskError::TimedOut { .. } => AIOPOOL_OUTCOME_TIMED_OUT,
        TaskError::WorkerLost(_) => AIOPOOL_OUTCOME_WORKER_LOST,
        TaskError::PoolClosed { .. } => AIOPOOL_OUTCOME_POOL_CLOSED,
        TaskError::NeighbourBlocked(_) => AIOPOOL_OUTCOME_NEIGHBOUR_BLOCKED,
        _ => AIOPOOL_OUTCOME_ERR,
    }
}

ffi_fn! {
    /// Returns how the task ended: `AIOPOOL_OUTCOME_*`; `AIOPOOL_OUTCOME_NONE` for no outcome.
    fn aiopool_outcome_kind(outcome: Option<&aiopool_outcome>) -> aiopool_kind = AIOPOOL_OUTCOME_NONE => {
        get(outcome).map_or(AIOPOOL_OUTCOME_NONE, Content::kind)
    }
}

ffi_fn! {
    /// Deprecated: the name of `aiopool_outcome_kind` when four things were called a status.
    fn aiopool_outcome_status(outcome: Option<&aiopool_outcome>) -> aiopool_kind = AIOPOOL_OUTCOME_NONE => {
        get(outcome).map_or(AIOPOOL_OUTCOME_NONE, Content::kind)
    }
}

ffi_fn! {
    /// Returns the number that a C task function returned; 0 if it succeeded, or if there is none.
    fn aiopool_outcome_code(outcome: Option<&aiopool_outcome>) -> i32 = 0 => {
        match get(outcome).map(|lent| &lent.arrived.outcome.result) {
            Some(Err(TaskError::Failed(failure))) => failure.code().unwrap_or(0),
            _ => 0,
        }
    }
}

ffi_fn! {
    /// Returns the kind of error behind `AIOPOOL_OUTCOME_ERR`: `AIOPOOL_ERR_TASK` if the task
    /// function returned it, `AIOPOOL_ERR_UNKNOWN` if the worker has no such function,
    /// `AIOPOOL_ERR_OUTPUT_SPACE`, `AIOPOOL_ERR_CORRUPT` or `AIOPOOL_ERR_INVALID` (a value that
    /// cannot be encoded or decoded); else `AIOPOOL_OK`, and `AIOPOOL_ERR_HANDLE` for no outcome.
    fn aiopool_outcome_error(outcome: Option<&aiopool_outcome>) -> aiopool_status = AIOPOOL_ERR_PANIC => {
        get(outcome).map_or(AIOPOOL_ERR_HANDLE, |lent| match &lent.arrived.outcome.result {
            Err(TaskError::Failed(_)) => AIOPOOL_ERR_TASK,
            Err(TaskError::Refused(_)) => AIOPOOL_ERR_UNKNOWN,
            Err(TaskError::OutputSpace(_)) => AIOPOOL_ERR_OUTPUT_SPACE,
            Err(TaskError::Corrupt(_)) => AIOPOOL_ERR_CORRUPT,
            Err(TaskError::Value(_)) => AIOPOOL_ERR_INVALID,
            _ => AIOPOOL_OK,
        })
    }
}

ffi_fn! {
    /// Returns the payload: `aiopool_outcome_len` bytes at a multiple of 16; never NULL for an
    /// outcome that is `OK`.
    fn aiopool_outcome_data(outcome: Option<&aiopool_outcome>) -> *const c_void = std::ptr::null() => {
        get(outcome).map_or(std::ptr::null(), |lent| lent.data.cast())
    }
}

ffi_fn! {
    /// Returns the length of the payload in bytes; 0 for an outcome that is not `OK`.
    fn aiopool_outcome_len(outcome: Option<&aiopool_outcome>) -> usize = 0 => {
        get(outcome).map_or(0, |lent| lent.len)
    }
}

ffi_fn! {
    /// Returns the text of the error, earlier attempts included; empty for an outcome that is `OK`;
    /// never NULL.
    fn aiopool_outcome_text(outcome: Option<&aiopool_outcome>) -> *const c_char = c"".as_ptr() => {
        get(outcome).and_then(|lent| lent.text.as_deref().map(CStr::as_ptr)).unwrap_or(c"".as_ptr())
    }
}

ffi_fn! {
    /// Returns the ticket of the task; 0 for no outcome.
    fn aiopool_outcome_ticket(outcome: Option<&aiopool_outcome>) -> u64 = 0 => {
        get(outcome).map_or(0, |lent| lent.arrived.task)
    }
}

ffi_fn! {
    /// Returns the `user_data` of the call; 0 for no outcome.
    fn aiopool_outcome_user_data(outcome: Option<&aiopool_outcome>) -> u64 = 0 => {
        get(outcome).map_or(0, |lent| lent.arrived.token)
    }
}

ffi_fn! {
    /// Returns the number of attempts made; 0 for no outcome.
    fn aiopool_outcome_attempts(outcome: Option<&aiopool_outcome>) -> u32 = 0 => {
        get(outcome).map_or(0, |lent| lent.arrived.outcome.attempts)
    }
}

ffi_fn! {
    /// Returns whether another task is what ended this one: it held their worker, or was running
    /// when that died. False for no outcome.
    fn aiopool_outcome_is_bystander(outcome: Option<&aiopool_outcome>) -> bool = false => {
        let error = get(outcome).and_then(|lent| lent.arrived.outcome.result.as_ref().err());
        error.is_some_and(TaskError::is_bystander)
    }
}

ffi_fn! {
    /// Returns the nanoseconds from the submission to the start of the last attempt; 0 if that
    /// attempt did not end.
    fn aiopool_outcome_waited_ns(outcome: Option<&aiopool_outcome>) -> u64 = 0 => {
        get(outcome).map_or(0, |lent| lent.arrived.outcome.waited_ns)
    }
}

ffi_fn! {
    /// Returns the nanoseconds that the last attempt ran; 0 if it did not end.
    fn aiopool_outcome_ran_ns(outcome: Option<&aiopool_outcome>) -> u64 = 0 => {
        get(outcome).map_or(0, |lent| lent.arrived.outcome.ran_ns)
    }
}

ffi_fn! {
    /// Releases an outcome; what its accessors pointed to is invalid after this. NULL is accepted
    /// and does nothing.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_HANDLE` if it was released before; `AIOPOOL_ERR_FORKED`
    /// in a forked child, whose copy ends with the child.
    fn aiopool_outcome_release(outcome: Option<NonNull<aiopool_outcome>>) -> aiopool_status = at_once {
        let cell = of_handle(outcome)?;
        let content = get(Some(cell))?;
        // Memory that was lent may be given back to the system here.
        if matches!(content.arrived.outcome.result, Ok(Payload::Lent(_)))
            || content.generation != forked::generation()
        {
            return None;
        }
        release(cell).then_some(())
    } waits => {
        let Some(cell) = of_handle(outcome) else { return Ok(()) };
        let gone = || Failure::new(AIOPOOL_ERR_HANDLE, "this outcome was released");
        check_process(get(Some(cell)).ok_or_else(gone)?.generation)?;
        if release(cell) { Ok(()) } else { Err(gone()) }
    }
}
