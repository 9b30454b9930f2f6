//! Workers that end, and how that is reported.

use super::rig::{FIRST, Rig, is_dead, spec, wait_for, wait_for_death};
use crate::launch::{PoolSpec, ZygoteReport};
use crate::sys::pidfd;
use crate::table::WorkerId;
use crate::task::WorkerExit;

const KILLED: WorkerExit = WorkerExit::Signalled { signal: libc::SIGKILL, core_dumped: false };

#[test]
fn an_exit_is_told_with_its_status() {
    let rig = Rig::new("exit 7");
    rig.start(FIRST);
    assert_eq!(rig.death(FIRST), WorkerExit::Exited(7));
    rig.assert_silent();
}

#[test]
fn a_signal_is_told_by_its_number() {
    let rig = Rig::new("signal 10");
    rig.start(FIRST);
    let exit = WorkerExit::Signalled { signal: libc::SIGUSR1, core_dumped: false };
    assert_eq!(rig.death(FIRST), exit);
}

#[test]
fn a_kill_ends_that_worker_and_no_other() {
    let rig = Rig::new("sleep");
    let second = WorkerId { slot: 1, ..FIRST };
    let (_, first_pidfd) = rig.start(FIRST);
    let (_, second_pidfd) = rig.start(second);
    rig.launcher.kill(FIRST).unwrap();
    wait_for_death(&first_pidfd);
    assert_eq!(rig.death(FIRST), KILLED);
    assert!(!is_dead(&second_pidfd));
}

#[test]
fn a_kill_for_another_incarnation_is_nobodys() {
    let rig = Rig::new("sleep");
    let (_, pidfd) = rig.start(FIRST);
    rig.launcher.kill(WorkerId { incarnation: 2, ..FIRST }).unwrap();
    rig.launcher.kill(WorkerId { slot: 1, ..FIRST }).unwrap();
    rig.assert_silent();
    assert!(!is_dead(&pidfd));
    rig.launcher.kill(FIRST).unwrap();
    assert_eq!(rig.death(FIRST), KILLED);
    // The slot's next incarnation is not the one that the late order names.
    let next = WorkerId { incarnation: 2, ..FIRST };
    let (_, pidfd) = rig.start(next);
    rig.launcher.kill(FIRST).unwrap();
    rig.assert_silent();
    assert!(!is_dead(&pidfd));
}

#[test]
fn what_a_worker_started_dies_with_it() {
    let rig = Rig::new("leave-a-child");
    rig.order(FIRST);
    // Whether it is seen alive is a race: it must be dead after the report.
    let ZygoteReport::Forked { .. } = rig.report() else { panic!("it did not start") };
    assert_eq!(rig.death(FIRST), WorkerExit::Exited(0));
    let child: u32 = rig.written(0, "\n").trim().parse().unwrap();
    wait_for("the worker's child to be gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
        let gone = stat.map_or(true, |stat| !stat.contains("(sleep)") || stat.contains(") Z"));
        gone.then_some(())
    });
}

#[test]
fn many_workers_live_and_die_at_once() {
    let rig = Rig::open(&PoolSpec { slots: vec![70, 30], ..spec("sleep") }).unwrap();
    let slots = (0..70).map(|slot| (0, slot)).chain((0..30).map(|slot| (1, slot)));
    let ids: Vec<_> = slots.map(|(queue, slot)| WorkerId { queue, slot, incarnation: 1 }).collect();
    ids.iter().for_each(|&id| rig.order(id));
    let mut pidfds = Vec::new();
    for _ in &ids {
        match rig.report() {
            ZygoteReport::Forked { pidfd, .. } => pidfds.push(pidfd),
            other => panic!("expected a start, got {other:?}"),
        }
    }
    ids.iter().for_each(|&id| rig.launcher.kill(id).unwrap());
    let mut dead: Vec<WorkerId> = Vec::new();
    for _ in &ids {
        match rig.report() {
            ZygoteReport::Died { id, exit, .. } => {
                assert_eq!(exit, KILLED);
                dead.push(id);
            }
            other => panic!("expected a death, got {other:?}"),
        }
    }
    dead.sort_by_key(|id| (id.queue, id.slot));
    assert_eq!(dead, ids);
    assert!(pidfds.iter().all(is_dead));
}

#[test]
fn dropping_the_launcher_ends_its_workers_and_no_others() {
    let (rig, other) = (Rig::new("sleep"), Rig::new("sleep"));
    let (_, pidfd) = rig.start(FIRST);
    let (_, other_pidfd) = other.start(FIRST);
    drop(rig);
    wait_for_death(&pidfd);
    other.assert_silent();
    assert!(!is_dead(&other_pidfd));
}

#[test]
fn a_replaced_control_region_is_what_the_next_worker_gets() {
    let mut rig = Rig::new("describe");
    rig.describe(FIRST);
    let new = crate::sys::memfd::create(c"aiopool-test").unwrap();
    rig.launcher.replace_control(0, std::os::fd::AsFd::as_fd(&new)).unwrap();
    rig.control[0] = new;
    let next = WorkerId { incarnation: 2, ..FIRST };
    assert_eq!(rig.describe(next).get("id"), "worker 0.0#2");
    let nowhere = rig.launcher.replace_control(2, std::os::fd::AsFd::as_fd(&rig.outputs));
    assert!(nowhere.unwrap_err().to_string().contains("no such queue"));
}

#[test]
fn a_worker_killed_by_somebody_else_is_told_the_same() {
    let rig = Rig::new("sleep");
    let (_, pidfd) = rig.start(FIRST);
    pidfd::send_signal(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGKILL).unwrap();
    assert_eq!(rig.death(FIRST), KILLED);
}
