//! The audit, or the end of a back-off, against a claim: who queues again what seems passed by.

use std::sync::Arc;

use crate::sync::model::check;

use super::Queue;
use super::host::{Host, Outcome};
use super::worker::Worker;

/// Head was moved past an unclaimed entry, as a scribble can. The audit queues the task again,
/// unless a worker that read the entry before claims it just now.
#[test]
fn what_was_passed_by_is_queued_again_unless_somebody_claims_it() {
    check("an audit that queues again, against a claim", 3, || {
        let queue = Arc::new(Queue::new(2, 1, 1));
        let mut host = Host::new(&queue);
        assert!(host.try_submit(&queue, 0));
        let theirs = queue.clone();
        let worker = loom::thread::spawn(move || {
            let mut worker = Worker::new(0, 1, 0);
            worker.work(&theirs);
            worker
        });
        queue.ring().help(0);
        host.republish(&queue, 0);
        let mut worker = worker.join().unwrap();
        while worker.work(&queue) {}
        host.assert_at_rest(&queue);
        assert_eq!((host.outcomes(0), queue.ran(0)), (&[Outcome::Ok][..], 1));
    });
}
