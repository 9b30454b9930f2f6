//! Asynchronous tasks.
//!
//! A task function that returns `AIOPOOL_PENDING` leaves the worker's event loop to other tasks, up
//! to `child_concurrency` at once. It continues when an event that it requested happens. Each
//! request is for one event; the function called for the event may request the next one, or
//! complete the task.
//!
//! Thread rule: the worker's event loop, which task functions and callbacks are called on; from
//! elsewhere `AIOPOOL_ERR_NOT_IN_WORKER`, in a child of the worker `AIOPOOL_ERR_FORKED`. To
//! complete a task from another thread of the worker, call `aiopool_task_complete` there.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::boundary::Failure;
use super::handle::of_handle;
use super::pointer::out;
use super::status::*;
use super::task::{aiopool_task, check_child, with_work};
use super::work::{Event, Notify, Wait};
use crate::worker::WorkerContext;

/// The function called when an event of a pending task happens: with the events, `AIOPOOL_EVENT_*`,
/// and the `data` of the request.
pub type aiopool_event_fn =
    Option<unsafe extern "C" fn(task: *mut aiopool_task, events: u32, data: *mut c_void)>;

/// The delay of `aiopool_task_sleep` has passed.
pub const AIOPOOL_EVENT_TIMER: u32 = 1;
/// A watched descriptor can be read, has ended or has an error.
pub const AIOPOOL_EVENT_READABLE: u32 = 2;
/// A watched descriptor can be written, or has an error.
pub const AIOPOOL_EVENT_WRITABLE: u32 = 4;
/// The other tasks have had their turn since `aiopool_task_defer`.
pub const AIOPOOL_EVENT_DEFERRED: u32 = 8;
/// The task is cancelled.
pub const AIOPOOL_EVENT_CANCELLED: u32 = 16;

/// Polls one event that a pending task waits for; what has happened, if something has.
fn poll_event(event: &mut Event, context: &mut Context<'_>) -> Poll<u32> {
    match event {
        Event::Time(sleep) => sleep.as_mut().poll(context).map(|()| AIOPOOL_EVENT_TIMER),
        Event::Descriptor(fd) => {
            // An error counts as ready: the caller's own call will say what it is.
            let readable = fd.poll_read_ready(context).is_ready();
            let writable = fd.poll_write_ready(context).is_ready();
            match (readable, writable) {
                (false, false) => Poll::Pending,
                (true, false) => Poll::Ready(AIOPOOL_EVENT_READABLE),
                (false, true) => Poll::Ready(AIOPOOL_EVENT_WRITABLE),
                (true, true) => Poll::Ready(AIOPOOL_EVENT_READABLE | AIOPOOL_EVENT_WRITABLE),
            }
        }
        Event::Turn => Poll::Ready(AIOPOOL_EVENT_DEFERRED),
    }
}

/// Polls what a pending task waits for and calls it with what has happened; returns what it was
/// completed with, if it was.
pub(super) fn poll(task: &'static aiopool_task, context: &mut Context<'_>) -> Option<i32> {
    let mut waits = {
        let mut work = task.enter().ok()?;
        if work.ended.is_some() {
            return work.ended;
        }
        work.waker = None;
        std::mem::take(&mut work.waits)
    };
    let mut happened = Vec::new();
    waits.retain_mut(|wait| match poll_event(&mut wait.event, context) {
        Poll::Pending => true,
        Poll::Ready(events) => {
            happened.push((wait.notify, events));
            false
        }
    });
    let mut work = task.enter().ok()?;
    waits.append(&mut work.waits);
    work.waits = waits;
    drop(work);
    let again = !happened.is_empty();
    for (notify, events) in happened {
        if task.enter().ok()?.ended.is_some() {
            break;
        }
        notify.call(task, events);
    }
    let mut work = task.enter().ok()?;
    if work.ended.is_none() {
        work.waker = Some(context.waker().clone());
        if again {
            // What was asked for meanwhile was not looked at; others get their turn first.
            context.waker().wake_by_ref();
        }
    }
    work.ended
}

/// Calls a task's cancel function, once: the task is cancelled, or its worker leaves.
pub(super) fn cancelled(task: &'static aiopool_task) {
    let on_cancel = task.enter().ok().and_then(|mut work| {
        work.waits.clear();
        if work.ended.is_some() { None } else { work.on_cancel.take() }
    });
    if let Some(notify) = on_cancel {
        notify.call(task, AIOPOOL_EVENT_CANCELLED);
    }
}

/// Adds a request to a task that is not over.
fn wait_for(
    task: Option<NonNull<aiopool_task>>,
    function: aiopool_event_fn,
    data: *mut c_void,
    event: impl FnOnce() -> Result<Event, Failure>,
) -> Result<(), Failure> {
    let task = of_handle(task).ok_or_else(|| Failure::null("task"))?;
    let function = function.ok_or_else(|| Failure::null("function"))?;
    let notify = Notify { function, data };
    check_child()?;
    if WorkerContext::current().is_none() {
        let text = "this call is for the event loop of a worker: task functions and callbacks";
        return Err(Failure::new(AIOPOOL_ERR_NOT_IN_WORKER, text));
    }
    let waker = with_work(task, |work| {
        work.waits.push(Wait { event: event()?, notify });
        Ok(work.waker.take())
    })?;
    if let Some(waker) = waker {
        waker.wake();
    }
    Ok(())
}

ffi_fn! {
    /// Has `function` called with `AIOPOOL_EVENT_TIMER` after `delay_ms`.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_HANDLE` or
    /// `AIOPOOL_ERR_NOT_IN_WORKER`.
    fn aiopool_task_sleep(
        task: Option<NonNull<aiopool_task>>,
        delay_ms: u64,
        function: aiopool_event_fn,
        data: *mut c_void,
    ) -> aiopool_status {
        wait_for(task, function, data, || {
            let delay = Duration::from_millis(delay_ms);
            Ok(Event::Time(Box::pin(tokio::time::sleep(delay))))
        })
    }
}

ffi_fn! {
    /// Has `function` called when `fd` is ready for one of `events`, `AIOPOOL_EVENT_READABLE`,
    /// `AIOPOOL_EVENT_WRITABLE` or both; at once, if it is.
    ///
    /// `fd` stays the caller's. It should be non-blocking, and may be closed while it is watched.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_HANDLE`, `AIOPOOL_ERR_INVALID` for
    /// other events, `AIOPOOL_ERR_NOT_IN_WORKER`, or `AIOPOOL_ERR_SYSTEM` for a descriptor that is
    /// not open or cannot be watched (an ordinary file).
    fn aiopool_task_watch_fd(
        task: Option<NonNull<aiopool_task>>,
        fd: i32,
        events: u32,
        function: aiopool_event_fn,
        data: *mut c_void,
    ) -> aiopool_status {
        of_handle(task).ok_or_else(|| Failure::null("task"))?;
        let interest = match events {
            AIOPOOL_EVENT_READABLE => Interest::READABLE,
            AIOPOOL_EVENT_WRITABLE => Interest::WRITABLE,
            both if both == AIOPOOL_EVENT_READABLE | AIOPOOL_EVENT_WRITABLE => {
                Interest::READABLE | Interest::WRITABLE
            }
            other => {
                let text = format!("events = {other}: readable, writable or both are possible");
                return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
            }
        };
        wait_for(task, function, data, || {
            let refused = |error: std::io::Error| {
                Failure::new(AIOPOOL_ERR_SYSTEM, format!("cannot watch descriptor {fd}: {error}"))
            };
            if fd < 0 {
                return Err(refused(std::io::Error::from_raw_os_error(libc::EBADF)));
            }
            // SAFETY: borrowed for one system call, which answers `EBADF` if it is not open.
            let own = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().map_err(refused)?;
            // SAFETY: it owns the descriptor that it gives out, and always the same.
            let watched = unsafe { AsyncFd::register_with_interest(own, interest) };
            watched.map(Event::Descriptor).map_err(|error| refused(error.into()))
        })
    }
}

ffi_fn! {
    /// Has `function` called when the other tasks of the worker have had their turn.
    ///
    /// For a task that computes for long, piece by piece.
    ///
    /// Returns as `aiopool_task_sleep`.
    fn aiopool_task_defer(
        task: Option<NonNull<aiopool_task>>,
        function: aiopool_event_fn,
        data: *mut c_void,
    ) -> aiopool_status {
        wait_for(task, function, data, || Ok(Event::Turn))
    }
}

ffi_fn! {
    /// Has `function` called with `AIOPOOL_EVENT_CANCELLED` if the task is cancelled while it is
    /// pending: by the host, by its deadline, or because the worker leaves.
    ///
    /// `function` frees what the task holds. The outcome is already decided, and the task's and the
    /// output's handle are invalid after it. A second function replaces the first; NULL removes it.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
    fn aiopool_task_on_cancel(
        task: Option<NonNull<aiopool_task>>,
        function: aiopool_event_fn,
        data: *mut c_void,
    ) -> aiopool_status {
        let task = of_handle(task).ok_or_else(|| Failure::null("task"))?;
        with_work(task, |work| {
            work.on_cancel = function.map(|function| Notify { function, data });
            Ok(())
        })
    }
}

ffi_fn! {
    /// Writes the number of the worker that the caller runs in: its seat in the pool, from 0 on.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NOT_IN_WORKER`.
    fn aiopool_worker_id(worker_out: Option<&mut MaybeUninit<u32>>) -> aiopool_status {
        let worker_out = out("worker_out", worker_out)?;
        let worker = WorkerContext::current().ok_or_else(|| {
            Failure::new(AIOPOOL_ERR_NOT_IN_WORKER, "the caller does not run in a worker")
        })?;
        worker_out.write(worker.worker_id());
        Ok(())
    }
}
