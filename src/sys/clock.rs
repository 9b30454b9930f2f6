//! The clock that all processes of one machine share.
#![allow(unsafe_code)] // calls into libc, and one instruction

use std::ops::RangeInclusive;

/// Returns the nanoseconds of `CLOCK_MONOTONIC`: the same in every process of this machine, never
/// backwards.
pub(crate) fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every supported kernel")
}

/// Returns the nanoseconds of `CLOCK_BOOTTIME`: like [`monotonic_ns`], and it counts on while the
/// machine sleeps.
pub(crate) fn boottime_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME exists on every supported kernel")
}

/// Returns the processor time that process `pid` has used, user and system, in nanoseconds; a
/// zombie's, too.
///
/// `None` if it is gone.
pub(crate) fn cpu_ns_of(pid: u32) -> Option<u64> {
    let mut clock = 0;
    // SAFETY: `clock` is a writable clock id of our own.
    let result = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &mut clock) };
    if result == 0 { read(clock) } else { None }
}

fn read(clock: libc::clockid_t) -> Option<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a writable timespec of our own.
    let result = unsafe { libc::clock_gettime(clock, &mut now) };
    (result == 0).then_some(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

/// A cheap `CLOCK_MONOTONIC` for readings after every task: between two exact readings it goes by
/// the processor's counter, if that counter is invariant.
///
/// An exact reading waits until all instructions before it are done, those among them that need a
/// line of another processor's; the counter is read at once, and so perhaps some tens of
/// nanoseconds before what stands before it. It counts for 100 µs and no more, so that whatever
/// becomes of it (another processor, a machine that sleeps or is moved) is soon set right; and its
/// rate is believed while two measurements in a row agree. So a time is wrong by little more than
/// 100 µs at most, and may by that be before one that was given earlier.
#[derive(Debug)]
pub(crate) struct QuickClock {
    /// The last exact reading, and the counter then.
    exact: (u64, u64),
    /// Where the rate is measured from.
    since: (u64, u64),
    /// Nanoseconds a tick, times 2^32, as last measured.
    measured: u64,
    /// The same while it is believed; else 0.
    rate: u64,
}

/// So long the counter is believed, in nanoseconds.
const BELIEVED_NS: u64 = 100_000;
/// The rate is measured over at least this many nanoseconds: a shorter time would make it inexact.
const RATE_NS: u64 = 10_000_000;
/// Rates that there can be: of 0.5 to 16 GHz.
const RATES: RangeInclusive<u64> = 1 << 28..=1 << 33;
/// Ticks within which both clocks are read if nothing comes between: some microseconds.
const AT_ONCE: u64 = 10_000;

impl QuickClock {
    /// Starts with exact readings, until the rate is known some milliseconds later.
    pub(crate) fn new() -> Self {
        let now = (monotonic_ns(), ticks());
        Self { exact: now, since: now, measured: 0, rate: 0 }
    }

    /// Returns the time now, in nanoseconds.
    #[inline]
    pub(crate) fn now(&mut self) -> u64 {
        let (ns, then) = self.exact;
        let passed = (u128::from(ticks().wrapping_sub(then)) * u128::from(self.rate)) >> 32;
        if self.rate > 0 && passed < u128::from(BELIEVED_NS) {
            ns + passed as u64
        } else {
            self.read()
        }
    }

    #[cold]
    fn read(&mut self) -> u64 {
        let (before, ns, after) = (ticks(), monotonic_ns(), ticks());
        // The earlier one: after an interruption in between, the next reading is exact, too.
        self.exact = (ns, before);
        let passed = ns - self.since.0;
        if passed >= RATE_NS && after.wrapping_sub(before) < AT_ONCE {
            let counted = before.saturating_sub(self.since.1).max(1);
            let rate = u64::try_from((u128::from(passed) << 32) / u128::from(counted));
            let rate = rate.unwrap_or(u64::MAX);
            let agrees = rate.abs_diff(self.measured) <= rate >> 10;
            let believed = agrees && RATES.contains(&rate) && ticks_are_even();
            self.rate = if believed { rate } else { 0 };
            self.measured = rate;
            self.since = self.exact;
        }
        ns
    }
}

/// Returns the processor's counter.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn ticks() -> u64 {
    // SAFETY: an instruction without operands; every such processor has it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Returns whether the processor reports that the counter goes at one rate, whatever the processor
/// does.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn ticks_are_even() -> bool {
    use std::arch::x86_64::__cpuid;
    const POWER: u32 = 0x8000_0007;
    const INVARIANT_TSC: u32 = 1 << 8;
    // SAFETY: every processor of 64 bits has the instruction. Newer compilers know that.
    #[allow(unused_unsafe)]
    unsafe {
        __cpuid(0x8000_0000).eax >= POWER && __cpuid(POWER).edx & INVARIANT_TSC != 0
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn ticks() -> u64 {
    0
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn ticks_are_even() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_forward_by_at_least_the_time_slept() {
        let before = monotonic_ns();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(monotonic_ns() >= before + 2_000_000);
    }

    /// Reads `quick` between two readings of the exact clock.
    fn check(quick: &mut QuickClock) {
        let before = monotonic_ns();
        let now = quick.now();
        let after = monotonic_ns();
        let (first, last) = (before - BELIEVED_NS, after + BELIEVED_NS);
        assert!((first..=last).contains(&now), "{now} from {before} to {after}: {quick:?}");
    }

    #[test]
    fn the_quick_clock_goes_with_the_exact_one() {
        let mut quick = QuickClock::new();
        let begun = monotonic_ns();
        // Two rates in a row have to agree, which on a busy machine takes some more of them.
        let is_known = |quick: &QuickClock| quick.rate > 0 || !ticks_are_even();
        let limit = |quick: &QuickClock| if is_known(quick) { 50_000_000 } else { 60_000_000_000 };
        while monotonic_ns() - begun < limit(&quick) {
            check(&mut quick);
        }
        assert_eq!(quick.rate > 0, ticks_are_even());
    }

    #[test]
    fn a_counter_that_jumps_is_not_believed() {
        let mut quick = QuickClock::new();
        std::thread::sleep(std::time::Duration::from_millis(12));
        for jump in [1 << 20, 1 << 40, u64::MAX / 2, u64::MAX - (1 << 30)] {
            check(&mut quick);
            quick.exact.1 = quick.exact.1.wrapping_add(jump);
            check(&mut quick);
            // It was another one when the rate was last measured, and when it is measured next.
            quick.since.1 = quick.since.1.wrapping_sub(jump);
            std::thread::sleep(std::time::Duration::from_millis(12));
            for _ in 0..100 {
                check(&mut quick);
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        }
    }

    #[test]
    fn a_zombie_still_has_its_clock() {
        use crate::sys::pidfd;
        use crate::sys::poll::{PollFd, poll};
        use std::os::fd::AsFd;

        let work = "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done";
        let mut child = std::process::Command::new("sh").args(["-c", work]).spawn().unwrap();
        let pid = child.id();
        poll(&mut [PollFd::readable(pidfd::open(pid).unwrap().as_fd())], None).unwrap();
        assert!(cpu_ns_of(pid).unwrap() > 1_000_000);
        child.wait().unwrap();
        assert_eq!(cpu_ns_of(pid), None);
    }
}
