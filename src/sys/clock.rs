//! The clock that all processes of one machine share.
#![allow(unsafe_code)] // calls into libc

/// Nanoseconds of `CLOCK_MONOTONIC`: the same in every process of this machine, never backwards.
pub(crate) fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every supported kernel")
}

/// Processor time that this process has used, user and system, in nanoseconds.
pub(crate) fn process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID).expect("every process has a clock")
}

/// Processor time that process `pid` has used, or `None` if it is gone.
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

#[cfg(test)]
mod tests {
    use super::monotonic_ns;

    #[test]
    fn goes_forward_by_at_least_the_time_slept() {
        let before = monotonic_ns();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(monotonic_ns() >= before + 2_000_000);
    }
}
