//! Roles of the launch tests that take a raw fork or a limit on another process.

use crate::error::Error;
use crate::launch::ZygoteReport;
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
        ZygoteReport::ForkFailed { id, reason } => {
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
        ZygoteReport::ForkFailed { id, reason } => {
            assert_eq!(id, second);
            assert!(reason.contains("RLIMIT_NOFILE"), "{reason}");
        }
        other => panic!("expected a refused fork, got {other:?}"),
    }
    limit(zygote, libc::RLIMIT_NOFILE, before);
    rig.start(second);
    Rig::new("sleep").start(FIRST);
}

/// Sets a limit of another process; gives what it was. Its number is of another type in glibc than
/// in musl.
fn limit(pid: u32, resource: impl TryInto<libc::c_int, Error: std::fmt::Debug>, most: u64) -> u64 {
    let resource = resource.try_into().unwrap();
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let pid = pid as libc::pid_t;
    // SAFETY: `old` is writable; no new limit is given.
    assert_eq!(unsafe { libc::prlimit(pid, resource as _, std::ptr::null(), &mut old) }, 0);
    let new = libc::rlimit { rlim_cur: most, ..old };
    // SAFETY: `new` is initialised; the old limit is not asked for.
    let set = unsafe { libc::prlimit(pid, resource as _, &new, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    old.rlim_cur
}

/// Sets or removes a variable of the environment.
pub(in crate::launch) fn set_variable(name: &str, value: Option<&str>) {
    // SAFETY: a role has one thread.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}

const NOBODY: u32 = 65_534;

/// Whether this process may change its user, which these tests need root for.
fn is_root() -> bool {
    // SAFETY: takes nothing.
    unsafe { libc::geteuid() == 0 }
}

/// Becomes another user and group, with a saved user.
fn become_user(user: u32, saved: u32) {
    // SAFETY: takes numbers only; a role has one thread.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(user, user, user), 0);
        assert_eq!(libc::setresuid(user, user, saved), 0);
    }
}

/// Becomes nobody after `init`; without root, goes only to another directory.
pub(in crate::launch) fn give_up_rights() {
    let root = Rig::new("describe");
    let uid = |rig: &Rig, id| rig.describe(id).get("Uid").to_owned();
    let before = uid(&root, FIRST);
    if is_root() {
        become_user(NOBODY, NOBODY);
    }
    std::env::set_current_dir("/").unwrap();
    crate::sys::place::set_file_mask(0o077);
    let rig = Rig::new("describe");
    let worker = rig.describe(FIRST);
    if is_root() || before.starts_with('0') {
        assert_eq!(worker.get("Uid"), "65534\t65534\t65534\t65534");
        assert_eq!(worker.get("Gid"), "65534\t65534\t65534\t65534");
        assert_eq!(worker.get("Groups"), "");
        assert_eq!(worker.mask("CapPrm"), 0);
        assert_eq!(worker.mask("CapEff"), 0);
    }
    assert_eq!(worker.get("cwd"), "/");
    assert_eq!(worker.get("Umask"), "0077");
    // The pool of before has the user of before, in replacements too.
    assert_eq!(uid(&root, WorkerId { queue: 1, ..FIRST }), before);
    // The death signal outlives the change of user.
    let pidfd = crate::sys::pidfd::open(worker.get("pid").parse().unwrap()).unwrap();
    drop((rig, root));
    crate::launch::tests::rig::wait_for_death(&pidfd);
}

/// Has its zygote made as nobody, and becomes root again.
pub(in crate::launch) fn take_rights_back() {
    if !is_root() {
        // The zygote has the user of its host, which cannot change.
        Rig::new("sleep").start(FIRST);
        return;
    }
    become_user(NOBODY, 0);
    let first = Rig::new("describe");
    assert!(first.describe(FIRST).get("Uid").starts_with("65534\t65534\t"));
    // SAFETY: takes a number only; a role has one thread.
    assert_eq!(unsafe { libc::setresuid(0, 0, 0) }, 0);
    let refused = Rig::open(&spec("sleep")).err().unwrap().to_string();
    assert!(refused.contains("cannot become user 0"), "{refused}");
    assert!(refused.contains("call aiopool::init()"), "{refused}");
    // The zygote serves on, what it can.
    first.start(WorkerId { queue: 1, ..FIRST });
}

/// Builds a pool in a thread that is another user than its process.
pub(in crate::launch) fn claim_rights() {
    let root = Rig::new("describe");
    root.describe(FIRST);
    if !is_root() {
        return;
    }
    // The raw call changes this thread alone, and the other one stays what it was.
    let refused = std::thread::spawn(|| {
        // SAFETY: takes numbers only.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(changed, 0);
        Rig::open(&spec("sleep")).err().unwrap().to_string()
    });
    let refused = refused.join().unwrap();
    assert!(refused.contains("build the pool where they agree"), "{refused}");
}
