//! Everything that belongs to one call of a task function, `H` being its handle.

use std::ffi::c_void;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::Waker;

use tokio::io::unix::AsyncFd;
use tokio::time::Sleep;

use super::aligned::Aligned;
use crate::worker::OutputLoan;

/// What a task function returns that will complete its task later: `AIOPOOL_PENDING`.
pub(super) const PENDING: i32 = 1;

/// A call of a task function.
#[derive(Debug)]
pub struct Work<H> {
    /// What it was called with, for as long as it is pending; none if that stays where it is or has
    /// room in the handle.
    pub(super) input: Aligned,
    pub(super) bytes: Vec<u8>,
    /// The memory that it fills in place, instead of `bytes`.
    pub(super) loan: Option<OutputLoan>,
    pub(super) error: Option<String>,
    /// What the function returned, or was completed with.
    pub(super) ended: Option<i32>,
    pub(super) waker: Option<Waker>,
    /// What a pending task waits for.
    pub(super) waits: Vec<Wait<H>>,
    pub(super) on_cancel: Option<Notify<H>>,
}

// By hand: a derive would ask for a default handle.
impl<H> Default for Work<H> {
    fn default() -> Self {
        Self {
            input: Aligned::default(),
            bytes: Vec::new(),
            loan: None,
            error: None,
            ended: None,
            waker: None,
            waits: Vec::new(),
            on_cancel: None,
        }
    }
}

impl<H> Work<H> {
    /// Makes it blank, but for its bytes and the memory of its lists.
    #[inline]
    pub(super) fn clear(&mut self) {
        let Self { input, bytes: _, loan, error, ended, waker, waits, on_cancel } = self;
        (*loan, *error, *ended, *waker, *on_cancel) = (None, None, None, None, None);
        *input = Aligned::default();
        waits.clear();
    }
}

/// Whom to call with an event of a task.
#[derive(Debug)]
pub struct Notify<H> {
    pub(super) function: unsafe extern "C" fn(*mut H, u32, *mut c_void),
    pub(super) data: *mut c_void,
}

impl<H> Clone for Notify<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Notify<H> {}

impl<H> Notify<H> {
    /// Calls the function with what has happened.
    pub(super) fn call(self, task: &'static H, events: u32) {
        // SAFETY: the task function gave both for this call; the handle is valid as long as its
        // memory, which is for ever, and nothing of ours is locked.
        unsafe { (self.function)(std::ptr::from_ref(task).cast_mut(), events, self.data) }
    }
}

/// One event that a pending task waits for.
#[derive(Debug)]
pub struct Wait<H> {
    pub(super) event: Event,
    pub(super) notify: Notify<H>,
}

/// What can happen to a pending task.
#[derive(Debug)]
pub(super) enum Event {
    Time(Pin<Box<Sleep>>),
    /// A duplicate, so that closing the caller's own does no harm.
    Descriptor(AsyncFd<OwnedFd>),
    Turn,
}
