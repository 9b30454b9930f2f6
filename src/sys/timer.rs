//! Times that the kernel waits for: `timerfd`, shared by inheritance or `SCM_RIGHTS`, and a timer
//! that kills its own process.
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

/// Returns how long it is to the time of a timer that came from another process; zero when it has
/// come.
pub(crate) fn remaining(timer: BorrowedFd<'_>) -> io::Result<Duration> {
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut left = libc::itimerspec { it_interval: none, it_value: none };
    // SAFETY: `left` is written by the call.
    check(unsafe { libc::timerfd_gettime(timer.as_raw_fd(), &raw mut left) })?;
    let seconds = left.it_value.tv_sec.try_into().unwrap_or(0);
    Ok(Duration::new(seconds, left.it_value.tv_nsec.try_into().unwrap_or(0)))
}

/// A time at which the kernel kills this process, even if it is stopped. A forked child has no such
/// timer.
#[derive(Debug)]
pub(crate) struct KillTimer(libc::timer_t);

impl KillTimer {
    /// Creates a timer without a time.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: all of its fields may be zero.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        (event.sigev_notify, event.sigev_signo) = (libc::SIGEV_SIGNAL, libc::SIGKILL);
        let mut timer = std::ptr::null_mut();
        // SAFETY: both live for the call, which writes the timer's name.
        check(unsafe { libc::timer_create(libc::CLOCK_BOOTTIME, &raw mut event, &raw mut timer) })?;
        Ok(Self(timer))
    }

    /// Sets how long this process has from now; `None` takes the time away.
    pub(crate) fn set(&self, left: Option<Duration>) -> io::Result<()> {
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = left.map_or(none, |left| libc::timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            // A time of zero would mean never.
            tv_nsec: libc::c_long::from(left.subsec_nanos().max(1)),
        });
        let spec = libc::itimerspec { it_interval: none, it_value: value };
        // SAFETY: the timer is this process's own, `spec` lives for the call, and no old value is
        // asked for. In a forked child the kernel knows no such timer, and says so.
        check(unsafe { libc::timer_settime(self.0, 0, &raw const spec, std::ptr::null_mut()) })?;
        Ok(())
    }
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
        assert!(remaining(timer.as_fd()).unwrap() > Duration::from_secs(3_000));
        timer.set(0).unwrap();
        assert!(timer.is_over(), "a time long past is no missing time");
        assert_eq!(remaining(timer.as_fd()).unwrap(), Duration::ZERO);
    }
}
