//! `waitid`: what a child process ended with.
#![allow(unsafe_code)] // calls into libc

use std::io;

use super::{check, retry};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
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

/// Looks how the child `pid` ended and leaves it a zombie: its pid and group stay its own.
///
/// `None` while it lives. `ECHILD` when it is no child of this process, or was reaped.
pub(crate) fn look(pid: u32) -> io::Result<Option<Ended>> {
    wait(pid, libc::WNOWAIT | libc::WNOHANG)
}

/// Reaps the child `pid` if it is dead; from then on the pid may be another process's.
pub(crate) fn reap(pid: u32) -> io::Result<Option<Ended>> {
    wait(pid, libc::WNOHANG)
}

/// Waits until the child `pid` is dead and reaps it; for children that were sent `SIGKILL`.
pub(crate) fn reap_waiting(pid: u32) -> io::Result<Option<Ended>> {
    wait(pid, 0)
}

fn wait(pid: u32, flags: libc::c_int) -> io::Result<Option<Ended>> {
    // SAFETY: all-zero is a valid `siginfo_t`, a plain C struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = flags | libc::WEXITED;
    // SAFETY: `info` is writable and of the type the call fills in.
    retry(|| check(unsafe { libc::waitid(libc::P_PID, pid, &mut info, flags) }))?;
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
    use std::process::Command;

    use super::*;

    #[test]
    fn looking_leaves_the_child_to_be_reaped() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(look(child.id()).unwrap(), None);
        child.kill().unwrap();
        let killed = Ended::Signalled { signal: libc::SIGKILL, core_dumped: false };
        let seen = loop {
            if let Some(seen) = look(child.id()).unwrap() {
                break seen;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        assert_eq!(seen, killed);
        assert_eq!(reap(child.id()).unwrap(), Some(killed));
        assert_eq!(reap(child.id()).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    #[allow(clippy::zombie_processes)] // reaped by the call under test
    fn tells_an_exit_status() {
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        assert_eq!(reap_waiting(child.id()).unwrap(), Some(Ended::Exited(7)));
    }
}
