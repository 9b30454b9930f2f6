//! A worker of the models: it claims, runs, completes, publishes.

use crate::ring::{Claim, LaneWriter, claim};
use crate::table::{OutputDesc, Owner, Place, State, WorkerId};

use super::Queue;

/// A worker process.
pub(super) struct Worker {
    slot: usize,
    owner: Owner,
    lane: LaneWriter,
}

/// Returns what a task's output is, given its input.
pub(super) fn output_of(input: u64) -> u64 {
    input + 100
}

impl Worker {
    /// Returns the `incarnation`th worker in `slot`, whose lane begins at `position`.
    pub(super) fn new(slot: usize, incarnation: u32, position: u64) -> Self {
        Self { slot, owner: owner(slot, incarnation), lane: LaneWriter::at(position) }
    }

    /// Claims one task and sees it through; false if there was nothing to claim.
    pub(super) fn work(&mut self, queue: &Queue) -> bool {
        let Claim::Task { record: index, claimed } =
            claim(queue.ring(), 0, &queue.records, self.owner, |_| true)
        else {
            return false;
        };
        let record = &queue.records[index as usize];
        let called_off = match record.try_start(claimed) {
            Ok(running) => {
                // The task is its own number: in the record, and in the input's block.
                let Place::Word(task) = record.input().place else { panic!("input was torn") };
                assert_eq!(queue.inputs[index as usize].read(), task, "input was torn");
                queue.runs(task);
                let output = output_of(task);
                queue.outputs[index as usize].write(output);
                let place = Place::Word(output);
                let output = OutputDesc { status: 0, elapsed_ns: 0, len: 8, place };
                record.describe_output(output, &[]);
                record.try_commit(running).err()
            }
            Err(now) => Some(now),
        };
        if let Some(cancelling) = called_off {
            assert_eq!(cancelling.state(), Some(State::Cancelling));
            assert_eq!(cancelling.generation(), claimed.generation());
            record.confirm_cancel(cancelling).expect("only its owner leaves CANCELLING");
        }
        self.lane.push(&queue.lanes[self.slot], index);
        true
    }
}

/// Returns the owner in `slot` in that life.
pub(super) fn owner(slot: usize, incarnation: u32) -> Owner {
    Owner::of(WorkerId { queue: 0, slot: slot as u16, incarnation })
}
