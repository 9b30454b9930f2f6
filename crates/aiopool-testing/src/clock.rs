//! A time of day that jumps by years.
//!
//! A test program that defines `clock_gettime` has std, tokio and aiopool call that in place of the C
//! library's; with [`gettime`] each look at the time of day is years away from the one before.
#![allow(unsafe_code)] // stands in for the C library's function

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

const YEARS: i64 = 10 * 365 * 24 * 3600;
static LOOKS: AtomicI64 = AtomicI64::new(0);

/// Does what `clock_gettime` does, but for the time of day where `is_bad`.
///
/// # Safety
///
/// `time` is NULL or can be written, as for the function it stands in for.
pub unsafe fn gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
    is_bad: impl FnOnce() -> bool,
) -> libc::c_int {
    // SAFETY: passed on.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock as libc::c_long, time) };
    if result == 0
        && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE)
        && is_bad()
    {
        let jump = LOOKS.fetch_add(1, Ordering::Relaxed) % 2 * 2 - 1;
        // SAFETY: the kernel has just written there.
        unsafe { (*time).tv_sec += jump * YEARS };
    }
    result as libc::c_int
}

/// A task that says whether the time of day jumps where it runs.
pub async fn jumps(_: u64) -> bool {
    let times = [SystemTime::now(), SystemTime::now(), SystemTime::now()];
    times[0] > times[1] || times[1] > times[2]
}
