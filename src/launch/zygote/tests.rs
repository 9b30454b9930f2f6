//! Roles of the launch tests that take a raw fork or a limit on another process.

use crate::error::Error;
use crate::launch::Report;
use crate::launch::tests::rig::{FIRST, Rig, spec};
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
    // The limit does not hold for root, and counts all processes of a user: so become a user
    // without others.
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

    let before = limit(zygote, libc::RLIMIT_NPROC, 1);
    rig.order(second);
    match rig.report() {
        Report::ForkFailed { id, reason } => {
            assert_eq!(id, second);
            assert!(reason.contains("RLIMIT_NPROC"), "{reason}");
        }
        other => panic!("expected a refused fork, got {other:?}"),
    }
    limit(zygote, libc::RLIMIT_NPROC, before);
    rig.start(second);
}

/// Lets its zygote open nothing more, for a while.
pub(in crate::launch) fn have_descriptors_refused() {
    let rig = Rig::new("describe");
    let worker = rig.describe(FIRST);
    let zygote: u32 = worker.get("parent").parse().unwrap();
    let second = WorkerId { slot: 1, ..FIRST };

    // The lowest number that is free: so no number is.
    let free = (0..).find(|fd| std::fs::read_link(format!("/proc/{zygote}/fd/{fd}")).is_err());
    let before = limit(zygote, libc::RLIMIT_NOFILE, free.unwrap());
    let refused = Rig::open(&spec("sleep")).err().unwrap();
    assert!(refused.to_string().contains("RLIMIT_NOFILE"), "{refused}");
    rig.order(second);
    match rig.report() {
        Report::ForkFailed { id, reason } => {
            assert_eq!(id, second);
            assert!(reason.contains("RLIMIT_NOFILE"), "{reason}");
        }
        other => panic!("expected a refused fork, got {other:?}"),
    }
    limit(zygote, libc::RLIMIT_NOFILE, before);
    rig.start(second);
    Rig::new("sleep").start(FIRST);
}

/// Sets a limit of another process; gives what it was.
fn limit(pid: u32, resource: libc::__rlimit_resource_t, most: u64) -> u64 {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let pid = pid as libc::pid_t;
    // SAFETY: `old` is writable; no new limit is given.
    assert_eq!(unsafe { libc::prlimit(pid, resource, std::ptr::null(), &mut old) }, 0);
    let new = libc::rlimit { rlim_cur: most, ..old };
    // SAFETY: `new` is initialised; the old limit is not asked for.
    let set = unsafe { libc::prlimit(pid, resource, &new, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    old.rlim_cur
}
