//! The submitting half of a `map`: items are taken, encoded and submitted as there is room.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::pool::function::Function;
use crate::pool::source::Source;
use crate::queue::{Batch, For, HostQueue, Staged, Submission, Ticket};
use crate::supervisor::Shared;
use crate::sys::clock::monotonic_ns;
use crate::task::{Outcome, TaskError, codec};

use super::{Held, Map, MapTask};

impl<S: Source, T: DeserializeOwned + 'static> Map<S, T> {
    /// Submits items while there is room for them, in the window and in the pool.
    pub(super) fn fill(&mut self, context: &mut Context<'_>) {
        if let Some(error) = self.refused.take() {
            // The error is the first item's, if there is one.
            if let Some(mut source) = self.source.take() {
                let _ = source.poll_item(context);
            }
            self.settle_now(0, TaskError::not_submitted(error));
        }
        if let Err(error) = self.shared.check_process() {
            // A forked child's copy of the stream: nothing in it is the child's.
            self.source = None;
            self.held = None;
            self.gathered.clear();
            if let Some(item) = self.tasks.iter().map(|(_, task)| task.item).min() {
                self.tasks.clear();
                self.places.clear();
                self.first = item;
                self.settle_now(item, TaskError::not_submitted(error));
            }
            return;
        }
        loop {
            let more = self.gather(context);
            if !self.submit_gathered(context) || !more {
                return;
            }
        }
    }

    /// Takes and encodes items until there are enough to submit. False if there are no more now.
    fn gather(&mut self, context: &mut Context<'_>) -> bool {
        if self.gathered.len() > 0 {
            // There was no room for all of the last batch: first the rest of it.
            return true;
        }
        let batch = if self.shared.can_stage() { self.pace.batch() } else { 1 };
        let start = monotonic_ns();
        let mut more = true;
        while more && self.held.is_none() && self.gathered.len() < batch {
            more = self.take_item(context);
        }
        let taken = self.gathered.len();
        if taken > 0 {
            self.pace.learn(taken, monotonic_ns() - start);
        }
        more
    }

    /// Submits what was gathered. False if there is no room for all of it; the context is woken
    /// when there may be.
    fn submit_gathered(&mut self, context: &mut Context<'_>) -> bool {
        let Some(function) = self.submit.1 else { return false };
        let shared = Arc::clone(&self.shared);
        for (number, queue) in shared.queues.iter().enumerate() {
            let done = self.submit_to(&shared, queue, context, |this| {
                let (staged, bytes) = this.gathered.of(number);
                let batch = Batch::new(function.number, &this.submit.0, &this.receiver);
                this.records.clear();
                let result = queue.try_submit_staged(staged, bytes, &batch, &mut this.records);
                let submitted = this.records.len();
                for (staged, &record) in staged.iter().zip(&this.records) {
                    let ticket = Ticket { queue: number as u16, record, task: staged.task };
                    this.tasks[staged.token as usize].ticket = Some(ticket);
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
        let done = self.submit_to(&shared, queue, context, |this| {
            let Some(held) = &this.held else { return (Ok(()), None) };
            let submission = Submission {
                task: held.task,
                function: function.number,
                input: &held.input,
                options: this.submit.0,
                receiver: For::Many(&this.receiver),
                token: held.token,
            };
            let result = queue.try_submit(submission).map(|ticket| {
                this.tasks[held.token as usize].ticket = Some(ticket);
            });
            (result, Some(held.token))
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
        queue: &Arc<HostQueue>,
        context: &mut Context<'_>,
        mut submit: impl FnMut(&mut Self) -> (Result<()>, Option<u64>),
    ) -> bool {
        let mut turn = self.turn.take();
        loop {
            let mut refused = None;
            let pushed = shared.admit(queue, &mut turn, context.waker(), || {
                let (result, token) = submit(self);
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
                    self.settle(token, Outcome::error(shared.refusal(error), 0));
                    if self.held.as_ref().is_some_and(|held| held.token == token) {
                        return true;
                    }
                    self.gathered.give_up(token);
                }
            }
        }
    }

    /// Takes the next item and encodes it. False if there is none now, or no room for it.
    fn take_item(&mut self, context: &mut Context<'_>) -> bool {
        if self.room_taken() >= self.window {
            return false;
        }
        let (Some(source), Some(function)) = (&mut self.source, self.submit.1) else {
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
        match function.encode(&self.shared, &item, &mut self.buffer) {
            Ok(()) => self.keep(function, number),
            Err(error) => {
                self.trim_buffer();
                self.settle_now(number, TaskError::not_submitted(error));
            }
        }
        true
    }

    /// Gives the item in the buffer its number, its queue and its place among the results.
    fn keep(&mut self, function: Function, item: u64) {
        let task = self.next_number();
        let (input, options) = (&self.buffer, &self.submit.0);
        let queue = self.shared.queue_for(&function.new_task(task, options, input));
        let token = self.tasks.insert(MapTask { ticket: None, item }) as u64;
        if self.ordered {
            self.places.push_back(None);
        }
        if input.len() <= Staged::MAX_INPUT && options.has_no_timers() {
            self.gathered.add(queue, task, token, input);
        } else {
            let input = std::mem::take(&mut self.buffer);
            self.held = Some(Held { task, token, queue, input });
        }
    }

    /// Returns a number for a task: taken from the pool for a batch at a time.
    fn next_number(&mut self) -> u64 {
        if let Some(number) = self.numbers.next() {
            return number;
        }
        let count = self.pace.batch();
        let first = self.shared.next_task.fetch_add(count, Ordering::Relaxed) as u64;
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
