//! Inside of a task.
//!
//! What a task function can do with its `aiopool_task` and `aiopool_output`. Both are valid until
//! the function returns, or, if it returns `AIOPOOL_PENDING`, until the task is completed or its
//! cancel callback has returned; later calls with them return `AIOPOOL_ERR_HANDLE`.
//!
//! Thread rule: the worker's event loop, which is the thread that task functions and callbacks
//! are called on. `aiopool_task_complete` and the output functions are callable from other
//! threads of the worker, too.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::task::Waker;

use super::boundary::Failure;
use super::handle::{Cell, Cells};
use super::pointer::{Out, bytes, out, text};
use super::status::*;
use super::waits::{Told, Wait};

/// A task, as its function sees it.
#[derive(Debug, Default)]
pub struct aiopool_task {
    output: aiopool_output,
}

/// Where a task function writes its output.
#[derive(Debug)]
pub struct aiopool_output(Cell<Work>);

impl Default for aiopool_output {
    fn default() -> Self {
        Self(Cell::empty())
    }
}

impl Deref for aiopool_task {
    type Target = Cell<Work>;

    fn deref(&self) -> &Cell<Work> {
        &self.output.0
    }
}

/// Everything that belongs to one call of a task function.
#[derive(Debug, Default)]
pub struct Work {
    /// What it was called with, for as long as it is pending.
    pub(super) input: Vec<u8>,
    pub(super) bytes: Vec<u8>,
    pub(super) error: Option<String>,
    /// What the function returned, or was completed with.
    pub(super) ended: Option<i32>,
    pub(super) waker: Option<Waker>,
    /// What a pending task waits for.
    pub(super) waits: Vec<Wait>,
    pub(super) on_cancel: Option<Told>,
}

thread_local! {
    /// Cells of tasks that are over, for the next ones.
    static CELLS: RefCell<Cells<aiopool_task>> = const { RefCell::new(Cells::new()) };
}

impl aiopool_task {
    /// The handle of a task that begins.
    pub(super) fn begin(work: Work) -> &'static Self {
        CELLS.with_borrow(|cells| cells.put(work))
    }

    /// The task is over: the handle is dead from here on.
    pub(super) fn end(&'static self) -> Option<Work> {
        let work = self.lock().take();
        CELLS.with_borrow(|cells| cells.give_back(self));
        work
    }

    pub(super) fn output(&self) -> &aiopool_output {
        &self.output
    }
}

fn dead() -> Failure {
    Failure::new(AIOPOOL_ERR_HANDLE, "the task of this handle is over")
}

/// Does something with a task that is not over.
pub(super) fn with_work<T>(
    cell: &Cell<Work>,
    f: impl FnOnce(&mut Work) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut work = cell.lock();
    f(work.as_mut().filter(|work| work.ended.is_none()).ok_or_else(dead)?)
}

ffi_fn! {
    /// Appends `len` bytes at `data` to the output.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
    fn aiopool_output_write(
        output: Option<&aiopool_output>,
        data: *const c_void,
        len: usize,
    ) -> aiopool_status {
        let output = output.ok_or_else(|| Failure::null("output"))?;
        // SAFETY: the caller gives `len` bytes.
        let data = unsafe { bytes("data", data, len) }?;
        with_work(&output.0, |work| {
            work.bytes.extend_from_slice(data);
            Ok(())
        })
    }
}

ffi_fn! {
    /// Appends `len` bytes to the output, for the caller to fill in: they are 0 now.
    ///
    /// `data_out` is valid until the next call that writes to this output.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
    fn aiopool_output_reserve(
        output: Option<&aiopool_output>,
        len: usize,
        data_out: Option<&mut MaybeUninit<*mut c_void>>,
    ) -> aiopool_status {
        let output = output.ok_or_else(|| Failure::null("output"))?;
        let data_out: &mut _ = out("data_out", data_out as Out<'_, *mut c_void>)?;
        with_work(&output.0, |work| {
            let at = work.bytes.len();
            work.bytes.resize(at + len, 0);
            data_out.write(work.bytes[at..].as_mut_ptr().cast());
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
        task: Option<&aiopool_task>,
        error: *const c_char,
    ) -> aiopool_status {
        let task = task.ok_or_else(|| Failure::null("task"))?;
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
    /// `result` is what the function would have returned: 0, or a number for an error. Both
    /// handles are dead after this.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_INVALID` (`AIOPOOL_PENDING` is no
    /// end) or `AIOPOOL_ERR_HANDLE` (ended before).
    /// Thread rule: callable from every thread of the worker.
    fn aiopool_task_complete(task: Option<&aiopool_task>, result: i32) -> aiopool_status {
        let task = task.ok_or_else(|| Failure::null("task"))?;
        if result == super::AIOPOOL_PENDING {
            return Err(Failure::new(AIOPOOL_ERR_INVALID, "AIOPOOL_PENDING is no way to end"));
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
