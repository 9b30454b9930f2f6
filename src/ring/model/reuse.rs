//! Submit, claim, help, complete, receive: with fewer records than tasks.

use crate::sync::model::check;

use super::host::Outcome;
use super::scene::Scene;

const NEVER: usize = usize::MAX;

/// Two workers make `attempts` claims each beside a host that looks `looks` times for what is
/// done and for room.
fn two_workers(records: usize, tasks: usize, attempts: [usize; 2], looks: usize, audits: bool) {
    let mut scene = Scene::new(records, 2, tasks);
    attempts.into_iter().for_each(|attempts| scene.start(attempts, NEVER));
    for _ in 0..looks {
        if audits {
            scene.audit();
        } else {
            scene.receive();
        }
        scene.submit_next();
    }
    scene.finish();
    for task in 0..tasks {
        assert_eq!((scene.host.outcomes(task), scene.queue.ran(task)), (&[Outcome::Ok][..], 1));
    }
}

#[test]
fn one_record_is_used_again_beside_a_slow_claim() {
    check("reuse of one record", 2, || two_workers(1, 2, [1, 1], 2, false));
}

#[test]
fn two_records_three_tasks() {
    check("reuse of two records", 2, || two_workers(2, 3, [2, 1], 1, false));
}

#[test]
fn the_audit_takes_from_the_record_before_the_lane_says_so() {
    check("audit beside workers", 2, || two_workers(1, 2, [2, 1], 2, true));
}
