//! Counts.
//!
//! Thread rule: as for pools.

use super::boundary::Failure;
use super::pointer::{Sized32, sized};
use super::pool::{aiopool_pool, pool_of};

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
    /// Outcomes that are OK.
    pub ok: u64,
    /// Outcomes: errors that task functions returned.
    pub failed: u64,
    /// Outcomes: panics.
    pub panicked: u64,
    /// Outcomes: tasks that were cancelled.
    pub cancelled: u64,
    /// Outcomes: deadlines.
    pub timed_out: u64,
    /// Outcomes: workers that died.
    pub worker_lost: u64,
    /// Outcomes: tasks that the pool's end overtook.
    pub pool_closed: u64,
    /// Outcomes: everything else.
    pub other: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Tasks queued again that no worker had started.
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
}

// SAFETY: integers only, and the size comes first.
unsafe impl Sized32 for aiopool_stats {
    const NAME: &'static str = "aiopool_stats";
    const FIRST: usize = size_of::<Self>();

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
    /// Returns `AIOPOOL_OK` or `AIOPOOL_ERR_STRUCT`.
    fn aiopool_pool_stats(
        pool: Option<&aiopool_pool>,
        stats_out: *mut aiopool_stats,
    ) -> aiopool_status {
        if stats_out.is_null() {
            return Err(Failure::null("stats_out"));
        }
        // SAFETY: not NULL, and it begins with its size.
        let size = unsafe { stats_out.cast::<u32>().read_unaligned() };
        if (size as usize) < size_of::<aiopool_stats>() {
            // SAFETY: as above; it says what is wrong.
            unsafe { sized(stats_out) }?;
        }
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
            cpu_ns: u64::try_from(stats.cpu.as_nanos()).unwrap_or(u64::MAX),
            input_bytes: stats.input_bytes,
            free_records: stats.free_records,
        };
        // SAFETY: the caller's struct has at least the size of ours.
        unsafe { stats_out.write_unaligned(filled) };
        Ok(())
    }
}
