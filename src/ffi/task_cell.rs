//! The cell behind the handles of a task: of one thread while no task has it, then of one call at a
//! time.
//!
//! A worker begins and ends millions of tasks a second, each in a cell, so this is no mutex: a call
//! that enters is one locked instruction instead of two, and beginning a task is none. Calls are
//! short, so a thread that finds another one in a call sleeps for a moment, and looks again.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::boundary::Failure;
use super::handle::check_process;
use super::status::AIOPOOL_ERR_HANDLE;
use super::work::Work;
use crate::sys::forked;

/// What belongs to one task at a time, or to none.
#[derive(Debug)]
pub struct TaskCell<H> {
    /// [`OVER`], [`FREE`] or [`BUSY`].
    state: AtomicU32,
    /// The process that began its task, by `forked::generation`.
    owner: AtomicU32,
    /// Blank while no task has it, but for memory that the next one uses.
    work: UnsafeCell<Work<H>>,
}

/// No task has it: no call enters.
const OVER: u32 = 0;
/// A task has it, and no call is in it.
const FREE: u32 = 1;
/// A call is in it.
const BUSY: u32 = 2;

/// How long a call sleeps that finds another one in the cell.
const MOMENT: Duration = Duration::from_micros(20);

// SAFETY: the work is reached by the thread that begins a task in a cell that is over, and then by
// the one call that has made it busy. What C's pointers in it lead to is C's own matter.
unsafe impl<H> Sync for TaskCell<H> {}

impl<H> Default for TaskCell<H> {
    fn default() -> Self {
        Self {
            state: AtomicU32::new(OVER),
            owner: AtomicU32::new(0),
            work: UnsafeCell::new(Work::default()),
        }
    }
}

impl<H> TaskCell<H> {
    /// Begins a task, whose work `prepare` has the first word about.
    ///
    /// # Safety
    ///
    /// The cell is over, and the caller's alone.
    #[inline]
    pub(super) unsafe fn begin(&self, prepare: impl FnOnce(&mut Work<H>)) {
        // SAFETY: no call enters a cell that is over, and no other thread begins a task in it.
        prepare(unsafe { &mut *self.work.get() });
        // Relaxed: a thread that has the handle got it from this one.
        self.owner.store(forked::generation(), Ordering::Relaxed);
        // Release: pairs with the Acquire of `enter`, also by a handle of a task before.
        self.state.store(FREE, Ordering::Release);
    }

    /// Enters the cell for a call, which other calls wait for.
    ///
    /// # Errors
    ///
    /// `AIOPOOL_ERR_HANDLE` if the task is over, `AIOPOOL_ERR_FORKED` in a child of its process.
    #[inline]
    pub(super) fn enter(&self) -> Result<Entered<'_, H>, Failure> {
        // First: in a child, the call of a thread that does not exist there may be in the cell.
        check_process(self.owner.load(Ordering::Relaxed))?;
        loop {
            // Acquire: pairs with the Release of `begin` and of the call before.
            let entered =
                self.state.compare_exchange(FREE, BUSY, Ordering::Acquire, Ordering::Relaxed);
            match entered {
                Ok(_) => return Ok(Entered(self)),
                Err(OVER) => return Err(over()),
                Err(_) => std::thread::sleep(MOMENT),
            }
        }
    }
}

/// Returns the answer to a call with a handle whose task is over.
#[cold]
pub(super) fn over() -> Failure {
    Failure::new(AIOPOOL_ERR_HANDLE, "the task of this handle is over")
}

/// A call that is in a cell.
#[derive(Debug)]
pub struct Entered<'c, H>(&'c TaskCell<H>);

impl<H> Entered<'_, H> {
    /// Ends the task, whose work is blank: the cell is the caller's alone from here on.
    #[inline]
    pub(super) fn end(self) {
        // Release: pairs with the Acquire of `enter` in the cell's next life.
        self.0.state.store(OVER, Ordering::Release);
        std::mem::forget(self);
    }
}

impl<H> Drop for Entered<'_, H> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire of `enter`. A store: nobody else changes a busy cell.
        self.0.state.store(FREE, Ordering::Release);
    }
}

impl<H> Deref for Entered<'_, H> {
    type Target = Work<H>;

    #[inline]
    fn deref(&self) -> &Work<H> {
        // SAFETY: this call alone is in the cell.
        unsafe { &*self.0.work.get() }
    }
}

impl<H> DerefMut for Entered<'_, H> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Work<H> {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.0.work.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_is_in_a_cell_at_a_time_and_none_after_its_task() {
        const CALLS: usize = 1_000;
        let cell = TaskCell::<()>::default();
        assert_eq!(cell.enter().unwrap_err().status, AIOPOOL_ERR_HANDLE);
        // SAFETY: it was just made.
        unsafe { cell.begin(|work| work.ended = None) };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..CALLS).for_each(|_| cell.enter().unwrap().bytes.push(1)));
            }
        });
        let work = cell.enter().unwrap();
        assert_eq!(work.bytes.len(), 2 * CALLS);
        work.end();
        assert_eq!(cell.enter().unwrap_err().status, AIOPOOL_ERR_HANDLE);
    }
}
