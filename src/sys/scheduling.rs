//! How willingly the kernel lets a thread run.
#![allow(unsafe_code)] // calls into libc

use std::io;

use super::check;

/// How nice the calling thread is to others, from −20 to 19.
pub(crate) fn niceness() -> io::Result<i32> {
    // SAFETY: takes numbers only. The raw call answers 20 − nice, so that −1 is an error only.
    let answer = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    Ok(20 - check(answer as libc::c_int)?)
}

/// Makes the calling thread so nice.
pub(crate) fn set_niceness(nice: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// The scheduling policy of the calling thread, and its priority among threads of real-time ones.
pub(crate) fn policy() -> io::Result<(i32, i32)> {
    // SAFETY: all-zero is a valid `sched_param`, a plain C struct.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: takes a number only.
    let policy = check(unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) } as libc::c_int)?;
    // SAFETY: `parameters` is writable and of the type the call fills in.
    let result = unsafe { libc::syscall(libc::SYS_sched_getparam, 0, &raw mut parameters) };
    check(result as libc::c_int)?;
    Ok((policy, parameters.sched_priority))
}

/// Gives the calling thread a scheduling policy and priority.
pub(crate) fn set_policy((policy, priority): (i32, i32)) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sched_param`, a plain C struct.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: `parameters` is initialised and lives across the call.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    check(result as libc::c_int).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_what_holds() {
        let (nice, scheduled) = (niceness().unwrap(), policy().unwrap());
        set_niceness(nice).unwrap();
        set_policy(scheduled).unwrap();
        assert_eq!((niceness().unwrap(), policy().unwrap()), (nice, scheduled));
    }
}
