//! `waitid`: what a child process ended with.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{check, retry};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signalled {
        /// The signal's number.
        signal: i32,
        /// Whether a core file was written.
        core_dumped: bool,
    },
}

/// Looks how a child ended and leaves it a zombie: its pid and group stay its own.
///
/// `None` while it lives. `ECHILD` when it is no child of this process, or was reaped.
pub(crate) fn look(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    wait(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, libc::WNOWAIT | libc::WNOHANG)
}

/// Reaps a child if it is dead; from then on its pid may be another process's.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    wait(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, libc::WNOHANG)
}

/// Returns the pid of a child that is dead, any one, and leaves it a zombie.
pub(crate) fn any_dead() -> Option<u32> {
    // SAFETY: all-zero is a valid `siginfo_t`, a plain C struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: `info` is writable and of the type the call fills in.
    retry(|| check(unsafe { libc::waitid(libc::P_ALL, 0, &mut info, flags) })).ok()?;
    // SAFETY: a call that succeeded filled in the fields of a child's end, or left them zero.
    let pid = unsafe { info.si_pid() };
    (pid > 0).then_some(pid as u32)
}

/// Waits until the child `pid` is dead and reaps it.
///
/// For a child that was sent `SIGKILL`, or ends by itself, and that no other code reaps.
pub fn reap_waiting(pid: u32) -> io::Result<Option<Ended>> {
    wait(libc::P_PID, pid, 0)
}

fn wait(kind: libc::idtype_t, id: libc::id_t, flags: libc::c_int) -> io::Result<Option<Ended>> {
    // SAFETY: all-zero is a valid `siginfo_t`, a plain C struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // Those that no ordinary wait sees, too.
    let flags = flags | libc::WEXITED | libc::__WALL;
    // SAFETY: `info` is writable and of the type the call fills in.
    retry(|| check(unsafe { libc::waitid(kind, id, &mut info, flags) }))?;
    // SAFETY: a call that succeeded filled in the fields of a child's end, or left them zero.
    let (found, status) = unsafe { (info.si_pid(), info.si_status()) };
    if found == 0 {
        return Ok(None);
    }
    Ok(Some(match info.si_code {
        libc::CLD_EXITED => Ended::Exited(status),
        code => Ended::Signalled { signal: status, core_dumped: code == libc::CLD_DUMPED },
    }))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;
    use crate::sys::pidfd;
    use crate::sys::poll::{PollFd, poll};

    #[test]
    #[allow(clippy::zombie_processes)] // reaped by the call under test
    fn looking_leaves_the_child_to_be_reaped() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pidfd = pidfd::open(child.id()).unwrap();
        assert_eq!(look(pidfd.as_fd()).unwrap(), None);
        child.kill().unwrap();
        poll(&mut [PollFd::readable(pidfd.as_fd())], None).unwrap();
        let killed = Ended::Signalled { signal: libc::SIGKILL, core_dumped: false };
        assert_eq!(look(pidfd.as_fd()).unwrap(), Some(killed));
        assert_eq!(reap(pidfd.as_fd()).unwrap(), Some(killed));
        assert_eq!(reap(pidfd.as_fd()).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    #[allow(clippy::zombie_processes)] // reaped by the call under test
    fn tells_an_exit_status() {
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        assert_eq!(reap_waiting(child.id()).unwrap(), Some(Ended::Exited(7)));
    }
}
