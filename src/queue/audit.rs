//! The audit: the slow check that nothing is stuck, and the only one that looks at every record.
//!
//! The supervisor runs it while tasks are pending and nothing moves. It repairs what stopped
//! processes leave behind, lost wake-ups among it. What it cannot explain is damage.

use std::sync::Arc;
use std::task::Waker;

use crate::ring::{Head, split_place};
use crate::sync::atomic::Ordering::{Relaxed, Release};
use crate::sync::lock;
use crate::table::{Owner, Record, State};

use super::HostQueue;
use super::delivery::Deliveries;
use super::entry::Entry;
use super::receive::Received;

impl HostQueue {
    /// Checks every pending task. Returns what was found in the control region that no correct
    /// worker writes, if anything was.
    ///
    /// `incarnation` returns the owner that the state words of a slot may name: the slot's worker,
    /// until that worker is recovered.
    pub(crate) fn audit(&self, incarnation: impl Fn(usize) -> Option<Owner>) -> Option<String> {
        self.mend_bells();
        let mut deliveries = Deliveries::default();
        let mut damage = None;
        // Slots whose workers hold a task, if the state words are true.
        let mut claimed_to_have = Vec::new();
        let mut lanes = lock(&self.lanes);
        let before = self.words();
        self.drain_lanes(&mut lanes, &mut deliveries);
        for slot in 0..lanes.lanes.len() {
            let control = Arc::clone(&lanes.control);
            let lane = &mut lanes.lanes[slot];
            if lane.flush(&control, slot) {
                self.ring(slot);
            }
            // Release: as in `lend`. A faulty process may have overwritten it.
            control.lent(slot).store(lane.lent, Release);
            let taken = control.report(slot).handback_taken();
            if incarnation(slot).is_some()
                && !lane.handback.is_intact(control.handback(slot), taken)
            {
                let taken = taken.load(Relaxed);
                let what = format!("the hand-back lane of slot {slot}, read up to {taken}");
                self.report_damage(slot, what);
            }
        }
        let mut received = Received::new(&mut deliveries);
        let mut state = self.lock();
        let control = Arc::clone(&state.control);
        let capacity = u64::from(control.shape().capacity);
        for class in 0..control.classes() {
            let (head, tail) = (control.ring(class).head(), state.tails[class]);
            if head > tail || tail - head > capacity {
                damage = Some(format!("head {head} of ring {class} with tail {tail}"));
            } else if control.ring(class).peek() == Head::Empty && control.ring(class).head() < tail
            {
                // An overwritten ring entry stops every worker there, whichever task's it was.
                // Head is read after the entry, since workers move it.
                damage = Some(format!("no entry at head {head} of ring {class}"));
            }
        }
        if let Err(what) = control.check_header() {
            damage = Some(what);
        }
        // With the bit of a slot that has no worker, the host would ring nobody, or believe that a
        // worker searches.
        control.bells().keep_only(|slot| incarnation(slot).is_some());
        for (index, &seen) in before.iter().enumerate() {
            let entry = &state.entries[index];
            if !entry.in_use || entry.held {
                continue;
            }
            let word = control.records()[index].state();
            if !entry.knows(word) {
                damage = Some(format!("{:#x} as the state of record {index}", word.bits()));
                continue;
            }
            let owner_is_live = || incarnation(word.owner().slot()) == Some(word.owner());
            // The host cancels with the word and its own entry in one hold of the lock.
            let is_pending = entry.pending.is_some() && !entry.is_between_attempts();
            match word.state() {
                Some(State::Queued) if is_pending => {
                    let (class, position) = split_place(entry.place);
                    let ring = control.ring(class);
                    if ring.head() > position {
                        // Head has passed the entry, so no worker will find it: head was
                        // overwritten, or the task was claimed between the two readings.
                        if state.enqueue_passed(index, class, word) {
                            self.common.counters.requeued.add(1);
                        }
                    } else if !ring.holds(position, index as u32) {
                        damage = Some(format!("no entry of record {index} at {position}"));
                    }
                }
                // DONE since before the lanes were drained: its worker stopped between the commit
                // and the lane word. That word comes later, and is stale then. Only such records
                // are taken here, or stale words could overflow a lane (`ring/README.md`).
                Some(State::Done) if owner_is_live() && seen == word.bits() => {
                    let slot = word.owner().slot();
                    let lane = &mut lanes.lanes[slot];
                    self.receive(&control, &mut state, lane, slot, index, &mut received);
                }
                Some(State::Done) if owner_is_live() => {}
                Some(State::Claimed | State::Running) if owner_is_live() && is_pending => {
                    claimed_to_have.push(word.owner().slot());
                }
                Some(State::Cancelling) if owner_is_live() && !is_pending => {
                    claimed_to_have.push(word.owner().slot());
                }
                _ => {
                    damage = Some(format!("{:#x} as the state of record {index}", word.bits()));
                }
            }
        }
        self.note_counts(&state);
        let woken = state.take_waiting();
        drop(state);
        for &slot in &claimed_to_have {
            // Only the worker can tell an overwritten state word from a long task: it ends the
            // tasks that it does not have.
            control.attention(slot).ask();
        }
        let Received { deliveries, large, blocks } = received;
        for (slot, record) in large {
            self.receive_large(&control, &mut lanes.lanes[slot], slot, record, deliveries);
        }
        self.release(lanes);
        blocks.into_iter().for_each(|block| self.common.inputs.free(block));
        woken.into_iter().for_each(Waker::wake);
        self.deliver(deliveries);
        if self.pending() > 0 || !claimed_to_have.is_empty() {
            // A wake-up may have gone to a stopped worker, or a faulty process may have overwritten
            // that a worker waits for room.
            self.ring_all();
        }
        damage
    }

    /// Returns the state words of the records in use, each read once.
    fn words(&self) -> Vec<u64> {
        let state = self.lock();
        let records = state.control.records().iter();
        let word = |(entry, record): (&Entry, &Record)| {
            if entry.in_use { record.state().bits() } else { 0 }
        };
        state.entries.iter().zip(records).map(word).collect()
    }
}
