//! Submitting: a free record is described, published and pushed, and a worker woken if need be.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::Waker;

use crate::arena::Block;
use crate::error::{Error, Result};
use crate::ring::{help_past_stale, place};
use crate::sys::clock::monotonic_ns;
use crate::sys::forked;
use crate::table::{Call, INLINE_INPUT, InputDesc, Place, StateWord};
use crate::task::TaskOptions;

use super::delivery::For;
use super::entry::{Entry, Pending, Receiver, Ticket};
use super::timers::{Attempt, Due, TaskDue};
use super::{HostQueue, QueueState};

/// The submitter wakes at most this many workers per batch; each of them wakes the next.
const WAKES: usize = 8;

/// A task to be submitted.
#[allow(missing_debug_implementations, reason = "a receiver has none")]
pub struct Submission<'i> {
    /// The task's number in its pool.
    pub task: u64,
    /// The number under which the pool knows its function.
    pub function: u32,
    /// Its encoded input.
    pub input: &'i [u8],
    /// Timeouts, retries and priority class.
    pub options: TaskOptions,
    /// The receiver of its outcome.
    pub receiver: For<'i>,
    /// A number of the receiver's choice, handed back with the outcome.
    pub token: u64,
}

/// A task with a small input that is submitted together with others.
#[derive(Debug)]
pub struct Staged {
    pub(crate) task: u64,
    pub(crate) token: u64,
    /// The descriptor of its input, as the record will have it.
    words: [u64; 2],
    /// Where its input is in the bytes of all of them, unless the descriptor holds it.
    start: usize,
}

impl Staged {
    /// Inputs up to this many bytes travel in the record.
    pub(crate) const MAX_INPUT: usize = INLINE_INPUT;

    /// Task `task` with `input`, which is added to the `bytes` of all of them if need be.
    #[inline]
    pub(crate) fn new(task: u64, token: u64, input: &[u8], bytes: &mut Vec<u8>) -> Self {
        debug_assert!(input.len() <= Self::MAX_INPUT);
        let start = bytes.len();
        let place = Place::in_word(input).unwrap_or_else(|| {
            bytes.extend_from_slice(input);
            Place::Inline
        });
        let words = InputDesc { len: input.len() as u32, place }.words();
        Self { task, token, words, start }
    }

    /// Returns its input, unless the descriptor holds it.
    fn inline<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let InputDesc { len, place } = InputDesc::from_words(self.words);
        if place == Place::Inline { &bytes[self.start..][..len as usize] } else { &[] }
    }
}

/// What the tasks of a batch have in common.
pub struct Batch<'r> {
    function: u32,
    options: TaskOptions,
    /// A copy of `options.priority`: reading a field of the copied options would have them copied
    /// field by field.
    class: u8,
    receiver: &'r Arc<dyn Receiver>,
}

impl<'r> Batch<'r> {
    #[inline]
    pub(crate) fn new(
        function: u32,
        options: &TaskOptions,
        receiver: &'r Arc<dyn Receiver>,
    ) -> Self {
        Self { function, options: *options, class: options.priority, receiver }
    }
}

/// A submitter's place in the line of those that wait for room. Dropping it leaves the line, and
/// passes a turn that had come on to the next.
#[derive(Debug)]
pub struct RoomWait {
    queue: Arc<HostQueue>,
    number: u64,
    /// The process that waits, by `forked::generation`.
    generation: u32,
}

impl Drop for RoomWait {
    fn drop(&mut self) {
        if self.generation != forked::generation() {
            // A forked child's copy.
            return;
        }
        let mut state = self.queue.lock();
        let woken = if state.room.leave(self.number) { state.room.take(1) } else { Vec::new() };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl HostQueue {
    /// Submits a task without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Closed`], or what the request arena says; nothing is taken then.
    #[inline]
    pub fn try_submit(&self, submission: Submission<'_>) -> Result<Ticket> {
        let (desc, block) = self.place_input(submission.input)?;
        self.submit_placed(submission, desc, block).inspect_err(|_| {
            if let Some(block) = block {
                self.common.inputs.free(block);
            }
        })
    }

    /// Puts an input where it belongs: into the descriptor, the record, or a block.
    #[inline]
    pub(super) fn place_input(&self, input: &[u8]) -> Result<(InputDesc, Option<Block>)> {
        let (place, block) = match Place::in_word(input) {
            Some(word) => (word, None),
            None if input.len() <= INLINE_INPUT => (Place::Inline, None),
            None => {
                let block = self.common.inputs.store(input)?;
                (Place::Block(block), Some(block))
            }
        };
        Ok((InputDesc { len: input.len() as u32, place }, block))
    }

    /// Submits a task with a small input and without timers, if a record is free at once; false,
    /// and nothing is done, if none is. The short way of most tasks from C.
    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    #[inline(always)] // once a task: as a call, what it is given is moved through memory
    pub(crate) fn try_submit_small(
        &self,
        batch: &Batch<'_>,
        (task, token): (u64, u64),
        input: &[u8],
    ) -> bool {
        debug_assert!(input.len() <= INLINE_INPUT && batch.options.has_no_timers());
        let (place, inline) = match Place::in_word(input) {
            Some(word) => (word, &[][..]),
            None => (Place::Inline, input),
        };
        let words = InputDesc { len: input.len() as u32, place }.words();
        let mut state = self.lock();
        if state.orphaned.is_some() || state.room.is_closed() {
            return false;
        }
        let Some(record) = state.free.pop() else { return false };
        let now = state.clock.now();
        let receiver = state.receivers.join(For::Many(batch.receiver), 1);
        let Batch { function, ref options, class, .. } = *batch;
        let mut pending = Pending::new(receiver, token, task, function, options, now);
        pending.alone |= self.common.is_on_probation(function);
        state.push((record, class), words, inline, pending);
        self.note_submitted(&state, 1);
        let sleeper = state.sleeper(record as usize, self.common.searchers);
        drop(state);
        self.wake_for_push(sleeper);
        true
    }

    /// Like [`try_submit`](Self::try_submit), with an input of `len` bytes that is in `parts`.
    ///
    /// # Errors
    ///
    /// As [`try_submit`](Self::try_submit).
    pub(crate) fn try_submit_parts(
        &self,
        submission: Submission<'_>,
        parts: &[&[u8]],
        len: usize,
    ) -> Result<Ticket> {
        if let &[input] = parts {
            return self.try_submit(Submission { input, ..submission });
        }
        if len <= INLINE_INPUT {
            return self.try_submit(Submission { input: &parts.concat(), ..submission });
        }
        let block = self.common.inputs.store_parts(parts, len)?;
        self.try_submit_block(submission, block, len)
            .inspect_err(|_| self.common.inputs.free(block))
    }

    /// Submits as many of `tasks` as there is room for, from the front, whose inputs are in
    /// `bytes`: under one lock, with one fence and one look for workers to wake. The records of
    /// those that are submitted are added to `records`, which is empty before.
    ///
    /// # Errors
    ///
    /// As [`try_submit`](Self::try_submit), for the first that is not in `records` then.
    pub(crate) fn try_submit_staged(
        &self,
        tasks: &[Staged],
        bytes: &[u8],
        batch: &Batch<'_>,
        records: &mut Vec<u32>,
    ) -> Result<()> {
        if tasks.is_empty() {
            return Ok(());
        }
        let now = monotonic_ns();
        let start = self.next_start();
        let mut result = Ok(());
        let mut state = self.lock();
        let receiver = state.receivers.join(For::Many(batch.receiver), tasks.len());
        let alone = self.common.is_on_probation(batch.function);
        for staged in tasks {
            let Staged { task, token, words, .. } = *staged;
            match state.take_free() {
                Ok(index) => {
                    let Batch { function, ref options, class, .. } = *batch;
                    let mut pending = Pending::new(receiver, token, task, function, options, now);
                    pending.alone |= alone;
                    state.push((index, class), words, staged.inline(bytes), pending);
                    records.push(index);
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let count = records.len();
        if count < tasks.len() {
            state.receivers.leave(receiver, tasks.len() - count);
        }
        let mut sleepers = [None; WAKES];
        if count > 0 {
            self.note_submitted(&state, count);
            // Workers that are woken wake the others when they find more tasks.
            for sleeper in sleepers.iter_mut().take(count) {
                *sleeper = state.sleeper(start, self.common.searchers);
                if sleeper.is_none() {
                    break;
                }
            }
        }
        drop(state);
        if count > 0 {
            self.common.ensure_watched();
            sleepers.into_iter().flatten().for_each(|slot| self.ring_for_push(slot));
        }
        result
    }

    /// Submits a task whose input of `len` bytes is in `block` already.
    ///
    /// # Errors
    ///
    /// As [`try_submit`](Self::try_submit); the block stays the caller's then.
    pub(crate) fn try_submit_block(
        &self,
        submission: Submission<'_>,
        block: Block,
        len: usize,
    ) -> Result<Ticket> {
        let desc = InputDesc { len: len as u32, place: Place::Block(block) };
        self.submit_placed(submission, desc, Some(block))
    }

    #[inline(always)] // once a task: as a call, `submission` is moved through memory
    fn submit_placed(
        &self,
        submission: Submission<'_>,
        desc: InputDesc,
        block: Option<Block>,
    ) -> Result<Ticket> {
        let Submission { task, function, input, options, receiver, token } = submission;
        // To the nanosecond where something comes due by it.
        let exact = if options.has_no_timers() { None } else { Some(monotonic_ns()) };
        let start = self.next_start();
        let mut state = self.lock();
        let now = exact.unwrap_or_else(|| state.clock.now());
        let record = state.take_free()?;
        let receiver = state.receivers.join(receiver, 1);
        let inline = if desc.place == Place::Inline { input } else { &[] };
        let mut pending = Pending::new(receiver, token, task, function, &options, now);
        pending.alone |= self.common.is_on_probation(function);
        state.push((record, options.priority), desc.words(), inline, pending);
        state.entries[record as usize].input = block;
        self.note_submitted(&state, 1);
        let sleeper = state.sleeper(start, self.common.searchers);
        drop(state);
        let ticket = Ticket { queue: self.index, record, task };
        if exact.is_some() {
            self.set_timers(ticket, options, now);
        }
        self.wake_for_push(sleeper);
        Ok(ticket)
    }

    /// Has `waker` woken when a record or a part of the request arena may have become free. The
    /// caller tries once more after this.
    ///
    /// `known` is what the caller's last call returned, if it waits already. Dropping what is
    /// returned leaves the line.
    pub(crate) fn wait_for_room(
        self: &Arc<Self>,
        known: Option<RoomWait>,
        waker: &Waker,
    ) -> RoomWait {
        // A place in another queue's line is worthless here.
        let known = known.filter(|known| Arc::ptr_eq(&known.queue, self));
        let number = self.lock().room.wait(known.as_ref().map(|known| known.number), waker);
        self.common.inputs.wait_for_room(waker);
        // SeqCst: as before `ensure_watched` of a push. With no task pending, only the watch finds
        // the damage that keeps this submitter waiting.
        fence(Ordering::SeqCst);
        self.common.ensure_watched();
        let generation = forked::generation();
        known.unwrap_or_else(|| RoomWait { queue: Arc::clone(self), number, generation })
    }

    /// Like [`wait_for_room`](Self::wait_for_room), for a waker that is not to be woken for what
    /// the caller has seen: it stands in the line only if no record is free now.
    #[cfg_attr(not(feature = "capi"), allow(dead_code))]
    pub(crate) fn watch_for_room(self: &Arc<Self>, waker: &Waker) -> Option<RoomWait> {
        self.common.inputs.wait_for_room(waker);
        let mut state = self.lock();
        let number = state.make_room().then(|| state.room.wait(None, waker))?;
        drop(state);
        // SeqCst: as in `wait_for_room`.
        fence(Ordering::SeqCst);
        self.common.ensure_watched();
        Some(RoomWait { queue: Arc::clone(self), number, generation: forked::generation() })
    }

    /// After pushes and outside the lock: rings the worker that was chosen under it.
    fn wake_for_push(&self, sleeper: Option<usize>) {
        // The fence in `QueueState::sleeper` orders this after the push.
        self.common.ensure_watched();
        if let Some(slot) = sleeper {
            self.ring_for_push(slot);
        }
    }

    /// Returns the slot from which to search for a sleeper: another one each time.
    pub(super) fn next_start(&self) -> usize {
        self.rotate.fetch_add(1, Ordering::Relaxed) % self.bells.len()
    }

    fn set_timers(&self, ticket: Ticket, options: TaskOptions, now: u64) {
        if let Some(ttl) = options.wait_limit() {
            self.common.set_timer(after(now, ttl), ticket, Due::Task(TaskDue::QueueTtl));
        }
        self.time_attempt(ticket, options.run_limit(), Attempt(1), now);
    }
}

/// Returns the moment `duration` after `now_ns`, in nanoseconds.
pub(super) fn after(now_ns: u64, duration: std::time::Duration) -> u64 {
    now_ns.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

impl QueueState {
    /// Returns a free record for a new task.
    #[inline(always)] // once a task: as a call, an error's room is moved through memory
    pub(super) fn take_free(&mut self) -> Result<u32> {
        if self.orphaned.is_none()
            && !self.room.is_closed()
            && let Some(index) = self.free.pop()
        {
            return Ok(index);
        }
        self.find_free()
    }

    /// Returns a free record that is not known as one yet.
    #[cold]
    fn find_free(&mut self) -> Result<u32> {
        // What ended the queue says more than that it takes no more tasks.
        if self.orphaned.is_none() && self.room.is_closed() {
            return Err(Error::Closed);
        }
        self.take_accepted()
    }

    /// Returns a free record for a task that was accepted before its queue was closed.
    pub(super) fn take_accepted(&mut self) -> Result<u32> {
        if let Some(reason) = &self.orphaned {
            return Err(Error::NoWorkers(reason.clone()));
        }
        if self.make_room() {
            return Err(Error::Full);
        }
        Ok(self.free.pop().expect("make_room found one"))
    }

    /// Describes a new task in record `index`, which was free, publishes and pushes it.
    #[inline(always)] // once a task: as a call, `pending` is moved through memory
    fn push(
        &mut self,
        (index, class): (u32, u8),
        words: [u64; 2],
        inline: &[u8],
        pending: Pending,
    ) {
        let (index, class) = (index as usize, usize::from(class));
        let call = pending.call();
        let record = &self.control.records()[index];
        record.describe(call, words, inline);
        record.set_queued(pending.submitted_ns);
        // The private entry first, then the record, then the ring.
        let entry = &mut self.entries[index];
        entry.copy.set(words, inline);
        entry.in_use = true;
        self.set_pending(index, pending);
        self.enqueue(index, class);
    }

    /// FREE, HELD or a dead worker's word → QUEUED with a new generation, and a ring entry.
    ///
    /// The record's last ring entry is behind head.
    #[inline(always)] // once a task
    pub(super) fn enqueue(&mut self, index: usize, class: usize) {
        let class = class.min(self.control.classes() - 1);
        let Entry { generation, place: at, held, .. } = &mut self.entries[index];
        let position = self.tails[class];
        *generation = generation.wrapping_add(1);
        *at = place(class, position);
        *held = false;
        self.control.records()[index].publish(*generation, *at);
        self.control.ring(class).push(position, index as u32);
        self.tails[class] += 1;
    }

    /// Writes the call and its input into the record again, from the host's own copy.
    pub(super) fn describe_again(&self, index: usize, call: Call) {
        let copy = &self.entries[index].copy;
        let record = &self.control.records()[index];
        record.describe(call, copy.words, copy.inline());
        record.set_queued(monotonic_ns());
    }

    /// QUEUED behind head → QUEUED with a new entry, unless a worker has claimed it since `seen`.
    pub(super) fn enqueue_passed(&mut self, index: usize, class: usize, seen: StateWord) -> bool {
        let entry = &mut self.entries[index];
        let position = self.tails[class];
        let (generation, at) = (entry.generation.wrapping_add(1), place(class, position));
        if !self.control.records()[index].try_republish(seen, generation, at) {
            return false;
        }
        (entry.generation, entry.place) = (generation, at);
        self.control.ring(class).push(position, index as u32);
        self.tails[class] += 1;
        true
    }

    /// Returns the worker slot to ring after a push: one that sleeps, if no searching worker will
    /// find the task.
    ///
    /// At most `searchers` workers of a queue search at once, one for each spare processor: another
    /// would only be in their way, and each of them wakes the next when it claims.
    pub(super) fn sleeper(&self, start: usize, searchers: u64) -> Option<usize> {
        let control = &self.control;
        // Begins with the SeqCst fence B4.
        control.bells().to_wake(
            || {
                let waiting: u64 = (0..control.classes())
                    .map(|class| self.tails[class].saturating_sub(control.ring(class).head()))
                    .sum();
                waiting.min(searchers)
            },
            start,
        )
    }

    /// Makes records free by helping heads past stale entries. Returns true if none is free.
    pub(super) fn make_room(&mut self) -> bool {
        if !self.free.is_empty() {
            return false;
        }
        if self.deferred.is_empty() {
            return true;
        }
        for class in 0..self.control.classes() {
            help_past_stale(self.control.ring(class), class, self.control.records());
        }
        self.look_at_heads();
        self.free.is_empty()
    }
}
