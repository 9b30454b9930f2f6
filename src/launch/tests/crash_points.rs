//! The crash points of launching that are a given moment: a process dies there.
//!
//! A zygote that is forked has its host's memory, and so has the host's crash point.

use std::os::fd::AsFd;

use super::host::{kill, zygote_of};
use super::rig::{FIRST, Rig, lost, spec, wait_for, wait_for_death};
use super::role;
use crate::launch::{PoolSpec, ZygoteReport, init};
use crate::sync::crash::{Action, Point, arm};
use crate::sys::pidfd;
use crate::table::WorkerId;
use crate::task::WorkerExit;

const KILLED: &str = "was killed by signal 9";

/// Dies while its first pool is opened.
pub(super) fn die_with_a_pool(point: Point) {
    arm(point, Action::Kill);
    // More descriptors than one message takes.
    let _ = Rig::open(&PoolSpec { slots: vec![150, 150], ..spec("sleep") });
    println!("still there");
}

#[test]
fn a_host_that_dies_on_its_way_to_a_pool_leaves_nobody() {
    for name in ["host dies at Z1", "host dies at Z10"] {
        let mut host = role::start(name);
        // Every process that is left has the host's output.
        assert_eq!(host.rest(), "", "{name}");
        host.child.wait().unwrap();
    }
}

pub(super) fn lose_the_zygote_at_its_start() {
    arm(Point::Z2, Action::Kill);
    let error = init().unwrap_err();
    assert_eq!(lost(&error), Some(KILLED), "{error}");
    // One that is executed has none of this.
    let rig = Rig::new("exit 3");
    rig.start(FIRST);
    assert_eq!(rig.death(FIRST), WorkerExit::Exited(3));
}

/// With a worker that was just forked, or is just dead.
pub(super) fn lose_the_zygote_at(point: Point) {
    arm(point, Action::Kill);
    init().unwrap();
    let rig = Rig::new(if point == Point::Z4 { "sleep" } else { "exit 3" });
    rig.order(FIRST);
    let error = loop {
        match rig.next() {
            Ok(ZygoteReport::Forked { .. }) if point == Point::Z6 => {}
            Ok(other) => panic!("expected its death, got {other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(lost(&error), Some(KILLED), "{error}");
    println!("lost");
}

#[test]
fn a_zygote_that_dies_between_two_steps_is_lost_and_its_workers_with_it() {
    role::play("zygote dies at Z2");
    for name in ["zygote dies at Z4", "zygote dies at Z6"] {
        // No process is left with the host's output, not even a worker that the host never heard
        // of.
        assert_eq!(role::play(name), "lost\n", "{name}");
    }
}

pub(super) fn orphan_a_worker() {
    arm(Point::Z3, Action::Stop);
    init().unwrap();
    let rig = Rig::new("sleep");
    let (pid, worker) = rig.start(FIRST);
    wait_for("the worker to stop", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains(") T ").then_some(())
    });
    let zygote = zygote_of(pid);
    kill(&zygote);
    wait_for_death(&zygote);
    // The kernel may have continued it already: its group is an orphan.
    let _ = pidfd::send_signal(worker.as_fd(), libc::SIGCONT);
    wait_for_death(&worker);
}

#[test]
fn a_worker_whose_zygote_dies_before_it_asked_for_a_death_signal_leaves_by_itself() {
    role::play("worker stops at Z3");
}

pub(super) fn lose_workers_at_their_start() {
    arm(Point::Z5, Action::Kill);
    init().unwrap();
    let rig = Rig::new("sleep");
    for incarnation in 1..=30 {
        let id = WorkerId { incarnation, ..FIRST };
        rig.start(id);
        let exit = WorkerExit::Signalled { signal: libc::SIGKILL, core_dumped: false };
        assert_eq!(rig.death(id), exit);
    }
    rig.assert_silent();
}

#[test]
fn a_worker_that_dies_before_anybody_opened_it_is_told_like_any_other() {
    role::play("worker dies at Z5");
}
