//! Processes: making one, its group, what ties it to its parent.
#![allow(unsafe_code)] // calls into libc

use std::ffi::CStr;
use std::io;

use super::check;

/// Which side of a [`fork`] this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The new process.
    Child,
    /// The process that called, with the child's pid.
    Parent(u32),
}

/// Says which limits there are on processes, where one of them was met.
pub(super) fn many(error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(libc::EAGAIN) {
        return error;
    }
    let text = "raise ulimit -u (RLIMIT_NPROC), or the pids limit of the control group";
    io::Error::new(error.kind(), format!("{error}: {text}"))
}

/// Makes a copy of this process, by the C library, so that its own child handlers run.
///
/// # Errors
///
/// `WouldBlock` at a limit on processes, which the text names; `ENOMEM` without the memory.
///
/// # Safety
///
/// This process has one thread only: the copy has no other, and what others had locked would stay
/// locked in it.
pub unsafe fn fork() -> io::Result<Side> {
    // SAFETY: takes no pointers; the caller vouches for the single thread.
    match check(unsafe { libc::fork() }).map_err(many)? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as u32)),
    }
}

/// Makes a copy of this process that no `wait` of this process sees: it sends no signal when it
/// ends, and is waited for by its descriptor only.
///
/// Child handlers (`pthread_atfork`) do not run in it. Where the system does not say where the C
/// library keeps the thread's id, which is then wrong in the copy, this is a [`fork`] like any
/// other.
///
/// # Errors
///
/// As for [`fork`].
///
/// # Safety
///
/// As for [`fork`].
pub(crate) unsafe fn fork_unseen() -> io::Result<Side> {
    let mut thread_id = std::ptr::null_mut::<libc::pid_t>();
    // SAFETY: the option takes the address of a pointer to fill in.
    let told = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut thread_id) };
    if told == -1 || thread_id.is_null() {
        // SAFETY: the caller vouches.
        return unsafe { fork() };
    }
    let flags = (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID) as libc::c_long;
    let none = 0 as libc::c_long;
    // SAFETY: a copy with memory of its own and no stack given goes on here, as `fork` has it; the
    // thread's id is written where the C library keeps it, as its own `fork` does. The caller
    // vouches for the single thread. The order of the last two arguments is the architecture's.
    let pid = unsafe {
        #[cfg(target_arch = "x86_64")]
        let pid = libc::syscall(libc::SYS_clone, flags, none, none, thread_id, none);
        #[cfg(not(target_arch = "x86_64"))]
        let pid = libc::syscall(libc::SYS_clone, flags, none, none, none, thread_id);
        pid
    };
    match check(pid as libc::c_int).map_err(many)? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as u32)),
    }
}

/// Returns this process's id.
pub(crate) fn own_pid() -> u32 {
    std::process::id()
}

/// Returns the id of this process's parent, at this moment.
pub(crate) fn parent_pid() -> u32 {
    std::os::unix::process::parent_id()
}

/// Makes this process the leader of a session, and so of a process group, without a terminal.
pub(crate) fn lead_session() -> io::Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

/// From now on processes below this one whose parent ends are children of this process.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: the option takes one number.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong) }).map(drop)
}

/// Makes `pid` (0: this process) the leader of a process group of its own.
pub(crate) fn lead_group(pid: u32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::setpgid(pid as libc::pid_t, 0) }).map(drop)
}

/// Sends a signal to `pid`, which is a child of this process and not yet reaped.
pub(crate) fn signal(pid: u32, signal: i32) -> io::Result<()> {
    // 0 and −1 would mean this group, and everybody.
    if pid <= 1 || pid > i32::MAX as u32 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: takes no pointers.
    check(unsafe { libc::kill(pid as libc::pid_t, signal) }).map(drop)
}

/// Sends a signal to every process of the group that `leader` leads.
///
/// The caller knows the group to be the one it means: the leader is its child and not yet reaped.
pub(crate) fn signal_group(leader: u32, signal: i32) -> io::Result<()> {
    // -0 and -1 would mean this group, and everybody.
    if leader <= 1 || leader > i32::MAX as u32 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: takes no pointers.
    check(unsafe { libc::kill(-(leader as libc::pid_t), signal) }).map(drop)
}

/// Has this process killed when the thread that made it ends.
///
/// Does nothing about a parent that is gone already: compare [`parent_pid`] afterwards.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: the option takes one number.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) }).map(drop)
}

/// Has executing a set-user-id program give this process no new rights, from now on.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: the option takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, unused, unused, unused) }).map(drop)
}

/// Sets the name that `ps` and `top` show; longer ones are cut after 15 bytes.
pub(crate) fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the option takes a C string and copies at most 16 bytes of it.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(drop)
}

/// Returns how many threads this process has.
pub(crate) fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Returns the letter that `/proc` has for the state of a process: `T` is stopped, `S` sleeps.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name stands before, in parentheses, and may have any byte in it.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Returns whether this program was started with more rights than its caller has (`AT_SECURE`), so
/// that its environment is the word of a stranger.
pub(crate) fn has_foreign_rights() -> bool {
    // SAFETY: takes a number, and answers 0 for one it does not know.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Returns whether there is a process `pid`; true also for one that this user may not signal.
pub(crate) fn exists(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 is none.
    let asked = check(unsafe { libc::kill(pid, 0) });
    asked.map_or_else(|error| error.raw_os_error() != Some(libc::ESRCH), |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_this_thread_and_another() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv());
        assert!(thread_count().unwrap() >= 2);
        drop(stop);
        other.join().unwrap().unwrap_err();
    }

    #[test]
    fn groups_that_would_mean_everybody_are_refused() {
        for leader in [0, 1, u32::MAX] {
            let refused = signal_group(leader, 0).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
        }
    }
}
