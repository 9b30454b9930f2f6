//! Hosts that die, lose their zygote, or fork one.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::rig::{FIRST, Rig, is_dead, lost, spec, wait_for, wait_for_death};
use super::{SHARED, act, role, sleep};
use crate::error::Error;
use crate::launch::{Confinement, PoolSpec, StartMethod, Template, ZygoteReport, attach, init};
use crate::sync::crash::Point;
use crate::sys::eventfd::EventFd;
use crate::sys::rlimit::{self, Limit, Resource};
use crate::sys::{fd, pidfd, process};
use crate::table::WorkerId;
use crate::task::WorkerExit;

/// The roles that this binary can be started in.
pub(super) const ROLES: &[(&str, fn())] = &[
    ("attach", || {
        act(&attach().unwrap());
    }),
    ("template", || {
        let template = Template::attach().unwrap();
        SHARED.store(7, Ordering::Relaxed);
        act(&template.fork());
    }),
    ("refusing-template", || Template::attach().unwrap().refuse("the model is missing")),
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
    ("kept descriptors of a fork", || {
        keep_descriptors_of(|| init().unwrap());
    }),
    ("forked child", crate::launch::zygote::tests::fork_the_host),
    ("fork refused", crate::launch::zygote::tests::have_forks_refused),
    ("descriptors refused", crate::launch::zygote::tests::have_descriptors_refused),
    ("no descriptors", run_out_of_descriptors),
    ("stdio closed", start_without_stdio),
    ("host dies at Z1", || super::crash_points::die_with_a_pool(Point::Z1)),
    ("host dies at Z10", || super::crash_points::die_with_a_pool(Point::Z10)),
    ("zygote dies at Z2", super::crash_points::lose_the_zygote_at_its_start),
    ("zygote dies at Z4", || super::crash_points::lose_the_zygote_at(Point::Z4)),
    ("zygote dies at Z6", || super::crash_points::lose_the_zygote_at(Point::Z6)),
    ("worker stops at Z3", super::crash_points::orphan_a_worker),
    ("surroundings", super::snapshot::change_surroundings),
    ("surroundings after a fork", || {
        init().unwrap();
        super::snapshot::change_surroundings();
    }),
    ("rights given up", crate::launch::zygote::tests::give_up_rights),
    ("rights taken back", crate::launch::zygote::tests::take_rights_back),
    ("foreign rights claimed", crate::launch::zygote::tests::claim_rights),
    ("worker dies at Z5", super::crash_points::lose_workers_at_their_start),
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
        // Every process that is left has the host's output.
        assert_eq!(host.rest(), "", "{role}");
    }
}

#[test]
fn a_host_killed_while_its_zygote_is_stopped_leaves_nobody() {
    for role in ["host", "forking host"] {
        let mut host = role::start(role);
        assert_eq!(host.line(), "ready\n", "{role}");
        let zygote = role::zygotes(&host.mark).pop().unwrap();
        let stop = pidfd::send_signal(pidfd::open(zygote).unwrap().as_fd(), libc::SIGSTOP);
        stop.unwrap();
        wait_for("the zygote to stop", || {
            let stat = std::fs::read_to_string(format!("/proc/{zygote}/stat")).unwrap();
            stat.contains(") T ").then_some(())
        });
        // Z9: the end of its line continues it.
        host.kill();
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

/// Returns the pid of the zygote of this process, which is the parent of its workers.
pub(super) fn zygote_of(worker: u32) -> OwnedFd {
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
    pidfd::open(parent.parse().unwrap()).unwrap()
}

/// How a zygote ended that was killed, whether it or the program that makes it: it is no child of
/// its host, and its parent may not have reaped it.
const HOWS: [&str; 3] =
    ["was killed by signal 9", crate::launch::line::NOT_SAID, "ended before it said hello"];

pub(super) fn kill(pidfd: &OwnedFd) {
    pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
}

fn lose_the_zygote() {
    let (rig, other) = (Rig::new("keep-a-child"), Rig::new("sleep"));
    let (pid, pidfd) = rig.start(FIRST);
    let (_, other_pidfd) = other.start(FIRST);
    rig.written(0, "end\n");
    kill(&zygote_of(pid));
    for rig in [&rig, &other] {
        let error = rig.next().unwrap_err();
        assert!(lost(&error).is_some_and(|how| HOWS.contains(&how)), "{error}");
        let order = rig.launcher.kill(FIRST).unwrap_err();
        assert!(lost(&order).is_some(), "{order}");
    }
    wait_for_death(&pidfd);
    wait_for_death(&other_pidfd);
    // Z8: what the worker had started is the host's to end, which can name the group for ever.
    match pidfd::kill_group(pidfd.as_fd()) {
        // Linux before 6.9: by the number, which is the group's while the child lives.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            process::signal_group(pid, libc::SIGKILL).unwrap();
        }
        result => result.unwrap(),
    }
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
    // Without this file nothing would be killed.
    let own = process::own_pid();
    std::fs::read(format!("/proc/self/task/{own}/children")).unwrap();
    for step in 0..30u64 {
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(step * 300));
            kill_children();
        });
        match Rig::open(&spec("sleep")) {
            Ok(rig) => drop(rig),
            Err(Error::ZygoteLost(how)) => assert!(HOWS.contains(&how.as_str()), "{how}"),
            Err(other) => panic!("step {step}: {other}"),
        }
        killer.join().unwrap();
        kill_children();
    }
    let rig = Rig::new("exit 3");
    rig.start(FIRST);
    assert_eq!(rig.death(FIRST), WorkerExit::Exited(3));
}

fn children_of(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    // A thread may end while it is looked at.
    let lists = tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(|pid| pid.parse().unwrap()).collect()
}

/// Kills what this process started.
fn kill_children() {
    let mut own = children_of(process::own_pid());
    own.extend(role::own_zygotes());
    // What is reaped meanwhile cannot be opened.
    for pidfd in own.into_iter().filter_map(|pid| pidfd::open(pid).ok()) {
        let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
    }
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
    keep_descriptors_of(|| {});
}

fn keep_descriptors_of(start_zygote: fn()) {
    let kept = crate::sys::memfd::create(c"kept by the pool").unwrap();
    fd::set_close_on_exec(kept.as_fd(), false).unwrap();
    start_zygote();
    // The process that started the tests may have left some open, too.
    let inheritable = format!("{:?}", inheritable());
    assert!(inheritable.contains("kept by the pool"));
    for start in [StartMethod::Fork, StartMethod::Spawn] {
        let confinement = Confinement { keep_fds: true, ..Confinement::default() };
        let spec = PoolSpec { confinement, start, ..spec("describe") };
        let rig = Rig::open(&spec).unwrap();
        let worker = rig.describe(FIRST);
        // And nothing that is the zygote's own, which would keep its lines open.
        assert_eq!(worker.get("foreign"), inheritable);
    }
    // Other pools of the same zygote do not.
    assert_eq!(Rig::new("describe").describe(FIRST).get("foreign"), "[]");
}

/// Returns what the descriptors name that a program executed by this process has, but the standard
/// ones.
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
    role::play("kept descriptors of a fork");
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
        ZygoteReport::ForkFailed { id, reason } => {
            assert_eq!(id, second);
            assert!(reason.contains("RLIMIT_NOFILE"), "{reason}");
        }
        other => panic!("expected a failure, got {other:?}"),
    }
    drop(taken);
    rlimit::set(Resource::OpenFiles, before).unwrap();
    // The one that could not be watched is killed, and its death is not reported.
    let third = WorkerId { incarnation: 2, ..second };
    rig.start(third);
    rig.launcher.kill(third).unwrap();
    rig.death(third);
    assert!(!is_dead(&pidfd) && !is_dead(&zygote));
}

#[test]
fn a_forked_child_of_the_host_has_a_zygote_of_its_own() {
    role::play("forked child");
}

#[test]
fn a_refused_fork_is_told_and_can_be_ordered_again() {
    role::play("fork refused");
}

#[test]
fn a_zygote_that_may_open_nothing_says_so_and_recovers() {
    role::play("descriptors refused");
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
