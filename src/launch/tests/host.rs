//! Hosts that die, lose their zygote, or fork one.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::rig::{FIRST, Rig, is_dead, lost, spec, wait_for_death};
use super::{SHARED, act, role, sleep};
use crate::error::Error;
use crate::launch::{PoolSpec, Report, StartMethod, attach, init};
use crate::sys::eventfd::EventFd;
use crate::sys::rlimit::{self, Limit, Resource};
use crate::sys::{fd, pidfd};
use crate::table::WorkerId;
use crate::task::WorkerExit;

/// What this binary can be told to be.
pub(super) const ROLES: &[(&str, fn())] = &[
    ("attach", || {
        act(&attach().unwrap());
    }),
    ("host", be_host),
    ("forking host", || {
        init().unwrap();
        be_host();
    }),
    ("spawning host", || be_host_of(StartMethod::Spawn)),
    ("zygote killed", lose_the_zygote),
    ("zygote killed while it starts", kill_starting_zygotes),
    ("shared memory", share_memory),
    ("refusals", be_refused),
    ("kept descriptors", keep_descriptors),
    ("no descriptors", run_out_of_descriptors),
    ("stdio closed", start_without_stdio),
];

fn be_host() {
    be_host_of(StartMethod::Fork)
}

/// Has two workers, one of which has a child, until it is killed.
fn be_host_of(start: StartMethod) {
    let rig = Rig::open(&PoolSpec { start, ..spec("keep-a-child") }).unwrap();
    rig.start(FIRST);
    rig.start(WorkerId { queue: 1, ..FIRST });
    rig.written(0, "end\n");
    rig.written(1, "end\n");
    println!("ready");
    sleep();
}

#[test]
fn a_killed_host_leaves_nobody() {
    for role in ["host", "forking host", "spawning host"] {
        let mut host = role::start(role);
        assert_eq!(host.line(), "ready\n", "{role}");
        host.kill();
        // Whoever is left has the host's output.
        assert_eq!(host.rest(), "", "{role}");
    }
}

#[test]
fn a_host_killed_while_it_starts_leaves_nobody() {
    for role in ["host", "forking host", "spawning host"] {
        for step in 0..15 {
            let mut host = role::start(role);
            std::thread::sleep(Duration::from_micros(step * step * 250));
            host.kill();
            let rest = host.rest();
            assert!(["", "ready\n"].contains(&rest.as_str()), "{role}, step {step}: {rest}");
        }
    }
}

/// The pid of the zygote of this process, which is the parent of its workers.
fn zygote_of(worker: u32) -> OwnedFd {
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
    pidfd::open(parent.parse().unwrap()).unwrap()
}

fn kill(pidfd: &OwnedFd) {
    pidfd::send_signal(std::os::fd::AsFd::as_fd(pidfd), libc::SIGKILL).unwrap();
}

fn lose_the_zygote() {
    let (rig, other) = (Rig::new("sleep"), Rig::new("sleep"));
    let (pid, pidfd) = rig.start(FIRST);
    let (_, other_pidfd) = other.start(FIRST);
    kill(&zygote_of(pid));
    for rig in [&rig, &other] {
        let error = rig.next().unwrap_err();
        assert_eq!(lost(&error), Some("was killed by signal 9"), "{error}");
        let order = rig.launcher.kill(FIRST).unwrap_err();
        assert!(lost(&order).is_some(), "{order}");
    }
    wait_for_death(&pidfd);
    wait_for_death(&other_pidfd);
    // The next pool has a zygote again.
    let rig = Rig::new("exit 3");
    rig.start(FIRST);
    assert_eq!(rig.death(FIRST), WorkerExit::Exited(3));
}

#[test]
fn a_killed_zygote_ends_its_workers_and_pools_and_the_next_pool_has_another() {
    role::play("zygote killed");
}

/// Kills its zygote at some moment, again and again: a pool opens, or says why not.
fn kill_starting_zygotes() {
    for step in 0..30u64 {
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(step * 300));
            children().iter().for_each(kill);
        });
        match Rig::open(&spec("sleep")) {
            Ok(rig) => drop(rig),
            Err(Error::ZygoteLost(how)) => assert_eq!(how, "was killed by signal 9"),
            Err(other) => panic!("step {step}: {other}"),
        }
        killer.join().unwrap();
        children().iter().for_each(kill);
    }
    let rig = Rig::new("exit 3");
    rig.start(FIRST);
    assert_eq!(rig.death(FIRST), WorkerExit::Exited(3));
}

fn children() -> Vec<OwnedFd> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let lists = tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok());
    let pids: Vec<u32> = lists
        .flat_map(|l| l.split_whitespace().map(|p| p.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    pids.into_iter().filter_map(|pid| pidfd::open(pid).ok()).collect()
}

#[test]
fn a_zygote_killed_while_it_starts_is_an_error_and_not_a_hang() {
    role::play("zygote killed while it starts");
}

fn share_memory() {
    SHARED.store(4711, Ordering::Relaxed);
    init().unwrap();
    SHARED.store(1, Ordering::Relaxed);
    let rig = Rig::new("describe");
    assert_eq!(rig.describe(FIRST).get("shared"), "4711");
    assert_eq!(rig.describe(WorkerId { queue: 1, ..FIRST }).get("shared"), "4711");
}

#[test]
fn workers_of_a_forked_zygote_have_the_memory_of_that_moment() {
    role::play("shared memory");
    // And those of an executed one have what the program starts with.
    SHARED.store(4711, Ordering::Relaxed);
    assert_eq!(Rig::new("describe").describe(FIRST).get("shared"), "0");
}

fn misuse(expected: &str) {
    match init() {
        Err(Error::Misuse(text)) => assert!(text.contains(expected), "{text}"),
        other => panic!("expected {expected}, got {other:?}"),
    }
}

fn be_refused() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let second = std::thread::spawn(move || stopped.recv());
    misuse("one thread");
    drop(stop);
    second.join().unwrap().unwrap_err();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { misuse("inside of a runtime") });
    drop(runtime);
    init().unwrap();
    misuse("too late");
    let rig = Rig::new("exit 0");
    rig.start(FIRST);
    assert_eq!(rig.death(FIRST), WorkerExit::Exited(0));
}

#[test]
fn init_is_refused_where_a_fork_would_be_wrong() {
    role::play("refusals");
    // Here are threads, and by now perhaps a zygote.
    assert!(matches!(init(), Err(Error::Misuse(_))));
}

fn keep_descriptors() {
    let kept = crate::sys::memfd::create(c"kept by the pool").unwrap();
    fd::set_close_on_exec(std::os::fd::AsFd::as_fd(&kept), false).unwrap();
    // Whoever started the tests may have left some open, too.
    let inheritable = format!("{:?}", inheritable());
    assert!(inheritable.contains("kept by the pool"));
    for start in [StartMethod::Fork, StartMethod::Spawn] {
        let rig = Rig::open(&PoolSpec { keep_fds: true, start, ..spec("describe") }).unwrap();
        let worker = rig.describe(FIRST);
        // And nothing that is the zygote's own, which would keep its lines open.
        assert_eq!(worker.get("foreign"), inheritable);
    }
    // Other pools of the same zygote do not.
    assert_eq!(Rig::new("describe").describe(FIRST).get("foreign"), "[]");
}

/// What the descriptors name that a program executed by this process has, but the standard ones.
fn inheritable() -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        let number = entry.file_name().to_str().unwrap().parse::<u32>().unwrap();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = i32::from_str_radix(flags, 8).unwrap();
        if number > 2 && flags & libc::O_CLOEXEC == 0 {
            found.push(std::fs::read_link(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn a_pool_that_keeps_descriptors_has_them() {
    role::play("kept descriptors");
}

fn run_out_of_descriptors() {
    let rig = Rig::new("sleep");
    let (pid, pidfd) = rig.start(FIRST);
    let zygote = zygote_of(pid);
    let before = rlimit::get(Resource::OpenFiles).unwrap();
    rlimit::set(Resource::OpenFiles, Limit { soft: 64, ..before }).unwrap();
    // Until every number is taken.
    let taken: Vec<_> = std::iter::from_fn(|| EventFd::new().ok()).collect();
    let second = WorkerId { slot: 1, ..FIRST };
    rig.order(second);
    match rig.report() {
        Report::ForkFailed { id, reason } => {
            assert_eq!(id, second);
            assert!(reason.contains("RLIMIT_NOFILE"), "{reason}");
        }
        other => panic!("expected a failure, got {other:?}"),
    }
    drop(taken);
    rlimit::set(Resource::OpenFiles, before).unwrap();
    // The one that could not be watched is killed, and its death is nobody's business.
    let third = WorkerId { incarnation: 2, ..second };
    rig.start(third);
    rig.launcher.kill(third).unwrap();
    rig.death(third);
    assert!(!is_dead(&pidfd) && !is_dead(&zygote));
}

#[test]
fn a_worker_whose_pidfd_cannot_arrive_is_a_failed_fork() {
    role::play("no descriptors");
}

/// Leaves no standard descriptor open but the output, by which the test hears of it.
fn start_without_stdio() {
    for number in [0, 2] {
        let path = format!("/proc/self/fd/{number}");
        assert!(std::fs::read_link(&path).is_err(), "{path} is open");
    }
    let rig = Rig::new("describe");
    let worker = rig.describe(FIRST);
    assert_eq!(worker.get("foreign"), "[]");
    assert_eq!(worker.get("missing"), "0");
    assert_eq!(worker.get("stdin"), "/dev/null");
}

#[test]
fn a_host_without_standard_descriptors_has_workers() {
    let exe = std::env::current_exe().unwrap();
    let script = "exec <&- 2>&-; exec \"$0\"";
    let status = std::process::Command::new("sh")
        .args(["-c", script, exe.to_str().unwrap()])
        .env("LAUNCH_TEST_ROLE", "stdio closed")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
