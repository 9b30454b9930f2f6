//! Counts.
//!
//! Thread rule: as for pools.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::boundary::Failure;
use super::pointer::{Sized32, TextRoom, out, text};
use super::pool::{aiopool_pool, pool_of};
use super::status::*;

/// What a pool has counted since its start.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_stats {
    /// `sizeof(aiopool_stats)`; set by the caller.
    pub struct_size: u32,
    /// 0.
    pub reserved_0: u32,
    /// Tasks submitted.
    pub submitted: u64,
    /// Tasks without an outcome now.
    pub pending: u64,
    /// Outcomes: values.
    pub ok: u64,
    /// Outcomes: errors that task functions returned.
    pub failed: u64,
    /// Outcomes: panics.
    pub panicked: u64,
    /// Outcomes: tasks that were cancelled.
    pub cancelled: u64,
    /// Outcomes: tasks that missed a deadline.
    pub timed_out: u64,
    /// Outcomes: tasks whose worker died.
    pub worker_lost: u64,
    /// Outcomes: tasks that were unfinished when the pool ended.
    pub pool_closed: u64,
    /// Outcomes: everything else.
    pub other: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Tasks queued again before any worker had started them.
    pub requeued: u64,
    /// Workers that died unplanned.
    pub deaths: u64,
    /// Workers replaced after `max_tasks_per_child`.
    pub recycles: u64,
    /// Workers alive now.
    pub workers: u64,
    /// Processor time of the workers in nanoseconds, user and system.
    pub cpu_ns: u64,
    /// Bytes of the inputs' memory in use.
    pub input_bytes: u64,
    /// Tasks that could be submitted now without waiting.
    pub free_records: u64,
    /// Pending tasks that no worker has claimed, approximately.
    pub queued: u64,
    /// Pending tasks that a worker has claimed.
    pub running: u64,
    /// Workers that the pool killed because a task did not obey its deadline.
    pub killed_for_deadline: u64,
    /// Workers that the pool killed because they had damaged shared memory.
    pub killed_for_damage: u64,
    /// Times that shared memory held what no correct worker writes, and workers were replaced.
    pub damages: u64,
    /// Processor time of this process in nanoseconds, user and system, all its threads together.
    pub host_cpu_ns: u64,
}

/// Waiting and running times of one function's finished tasks.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct aiopool_function_stats {
    /// `sizeof(aiopool_function_stats)`; set by the caller.
    pub struct_size: u32,
    /// 0.
    pub reserved_0: u32,
    /// Tasks that have ended.
    pub count: u64,
    /// Mean nanoseconds from the submission to the start of the last attempt.
    pub waited_mean_ns: u64,
    /// Median of the same, in nanoseconds; the upper end of a bucket, so at most a quarter
    /// more than the exact value.
    pub waited_p50_ns: u64,
    /// 99th percentile of the same, with the same accuracy.
    pub waited_p99_ns: u64,
    /// Mean nanoseconds that the last attempt ran.
    pub ran_mean_ns: u64,
    /// Median of the same, in nanoseconds.
    pub ran_p50_ns: u64,
    /// 99th percentile of the same, in nanoseconds.
    pub ran_p99_ns: u64,
    /// 90th percentile of the time from the submission to the start of the last attempt.
    pub waited_p90_ns: u64,
    /// The longest such time, exactly.
    pub waited_max_ns: u64,
    /// 90th percentile of the time that the last attempt ran.
    pub ran_p90_ns: u64,
    /// The longest such time, exactly.
    pub ran_max_ns: u64,
    /// Outcomes: values.
    pub ok: u64,
    /// Outcomes: errors that the function returned.
    pub failed: u64,
    /// Outcomes: panics.
    pub panicked: u64,
    /// Outcomes: tasks that were cancelled.
    pub cancelled: u64,
    /// Outcomes: tasks that missed a deadline.
    pub timed_out: u64,
    /// Outcomes: tasks whose worker died.
    pub worker_lost: u64,
    /// Outcomes: tasks that were unfinished when the pool ended.
    pub pool_closed: u64,
    /// Outcomes: everything else.
    pub other: u64,
}

// SAFETY: integers only, and the size comes first.
unsafe impl Sized32 for aiopool_stats {
    const NAME: &'static str = "aiopool_stats";
    // Up to `free_records`.
    const FIRST: usize = 152;

    fn defaults() -> Self {
        // SAFETY: integers, for which 0 is valid.
        unsafe { std::mem::zeroed() }
    }
}

// SAFETY: integers only, and the size comes first.
unsafe impl Sized32 for aiopool_function_stats {
    const NAME: &'static str = "aiopool_function_stats";
    // Up to `ran_p99_ns`.
    const FIRST: usize = 64;

    fn defaults() -> Self {
        // SAFETY: integers, for which 0 is valid.
        unsafe { std::mem::zeroed() }
    }
}

ffi_fn! {
    /// Gives what the pool has counted; `stats_out->struct_size` is set by the caller.
    ///
    /// Fields that this version of the library does not know are left alone.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_STRUCT`.
    fn aiopool_pool_stats(
        pool: Option<NonNull<aiopool_pool>>,
        stats_out: *mut aiopool_stats,
    ) -> aiopool_status {
        // SAFETY: the caller gives a struct that begins with its size.
        let size = unsafe { size_for(stats_out) }?;
        let pool = pool_of(pool)?;
        let stats = pool.stats();
        let filled = aiopool_stats {
            struct_size: size,
            reserved_0: 0,
            submitted: stats.submitted,
            pending: stats.pending,
            ok: stats.ok,
            failed: stats.failed,
            panicked: stats.panicked,
            cancelled: stats.cancelled,
            timed_out: stats.timed_out,
            worker_lost: stats.worker_lost,
            pool_closed: stats.pool_closed,
            other: stats.other,
            retries: stats.retries,
            requeued: stats.requeued,
            deaths: stats.deaths,
            recycles: stats.recycles,
            workers: stats.workers,
            cpu_ns: nanoseconds(stats.cpu),
            input_bytes: stats.input_bytes,
            free_records: stats.free_records,
            queued: stats.queued,
            running: stats.running,
            killed_for_deadline: stats.killed_for_deadline,
            killed_for_damage: stats.killed_for_damage,
            damages: stats.damages,
            host_cpu_ns: nanoseconds(stats.host_cpu),
        };
        // SAFETY: the caller's struct has as many bytes as its size says.
        unsafe { fill(stats_out, &filled, size) };
        Ok(())
    }
}

ffi_fn! {
    /// Gives how long the tasks of the function `name` took; `stats_out->struct_size` is set by
    /// the caller.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_STRUCT`; `AIOPOOL_ERR_UNKNOWN` if
    /// no task of a function of that name has ended in this pool.
    fn aiopool_pool_function_stats(
        pool: Option<NonNull<aiopool_pool>>,
        name: *const c_char,
        stats_out: *mut aiopool_function_stats,
    ) -> aiopool_status {
        // SAFETY: the caller gives a struct that begins with its size, and a C string or NULL.
        let (size, name) = unsafe { (size_for(stats_out)?, text("name", name)?) };
        let pool = pool_of(pool)?;
        let stats = pool.stats();
        let function = stats.functions.iter().find(|function| function.name == name);
        let function = function.ok_or_else(|| {
            let text = format!("no task of a function {name:?} has ended");
            Failure::new(AIOPOOL_ERR_UNKNOWN, text)
        })?;
        let filled = aiopool_function_stats {
            struct_size: size,
            reserved_0: 0,
            count: function.ran.count(),
            waited_mean_ns: nanoseconds(function.waited.mean()),
            waited_p50_ns: nanoseconds(function.waited.quantile(0.5)),
            waited_p99_ns: nanoseconds(function.waited.quantile(0.99)),
            ran_mean_ns: nanoseconds(function.ran.mean()),
            ran_p50_ns: nanoseconds(function.ran.quantile(0.5)),
            ran_p99_ns: nanoseconds(function.ran.quantile(0.99)),
            waited_p90_ns: nanoseconds(function.waited.quantile(0.9)),
            waited_max_ns: nanoseconds(function.waited.max()),
            ran_p90_ns: nanoseconds(function.ran.quantile(0.9)),
            ran_max_ns: nanoseconds(function.ran.max()),
            ok: function.ok,
            failed: function.failed,
            panicked: function.panicked,
            cancelled: function.cancelled,
            timed_out: function.timed_out,
            worker_lost: function.worker_lost,
            pool_closed: function.pool_closed,
            other: function.other,
        };
        // SAFETY: the caller's struct has as many bytes as its size says.
        unsafe { fill(stats_out, &filled, size) };
        Ok(())
    }
}

ffi_fn! {
    /// Gives the process ids of the workers that are alive: up to `max` of them to `pids_out`,
    /// which may be NULL if `max` is 0, and how many there are to `count_out`.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
    fn aiopool_pool_workers(
        pool: Option<NonNull<aiopool_pool>>,
        pids_out: *mut u32,
        max: usize,
        count_out: Option<&mut MaybeUninit<usize>>,
    ) -> aiopool_status {
        let count_out: &mut _ = out("count_out", count_out)?;
        if pids_out.is_null() && max > 0 {
            return Err(Failure::null("pids_out"));
        }
        let pids = pool_of(pool)?.worker_pids();
        for (at, &pid) in pids.iter().enumerate().take(max) {
            // SAFETY: the caller gives room for `max` numbers, and `at` is less.
            unsafe { pids_out.add(at).write(pid) };
        }
        count_out.write(pids.len());
        Ok(())
    }
}

ffi_fn! {
    /// Gives the pool as it is now, as a line of JSON: an object with `pool`, `workers`, `queues`,
    /// `functions` and `events`, as `aiopool top --json` has them.
    ///
    /// Up to `size` bytes are written to `json_out`, which may be NULL if `size` is 0, and how many
    /// there are to `length_out`. A zero follows them if there is room. The text grows and shrinks
    /// from call to call: one that was cut is asked for again with more room than it had.
    ///
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
    fn aiopool_pool_snapshot(
        pool: Option<NonNull<aiopool_pool>>,
        json_out: *mut c_char,
        size: usize,
        length_out: Option<&mut MaybeUninit<usize>>,
    ) -> aiopool_status {
        // SAFETY: the caller gives room for `size` bytes.
        let room = unsafe { TextRoom::new("json_out", json_out, size, length_out) }?;
        let text = pool_of(pool)?.pool().snapshot().to_json();
        room.write(text.as_bytes());
        Ok(())
    }
}

/// Returns the size that the caller's struct says it has, if that is one.
///
/// # Safety
///
/// NULL, or a struct of which as many bytes can be read as its size says.
unsafe fn size_for<T: Sized32>(out: *mut T) -> Result<u32, Failure> {
    if out.is_null() {
        return Err(Failure::null("stats_out"));
    }
    // SAFETY: not NULL, and every version begins with the size.
    let size = unsafe { out.cast::<u32>().read_unaligned() };
    if (size as usize) < T::FIRST || size > 4096 {
        let text = format!("struct_size = {size} is not that of {}: set it to its size", T::NAME);
        return Err(Failure::new(AIOPOOL_ERR_STRUCT, text));
    }
    Ok(size)
}

/// Writes as much of `filled` as a struct of `size` bytes has.
///
/// # Safety
///
/// `size` bytes can be written at `out`.
unsafe fn fill<T>(out: *mut T, filled: &T, size: u32) {
    let from = std::ptr::from_ref(filled).cast::<u8>();
    let known = size_of::<T>().min(size as usize);
    // SAFETY: the caller vouches for `out`; both have as many bytes.
    unsafe { std::ptr::copy_nonoverlapping(from, out.cast::<u8>(), known) }
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
