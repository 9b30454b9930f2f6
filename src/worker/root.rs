//! The worker's root future: its own small executor inside tokio's.
//!
//! User futures are not tokio tasks. The root claims *one* task, polls it in place, completes it
//! if it is ready, keeps it if it is not, and looks at the ring again, so that a task that
//! computes never sits in front of another while a sibling is idle. `docs/design.md` §6 has the
//! rules, this file the loop.
#![forbid(unsafe_code)]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::unix::AsyncFd;
use tokio::task::coop;

use crate::doorbell::ReadySet;
use crate::sys::clock::QuickClock;
use crate::sys::eventfd::EventFd;
use crate::table::INLINE_INPUT;
use crate::task::entry::{Output, Target, Vtable};
use crate::task::{Status, context};
use crate::trace::{DROPPED, Open, PENDING};

use super::claimed::{Claimed, now};
use super::engine::{Engine, NoRoom};
use super::functions::Functions;
use super::in_hand::{Held, InHand};
use super::last_words::{self, Subject};
use super::slots::{PolledTask, Slots};
use super::spin::Spin;
use super::timeline::Of;

/// Polls between two looks of tokio at its own tasks, timers and sockets; tokio's own number.
const POLLS_PER_TURN: u32 = 61;

/// Why the worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// The host said so.
    Stopped,
    /// It has run as many tasks as it may.
    Recycled,
}

/// A status, an output and how long the task ran, in nanoseconds.
type Outcome = (Status, Vec<u8>, u64);

pub(super) struct Root<'e> {
    engine: &'e mut Engine,
    bell: AsyncFd<EventFd>,
    slots: Slots,
    ready: Arc<ReadySet>,
    functions: Functions,
    output: Output,
    input: [u8; INLINE_INPUT],
    spin: Spin,
    clock: QuickClock,
    in_hand: InHand,
    /// Where the search for a ready slot goes on, so that all get their turn.
    next: usize,
}

impl<'e> Root<'e> {
    /// For `concurrency` tasks in flight and `max_tasks` in all (0: no limit).
    pub(super) fn new(
        engine: &'e mut Engine,
        concurrency: u32,
        max_tasks: u64,
        functions: Functions,
        spin: Spin,
    ) -> io::Result<Self> {
        let bell = engine.own_bell().try_clone()?.listen()?;
        let ready = ReadySet::new(concurrency as usize);
        Ok(Self {
            engine,
            bell,
            slots: Slots::new(concurrency as usize, &ready),
            ready,
            functions,
            output: Output { takes_block: true, ..Output::default() },
            input: [0; INLINE_INPUT],
            spin,
            clock: QuickClock::new(),
            in_hand: InHand::new(max_tasks),
            next: 0,
        })
    }

    /// Takes note of a ring; the doorbell is never read, since its registration is for edges.
    fn hear(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Ok(mut guard)) = self.bell.poll_read_ready(context) {
            // Before the looks that follow: a later ring is a new edge.
            guard.clear_ready();
        }
    }

    /// Returns whether a new task may be claimed.
    fn can_take(&self) -> bool {
        self.slots.has_room() && self.in_hand.admits()
    }

    /// Claims one task and polls it for the first time. False if there was none.
    fn take_one(&mut self) -> bool {
        if !self.can_take() {
            return false;
        }
        let idle = self.slots.in_flight() == 0;
        let Some(mut task) = self.in_hand.claim(self.engine, idle) else { return false };
        let started = self.spin.now();
        if self.in_hand.start(self.engine, &mut task, started) {
            self.run(task, started);
        }
        true
    }

    fn run(&mut self, task: Claimed, started: u64) {
        let call = self.engine.call(&task);
        self.engine.polls(task.record);
        let traced = self.engine.trace(&task, Of::FirstPoll, || started);
        let function = self.functions.get(self.engine.requests(), call.function);
        let name = || function.as_ref().map_or("unknown", |(vtable, _)| (vtable.name)());
        let span = tracing::info_span!("task", task = call.task(), function = name());
        if let Ok((_, Target::WITH_CONTEXT)) = function {
            self.adopt_context(&task, &span);
        }
        let polled = match function {
            Ok(function) => {
                let _entered = span.enter();
                let subject = || Some(Subject::Task(task, started, function.0.name));
                last_words::during(subject, || self.first_poll(&task, function))
            }
            Err(reason) => Poll::Ready(self.output.refuse(Status::UnknownFunction, &reason)),
        };
        let mut held = Held::new(task, started);
        match polled {
            Poll::Pending => self.suspend(traced),
            Poll::Ready(status) => match self.finish(task, started, status, traced) {
                None => return,
                Some(outcome) => self.in_hand.keep_outcome(self.engine, &mut held, outcome),
            },
        }
        self.in_hand.keep(call);
        self.slots.keep(PolledTask { held, span });
    }

    /// Gives the span of a task its caller's context: before it is entered, when it is too late.
    #[cold]
    fn adopt_context(&mut self, task: &Claimed, span: &tracing::Span) {
        if let Ok(input) = self.engine.input(task, &mut self.input) {
            context::adopt(span, input.bytes);
        }
    }

    fn first_poll(&mut self, task: &Claimed, function: (&'static Vtable, Target)) -> Poll<Status> {
        match self.engine.input(task, &mut self.input) {
            Ok(input) => self.slots.start(function, input, &mut self.output),
            Err(reason) => Poll::Ready(self.output.refuse(Status::Undecodable, &reason)),
        }
    }

    fn poll_slot(&mut self, index: usize) {
        let mut traced = None;
        if let Some(held) = self.slots.held(index) {
            self.engine.polls(held.task.record);
            traced = self.engine.trace(&held.task, Of::Later, || self.spin.now());
        }
        let Poll::Ready(status) = self.slots.poll(index, &mut self.output) else {
            return self.suspend(traced);
        };
        let Some(&mut Held { task, started, .. }) = self.slots.held(index) else { return };
        match self.finish(task, started, status, traced) {
            None => self.vacate(index),
            Some(outcome) => {
                if let Some(held) = self.slots.held(index) {
                    self.in_hand.keep_outcome(self.engine, held, outcome);
                }
            }
        }
    }

    /// The task is over: its outcome is in `self.output`. What finds no room comes back, and waits
    /// with the task.
    #[inline(always)]
    fn finish(
        &mut self,
        task: Claimed,
        started: u64,
        status: Status,
        traced: Option<Open>,
    ) -> Option<Outcome> {
        let ended = self.clock.now();
        self.spin.set_now(ended);
        self.engine.traced(traced, status as u8, || ended);
        if status == Status::Panicked {
            // Perhaps for want of descriptors that a task before it has closed.
            self.engine.check_descriptors();
        }
        let elapsed = ended.saturating_sub(started);
        match self.output.block.take() {
            Some(placed) if status == Status::Ok => {
                self.engine.complete_placed(task, status, placed, elapsed);
                self.output.clear();
                return None;
            }
            // A panic came after it, in a drop.
            Some((block, _)) => self.engine.outputs().discard(block),
            None => {}
        }
        let bytes = self.output.as_slice();
        let unplaced = match self.engine.complete(task, status, bytes, elapsed) {
            Ok(()) => None,
            Err(NoRoom) => Some((status, bytes.to_vec(), elapsed)),
        };
        self.output.clear();
        unplaced
    }

    /// The poll is over, and its task is not.
    #[inline]
    fn suspend(&mut self, traced: Option<Open>) {
        self.engine.traced(traced, PENDING, || self.clock.now());
        self.spin.forget_now();
    }

    fn vacate(&mut self, index: usize) {
        self.slots.vacate(index);
        self.in_hand.vacated();
    }

    /// Tries once more to place outputs that found no room.
    fn place_outputs(&mut self) {
        let Self { in_hand, engine, slots, .. } = self;
        for index in in_hand.place_outputs(engine, slots.held_mut()) {
            self.vacate(index);
        }
    }

    /// Reads what the host has asked for: tasks are cancelled, or it is time to leave.
    fn attend(&mut self) {
        let Self { in_hand, engine, slots, .. } = self;
        for (index, _) in in_hand.attend(engine, || slots.held_all()) {
            if let Some(held) = self.slots.held(index) {
                self.in_hand.drop_outcome(held);
            }
            let mut traced = None;
            if let Some(held) = self.slots.held(index) {
                // Its drop may be long, and may end the process.
                self.engine.polls(held.task.record);
                traced = self.engine.trace(&held.task, Of::Later, now);
            }
            let Some(task) = self.slots.vacate(index) else { continue };
            self.engine.traced(traced, DROPPED, now);
            self.in_hand.vacated();
            // Only now, with the future dropped, is the task confirmed.
            if let Some(word) = self.engine.is_cancelled(&task) {
                self.engine.confirm(task, word);
            }
        }
    }

    /// One step: a claim or a poll or both. False if there was nothing to do.
    fn step(&mut self) -> bool {
        let took = self.take_one();
        let polled = self.ready.take(self.next);
        if let Some(index) = polled {
            self.next = index + 1;
            self.poll_slot(index);
        }
        took || polled.is_some()
    }

    fn left(&self) -> Option<Leave> {
        if self.engine.must_stop() {
            Some(Leave::Stopped)
        } else if self.in_hand.has_claimed_all() && self.slots.in_flight() == 0 {
            Some(Leave::Recycled)
        } else {
            None
        }
    }

    /// Spins for work, with nothing in flight. True if there may be some.
    fn search(&mut self) -> bool {
        if self.slots.in_flight() > 0 || !self.can_take() {
            return false;
        }
        if !self.engine.processor.may_host_run() || !self.spin.worth_it() {
            return false;
        }
        if !self.engine.start_search(self.spin.searchers()) {
            return false;
        }
        let Self { spin, engine, ready, .. } = self;
        spin.until(|| engine.has_task() || engine.has_attention() || ready.any())
    }

    /// Nothing to do: says so to whom it concerns and looks once more. True if there is work.
    fn lie_down(&mut self) -> bool {
        if self.slots.in_flight() == 0 {
            self.in_hand.give_memory_back(self.engine);
        }
        if self.can_take() {
            self.engine.sleep();
        } else {
            self.engine.stop_search();
        }
        // The look after the fence in `sleep`; the bell's edge covers what comes later.
        let work = self.can_take() && self.engine.has_task()
            || self.engine.has_attention()
            || self.ready.any();
        if work {
            self.engine.wake();
        }
        work
    }
}

impl Future for Root<'_> {
    type Output = Leave;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Leave> {
        let this = &mut *self;
        this.ready.set_root(context.waker());
        this.hear(context);
        this.engine.wake();
        this.spin.wake();
        this.in_hand.ask_again();
        this.in_hand.retire_if_asked(this.engine);
        let mut polls = 0;
        loop {
            this.attend();
            this.place_outputs();
            if let Some(leave) = this.left() {
                this.engine.polls_none();
                return Poll::Ready(leave);
            }
            if this.step() {
                polls += 1;
                if polls >= POLLS_PER_TURN || !coop::has_budget_remaining() {
                    this.engine.polls_none();
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                continue;
            }
            if this.search() {
                continue;
            }
            if this.lie_down() {
                continue;
            }
            this.engine.polls_none();
            this.spin.rest();
            return Poll::Pending;
        }
    }
}
