//! Workers and queues at one moment.
//!
//! Thread rule: as for pools. The numbers have the names that `aiopool_pool_snapshot` gives them.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::boundary::Failure;
use super::pointer::out;
use super::pool::{aiopool_pool, pool_of};
use super::status::*;
use crate::view::{QueueView, State, WorkerView};

/// A number that the system hides, or that there is none of now.
pub const AIOPOOL_UNKNOWN: u64 = u64::MAX;

/// Its init function has not returned.
pub const AIOPOOL_STATE_STARTING: u32 = 0;
/// Nothing to do; it sleeps until the host wakes it.
pub const AIOPOOL_STATE_IDLE: u32 = 1;
/// Nothing in flight; it looks for a task.
pub const AIOPOOL_STATE_SEARCHING: u32 = 2;
/// Between two polls of its tasks.
pub const AIOPOOL_STATE_BUSY: u32 = 3;
/// It runs a task's code.
pub const AIOPOOL_STATE_POLLING: u32 = 4;
/// It has done so for 100 ms or longer, and its other tasks wait.
pub const AIOPOOL_STATE_BLOCKED: u32 = 5;
/// It sleeps; its tasks wait for something.
pub const AIOPOOL_STATE_WAITING: u32 = 6;
/// It takes no more tasks and finishes what it has.
pub const AIOPOOL_STATE_RETIRING: u32 = 7;
/// It is about to leave, or its init function has failed.
pub const AIOPOOL_STATE_LEAVING: u32 = 8;
/// A signal or a debugger has stopped it.
pub const AIOPOOL_STATE_STOPPED: u32 = 9;

/// A worker process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_worker_view {
    /// Its seat in the pool; the process that replaces it has the same one.
    pub seat: u32,
    /// Its process id.
    pub pid: u32,
    /// The queue that it serves.
    pub queue: u32,
    /// What it is doing, `AIOPOOL_STATE_*`.
    pub state: u32,
    /// For how long at least it has run a task's code without a pause, in nanoseconds;
    /// `AIOPOOL_UNKNOWN` if it does not.
    pub polling_ns: u64,
    /// Nanoseconds since it was ordered.
    pub age_ns: u64,
    /// Tasks that this process has finished.
    pub done: u64,
    /// Tasks that it has.
    pub in_flight: u64,
    /// Processor time of this process in nanoseconds, or `AIOPOOL_UNKNOWN`.
    pub cpu_ns: u64,
    /// Bytes of memory that it uses, shared pages included, or `AIOPOOL_UNKNOWN`.
    pub rss_bytes: u64,
    /// The same with each shared page divided among its users; measured now and then.
    pub pss_bytes: u64,
    /// Processes that had this seat before it.
    pub restarts: u64,
}

/// A queue.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_queue_view {
    /// Its number.
    pub queue: u32,
    /// Workers alive that serve it.
    pub workers: u32,
    /// Tasks that no worker has taken, approximately, by priority class: the most urgent first.
    pub depth: [u64; 4],
    /// Tasks without an outcome.
    pub pending: u64,
    /// How long the task at the head of the queue has waited, in nanoseconds, or
    /// `AIOPOOL_UNKNOWN`.
    pub oldest_ns: u64,
    /// Tasks that it has room for.
    pub records: u64,
    /// Records that are free.
    pub free_records: u64,
    /// Bytes of memory that its workers' outputs have taken from the system; of what is free
    /// again up to 16 MiB a worker are among them.
    pub output_bytes: u64,
}

impl aiopool_worker_view {
    fn of(worker: &WorkerView) -> Self {
        let state = match worker.state {
            State::Starting => AIOPOOL_STATE_STARTING,
            State::Idle => AIOPOOL_STATE_IDLE,
            State::Searching => AIOPOOL_STATE_SEARCHING,
            State::Busy => AIOPOOL_STATE_BUSY,
            State::Polling => AIOPOOL_STATE_POLLING,
            State::Blocked => AIOPOOL_STATE_BLOCKED,
            State::Waiting => AIOPOOL_STATE_WAITING,
            State::Retiring => AIOPOOL_STATE_RETIRING,
            State::Leaving => AIOPOOL_STATE_LEAVING,
            State::Stopped => AIOPOOL_STATE_STOPPED,
        };
        Self {
            seat: worker.seat,
            pid: worker.pid,
            queue: worker.queue,
            state,
            polling_ns: worker.polling_ns.unwrap_or(AIOPOOL_UNKNOWN),
            age_ns: worker.age_ns,
            done: worker.done,
            in_flight: worker.in_flight,
            cpu_ns: worker.cpu_ns.unwrap_or(AIOPOOL_UNKNOWN),
            rss_bytes: worker.rss_bytes.unwrap_or(AIOPOOL_UNKNOWN),
            pss_bytes: worker.pss_bytes.unwrap_or(AIOPOOL_UNKNOWN),
            restarts: worker.restarts,
        }
    }
}

impl aiopool_queue_view {
    fn of(queue: &QueueView) -> Self {
        let depth = std::array::from_fn(|class| queue.depth.get(class).copied().unwrap_or(0));
        Self {
            queue: queue.queue,
            workers: u32::try_from(queue.workers).unwrap_or(u32::MAX),
            depth,
            pending: queue.pending,
            oldest_ns: queue.oldest_ns.unwrap_or(AIOPOOL_UNKNOWN),
            records: queue.records,
            free_records: queue.free_records,
            output_bytes: queue.output_bytes,
        }
    }
}

ffi_fn! {
    /// Gives what the workers are doing, by seat: up to `max` of them to `views_out`, an array of
    /// structs of `view_size` bytes each, `sizeof(aiopool_worker_view)`; and how many there are to
    /// `count_out`. `views_out` may be NULL if `max` is 0.
    ///
    /// Fields that this version of the library does not know are left alone.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_STRUCT` for a size that no version
    /// has.
    fn aiopool_pool_worker_views(
        pool: Option<NonNull<aiopool_pool>>,
        views_out: *mut aiopool_worker_view,
        view_size: usize,
        max: usize,
        count_out: Option<&mut MaybeUninit<usize>>,
    ) -> aiopool_status {
        let count_out: &mut _ = out("count_out", count_out)?;
        check_room("aiopool_worker_view", views_out, view_size, max)?;
        let workers = pool_of(pool)?.pool().snapshot().workers;
        let views = workers.iter().map(aiopool_worker_view::of);
        // SAFETY: the caller gives room for `max` structs of that size.
        unsafe { give(views, views_out, view_size, max) };
        count_out.write(workers.len());
        Ok(())
    }
}

ffi_fn! {
    /// Gives the queues as `aiopool_pool_worker_views` gives the workers, by number.
    ///
    /// Returns as `aiopool_pool_worker_views`.
    fn aiopool_pool_queue_views(
        pool: Option<NonNull<aiopool_pool>>,
        views_out: *mut aiopool_queue_view,
        view_size: usize,
        max: usize,
        count_out: Option<&mut MaybeUninit<usize>>,
    ) -> aiopool_status {
        let count_out: &mut _ = out("count_out", count_out)?;
        check_room("aiopool_queue_view", views_out, view_size, max)?;
        let queues = pool_of(pool)?.pool().snapshot().queues;
        let views = queues.iter().map(aiopool_queue_view::of);
        // SAFETY: the caller gives room for `max` structs of that size.
        unsafe { give(views, views_out, view_size, max) };
        count_out.write(queues.len());
        Ok(())
    }
}

fn check_room<T>(name: &str, views: *mut T, view_size: usize, max: usize) -> Result<(), Failure> {
    if max == 0 {
        return Ok(());
    }
    if views.is_null() {
        return Err(Failure::null("views_out"));
    }
    // What there is now is the first version.
    if view_size < size_of::<T>() || view_size > 4096 {
        let text = format!("view_size = {view_size} is not that of {name}: give its sizeof");
        return Err(Failure::new(AIOPOOL_ERR_STRUCT, text));
    }
    Ok(())
}

/// Writes as many of `views` as there is room for, each `view_size` bytes after the one before.
///
/// # Safety
///
/// `max` times `view_size` bytes can be written at `to`; `view_size` is that of a `T` or more.
unsafe fn give<T>(views: impl Iterator<Item = T>, to: *mut T, view_size: usize, max: usize) {
    for (at, view) in views.enumerate().take(max) {
        // SAFETY: `at` is less than `max`, and the caller vouches for the room.
        unsafe { to.byte_add(at * view_size).write_unaligned(view) };
    }
}
