//! The clock that all processes of one machine share.
#![allow(unsafe_code)] // calls into libc

/// Nanoseconds of `CLOCK_MONOTONIC`: the same in every process of this machine, never backwards.
pub(crate) fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every supported kernel")
}

/// Processor time that process `pid` has used, user and system, in nanoseconds; a zombie's, too.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_forward_by_at_least_the_time_slept() {
        let before = monotonic_ns();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(monotonic_ns() >= before + 2_000_000);
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
