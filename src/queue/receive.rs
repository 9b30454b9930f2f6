//! Receiving: whoever waits drains the lanes; every hint is checked against the record, and an
//! outcome is delivered by taking the host's own entry, once.
#![forbid(unsafe_code)]

use std::sync::MutexGuard;
use std::task::Waker;

use crate::arena::Block;
use crate::ring::Next;
use crate::sys::clock::monotonic_ns;
use crate::table::{OutputDesc, Place, State};
use crate::task::outcome::interpret;
use crate::task::{Outcome, Payload, Status, TaskError};

use super::delivery::Deliveries;
use super::entry::{Pending, Ticket};
use super::submit::after;
use super::timers::Due;
use super::{HostQueue, Lanes, QueueState};

/// Payloads above this many bytes are copied without the queue's mutex.
const LARGE: u32 = 16 << 10;

/// A DONE record whose output is too large to be copied under the mutex.
struct Large {
    index: usize,
    pending: Pending,
    output: OutputDesc,
    started: u64,
}

/// A DONE record, and its output's bytes or what is wrong with them.
struct Done {
    pending: Pending,
    output: OutputDesc,
    started: u64,
    payload: Result<Payload, String>,
}

impl HostQueue {
    /// Drains the lanes, unless somebody else does: then that one looks once more.
    pub(crate) fn drain(&self) -> usize {
        let mut delivered = 0;
        loop {
            self.turn.ask();
            let Ok(lanes) = self.lanes.try_lock() else { return delivered };
            delivered += self.drain_held(lanes);
            if !self.turn.is_asked() {
                return delivered;
            }
        }
    }

    /// [`drain`](Self::drain) for who looks again and again: cheaper where there is nothing, and
    /// nobody else looks for the caller. Before a sleep, `drain`.
    pub(crate) fn drain_if_any(&self) -> usize {
        let Ok(lanes) = self.lanes.try_lock() else { return 0 };
        if lanes.are_empty() {
            return self.release(lanes);
        }
        let delivered = self.drain_held(lanes);
        if self.turn.is_asked() { delivered + self.drain() } else { delivered }
    }

    /// One turn: takes everything that the lanes hold, lets go of them, and delivers it.
    fn drain_held(&self, mut lanes: MutexGuard<'_, Lanes>) -> usize {
        self.turn.take();
        let mut deliveries = Deliveries::spare();
        self.drain_lanes(&mut lanes, &mut deliveries);
        drop(lanes);
        let delivered = deliveries.len();
        if delivered == 0 {
            self.common.inputs.wake_waiting();
        } else {
            self.deliver(&mut deliveries);
        }
        deliveries.keep();
        delivered
    }

    /// Takes everything that the lanes hold.
    pub(super) fn drain_lanes(&self, lanes: &mut Lanes, deliveries: &mut Deliveries) {
        let mut large = Vec::new();
        let Lanes { control, lanes, .. } = lanes;
        let mut guard = None;
        let mut blocks = Vec::new();
        for (slot, lane) in lanes.iter_mut().enumerate() {
            let words = control.lane(slot);
            let mut stale = 0;
            loop {
                match lane.reader.peek(words) {
                    Next::Empty => break,
                    Next::Corrupt(word) => {
                        self.report_damage(slot, format!("{word:#x} in the lane of slot {slot}"));
                        break;
                    }
                    Next::Record(index) => {
                        lane.reader.advance();
                        if let Next::Record(next) = lane.reader.peek(words)
                            && let Some(next) = control.records().get(next as usize)
                        {
                            // Its line is in the worker's cache: let it come while this one is
                            // dealt with.
                            next.prefetch();
                        }
                        let state = guard.get_or_insert_with(|| self.lock());
                        let index = index as usize;
                        let so = self.receive(
                            control,
                            state,
                            lane,
                            slot,
                            index,
                            deliveries,
                            &mut large,
                            &mut blocks,
                        );
                        stale += usize::from(!so);
                        if stale > words.len() {
                            // Somebody writes here faster than this reads.
                            let what = format!("{stale} stale words in the lane of slot {slot}");
                            self.report_damage(slot, what);
                            break;
                        }
                    }
                }
            }
        }
        let woken = guard.as_mut().map(|state| {
            self.note_pending(state);
            let free = state.free.len();
            if state.room.is_empty() { Vec::new() } else { state.room.take(free) }
        });
        drop(guard);
        woken.into_iter().flatten().for_each(Waker::wake);
        blocks.drain(..).for_each(|block| self.common.inputs.free(block));
        for (slot, large) in large {
            self.receive_large(control, &mut lanes[slot], slot, large, deliveries);
        }
    }

    /// Takes what `slot`'s worker says of record `index`, if it is so; false if it is not.
    #[allow(clippy::too_many_arguments)] // one call site beside recovery's; the parts are borrowed
    pub(super) fn receive(
        &self,
        control: &crate::control::Control,
        state: &mut QueueState,
        lane: &mut super::Lane,
        slot: usize,
        index: usize,
        deliveries: &mut Deliveries,
        large: &mut Vec<(usize, LargeRecord)>,
        blocks: &mut Vec<Block>,
    ) -> bool {
        let Some(record) = control.records().get(index) else {
            self.report_damage(slot, format!("record {index} in the lane of slot {slot}"));
            return false;
        };
        let word = record.state();
        if !state.entries[index].knows(word)
            || state.entries[index].copying
            || word.state() != Some(State::Done)
            || word.owner().slot() != slot
        {
            // A leftover: the outcome was taken by an audit or a recovery before the word came.
            return false;
        }
        let Some(pending) = state.take_pending(index) else {
            // Called off while it ran, and now confirmed. Whatever output there is goes back.
            blocks.extend(state.free_record(index));
            return true;
        };
        let started = record.started();
        let output = record.output();
        if pending.options.lend_output
            && let Some(payload) = self.lend(control, lane, slot, output)
        {
            // A value, so it is never held for another attempt.
            let done = Done { pending, output, started, payload: Ok(payload) };
            self.end(state, index, done, deliveries);
            blocks.extend(state.free_record(index));
            return true;
        }
        if output.len > LARGE && matches!(output.place, Place::Block(_)) {
            state.entries[index].copying = true;
            large.push((slot, LargeRecord(Large { index, pending, output, started })));
            return true;
        }
        let (output, payload) = lane.copy_out(record);
        if let Place::Block(block) = output.place
            && payload.is_ok()
        {
            lane.hand_back(control, slot, block);
            self.ring_if_waiting(control, slot);
        }
        let payload = payload.inspect_err(|what| self.report_damage(slot, what.clone()));
        if self.end(state, index, Done { pending, output, started, payload }, deliveries) {
            blocks.extend(state.free_record(index));
        } else {
            self.note_pending(state);
        }
        true
    }

    /// The same for a large output: copied with the lanes held, but not the queue.
    pub(super) fn receive_large(
        &self,
        control: &crate::control::Control,
        lane: &mut super::Lane,
        slot: usize,
        LargeRecord(Large { index, pending, output, started }): LargeRecord,
        deliveries: &mut Deliveries,
    ) {
        let (copied, payload) = lane.copy_out(&control.records()[index]);
        // Read twice, so compared: the second reading is the one that was checked.
        let payload = if copied == output {
            payload
        } else {
            Err(format!("an output's descriptor that changes after DONE in slot {slot}"))
        };
        if let Place::Block(block) = copied.place
            && payload.is_ok()
        {
            lane.hand_back(control, slot, block);
            self.ring_if_waiting(control, slot);
        }
        let payload = payload.inspect_err(|what| self.report_damage(slot, what.clone()));
        let mut state = self.lock();
        state.entries[index].copying = false;
        let done = Done { pending, output, started, payload };
        let over = self.end(&mut state, index, done, deliveries);
        let input = over.then(|| state.free_record(index)).flatten();
        let woken = state.room.take(1);
        self.note_pending(&state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        if let Some(block) = input {
            self.common.inputs.free(block);
        }
    }

    /// Ends the task of a DONE record; false if it is held for another attempt.
    fn end(
        &self,
        state: &mut QueueState,
        index: usize,
        Done { mut pending, output, started, payload }: Done,
        deliveries: &mut Deliveries,
    ) -> bool {
        let status = Status::from_bits(output.status);
        let options = pending.options;
        if options.retry_on_error
            && matches!(status, Some(Status::Failed | Status::Panicked))
            && pending.failures < options.retries
        {
            pending.failures += 1;
            pending.attempts += 1;
            if let Ok(payload) = payload
                && let Err(error) = interpret(output.status, payload)
            {
                pending.story.push(error.to_string());
            }
            self.common.counters.retries.add(1);
            self.hold(state, index, pending);
            return false;
        }
        let result = match payload {
            Ok(payload) => interpret(output.status, payload),
            Err(what) => Err(TaskError::Corrupt(what)),
        };
        let outcome = Outcome {
            result,
            attempts: pending.attempts,
            waited_ns: started.saturating_sub(pending.submitted_ns),
            ran_ns: output.elapsed_ns,
        };
        self.times.note(pending.function, &outcome);
        deliveries.push(&mut state.receivers, &pending, outcome);
        true
    }

    /// DONE(Err) or a dead worker's word → HELD until the retry is due.
    pub(super) fn hold(&self, state: &mut QueueState, index: usize, pending: Pending) {
        let entry = &mut state.entries[index];
        state.control.records()[index].hold(entry.generation);
        let at = after(monotonic_ns(), pending.options.pause_before(pending.attempts));
        let ticket = Ticket { queue: self.index, record: index as u32, task: pending.task };
        entry.held = true;
        entry.pending = Some(pending);
        state.pending += 1;
        if self.common.timers.add(at, ticket, Due::Retry) {
            self.common.call_supervisor();
        }
    }

    /// Gives outcomes to their receivers; no lock is held.
    pub(super) fn deliver(&self, deliveries: &mut Deliveries) {
        let any = deliveries.len() > 0;
        self.common.note(self.index, deliveries.iter());
        self.common.unpark(deliveries.hand_over());
        self.common.inputs.wake_waiting();
        if any && self.common.is_closing() && self.pending() == 0 {
            self.common.call_supervisor();
        }
    }

    /// Rings a worker that waits for room in its result arena.
    pub(super) fn ring_if_waiting(&self, control: &crate::control::Control, slot: usize) {
        if control.report(slot).wants_room().is_said() {
            self.ring(slot);
        }
    }
}

/// See [`Large`].
pub(super) struct LargeRecord(Large);
