//! The rules broken one at a time, and the run that is to notice.

use crate::rules::{Requeue, Room, Rules};

/// A broken rule.
pub struct Mutation {
    pub name: &'static str,
    pub breaks: fn(&mut Rules),
    /// The run that catches it.
    pub scenario: &'static str,
}

/// All of them.
pub fn all() -> Vec<Mutation> {
    let mutation = |name, scenario, breaks: fn(&mut Rules)| Mutation { name, breaks, scenario };
    vec![
        mutation(
            "a full queue waits for workers to move head",
            "the host's doorbell and a full queue",
            |rules| rules.room = Room::Waits,
        ),
        mutation("a cancelled record is used again at once", "reuse", |rules| rules.defer = false),
        mutation("a claim does not look at the position", "two records", |rules| {
            rules.claim_position = false;
        }),
        mutation("a claim does not look at the generation", "two records and a cancel", |rules| {
            rules.claim_generation = false;
        }),
        mutation("a claim looks at neither", "two records", |rules| {
            (rules.claim_position, rules.claim_generation) = (false, false);
        }),
        mutation("a cancel of a running task frees its record", "reuse", |rules| {
            rules.two_phase_cancel = false;
        }),
        mutation("recovery pushes before it helps head", "reuse", |rules| {
            rules.requeue = Requeue::PublishPush;
        }),
        mutation("recovery queues again in place", "reuse", |rules| {
            rules.requeue = Requeue::InPlace;
        }),
        mutation("recovery leaves what is DONE to its lane", "reuse", |rules| {
            rules.harvest = false;
        }),
        mutation("an outcome is delivered by the record's word", "reuse", |rules| {
            rules.private_entry = false;
        }),
        mutation(
            "the attempt after a deadline does not wait for the worker of the last",
            "a deadline and another attempt",
            |rules| rules.waits_for_worker = false,
        ),
        mutation("a lane has one word per record", "audits", |rules| rules.lane_factor = 1),
        mutation(
            "the audit takes what is DONE after the drain",
            "a lane and two audits",
            |rules| rules.audit_looks_first = false,
        ),
        mutation(
            "a worker does not look again before it sleeps",
            "a busy worker and another",
            |rules| {
                rules.worker_looks_again = false;
            },
        ),
        mutation("a searcher that claims stays a searcher", "a busy worker and another", |rules| {
            rules.found_leaves = false;
        }),
        mutation("a searcher that claims wakes nobody", "a busy worker and another", |rules| {
            rules.pass_on = false;
        }),
        mutation(
            "a searcher looks for more before it leaves the searchers",
            "a busy worker and another",
            |rules| rules.leaves_before_look = false,
        ),
        mutation(
            "recovery does not ring the workers",
            "a dead worker that is not replaced",
            |rules| rules.ring_all = false,
        ),
        mutation(
            "recovery leaves the dead worker's bits",
            "a dead worker that is not replaced",
            |rules| rules.forget = false,
        ),
        mutation("the host does not look again before it sleeps", "the host's doorbell", |rules| {
            rules.host_looks_again = false;
        }),
        mutation(
            "the host arms only while an outcome is missing",
            "the host's doorbell and a full queue",
            |rules| rules.arms_for_records = false,
        ),
        mutation(
            "a worker clears the flag of any arming",
            "the host's doorbell and a stopped worker",
            |rules| rules.epoch = false,
        ),
        mutation(
            "a worker clears the flag before it rings",
            "the host's doorbell and a stopped worker",
            |rules| rules.ring_first = false,
        ),
        mutation(
            "a blocking client takes the ring and does not arm",
            "a client that listens and one that blocks",
            |rules| rules.leader_arms = false,
        ),
        mutation(
            "a thread that cannot drain does not ask for another",
            "a client that listens and one that blocks",
            |rules| rules.drains_again = false,
        ),
        mutation(
            "recovery does not ask who wanted to drain meanwhile",
            "the host's doorbell",
            |rules| rules.supervisor_drains_again = false,
        ),
        mutation(
            "no fence between a lane word and the look at the flag",
            "store buffers and the host's doorbell",
            |rules| rules.fence_b2 = false,
        ),
        mutation(
            "no fence between a push and the look for a sleeper",
            "store buffers and the workers' doorbells",
            |rules| rules.fence_b4 = false,
        ),
        mutation("a worker out of blocks does not look again", "output blocks", |rules| {
            rules.wants_room_looks_again = false;
        }),
        mutation("a block is handed back before it is read", "output blocks", |rules| {
            rules.reads_before_hand_back = false;
        }),
    ]
}
