//! `timerfd`: a time that the kernel waits for, shared by inheritance or `SCM_RIGHTS`.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::check;
use super::poll::{PollFd, poll};

/// A time of `CLOCK_BOOTTIME`, which counts on while the machine sleeps. Every process that has the
/// descriptor sees the same time, and may move it.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// Creates a timer for a time, in nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) fn new(at: u64) -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, flags) })?;
        // SAFETY: the call just made this descriptor, and no other code has its number.
        let timer = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        timer.set(at)?;
        Ok(timer)
    }

    /// Moves the time, for every process that shares the timer.
    pub(crate) fn set(&self, at: u64) -> io::Result<()> {
        // A time of zero would mean never.
        let at = at.max(1);
        let value = libc::timespec {
            tv_sec: (at / 1_000_000_000).try_into().unwrap_or(i64::MAX),
            tv_nsec: (at % 1_000_000_000) as libc::c_long,
        };
        let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: once, it_value: value };
        let fd = self.0.as_raw_fd();
        // SAFETY: `spec` lives for the call, and no old value is asked for.
        check(unsafe {
            libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &spec, std::ptr::null_mut())
        })?;
        Ok(())
    }

    /// Returns whether the time has come.
    pub(crate) fn is_over(&self) -> bool {
        is_over(self.0.as_fd())
    }
}

/// Returns whether the time of a timer that came from another process has come.
pub(crate) fn is_over(timer: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::readable(timer)], Some(Duration::ZERO)).is_ok_and(|ready| ready > 0)
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::boottime_ns;

    #[test]
    fn a_time_comes_and_can_be_moved() {
        let timer = Timer::new(boottime_ns() + 3_600_000_000_000).unwrap();
        assert!(!timer.is_over());
        timer.set(boottime_ns()).unwrap();
        assert!(timer.is_over());
        timer.set(boottime_ns() + 3_600_000_000_000).unwrap();
        assert!(!timer.is_over());
        timer.set(0).unwrap();
        assert!(timer.is_over(), "a time long past is no missing time");
    }
}
