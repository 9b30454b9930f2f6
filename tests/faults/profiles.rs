//! What a seccomp profile forbids and an old kernel does not know: a pool works without it, or its
//! build is refused with an error that names the call. Nothing hangs and no process gets a signal.

#![allow(unsafe_code)] // becomes another user

use std::time::Duration;

use crate::rig::{
    alone_as, answer, answer_where, double, impossible, kill, nap, own, pid, until, works,
};
use aiopool::{Pool, Process, TaskError, TaskOptions};

/// System calls that profiles of containers and service managers forbid or that kernels lack.
const CALLS: [(&str, i64); 31] = [
    ("memfd_create", libc::SYS_memfd_create),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("clone3", libc::SYS_clone3),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("close_range", libc::SYS_close_range),
    ("kcmp", libc::SYS_kcmp),
    ("membarrier", libc::SYS_membarrier),
    ("statx", libc::SYS_statx),
    ("openat2", libc::SYS_openat2),
    ("faccessat2", libc::SYS_faccessat2),
    ("process_madvise", libc::SYS_process_madvise),
    ("epoll_pwait2", libc::SYS_epoll_pwait2),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
    ("seccomp", libc::SYS_seccomp),
    ("setns", libc::SYS_setns),
    ("ptrace", libc::SYS_ptrace),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("sched_setaffinity", libc::SYS_sched_setaffinity),
    ("setpriority", libc::SYS_setpriority),
    ("getrandom", libc::SYS_getrandom),
    ("get_mempolicy", libc::SYS_get_mempolicy),
    ("eventfd2", libc::SYS_eventfd2),
    ("prlimit64", libc::SYS_prlimit64),
    ("prctl", libc::SYS_prctl),
    ("ioprio_get", libc::SYS_ioprio_get),
    ("ioprio_set", libc::SYS_ioprio_set),
    ("personality", libc::SYS_personality),
];

/// A pool with a bit of everything: values, a death, a deadline that kills, an orderly end.
fn lives(pool: Pool) {
    works(&pool);
    let patient = TaskOptions::new().retries(20);
    let victim = pool.apply(pid, 0).wait().unwrap();
    kill(victim, libc::SIGKILL);
    for x in 0..20 {
        assert_eq!(pool.with(patient).apply(double, x).wait().unwrap(), 2 * x);
    }
    let short = patient.retries(0).timeout(Duration::from_millis(200));
    let late = pool.with(short).apply(block, 0).wait().unwrap_err();
    assert!(matches!(late, TaskError::TimedOut { .. }), "{late:?}");
    until("the worker to be killed", || pool.stats().killed_for_deadline == 1);
    works(&pool);
    pool.close();
    pool.join_blocking().unwrap();
    until("the workers to be gone", || own("aiopool 0").is_empty());
}

async fn block(_: u64) {
    std::thread::sleep(Duration::from_secs(1000));
}

fn build() -> aiopool::Result<Pool> {
    Pool::builder().processes(2).grace(Duration::from_millis(100)).build()
}

#[test]
fn a_forbidden_call_is_done_without_or_named() {
    let test = "a_forbidden_call_is_done_without_or_named";
    for (name, call) in CALLS {
        for errno in [libc::EPERM, libc::ENOSYS] {
            alone_as(test, &format!("{name} {errno}"), || {
                if let Err(error) = answer(&[call], errno) {
                    return impossible("system calls that fail", error);
                }
                match build() {
                    Ok(pool) => {
                        println!("{name} {errno}: works");
                        lives(pool);
                        let mut process = Process::new(nap, 1);
                        process.start().unwrap();
                        process.join_blocking(None).unwrap();
                        assert_eq!(process.exit_code(), Some(0));
                    }
                    Err(error) => {
                        println!("{name} {errno}: {error}");
                        assert!(error.to_string().contains(name), "{error}");
                    }
                }
            });
        }
    }
}

#[test]
fn an_event_loop_that_is_forbidden_is_named_by_the_pool() {
    let test = "an_event_loop_that_is_forbidden_is_named_by_the_pool";
    // What the C library waits with.
    #[cfg(target_arch = "x86_64")]
    const WAITS: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_epoll_pwait];
    #[cfg(not(target_arch = "x86_64"))]
    const WAITS: &[i64] = &[libc::SYS_epoll_pwait];
    for (case, calls) in [("make", &[libc::SYS_epoll_create1][..]), ("wait", WAITS)] {
        alone_as(test, case, || {
            if let Err(error) = answer(calls, libc::EPERM) {
                return impossible("system calls that fail", error);
            }
            let error = build().unwrap().apply(double, 1).wait().unwrap_err().to_string();
            assert!(error.contains("event loop (epoll"), "{error}");
        });
    }
}

#[test]
fn linux_5_10_is_enough() {
    let test = "linux_5_10_is_enough";
    alone_as(test, "", || {
        // What came later: calls, flags of memfd_create and pidfd_send_signal, requests to pidfds.
        let calls: Vec<i64> = (libc::SYS_epoll_pwait2..=470).collect();
        let later = answer(&calls, libc::ENOSYS)
            .and_then(|()| answer_where(libc::SYS_memfd_create, 1, 0x18, libc::EINVAL))
            .and_then(|()| answer_where(libc::SYS_pidfd_send_signal, 3, u64::MAX, libc::EINVAL))
            .and_then(|()| answer_where(libc::SYS_close_range, 2, u64::MAX, libc::EINVAL))
            .and_then(|()| answer_where(libc::SYS_pidfd_open, 1, u64::MAX, libc::EINVAL));
        if let Err(error) = later {
            return impossible("system calls that fail", error);
        }
        lives(build().unwrap());
        // Groups of processes are killed there, too.
        let pool = build().unwrap();
        let _ = pool.apply(leave_a_child, 0).wait().unwrap();
        // A spawn is over before the kernel has given the child its new name.
        until("the child to have its name", || own("sleep").len() == 1);
        drop(pool);
        until("what a task has started to be gone", || own("sleep").is_empty());
        let sandboxed = Pool::builder().processes(1).sandbox(aiopool::Sandbox::new().best_effort());
        works(&sandboxed.build().unwrap());
    });
}

#[allow(clippy::zombie_processes, reason = "the pool ends it")]
async fn leave_a_child(_: u64) -> u32 {
    std::process::Command::new("sleep").arg("1000").spawn().unwrap().id()
}

#[test]
fn a_user_without_a_name_a_home_or_a_shell_has_pools() {
    let test = "a_user_without_a_name_a_home_or_a_shell_has_pools";
    alone_as(test, "", || {
        let nobody = 54_321;
        // SAFETY: takes numbers; this process is the test's own.
        let became = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setgid(nobody) == 0
                && libc::setuid(nobody) == 0
        };
        if !became {
            return impossible("becoming another user", std::io::Error::last_os_error());
        }
        lives(build().unwrap());
    });
}
