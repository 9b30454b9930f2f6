//! Inside of a task.
//!
//! What a task function can do with its `aiopool_task` and `aiopool_output`. Both are valid until
//! the function returns, or, if it returns `AIOPOOL_PENDING`, until the task is completed or its
//! cancel callback has returned; later calls with them return `AIOPOOL_ERR_HANDLE`.
//!
//! Thread rule: the worker's event loop, which is the thread that task functions and callbacks
//! are called on. `aiopool_task_complete` and the output functions are callable from other
//! threads of the worker, too.

use std::cell::{RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;

use super::aligned::{ALIGNMENT, Aligned};
use super::boundary::Failure;
use super::handle::{Cells, of_handle, rested};
use super::pointer::{Out, bytes, out, text};
use super::status::*;
use super::task_cell::{TaskCell, over};
use super::work::{PENDING, Work};
use crate::arena::AllocError;
use crate::sys::forked;
use crate::table::INLINE_INPUT;
use crate::task::entry::Output;
use crate::worker::{self, LoanError, TaskContext};

/// A task, as its function gets it.
#[derive(Debug, Default)]
pub struct aiopool_task {
    output: aiopool_output,
    /// An input that is small and does not stay where it was, for a function that returns
    /// `AIOPOOL_PENDING`: in the handle, so that it needs no allocation.
    input: UnsafeCell<SmallInput>,
}

/// As many bytes as a record holds, at a multiple of 16.
#[derive(Debug)]
#[repr(align(16))]
struct SmallInput([u8; INLINE_INPUT]);
const _: () = assert!(align_of::<SmallInput>() == ALIGNMENT);

impl Default for SmallInput {
    fn default() -> Self {
        Self([0; INLINE_INPUT])
    }
}

/// Where a task function writes its output.
#[derive(Debug, Default)]
pub struct aiopool_output(TaskCell<aiopool_task>);

impl Deref for aiopool_task {
    type Target = TaskCell<aiopool_task>;

    fn deref(&self) -> &TaskCell<aiopool_task> {
        &self.output.0
    }
}

/// The generation of no process.
const NONE: u32 = u32::MAX;

/// What tasks that are over leave to the next ones on this thread.
struct Over {
    /// The process that left it, by `forked::generation`: its child uses none of it.
    generation: u32,
    /// Their cells, oldest first.
    cells: VecDeque<&'static aiopool_task>,
    /// Empty, kept for its memory.
    bytes: Vec<u8>,
}

/// The cells of threads that have ended, for the next ones.
static TASKS: Cells<aiopool_task> = Cells::new();

impl Drop for Over {
    fn drop(&mut self) {
        if self.generation == forked::generation() {
            TASKS.give_back_all(&mut self.cells);
        }
    }
}

thread_local! {
    static OVER: RefCell<Over> =
        const { RefCell::new(Over { generation: NONE, cells: VecDeque::new(), bytes: Vec::new() }) };
}

impl aiopool_task {
    /// Returns the handle of a task that begins, and has `ended` if that says so.
    #[inline]
    pub(super) fn begin(ended: Option<i32>) -> &'static Self {
        OVER.with_borrow_mut(|over| {
            let generation = forked::generation();
            if over.generation != generation {
                over.generation = generation;
                over.cells.clear();
                TASKS.take_all(&mut over.cells);
            }
            let cell = rested(&mut over.cells);
            let prepare = |work: &mut Work<Self>| {
                work.bytes = std::mem::take(&mut over.bytes);
                work.ended = ended;
            };
            // SAFETY: a new one, or one that `is_over` had from the call that ended its task, and
            // that was taken out of the only list of it.
            unsafe { cell.begin(prepare) };
            cell
        })
    }

    /// Copies the input of a task that begins, and returns where the copy is until the task's end.
    #[inline]
    pub(super) fn keep(&'static self, input: &[u8]) -> *const u8 {
        if input.len() > INLINE_INPUT {
            return self.keep_large(input);
        }
        // SAFETY: it has room, and nobody has the new handle yet. Any bytes may be there.
        unsafe {
            let kept = (&raw mut (*self.input.get()).0).cast::<u8>();
            std::ptr::copy_nonoverlapping(input.as_ptr(), kept, input.len());
            kept
        }
    }

    #[cold]
    fn keep_large(&'static self, input: &[u8]) -> *const u8 {
        let copy = Aligned::copy_of(input);
        let kept = copy.as_ptr();
        let _ = with_work(self, |work| {
            work.input = copy;
            Ok(())
        });
        kept
    }

    /// Ends a task whose function returned `result`, if that is a value in bytes, which `output`
    /// gets. False, and nothing is done, for any other.
    pub(super) fn end_at_once(&'static self, result: i32, output: &mut Output) -> bool {
        let Ok(mut work) = self.enter() else { return false };
        if work.ended.unwrap_or(result) != 0 || work.loan.is_some() {
            return false;
        }
        output.clear();
        std::mem::swap(&mut output.bytes, &mut work.bytes);
        let bytes = std::mem::take(&mut work.bytes);
        work.clear();
        work.end();
        self.is_over(bytes);
        true
    }

    /// Notes what the function returned, unless the task was completed before.
    pub(super) fn set_ended(&self, result: i32) {
        let _ = with_work(self, |work| {
            work.ended = Some(result);
            Ok(())
        });
    }

    /// The cell is over; `bytes`, which are empty, are kept for their memory.
    fn is_over(&'static self, bytes: Vec<u8>) {
        OVER.with_borrow_mut(|over| {
            over.cells.push_back(self);
            over.bytes = bytes;
        });
    }

    /// The task is over: the handle is dead from here on.
    pub(super) fn end(&'static self) -> Option<Work<aiopool_task>> {
        let mut entered = self.enter().ok()?;
        let work = std::mem::take(&mut *entered);
        entered.end();
        self.is_over(Vec::new());
        Some(work)
    }

    pub(super) fn output(&self) -> &aiopool_output {
        &self.output
    }
}

/// Does something with a task that is not over.
pub(super) fn with_work<T>(
    cell: &TaskCell<aiopool_task>,
    f: impl FnOnce(&mut Work<aiopool_task>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut work = cell.enter()?;
    if work.ended.is_some() {
        return Err(over());
    }
    f(&mut work)
}

/// Returns the output, with room for `len` more bytes.
fn room(work: &mut Work<aiopool_task>, len: usize) -> Result<&mut Vec<u8>, Failure> {
    if work.loan.is_some() {
        let text = "this output stands in borrowed memory: write there";
        return Err(Failure::new(AIOPOOL_ERR_MISUSE, text));
    }
    if work.bytes.try_reserve(len).is_err() {
        let text = format!("there is no memory for an output of {len} bytes more");
        return Err(Failure::new(AIOPOOL_ERR_SYSTEM, text));
    }
    Ok(&mut work.bytes)
}

/// Refuses a call in a child that a task has forked.
pub(super) fn check_child() -> Result<(), Failure> {
    if worker::in_child() {
        let text = "this process was forked by a task, and is not its worker";
        return Err(Failure::new(AIOPOOL_ERR_FORKED, text));
    }
    Ok(())
}

/// Returns why `len` bytes of the result arena cannot be borrowed.
pub(super) fn no_loan(len: usize, error: LoanError) -> Failure {
    match error {
        LoanError::Misuse(text) => Failure::new(AIOPOOL_ERR_MISUSE, text),
        LoanError::Arena(AllocError::Full) => {
            let text = format!("{len} bytes found no room beside other outputs");
            Failure::new(AIOPOOL_ERR_FULL, text)
        }
        LoanError::Arena(AllocError::TooLarge) => {
            let text = format!("{len} bytes are more than a worker has: raise output_arena");
            Failure::new(AIOPOOL_ERR_TOO_LARGE, text)
        }
        LoanError::Arena(AllocError::Reserve(error)) => {
            let text = format!("the system has no memory for {len} bytes: {error}");
            Failure::new(AIOPOOL_ERR_SYSTEM, text)
        }
    }
}

/// Appends `len` bytes at `data` to `output`.
///
/// # Safety
///
/// `data` is NULL or has `len` bytes.
unsafe fn append(
    output: Option<NonNull<aiopool_output>>,
    data: *const c_void,
    len: usize,
) -> Result<(), Failure> {
    let output = of_handle(output).ok_or_else(|| Failure::null("output"))?;
    // SAFETY: as the caller says.
    let data = unsafe { bytes("data", data, len) }?;
    with_work(&output.0, |work| {
        room(work, data.len())?.extend_from_slice(data);
        Ok(())
    })
}

ffi_fn! {
    /// Appends `len` bytes at `data` to the output.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_HANDLE`; `AIOPOOL_ERR_MISUSE` after
    /// `aiopool_output_loan`; `AIOPOOL_ERR_SYSTEM` if memory has run out.
    fn aiopool_output_write(
        output: Option<NonNull<aiopool_output>>,
        data: *const c_void,
        len: usize,
    ) -> aiopool_status = at_once {
        // SAFETY: the caller gives `len` bytes.
        unsafe { append(output, data, len) }.ok()
    } waits => {
        // SAFETY: the caller gives `len` bytes.
        unsafe { append(output, data, len) }
    }
}

ffi_fn! {
    /// Appends `len` zero bytes to the output, for the caller to fill in.
    ///
    /// `data_out` is valid until the next call that writes to this output.
    ///
    /// Returns as `aiopool_output_write`.
    fn aiopool_output_reserve(
        output: Option<NonNull<aiopool_output>>,
        len: usize,
        data_out: Option<&mut MaybeUninit<*mut c_void>>,
    ) -> aiopool_status {
        let output = of_handle(output).ok_or_else(|| Failure::null("output"))?;
        let data_out: &mut _ = out("data_out", data_out as Out<'_, *mut c_void>)?;
        with_work(&output.0, |work| {
            let bytes = room(work, len)?;
            let at = bytes.len();
            bytes.resize(at + len, 0);
            data_out.write(bytes[at..].as_mut_ptr().cast());
            Ok(())
        })
    }
}

ffi_fn! {
    /// Borrows `len` bytes of the memory that the host reads outputs from, as this task's output,
    /// which saves the worker's copy. Their initial content is undefined.
    ///
    /// `data_out` is valid until the task is over. Call this at most once a task, instead of
    /// `aiopool_output_write` and `aiopool_output_reserve`. It pays for outputs of many kilobytes.
    /// If the output is shorter than `len`, call `aiopool_output_trim`. The host saves its own copy
    /// if it submits with `AIOPOOL_CALL_BORROW_OUTPUT`.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_HANDLE`; `AIOPOOL_ERR_INVALID` if
    /// `len` is 0; `AIOPOOL_ERR_MISUSE` if the output has bytes or memory already;
    /// `AIOPOOL_ERR_FULL` if other outputs take the memory now (use `aiopool_output_write`, which
    /// waits for room); `AIOPOOL_ERR_TOO_LARGE` for more than `output_arena` has;
    /// `AIOPOOL_ERR_SYSTEM`; `AIOPOOL_ERR_NOT_IN_WORKER` on another thread than the worker's event
    /// loop; `AIOPOOL_ERR_FORKED` in a child of the worker.
    fn aiopool_output_loan(
        output: Option<NonNull<aiopool_output>>,
        len: usize,
        data_out: Option<&mut MaybeUninit<*mut c_void>>,
    ) -> aiopool_status {
        let output = of_handle(output).ok_or_else(|| Failure::null("output"))?;
        let data_out: &mut _ = out("data_out", data_out as Out<'_, *mut c_void>)?;
        if len == 0 {
            return Err(Failure::new(AIOPOOL_ERR_INVALID, "len = 0: nothing can be borrowed"));
        }
        with_work(&output.0, |work| {
            if work.loan.is_some() || !work.bytes.is_empty() {
                let text = "this output has bytes or borrowed memory already";
                return Err(Failure::new(AIOPOOL_ERR_MISUSE, text));
            }
            check_child()?;
            let arena = worker::arena_of_this_worker().ok_or_else(|| {
                let text = "memory for outputs is borrowed on the worker's event loop";
                Failure::new(AIOPOOL_ERR_NOT_IN_WORKER, text)
            })?;
            let loan = arena.loan(len).map_err(|error| no_loan(len, LoanError::Arena(error)))?;
            data_out.write(work.loan.insert(loan).data().cast());
            Ok(())
        })
    }
}

ffi_fn! {
    /// Shortens an output in borrowed memory to its first `len` bytes.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_HANDLE`; `AIOPOOL_ERR_MISUSE` if
    /// nothing is borrowed; `AIOPOOL_ERR_INVALID` if fewer than `len` bytes are.
    fn aiopool_output_trim(output: Option<NonNull<aiopool_output>>, len: usize) -> aiopool_status {
        let output = of_handle(output).ok_or_else(|| Failure::null("output"))?;
        with_work(&output.0, |work| {
            let Some(loan) = &mut work.loan else {
                return Err(Failure::new(AIOPOOL_ERR_MISUSE, "this output has borrowed no memory"));
            };
            if len > loan.len() {
                let text = format!("len = {len}: the output has {}", loan.len());
                return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
            }
            loan.trim(len);
            Ok(())
        })
    }
}

ffi_fn! {
    /// Sets the text of the error that the task is about to end with; `text` is copied.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_INVALID` (not UTF-8) or
    /// `AIOPOOL_ERR_HANDLE`.
    fn aiopool_task_set_error(
        task: Option<NonNull<aiopool_task>>,
        error: *const c_char,
    ) -> aiopool_status {
        let task = of_handle(task).ok_or_else(|| Failure::null("task"))?;
        // SAFETY: the caller gives a C string or NULL.
        let error = unsafe { text("error", error) }?;
        with_work(task, |work| {
            work.error = Some(error.to_owned());
            Ok(())
        })
    }
}

ffi_fn! {
    /// Ends a task whose function has returned or will return `AIOPOOL_PENDING`.
    ///
    /// `result` is what the function would have returned: 0, or a number for an error. The task's
    /// and the output's handle are invalid after this.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_INVALID` (`AIOPOOL_PENDING` does not
    /// end a task) or `AIOPOOL_ERR_HANDLE` (ended before).
    /// Thread rule: callable from every thread of the worker.
    fn aiopool_task_complete(task: Option<NonNull<aiopool_task>>, result: i32) -> aiopool_status {
        let task = of_handle(task).ok_or_else(|| Failure::null("task"))?;
        if result == PENDING {
            return Err(Failure::new(AIOPOOL_ERR_INVALID, "AIOPOOL_PENDING does not end a task"));
        }
        let waker = with_work(task, |work| {
            work.ended = Some(result);
            Ok(work.waker.take())
        })?;
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

ffi_fn! {
    /// Returns whether the task that calls was cancelled or ran out of time: its outcome is
    /// decided, and what it returns is dropped. A function that computes for long asks from time
    /// to time, which costs a few loads.
    ///
    /// False for NULL, for a task that is over, and on other threads than the worker's event loop.
    fn aiopool_task_is_cancelled(task: Option<NonNull<aiopool_task>>) -> bool = false => {
        let is_running = of_handle(task).is_some_and(|task| with_work(task, |_| Ok(())).is_ok());
        is_running && worker::is_cancelled()
    }
}

ffi_fn! {
    /// Returns the number of this attempt of the task that calls, from 1; above 65,536 it stays.
    ///
    /// 0 for NULL, for a task that is over, and on other threads than the worker's event loop.
    fn aiopool_task_attempt(task: Option<NonNull<aiopool_task>>) -> u32 = 0 => {
        let is_running = of_handle(task).is_some_and(|task| with_work(task, |_| Ok(())).is_ok());
        let context = if is_running { TaskContext::current() } else { None };
        context.map_or(0, |context| context.attempt())
    }
}

ffi_fn! {
    /// Says how far the task is, in a unit of its own: for `aiopool_pool_progress` in the host.
    ///
    /// Costs one store. The host reads the last number, and nothing of those before.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE` (the task is over);
    /// `AIOPOOL_ERR_MISUSE` on other threads than the worker's event loop.
    fn aiopool_task_progress(task: Option<NonNull<aiopool_task>>, number: u64) -> aiopool_status {
        let task = of_handle(task).ok_or_else(|| Failure::null("task"))?;
        with_work(task, |_| Ok(()))?;
        if worker::progress(number) {
            return Ok(());
        }
        let text = "only the thread of the worker's event loop says how far its task is";
        Err(Failure::new(AIOPOOL_ERR_MISUSE, text))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Begins and ends tasks one after another, and returns where their handles were.
    fn handles(tasks: usize) -> HashSet<usize> {
        let one = |_| {
            let task = aiopool_task::begin(Some(0));
            assert!(task.end_at_once(0, &mut Output::default()));
            std::ptr::from_ref(task) as usize
        };
        (0..tasks).map(one).collect()
    }

    #[test]
    fn handles_of_a_thread_that_has_ended_are_used_again() {
        let of = |tasks| std::thread::spawn(move || handles(tasks)).join().unwrap();
        let first = of(1_000);
        assert!(first.len() < 100, "a thread uses its own again: {}", first.len());
        assert!(!first.is_disjoint(&of(1_000)));
    }
}
