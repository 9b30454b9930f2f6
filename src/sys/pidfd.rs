//! `pidfd`: a process by descriptor, which no later process with the same pid can be taken for.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::emulated::system_call;
use super::wait::Ended;

/// Opens a process; readable from the moment it is dead. Close-on-exec.
///
/// Certain to be the process meant only for oneself, and for one's own child before it is reaped.
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { system_call(libc::SYS_pidfd_open, [pid.into(), 0, 0, 0]) }
        .map_err(|error| super::named("pidfd_open", error))?;
    // SAFETY: the call just made this descriptor, and no other code has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Sends a signal to the process; `ESRCH` when it is dead and reaped.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: asks for the information that `kill` would send.
    unsafe { send(pidfd, signal, 0, 0) }
}

/// Kills what is left of the process group that the process leads or led.
///
/// Unlike a kill by number it is safe after the leader was reaped, even by another process. Fails
/// with `ESRCH` when the group is empty, and with `EINVAL` on Linux before 6.9.
pub(crate) fn kill_group(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_long = 1 << 2;
    // SAFETY: asks for the information that `kill` would send.
    unsafe { send(pidfd, libc::SIGKILL, 0, PIDFD_SIGNAL_PROCESS_GROUP) }
}

/// Gives how a process ended that was reaped, by this process or another; `None` while it is not
/// reaped, and where the kernel (before Linux 6.15) does not say.
pub(crate) fn status(pidfd: BorrowedFd<'_>) -> Option<Ended> {
    /// The kernel's `struct pidfd_info`, of its first version.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    /// Asks for the exit code, and says that it is there.
    const EXIT: u64 = 1 << 3;
    /// `_IOWR(0xFF, 11, struct pidfd_info)`.
    const GET_INFO: u32 = 0b11 << 30 | (size_of::<Info>() as u32) << 16 | 0xff << 8 | 11;
    let mut info = Info { mask: EXIT, ..Info::default() };
    // SAFETY: `info` is laid out as the kernel fills it in, and as long as the request says.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, &raw mut info) };
    if result == -1 || info.mask & EXIT == 0 {
        return None;
    }
    Some(match (info.exit_code & 0x7f, info.exit_code >> 8 & 0xff) {
        (0, status) => Ended::Exited(status),
        (signal, _) => Ended::Signalled { signal, core_dumped: info.exit_code & 0x80 != 0 },
    })
}

/// Sends a signal that says it was queued, with a value, as `sigqueue` does.
pub(crate) fn queue_signal(pidfd: BorrowedFd<'_>, signal: i32, value: usize) -> io::Result<()> {
    /// What `siginfo_t` is for a signal that was queued.
    #[repr(C)]
    struct Queued {
        signal: i32,
        error: i32,
        code: i32,
        /// The rest is aligned for its pointer.
        unused: [i32; 1],
        sender: [u32; 2],
        value: usize,
        rest: [u8; 96],
    }
    const { assert!(size_of::<Queued>() == size_of::<libc::siginfo_t>()) };
    // SAFETY: takes nothing.
    let user = unsafe { libc::getuid() };
    let sender = [std::process::id(), user];
    let code = libc::SI_QUEUE;
    let info = Queued { signal, error: 0, code, unused: [0], sender, value, rest: [0; 96] };
    // SAFETY: `info` is laid out as the kernel reads it, and lives across the call.
    unsafe { send(pidfd, signal, &raw const info as libc::c_long, 0) }
}

/// # Safety
///
/// `info` is 0 or the address of a `siginfo_t`.
unsafe fn send(
    pidfd: BorrowedFd<'_>,
    signal: i32,
    info: libc::c_long,
    flags: libc::c_long,
) -> io::Result<()> {
    let fd = pidfd.as_raw_fd().into();
    // SAFETY: the caller vouches for `info`; the rest are numbers.
    unsafe { system_call(libc::SYS_pidfd_send_signal, [fd, signal.into(), info, flags]) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;
    use crate::sys::poll::{PollFd, poll};

    #[test]
    fn becomes_readable_when_the_process_is_dead() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pidfd = open(child.id()).unwrap();
        let mut fds = [PollFd::readable(pidfd.as_fd())];
        assert_eq!(poll(&mut fds, Some(std::time::Duration::ZERO)).unwrap(), 0);
        send_signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        child.wait().unwrap();
        let gone = send_signal(pidfd.as_fd(), 0).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
    }
}
