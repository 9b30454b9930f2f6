//! What tasks have printed.
//!
//! For pools whose `surroundings` have `AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK`.
//!
//! Thread rule: as for pools.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::boundary::Failure;
use super::pointer::TextRoom;
use super::pool::{aiopool_pool, pool_of};
use super::status::*;

ffi_fn! {
    /// Gives what the task with `ticket` has printed until now, all its attempts and all of it once
    /// its outcome is there, in a pool with `AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK`. `stream` is 1
    /// for its standard output and 2 for its standard error.
    ///
    /// Up to `size` bytes are written to `text_out`, which may be NULL if `size` is 0, and how many
    /// there are to `length_out`. A zero follows them if there is room. The files stay.
    ///
    /// Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_INVALID` for another `stream`,
    /// `AIOPOOL_ERR_MISUSE` without that flag, `AIOPOOL_ERR_SYSTEM`.
    fn aiopool_pool_printed(
        pool: Option<NonNull<aiopool_pool>>,
        ticket: u64,
        stream: u32,
        text_out: *mut c_char,
        size: usize,
        length_out: Option<&mut MaybeUninit<usize>>,
    ) -> aiopool_status {
        // SAFETY: the caller gives room for `size` bytes.
        let room = unsafe { TextRoom::new("text_out", text_out, size, length_out) }?;
        let pool = pool_of(pool)?;
        if ![1, 2].contains(&stream) {
            let text = format!("stream = {stream}: 1 and 2 are possible");
            return Err(Failure::new(AIOPOOL_ERR_INVALID, text));
        }
        let printed = pool.pool().printed(ticket)?;
        let bytes = if stream == 1 { printed.stdout } else { printed.stderr };
        room.write(&bytes);
        Ok(())
    }
}
