//! Timelines.
//!
//! Thread rule: as for pools.

use std::ffi::c_char;
use std::ptr::NonNull;

use super::boundary::Failure;
use super::pointer::text;
use super::pool::{aiopool_pool, pool_of};
use super::status::*;
use crate::sync::lock;

ffi_fn! {
    /// Records what the workers do from now on, for a file that ui.perfetto.dev and
    /// Chrome's tracing page open: each poll of a task, its worker, how long the task was queued
    /// before, and the pool's events. What a worker was doing that died is in it.
    ///
    /// The file is written by `aiopool_pool_trace_end`, or when the pool is freed; it is there when
    /// it is whole. `every` is 1 for all tasks, and 100 for each hundredth, for long runs. The last
    /// million entries are kept. `path` is UTF-8 and ends with a zero.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` if `every` is 0; `AIOPOOL_ERR_MISUSE` if the
    /// pool is recorded already; `AIOPOOL_ERR_SYSTEM` if the file cannot be made.
    fn aiopool_pool_trace(
        pool: Option<NonNull<aiopool_pool>>,
        path: *const c_char,
        every: u32,
    ) -> aiopool_status {
        let pool = pool_of(pool)?;
        // SAFETY: the caller gives a text that ends with a zero.
        let path = unsafe { text("path", path) }?;
        if every == 0 {
            return Err(Failure::new(AIOPOOL_ERR_INVALID, "every = 0: no task would be recorded"));
        }
        let mut trace = lock(&pool.trace);
        if trace.is_some() {
            let text = "the pool is recorded already: end that first";
            return Err(Failure::new(AIOPOOL_ERR_MISUSE, text));
        }
        *trace = Some(pool.pool().trace_sampled(path, every)?);
        Ok(())
    }
}

ffi_fn! {
    /// Ends what `aiopool_pool_trace` began, and writes the file.
    ///
    /// Returns `AIOPOOL_OK`; `AIOPOOL_ERR_MISUSE` if the pool is not recorded; `AIOPOOL_ERR_SYSTEM`
    /// if the file cannot be written.
    fn aiopool_pool_trace_end(pool: Option<NonNull<aiopool_pool>>) -> aiopool_status {
        let pool = pool_of(pool)?;
        let trace = lock(&pool.trace).take();
        let Some(trace) = trace else {
            return Err(Failure::new(AIOPOOL_ERR_MISUSE, "the pool is not recorded"));
        };
        Ok(trace.finish()?)
    }
}
