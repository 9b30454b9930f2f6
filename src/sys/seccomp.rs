//! Seccomp: system calls that this process can make no more.
#![allow(unsafe_code)] // a call into libc

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// The calls by which a process gets a socket to another one.
pub(crate) const NETWORK: [i64; 2] = [libc::SYS_socket, libc::SYS_io_uring_setup];
/// The calls by which a process becomes another program.
pub(crate) const EXECUTION: [i64; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// The same calls have numbers of their own in the x32 interface of x86-64 kernels.
const X32: i64 = 0x4000_0000;

/// Returns whether the running kernel has filters.
pub(crate) fn is_available() -> bool {
    let (action, flags) = (libc::SECCOMP_RET_ERRNO, 0 as libc::c_ulong);
    let ask = libc::SECCOMP_GET_ACTION_AVAIL as libc::c_ulong;
    // SAFETY: reads one number that lives across the call.
    unsafe { libc::syscall(libc::SYS_seccomp, ask, flags, &raw const action) == 0 }
}

/// Returns whether it can be the number of a system call.
pub(crate) fn is_number(number: i64) -> bool {
    (0..X32).contains(&number)
}

/// Has these calls fail with `EPERM`, in this thread and all it starts.
pub(crate) fn deny(calls: &[i64]) -> Result<(), String> {
    let mut rules = BTreeMap::new();
    for &call in calls {
        rules.insert(call, Vec::new());
        if cfg!(target_arch = "x86_64") {
            rules.insert(call | X32, Vec::new());
        }
    }
    let filter = || -> Result<(), Box<dyn std::error::Error>> {
        let arch = std::env::consts::ARCH.try_into()?;
        let denied = SeccompAction::Errno(libc::EPERM as u32);
        let filter: BpfProgram =
            SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)?.try_into()?;
        Ok(seccompiler::apply_filter(&filter)?)
    };
    filter().map_err(|error| error.to_string())
}
