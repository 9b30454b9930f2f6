//! The submitting half of a `map`: items are taken, encoded and submitted as there is room.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use crate::error::{Error, Result};
use crate::pool::function::Function;
use crate::pool::source::Source;
use crate::queue::{Batch, For, HostQueue, Receiver, RoomWait, Staged, Submission, Ticket};
use crate::supervisor::Shared;
use crate::sys::clock::monotonic_ns;
use crate::task::{Outcome, TaskError, TaskOptions, codec};

use super::gathered::{Gathered, Pace};
use super::results::Results;

/// Where the items of a map come from, and those that are not submitted yet.
pub(super) struct Feed<S> {
    options: TaskOptions,
    /// `None` if nothing can be submitted at all.
    function: Option<Function>,
    /// Why not, until the map has given it as a result.
    refused: Option<Error>,
    /// `None` after the last item.
    source: Option<S>,
    /// Small items that are encoded.
    pub(super) gathered: Gathered,
    /// A large one, which comes after them.
    held: Option<Held>,
    /// The records of the small items that were just submitted.
    records: Vec<u32>,
    pub(super) pace: Pace,
    /// Numbers for tasks to come.
    numbers: Range<u64>,
    /// Where items are encoded.
    buffer: Vec<u8>,
    /// Its place among the submitters that wait for room.
    turn: Option<RoomWait>,
    receiver: Arc<dyn Receiver>,
    /// How many items were taken from the source.
    items: u64,
}

/// An encoded item that is too large to be gathered.
struct Held {
    task: u64,
    token: u64,
    queue: usize,
    input: Vec<u8>,
}

impl<S> Feed<S> {
    pub(super) fn new(
        options: TaskOptions,
        function: Result<Function>,
        source: S,
        receiver: Arc<dyn Receiver>,
        queues: usize,
    ) -> Self {
        let (function, refused) = match function {
            Ok(function) => (Some(function), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            options,
            function,
            refused,
            source: Some(source),
            gathered: Gathered::new(queues),
            held: None,
            records: Vec::new(),
            pace: Pace::new(queues),
            numbers: 0..0,
            buffer: Vec::new(),
            turn: None,
            receiver,
            items: 0,
        }
    }

    /// Returns whether no more items are taken.
    pub(super) fn is_over(&self) -> bool {
        self.source.is_none()
    }

    /// Returns how many items were taken from the source.
    pub(super) fn items(&self) -> u64 {
        self.items
    }

    /// Returns whether an error is to be given before any result.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Takes no more items.
    pub(super) fn end(&mut self) {
        self.source = None;
    }
}

impl<S: Source> Feed<S> {
    /// Returns how many items are not taken, where the source knows it.
    pub(super) fn left(&self) -> Option<usize> {
        self.source.as_ref().map_or(Some(0), Source::left)
    }

    /// Submits items while there is room for them, in the pool and in the `window`: the number of
    /// items that were taken and whose results were not given.
    pub(super) fn fill(
        &mut self,
        shared: &Shared,
        results: &mut Results,
        window: usize,
        context: &mut Context<'_>,
    ) {
        if let Some(error) = self.refused.take() {
            // The error is the first item's, if there is one.
            if let Some(mut source) = self.source.take() {
                let _ = source.poll_item(context);
            }
            results.refuse(0, TaskError::not_submitted(error));
        }
        if let Err(error) = shared.check_process() {
            // A forked child's copy of the stream: nothing in it is the child's.
            self.source = None;
            self.held = None;
            self.gathered.clear();
            results.abandon(TaskError::not_submitted(error));
            return;
        }
        loop {
            let more = self.gather(shared, results, window, context);
            if !self.submit_gathered(shared, results, context) || !more {
                return;
            }
        }
    }

    /// Takes and encodes items until there are enough to submit. False if there are no more now.
    fn gather(
        &mut self,
        shared: &Shared,
        results: &mut Results,
        window: usize,
        context: &mut Context<'_>,
    ) -> bool {
        if self.gathered.len() > 0 {
            // There was no room for all of the last batch: first the rest of it.
            return true;
        }
        let batch = if shared.can_stage() { self.pace.batch() } else { 1 };
        let start = monotonic_ns();
        let mut more = true;
        while more && self.held.is_none() && self.gathered.len() < batch {
            more = results.not_given() < window && self.take_item(shared, results, context);
        }
        let taken = self.gathered.len();
        if taken > 0 {
            self.pace.learn(taken, monotonic_ns() - start);
        }
        more
    }

    /// Submits what was gathered. False if there is no room for all of it; the context is woken
    /// when there may be.
    fn submit_gathered(
        &mut self,
        shared: &Shared,
        results: &mut Results,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(function) = self.function else { return false };
        for (number, queue) in shared.queues.iter().enumerate() {
            let done = self.submit_to(shared, results, queue, context, |this, results| {
                let (staged, bytes) = this.gathered.of(number);
                let batch = Batch::new(function.number, &this.options, &this.receiver);
                this.records.clear();
                let result = queue.try_submit_staged(staged, bytes, &batch, &mut this.records);
                let submitted = this.records.len();
                for (staged, &record) in staged.iter().zip(&this.records) {
                    let ticket = Ticket { queue: number as u16, record, task: staged.task };
                    results.submitted(staged.token, ticket);
                }
                let refused = staged.get(submitted).map(|staged| staged.token);
                this.gathered.done(number, submitted);
                (result, refused)
            });
            if !done {
                return false;
            }
        }
        let Some(held) = &self.held else { return true };
        let queue = &shared.queues[held.queue];
        let done = self.submit_to(shared, results, queue, context, |this, results| {
            let Some(held) = &this.held else { return (Ok(()), None) };
            let submission = Submission {
                task: held.task,
                function: function.number,
                input: &held.input,
                options: this.options,
                receiver: For::Many(&this.receiver),
                token: held.token,
            };
            let result = queue.try_submit(submission);
            (result.map(|ticket| results.submitted(held.token, ticket)), Some(held.token))
        });
        if done && let Some(held) = self.held.take() {
            self.buffer = held.input;
            self.trim_buffer();
        }
        done
    }

    /// Calls `submit` until it has submitted what it had for `queue`; it gives the token of the
    /// task that is refused, if one is. False if there is no room.
    fn submit_to(
        &mut self,
        shared: &Shared,
        results: &mut Results,
        queue: &Arc<HostQueue>,
        context: &mut Context<'_>,
        mut submit: impl FnMut(&mut Self, &mut Results) -> (Result<()>, Option<u64>),
    ) -> bool {
        let mut turn = self.turn.take();
        loop {
            let mut refused = None;
            let pushed = shared.admit(queue, &mut turn, context.waker(), || {
                let (result, token) = submit(self, results);
                refused = token;
                result
            });
            match (pushed, refused) {
                (Poll::Pending, _) => {
                    self.turn = turn;
                    return false;
                }
                (Poll::Ready(Ok(())), _) | (_, None) => return true,
                (Poll::Ready(Err(error)), Some(token)) => {
                    if matches!(error, Error::Closed) {
                        // Nothing more can come of the items that are left.
                        self.source = None;
                    }
                    results.settle(token, Outcome::error(shared.refusal(error), 0));
                    if self.held.as_ref().is_some_and(|held| held.token == token) {
                        return true;
                    }
                    self.gathered.give_up(token);
                }
            }
        }
    }

    /// Takes the next item and encodes it. False if there is none now.
    fn take_item(
        &mut self,
        shared: &Shared,
        results: &mut Results,
        context: &mut Context<'_>,
    ) -> bool {
        let (Some(source), Some(function)) = (&mut self.source, self.function) else {
            return false;
        };
        let item = match source.poll_item(context) {
            Poll::Ready(Some(item)) => item,
            Poll::Ready(None) => {
                self.source = None;
                return false;
            }
            Poll::Pending => return false,
        };
        let number = self.items;
        self.items += 1;
        match function.encode(shared, &item, &mut self.buffer) {
            Ok(()) => self.keep(shared, results, function, number),
            Err(error) => {
                self.trim_buffer();
                results.refuse(number, TaskError::not_submitted(error));
            }
        }
        true
    }

    /// Gives the item in the buffer its number, its queue and its place among the results.
    fn keep(&mut self, shared: &Shared, results: &mut Results, function: Function, item: u64) {
        let task = self.next_number(shared);
        let (input, options) = (&self.buffer, &self.options);
        let queue = shared.queue_for(&function.new_task(task, options, input));
        let token = results.expect(item);
        if input.len() <= Staged::MAX_INPUT && options.has_no_timers() {
            self.gathered.add(queue, task, token, input);
        } else {
            let input = std::mem::take(&mut self.buffer);
            self.held = Some(Held { task, token, queue, input });
        }
    }

    /// Returns a number for a task: taken from the pool for a batch at a time.
    fn next_number(&mut self, shared: &Shared) -> u64 {
        if let Some(number) = self.numbers.next() {
            return number;
        }
        let count = self.pace.batch();
        let first = shared.next_task.fetch_add(count, Ordering::Relaxed) as u64;
        self.numbers = first + 1..first + count as u64;
        first
    }

    /// Keeps the memory for the next item to be encoded into, unless it is out of proportion.
    fn trim_buffer(&mut self) {
        if self.buffer.capacity() > codec::KEEP_BUFFER {
            self.buffer = Vec::new();
        }
    }
}
