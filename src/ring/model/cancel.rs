//! Cancel against claim, start and commit, and the record's next use after it.

use crate::sync::model::check;

use super::host::Outcome;
use super::scene::Scene;

const NEVER: usize = usize::MAX;

/// One record; the host calls task 0 off beside `workers` that would run it, then looks for room
/// for task 1, by lanes or by the record itself.
fn cancelled(workers: usize, audits: bool) {
    let mut scene = Scene::new(1, workers, 2);
    (0..workers).for_each(|_| scene.start(1, NEVER));
    scene.host.cancel(&scene.queue, 0);
    if audits {
        scene.audit();
    } else {
        scene.receive();
    }
    scene.submit_next();
    scene.finish();
    let runs = scene.queue.ran(0);
    match scene.host.outcomes(0) {
        [Outcome::Ok] => assert_eq!(runs, 1),
        [Outcome::Cancelled] => assert!(runs <= 1),
        other => panic!("ended with {other:?}"),
    }
    assert_eq!((scene.host.outcomes(1), scene.queue.ran(1)), (&[Outcome::Ok][..], 1));
}

#[test]
fn cancel_against_two_workers() {
    check("cancel against two workers", 2, || cancelled(2, false));
}

#[test]
fn cancel_confirmed_in_the_record_frees_the_input() {
    check("cancel, then audit", 3, || cancelled(1, true));
}
