//! Roles of the launch tests that take a raw fork or a limit on another process.

use crate::error::Error;
use crate::launch::Report;
use crate::launch::tests::rig::{FIRST, Rig};
use crate::sys::exit::exit_now;
use crate::sys::process::{self, Side};
use crate::sys::wait::{Ended, reap_waiting};
use crate::table::WorkerId;
use crate::task::WorkerExit;

/// Forks itself while it has a pool: the child's copy of the launcher does nothing, and the child
/// has a zygote of its own.
pub(in crate::launch) fn fork_the_host() {
    let rig = Rig::new("sleep");
    let (worker, _pidfd) = rig.start(FIRST);
    // SAFETY: a role has one thread.
    match unsafe { process::fork() }.unwrap() {
        Side::Child => {
            let refused = rig.launcher.kill(FIRST);
            assert!(matches!(refused, Err(Error::Forked { .. })), "{refused:?}");
            let refused = rig.launcher.recv();
            assert!(matches!(refused, Err(Error::Forked { .. })), "{refused:?}");
            drop(rig);
            let own = Rig::new("exit 4");
            own.start(FIRST);
            assert_eq!(own.death(FIRST), WorkerExit::Exited(4));
            exit_now(0)
        }
        Side::Parent(child) => assert_eq!(reap_waiting(child).unwrap(), Some(Ended::Exited(0))),
    }
    rig.assert_silent();
    assert!(std::path::Path::new(&format!("/proc/{worker}/exe")).exists());
}

/// Lets the system refuse its zygote a process, for a while.
pub(in crate::launch) fn have_forks_refused() {
    // The limit does not hold for root, and counts all processes of a user: so be nobody else.
    // SAFETY: takes numbers only.
    if unsafe { libc::geteuid() } == 0 {
        const NOBODY_ELSE: libc::uid_t = 54_321;
        // SAFETY: takes a number only; a role has one thread.
        assert_eq!(unsafe { libc::setuid(NOBODY_ELSE) }, 0);
    }
    let rig = Rig::new("describe");
    let worker = rig.describe(FIRST);
    let zygote: u32 = worker.get("parent").parse().unwrap();
    let second = WorkerId { slot: 1, ..FIRST };

    let before = limit_processes(zygote, 1);
    rig.order(second);
    match rig.report() {
        Report::ForkFailed { id, reason } => {
            assert_eq!(id, second);
            assert!(reason.contains("RLIMIT_NPROC"), "{reason}");
        }
        other => panic!("expected a refused fork, got {other:?}"),
    }
    limit_processes(zygote, before);
    rig.start(second);
}

/// Sets how many processes the user of `pid` may have when `pid` forks; gives what it was.
fn limit_processes(pid: u32, most: u64) -> u64 {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let pid = pid as libc::pid_t;
    // SAFETY: `old` is writable; no new limit is given.
    assert_eq!(unsafe { libc::prlimit(pid, libc::RLIMIT_NPROC, std::ptr::null(), &mut old) }, 0);
    let new = libc::rlimit { rlim_cur: most, ..old };
    // SAFETY: `new` is initialised; the old limit is not asked for.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NPROC, &new, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    old.rlim_cur
}
