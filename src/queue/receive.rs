//! Receiving: waiting threads drain the lanes. Each lane word is a hint that is checked against the
//! record. Taking the host's own entry delivers an outcome, and that happens once.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::arena::Block;
use crate::control::Control;
use crate::ring::Next;
use crate::table::{OutputDesc, Place, Record};
use crate::task::outcome::{Eight, interpret};
use crate::task::{Outcome, Payload, Status, TaskError};

use super::again::Whose;
use super::delivery::{Deliveries, End};
use super::entry::{Pending, Standing};
use super::{HostQueue, Lane, Lanes, QueueState};

/// Payloads above this many bytes are copied without the queue's mutex.
const LARGE: u32 = 16 << 10;

/// Prefetch distance, in records.
const AHEAD: u64 = 3;

/// A DONE record whose output is too large to be copied under the mutex.
pub(super) struct Large {
    index: usize,
    pending: Pending,
    output: OutputDesc,
    started: u64,
}

/// What a DONE record says, and its output's bytes or what is wrong with them.
struct Done {
    output: OutputDesc,
    started: u64,
    payload: Result<Payload, String>,
}

/// What was taken under the queue's mutex and is finished without it.
pub(super) struct Received<'d> {
    pub(super) deliveries: &'d mut Deliveries,
    /// Large outputs by worker slot, not copied yet.
    pub(super) large: Vec<(usize, Large)>,
    /// Blocks of inputs that are no longer needed.
    pub(super) blocks: Vec<Block>,
}

impl<'d> Received<'d> {
    /// Makes an empty list, whose outcomes go to `deliveries`.
    pub(super) fn new(deliveries: &'d mut Deliveries) -> Self {
        Self { deliveries, large: Vec::new(), blocks: Vec::new() }
    }

    fn free(&mut self, block: Option<Block>) {
        if let Some(block) = block {
            self.blocks.push(block);
        }
    }
}

impl HostQueue {
    /// Drains the lanes, unless another thread does: then that thread drains once more.
    pub fn drain(&self) -> usize {
        let mut delivered = 0;
        loop {
            self.baton.ask();
            let Ok(lanes) = self.lanes.try_lock() else { return delivered };
            delivered += self.drain_held(lanes);
            if !self.baton.is_asked() {
                return delivered;
            }
        }
    }

    /// A cheaper [`drain`](Self::drain) for polling loops. It gives up if another thread is
    /// draining, so call `drain` before going to sleep.
    pub(crate) fn drain_if_any(&self) -> usize {
        let Ok(lanes) = self.lanes.try_lock() else { return 0 };
        if lanes.are_empty() {
            return self.release(lanes);
        }
        let delivered = self.drain_held(lanes);
        if self.baton.is_asked() { delivered + self.drain() } else { delivered }
    }

    /// Takes everything that the lanes hold, releases them, and delivers it.
    fn drain_held(&self, mut lanes: MutexGuard<'_, Lanes>) -> usize {
        self.baton.take();
        let mut deliveries = Deliveries::spare();
        self.drain_lanes(&mut lanes, &mut deliveries);
        drop(lanes);
        let delivered = deliveries.len();
        if deliveries.is_settled() {
            self.common.inputs.wake_waiting();
        } else {
            self.deliver(&mut deliveries);
        }
        deliveries.keep();
        delivered
    }

    /// Takes everything that the lanes hold.
    pub(super) fn drain_lanes(&self, lanes: &mut Lanes, deliveries: &mut Deliveries) {
        let Lanes { control, lanes, .. } = lanes;
        let mut received = Received::new(deliveries);
        let mut guard = None;
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
                        if let Some(later) = lane.reader.hint(words, AHEAD)
                            && let Some(later) = control.records().get(later as usize)
                        {
                            // Its cache line is the worker's: fetch it while the records before it
                            // are handled.
                            later.prefetch();
                        }
                        lane.reader.advance();
                        let state = guard.get_or_insert_with(|| self.lock());
                        let index = index as usize;
                        if self.receive_plain(control, state, slot, index, &mut received) {
                            continue;
                        }
                        let so = self.receive(control, state, lane, slot, index, &mut received);
                        stale += usize::from(!so);
                        if stale > words.len() {
                            // A faulty process writes here faster than this reads.
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
            state.take_waiting()
        });
        drop(guard);
        woken.into_iter().flatten().for_each(Waker::wake);
        let Received { deliveries, large, blocks } = received;
        blocks.into_iter().for_each(|block| self.common.inputs.free(block));
        for (slot, large) in large {
            self.receive_large(control, &mut lanes[slot], slot, large, deliveries);
        }
    }

    /// Receives record `index` if it is as most are: its first attempt has ended with a value in
    /// its descriptor, and nothing else is to be done for it. False, and nothing is done, for all
    /// others, which are [`receive`](Self::receive)'s: that does the same for these in more steps.
    #[inline(always)] // once a task: as a call, the outcome is moved through memory
    fn receive_plain(
        &self,
        control: &Control,
        state: &mut QueueState,
        slot: usize,
        index: usize,
        received: &mut Received<'_>,
    ) -> bool {
        let Some(record) = control.records().get(index) else { return false };
        let QueueState { entries, receivers, .. } = state;
        let Some(entry) = entries.get(index) else { return false };
        let Some(pending) = &entry.pending else { return false };
        let word = record.state();
        if !entry.is_plain() || !entry.is_done_by(word, slot) || !pending.is_first() {
            return false;
        }
        // Read once: what is checked here is what is used.
        let (Some((len, bytes, ran_ns)), started) = (record.output_in_words(), record.started())
        else {
            return false;
        };
        let waited_ns = started.saturating_sub(pending.submitted_ns);
        let payload = Payload::Word { len, bytes: Eight(bytes.to_le_bytes()) };
        let outcome = Outcome { result: Ok(payload), attempts: 1, waited_ns, ran_ns };
        self.note_done(slot);
        self.times.note_value(pending.function, waited_ns, ran_ns);
        if let Some(probation) = self.common.probation.get() {
            probation.note_end(pending.function);
        }
        received.deliveries.push(receivers, pending, outcome);
        state.forget_pending(index);
        let block = state.free_record(index);
        debug_assert!(block.is_none());
        true
    }

    /// Receives record `index`, which the worker in `slot` reports as done. False if it is not.
    pub(super) fn receive(
        &self,
        control: &Control,
        state: &mut QueueState,
        lane: &mut Lane,
        slot: usize,
        index: usize,
        received: &mut Received<'_>,
    ) -> bool {
        let Some(record) = control.records().get(index) else {
            self.report_damage(slot, format!("record {index} in the lane of slot {slot}"));
            return false;
        };
        let word = record.state();
        let entry = &state.entries[index];
        if !entry.is_done_by(word, slot) {
            // A stale word: an audit or a recovery took the outcome before it came.
            return false;
        }
        self.note_done(slot);
        if entry.standing != Standing::Plain {
            return self.receive_cancelled(state, index);
        }
        let Some(pending) = &entry.pending else {
            // Cancelled while it ran, which its worker now confirms. Any output goes back.
            received.free(state.free_record(index));
            return true;
        };
        // Read once: what is checked below is what is used.
        let (output, started) = (record.output(), record.started());
        if let Some(payload) = Payload::in_word(output) {
            // Most outputs come this way. A branch of their own keeps them in registers.
            self.end(state, index, Done { output, started, payload: Ok(payload) }, received);
            return true;
        }
        let lends = pending.options.lends_output(output.len > LARGE);
        let lent = if lends { self.lend(control, lane, slot, output) } else { None };
        let payload = match lent {
            Some(payload) => Ok(payload),
            None if output.len > LARGE && matches!(output.place, Place::Block(_)) => {
                state.entries[index].standing = Standing::Copying;
                if let Some(pending) = state.take_pending(index) {
                    // `receive_large` takes it back.
                    self.delivering.fetch_add(1, Ordering::SeqCst);
                    let large = Large { index, pending, output, started };
                    received.large.push((slot, large));
                }
                return true;
            }
            None => self.copy_out(control, lane, slot, record, output),
        };
        self.end(state, index, Done { output, started, payload }, received);
        true
    }

    /// Receives a large output: copies it with the lanes locked, but not the queue.
    pub(super) fn receive_large(
        &self,
        control: &Control,
        lane: &mut Lane,
        slot: usize,
        Large { index, pending, output, started }: Large,
        deliveries: &mut Deliveries,
    ) {
        let payload = self.copy_out(control, lane, slot, &control.records()[index], output);
        let mut received = Received::new(deliveries);
        let mut state = self.lock();
        state.entries[index].standing = Standing::Plain;
        state.set_pending(index, pending);
        self.end(&mut state, index, Done { output, started, payload }, &mut received);
        self.delivering.fetch_sub(1, Ordering::SeqCst);
        let woken = state.room.take(1);
        self.note_pending(&state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        received.blocks.into_iter().for_each(|block| self.common.inputs.free(block));
    }

    /// Copies what `output` names out of shared memory and hands its block back.
    #[inline(always)] // once a task: as a call, what it returns is moved through memory
    fn copy_out(
        &self,
        control: &Control,
        lane: &mut Lane,
        slot: usize,
        record: &Record,
        output: OutputDesc,
    ) -> Result<Payload, String> {
        let payload = lane.copy_out(record, output);
        match (&payload, output.place) {
            (Ok(_), Place::Block(block)) => {
                lane.hand_back(control, slot, block);
                self.ring_if_waiting(control, slot);
            }
            (Ok(_), _) => {}
            (Err(what), _) => self.report_damage(slot, what.clone()),
        }
        payload
    }

    /// Ends the task of a DONE record and frees the record, or holds it for another attempt.
    #[inline(always)] // as for the function before
    fn end(
        &self,
        state: &mut QueueState,
        index: usize,
        Done { output, started, payload }: Done,
        received: &mut Received<'_>,
    ) {
        let Some(pending) = &state.entries[index].pending else { return };
        let mut result = match payload {
            Ok(payload) => interpret(output.status, payload),
            Err(what) => Err(TaskError::Corrupt(what)),
        };
        if output.status != Status::Ok as u8 && pending.options.retries > 0 {
            result = match self.try_again(state, index, result, received) {
                None => return self.note_pending(state),
                Some(result) => result,
            };
        }
        let Some(pending) = &state.entries[index].pending else { return };
        let outcome = Outcome {
            result,
            attempts: pending.attempts,
            waited_ns: started.saturating_sub(pending.submitted_ns),
            ran_ns: output.elapsed_ns,
        };
        self.times.note(pending.function, &outcome);
        if let Some(probation) = self.common.probation.get() {
            probation.note_end(pending.function);
        }
        received.deliveries.push(&mut state.receivers, pending, outcome);
        state.drop_pending(index);
        received.free(state.free_record(index));
    }

    /// A DONE(Err) of a task that has retries. Returns what it ended with if it is over.
    #[cold]
    fn try_again(
        &self,
        state: &mut QueueState,
        index: usize,
        result: Result<Payload, TaskError>,
        received: &mut Received<'_>,
    ) -> Option<Result<Payload, TaskError>> {
        match result {
            Err(error @ (TaskError::Failed(_) | TaskError::Panicked(_))) => {
                let end = End { error, counts: true, alone: false, at_once: false };
                let over = self.end_attempt(state, index, Whose::Host, end, received.deliveries)?;
                Some(Err(over))
            }
            other => Some(other),
        }
    }

    /// DONE of a record of which more is to be known: false if its word says nothing new.
    #[cold]
    fn receive_cancelled(&self, state: &mut QueueState, index: usize) -> bool {
        let is_confirmed = state.entries[index].is_between_attempts();
        if is_confirmed {
            self.let_go(state, index);
        }
        is_confirmed
    }

    /// Gives outcomes to their receivers; no lock is held.
    pub(super) fn deliver(&self, deliveries: &mut Deliveries) {
        let any = deliveries.len() > 0;
        let counts = (deliveries.len(), deliveries.errors());
        self.common.note(self.index, counts, deliveries.iter());
        self.common.unpark(deliveries.hand_over());
        if any {
            self.delivering.fetch_sub(1, Ordering::SeqCst);
        }
        while let Some(question) = deliveries.next_question() {
            self.ask(question);
        }
        self.common.inputs.wake_waiting();
        if any && self.common.is_closing() && self.pending() == 0 {
            self.common.call_supervisor();
        }
    }

    /// Rings a worker that waits for room in its result arena.
    pub(super) fn ring_if_waiting(&self, control: &Control, slot: usize) {
        if control.report(slot).wants_room().is_said() {
            self.ring(slot);
        }
    }
}
