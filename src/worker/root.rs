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

use crate::control::Phase;
use crate::doorbell::ReadySet;
use crate::sys::clock::QuickClock;
use crate::sys::eventfd::EventFd;
use crate::table::{Call, INLINE_INPUT};
use crate::task::Status;
use crate::task::entry::{Output, Target, Vtable};

use super::claimed::Claimed;
use super::engine::{Asked, Engine, Look, NoRoom};
use super::functions::Functions;
use super::last_words::{self, Subject};
use super::slots::{InFlight, Slots, Unplaced};
use super::spin::Spin;

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
    /// Tasks it may still claim; `None` for no limit.
    claims_left: Option<u64>,
    /// A suspect is in flight: nothing else may be.
    alone: bool,
    /// The task at the head must run alone and this worker has others: nothing to claim for now.
    refused: bool,
    /// Outputs that wait for room.
    unplaced: usize,
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
            claims_left: (max_tasks > 0).then_some(max_tasks),
            alone: false,
            refused: false,
            unplaced: 0,
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

    /// Whether a new task may be claimed.
    fn can_take(&self) -> bool {
        self.slots.has_room() && !self.alone && !self.refused && self.claims_left != Some(0)
    }

    /// Claims one task and polls it for the first time. False if there was none.
    fn take_one(&mut self) -> bool {
        if !self.can_take() {
            return false;
        }
        let in_flight = self.slots.in_flight();
        let mut task = match self.engine.claim(in_flight == 0) {
            Look::Task(task) => task,
            Look::Nothing => return false,
            Look::MustBeAlone => {
                self.refused = true;
                return false;
            }
        };
        let started = self.spin.now();
        if !self.engine.start(&mut task, started) {
            return true;
        }
        if let Some(left) = &mut self.claims_left {
            *left -= 1;
            if *left == 0 {
                self.engine.set_phase(Phase::Retiring);
            }
        }
        self.run(task, started);
        true
    }

    fn run(&mut self, task: Claimed, started: u64) {
        let call = self.engine.call(&task);
        let function = self.functions.get(self.engine.requests(), call.function);
        let name = || function.as_ref().map_or("unknown", |(vtable, _)| (vtable.name)());
        let span = tracing::info_span!("task", task = call.task(), function = name());
        let polled = match function {
            Ok(function) => {
                let _entered = span.enter();
                let subject = || Some(Subject::Task(task, started, function.0.name));
                last_words::during(subject, || self.first_poll(&task, function))
            }
            Err(reason) => Poll::Ready(self.output.refuse(Status::UnknownFunction, &reason)),
        };
        let unplaced = match polled {
            Poll::Pending => {
                self.spin.forget_now();
                None
            }
            Poll::Ready(status) => match self.finish(task, started, status) {
                None => return,
                unplaced => unplaced,
            },
        };
        self.alone = call.flags & Call::ALONE != 0;
        self.slots.keep(InFlight { task, started, span, unplaced });
    }

    fn first_poll(&mut self, task: &Claimed, function: (&'static Vtable, Target)) -> Poll<Status> {
        match self.engine.input(task, &mut self.input) {
            Ok(input) => self.slots.start(function, input, &mut self.output),
            Err(reason) => Poll::Ready(self.output.refuse(Status::Undecodable, &reason)),
        }
    }

    fn poll_slot(&mut self, index: usize) {
        let Poll::Ready(status) = self.slots.poll(index, &mut self.output) else {
            return self.spin.forget_now();
        };
        let Some(&mut InFlight { task, started, .. }) = self.slots.get_mut(index) else { return };
        match self.finish(task, started, status) {
            None => self.vacate(index),
            unplaced => {
                if let Some(in_flight) = self.slots.get_mut(index) {
                    in_flight.unplaced = unplaced;
                }
            }
        }
    }

    /// The task is over: its outcome is in `self.output`. What finds no room comes back, and waits
    /// with the task.
    #[inline(always)]
    fn finish(&mut self, task: Claimed, started: u64, status: Status) -> Option<Box<Unplaced>> {
        let ended = self.clock.now();
        self.spin.set_now(ended);
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
            Err(NoRoom) => {
                // It stays RUNNING, without its future, until the host hands blocks back.
                self.unplaced += 1;
                // The next turn of the loop tries again, after this.
                self.engine.set_wants_room(true);
                Some(Box::new((status, bytes.to_vec(), elapsed)))
            }
        };
        self.output.clear();
        unplaced
    }

    fn vacate(&mut self, index: usize) {
        self.slots.vacate(index);
        self.alone = false;
        self.refused = false;
    }

    /// Tries once more to place outputs that found no room.
    fn place_outputs(&mut self) {
        if self.unplaced == 0 {
            return;
        }
        let waiting: Vec<usize> = self
            .slots
            .occupied()
            .filter_map(|(index, in_flight)| in_flight.unplaced.is_some().then_some(index))
            .collect();
        for index in waiting {
            let Some(in_flight) = self.slots.get_mut(index) else { continue };
            let task = in_flight.task;
            let Some(output) = in_flight.unplaced.take() else { continue };
            let (status, bytes, elapsed) = &*output;
            if self.engine.complete(task, *status, bytes, *elapsed).is_ok() {
                self.unplaced -= 1;
                self.vacate(index);
            } else {
                in_flight.unplaced = Some(output);
            }
        }
        if self.unplaced == 0 {
            self.engine.set_wants_room(false);
        }
    }

    /// Looks at what the host has said: tasks called off, or that it is time to leave.
    fn attend(&mut self) {
        let Some(Asked(what_it_has)) = self.engine.attention() else { return };
        if what_it_has {
            let Self { engine, slots, .. } = self;
            engine.answer(|record| slots.occupied().any(|(_, has)| has.task.record == record));
        }
        let called_off: Vec<usize> = self
            .slots
            .occupied()
            .filter(|(_, in_flight)| self.engine.is_called_off(&in_flight.task).is_some())
            .map(|(index, _)| index)
            .collect();
        for index in called_off {
            if self.slots.get_mut(index).is_some_and(|f| f.unplaced.take().is_some()) {
                self.unplaced -= 1;
            }
            let Some(task) = self.slots.vacate(index) else { continue };
            self.alone = false;
            self.refused = false;
            // Only now, with the future dropped, is the task confirmed.
            if let Some(word) = self.engine.is_called_off(&task) {
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
        } else if self.claims_left == Some(0) && self.slots.in_flight() == 0 {
            Some(Leave::Recycled)
        } else {
            None
        }
    }

    /// Spins for work, with nothing in flight. True if there may be some.
    fn search(&mut self) -> bool {
        if self.slots.in_flight() > 0 || !self.can_take() || !self.spin.worth_it() {
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
        this.refused = false;
        let mut polls = 0;
        loop {
            this.attend();
            this.place_outputs();
            if let Some(leave) = this.left() {
                return Poll::Ready(leave);
            }
            if this.step() {
                polls += 1;
                if polls >= POLLS_PER_TURN || !coop::has_budget_remaining() {
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
            this.spin.rest();
            return Poll::Pending;
        }
    }
}
