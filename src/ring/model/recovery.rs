//! A worker killed before each of its changes of shared memory, beside one that lives on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::sync::model::check;

use super::host::Outcome;
use super::scene::Scene;

const NEVER: usize = usize::MAX;

/// What happens to the worker that stops, and to what it held.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// Killed; its RUNNING task is lost.
    Lost,
    /// Killed; its RUNNING task runs again.
    Retried,
    /// Killed after its task was cancelled.
    Cancelled,
    /// Stopped: no process may touch what it holds, and none may wait for it.
    Stopped,
}

/// Worker 0 lives on; worker 1 stops before its change number `killed`. True if it got there.
fn killed(records: usize, tasks: usize, killed: usize, fate: Fate) -> bool {
    let mut scene = Scene::new(records, 2, tasks);
    if fate == Fate::Retried {
        scene.host.allow_retries();
    }
    scene.start(1, NEVER);
    scene.start(1, killed);
    if fate == Fate::Cancelled {
        scene.host.cancel(&scene.queue, 0);
    }
    let died = scene.reap();
    if died && fate != Fate::Stopped {
        scene.host.recover(&scene.queue, 1);
    }
    scene.receive();
    scene.submit_next();
    if died && fate == Fate::Stopped {
        // A stopped worker may hold one task, or none. It is killed in the end.
        scene.finish_all_but(1);
        scene.host.recover(&scene.queue, 1);
    }
    scene.finish();
    for task in 0..tasks {
        let runs = scene.queue.ran(task);
        match scene.host.outcomes(task) {
            [Outcome::Ok] => assert!(runs == 1 || (died && fate == Fate::Retried && runs == 2)),
            [Outcome::WorkerLost] => assert!(died && runs <= 1),
            [Outcome::Cancelled] => assert!(fate == Fate::Cancelled && runs <= 1),
            other => panic!("task {task} ended with {other:?}"),
        }
    }
    died
}

/// Every change in turn, until the worker outlives them all.
fn every_change(what: &str, records: usize, tasks: usize, fate: Fate) {
    for change in 0.. {
        let died = Arc::new(AtomicBool::new(false));
        let notes = died.clone();
        check(&format!("{what}, change {change}"), 2, move || {
            if killed(records, tasks, change, fate) {
                notes.store(true, Relaxed);
            }
        });
        if !died.load(Relaxed) {
            assert!(change >= 8, "a task is at least eight changes");
            return;
        }
    }
}

#[test]
fn what_a_dead_worker_held_is_found_beside_a_living_one() {
    every_change("killed", 1, 2, Fate::Lost);
}

#[test]
fn what_a_dead_worker_held_runs_again_where_that_is_allowed() {
    every_change("killed, retried", 2, 2, Fate::Retried);
}

#[test]
fn what_a_dead_worker_had_called_off_is_freed() {
    every_change("killed after a cancel", 1, 2, Fate::Cancelled);
}

#[test]
fn a_stopped_worker_holds_up_nothing_but_its_own_task() {
    every_change("stopped", 2, 3, Fate::Stopped);
}

/// Worker 1 looks at an entry and is slow: its record may be used again before it claims, and it
/// dies right after. What it claimed is at head or behind it, or recovery could not help.
#[test]
fn a_slow_look_does_not_claim_the_next_use() {
    check("a slow look at a record that is used again", 2, || {
        let mut scene = Scene::new(2, 2, 3);
        scene.start(1, NEVER);
        scene.start(1, 1);
        scene.receive();
        scene.submit_next();
        if scene.reap() {
            scene.host.recover(&scene.queue, 1);
        }
        scene.finish();
        for task in 0..3 {
            assert_eq!((scene.host.outcomes(task), scene.queue.ran(task)), (&[Outcome::Ok][..], 1));
        }
    });
}
