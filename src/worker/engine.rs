//! The worker's half of the protocol: claim, start, read, complete, confirm; no executor.
//!
//! `table/README.md` numbers the points at which a worker can die here (C1…) and says what
//! recovery makes of each.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use crate::arena::{AllocError, Block};
use crate::control::{Control, Phase, Polled, Shape};
use crate::doorbell::{Armed, Attention};
use crate::ring::{Claim, LaneWriter, MAX_CLASSES, claim};
use crate::shm::Region;
use crate::sync::crash::{self, Point};
use crate::sys::eventfd::EventFd;
use crate::sys::program;
use crate::table::{
    Call, INLINE_OUTPUT, OutputDesc, Owner, Place, Record, State, StateWord, WorkerId,
};
use crate::task::Status;
use crate::trace::Open;

use super::claimed::Claimed;
use super::last_words::{self, LastWords};
use super::outputs::{Outputs, no_space};
use super::own_processor::OwnProcessor;
use super::printed::Printed;
use super::start::WorkerFds;
use super::timeline::{Of, Tracing};
use super::view::View;

/// A lower class is served first once it was passed over this many times.
const AGEING: u32 = 32;

/// Bytes of the text of a failure that reach the host.
pub(crate) const MAX_FAILURE_TEXT: usize = 64 << 10;

/// What became of a look for work.
#[derive(Debug)]
pub enum Look {
    /// A task, claimed.
    Task(Claimed),
    /// There is none.
    Nothing,
    /// The next task must run alone, and this worker has others in flight.
    MustBeAlone,
}

/// What the host has said since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// It asks what this worker has.
    pub(crate) asks: bool,
    /// It has claimed a task for this worker.
    pub(crate) assigns: bool,
}

/// An output that found no room yet.
#[derive(Debug)]
pub struct NoRoom;

/// The worker's view of its queue.
#[derive(Debug)]
pub struct Engine {
    pub(super) control: Arc<Control>,
    requests: Region,
    pub(super) outputs: Outputs,
    lane: LaneWriter,
    host_bell: EventFd,
    supervisor_bell: EventFd,
    bells: Vec<EventFd>,
    pub(super) me: Owner,
    pub(super) slot: usize,
    /// Per class, how often a task of a more urgent class was taken before its own.
    passed_over: [u32; MAX_CLASSES],
    /// Records that were CLAIMED by this worker at the last answer, and that it did not have.
    pub(super) unexplained: Vec<(u32, StateWord)>,
    seen_attention: u64,
    asleep: bool,
    /// Awake after a sleep, and nothing claimed since: the first claim wakes the next sleeper.
    woken: bool,
    searching: bool,
    /// Where this worker runs.
    pub(super) processor: OwnProcessor,
    /// See [`may_end`](Self::may_end).
    may_end: bool,
    /// Whose future is polled, as the report says.
    pub(super) polled: Polled,
    /// What each task prints goes to files of its own.
    pub(super) printed: Option<Printed>,
    tracing: Tracing,
}

impl Engine {
    /// Maps what the worker was started with.
    ///
    /// # Errors
    ///
    /// What the system refuses, or a control region that has no room for `shape`.
    pub fn open(
        id: WorkerId,
        lane_start: u64,
        handback_start: u64,
        shape: Shape,
        fds: WorkerFds,
    ) -> io::Result<Self> {
        let control = Arc::new(Control::open(fds.control, shape)?);
        let requests = Region::open_read_only(fds.requests)?;
        let outputs = Region::open(fds.outputs)?;
        // A child that a task forks must not write here after this worker is dead.
        control.keep_from_children()?;
        requests.keep_from_children()?;
        outputs.keep_from_children()?;
        let slot = usize::from(id.slot);
        let processor = OwnProcessor::new(&control, slot);
        if let Some(program) = program::own() {
            control.report(slot).set_program(program);
        }
        let outputs = Outputs::new(outputs, Arc::clone(&control), slot, handback_start);
        let me = Owner::of(id);
        Ok(Self {
            tracing: Tracing::new(Arc::clone(&control), slot, id.incarnation),
            me,
            slot,
            lane: LaneWriter::at(lane_start),
            outputs,
            control,
            requests,
            host_bell: fds.host_bell.into(),
            supervisor_bell: fds.supervisor_bell.into(),
            bells: fds.bells.into_iter().map(EventFd::from).collect(),
            unexplained: Vec::new(),
            passed_over: [0; MAX_CLASSES],
            seen_attention: 0,
            asleep: false,
            woken: false,
            searching: false,
            processor,
            may_end: false,
            polled: Polled::default(),
            printed: None,
        })
    }

    /// This process belongs to the pool and exits when it cannot continue. An attached program gets
    /// an error instead.
    pub(super) fn may_end(&mut self) {
        self.may_end = true;
    }

    /// Returns what completes a task without this engine.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(super) fn last_words(&self) -> io::Result<LastWords> {
        let (block, outputs) = self.outputs.set_aside(last_words::ROOM)?;
        outputs.keep_from_children()?;
        Ok(LastWords { control: Arc::clone(&self.control), outputs, slot: self.slot, block })
    }

    /// This worker's doorbell.
    pub(crate) fn own_bell(&self) -> &EventFd {
        &self.bells[self.slot]
    }

    /// Returns the host's request arena.
    pub(crate) fn requests(&self) -> &Region {
        &self.requests
    }

    /// Returns the result arena of this incarnation.
    pub(crate) fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Tells the supervisor how far this worker is.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.control.report(self.slot).set_phase(phase);
        // P1: dies here → the phase is there; the death itself wakes the supervisor.
        crash::here(Point::P1);
        // A refused ring means that the host is gone, and so this process soon.
        let _ = self.supervisor_bell.ring();
    }

    /// Tells the supervisor why the worker cannot start.
    pub(crate) fn set_failure(&mut self, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(MAX_FAILURE_TEXT)];
        if let Ok(block) = self.outputs.store(bytes) {
            self.control.report(self.slot).set_text(block, bytes.len() as u32);
        }
        self.set_phase(Phase::InitFailed);
    }

    /// Claims the next task. `alone`: nothing is in flight, so a suspect may be taken.
    #[inline]
    pub fn claim(&mut self, alone: bool) -> Look {
        let classes = self.control.classes();
        let aged = (1..classes).find(|&class| self.passed_over[class] >= AGEING);
        for class in aged.into_iter().chain(0..classes) {
            match self.claim_of(class, alone) {
                Look::Nothing => {}
                look => return look,
            }
        }
        Look::Nothing
    }

    fn claim_of(&mut self, class: usize, alone: bool) -> Look {
        let records = self.control.records();
        let admits = |call: Call| alone || call.flags & Call::ALONE == 0;
        match claim(self.control.ring(class), class, records, self.me, admits) {
            Claim::Task { record, claimed } => {
                self.passed_over[class] = 0;
                for lower in class + 1..self.control.classes() {
                    let passed_over = &mut self.passed_over[lower];
                    *passed_over = passed_over.saturating_add(1);
                }
                self.pass_on();
                self.processor.note_claim();
                Look::Task(Claimed { record, word: claimed })
            }
            Claim::Empty => Look::Nothing,
            Claim::Refused => {
                self.ring_somebody_else();
                Look::MustBeAlone
            }
        }
    }

    /// CLAIMED → RUNNING; false if the task was cancelled, which is then confirmed.
    pub fn start(&mut self, task: &mut Claimed, now: u64) -> bool {
        if self.tracing.is_on() {
            self.tracing.note_queued(self.record(task).queued());
        }
        let record = self.record(task);
        record.set_started(now);
        match record.try_start(task.word) {
            Ok(running) => {
                // C4: dies from here on → RUNNING; user code may have run.
                crash::here(Point::C4);
                task.word = running;
                if self.printed.is_some() {
                    self.begin_printed(task);
                }
                true
            }
            Err(now) => {
                self.confirm(*task, now);
                false
            }
        }
    }

    /// Begins an entry of the timeline at `start()`, if the task is traced.
    #[inline]
    pub(super) fn trace(
        &mut self,
        task: &Claimed,
        of: Of,
        start: impl FnOnce() -> u64,
    ) -> Option<Open> {
        if !self.tracing.is_on() {
            return None;
        }
        let call = self.call(task);
        self.tracing.begin(call, start(), of)
    }

    /// Ends it at `now()`, with a status of a task or as the timeline has it.
    #[inline]
    pub(super) fn traced(&mut self, open: Option<Open>, how: u8, now: impl FnOnce() -> u64) {
        if let Some(open) = open {
            self.tracing.end(open, now(), how);
        }
    }

    /// Returns what code of tasks sees of this worker.
    pub(crate) fn view(&self) -> View {
        View::new(Arc::clone(&self.control), self.slot, self.me)
    }

    /// Returns what the task calls.
    pub(crate) fn call(&self, task: &Claimed) -> Call {
        self.record(task).call()
    }

    /// RUNNING → DONE with `bytes` as the output, and tells the host.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] if the result arena is full for now; nothing has changed then.
    ///
    /// # Panics
    ///
    /// As [`check_descriptors`](Self::check_descriptors), if the system refuses memory and this
    /// process [may end](Self::may_end).
    pub fn complete(
        &mut self,
        task: Claimed,
        status: Status,
        bytes: &[u8],
        elapsed_ns: u64,
    ) -> Result<(), NoRoom> {
        let (place, inline) = match Place::in_word(bytes) {
            Some(word) => (word, &[][..]),
            None if bytes.len() <= INLINE_OUTPUT => (Place::Inline, bytes),
            None => return self.complete_large(task, status, bytes, elapsed_ns),
        };
        let len = bytes.len() as u32;
        self.commit(task, OutputDesc { status: status as u8, elapsed_ns, len, place }, inline);
        Ok(())
    }

    /// The same with more bytes than a record holds.
    fn complete_large(
        &mut self,
        task: Claimed,
        status: Status,
        bytes: &[u8],
        elapsed_ns: u64,
    ) -> Result<(), NoRoom> {
        match self.outputs.store(bytes) {
            Ok(block) => {
                self.complete_placed(task, status, (block, bytes.len() as u32), elapsed_ns);
                Ok(())
            }
            Err(AllocError::Full) if !self.outputs.only_loans() => Err(NoRoom),
            Err(error) => {
                if self.may_end && matches!(error, AllocError::Reserve(_)) {
                    self.check_descriptors();
                }
                let text = no_space(bytes.len(), &error);
                self.complete(task, Status::OutputSpace, text.as_bytes(), elapsed_ns)
            }
        }
    }

    /// Before a panic becomes a task's outcome, which may have been the runtime's, or memory that
    /// the system refused.
    ///
    /// # Panics
    ///
    /// A task has closed the descriptors of this worker, which then cannot go on: the tasks in it
    /// are lost, and may have another attempt.
    pub(crate) fn check_descriptors(&self) {
        assert!(self.outputs.are_open(), "a task has closed the descriptors of this worker");
    }

    /// The same with an output of `len` bytes that stands in `block` already.
    pub(crate) fn complete_placed(
        &mut self,
        task: Claimed,
        status: Status,
        (block, len): (Block, u32),
        elapsed_ns: u64,
    ) {
        let place = Place::Block(block);
        let output = OutputDesc { status: status as u8, elapsed_ns, len, place };
        self.commit(task, output, &[]);
    }

    /// RUNNING → DONE with `output`, whose bytes are written.
    #[inline(always)]
    fn commit(&mut self, task: Claimed, output: OutputDesc, inline: &[u8]) {
        if let Some(printed) = &mut self.printed {
            printed.end();
        }
        let record = self.record(&task);
        record.describe_output(output, inline);
        // C5: dies here → RUNNING with an output that is never read.
        crash::here(Point::C5);
        match record.try_commit(task.word) {
            Ok(_) => self.publish(task.record),
            Err(now) => self.come_too_late(task, output.place, now),
        }
    }

    /// The host has cancelled the task, and wants none of its output.
    #[cold]
    fn come_too_late(&mut self, task: Claimed, place: Place, now: StateWord) {
        if let Place::Block(block) = place {
            self.outputs.discard(block);
        }
        self.confirm(task, now);
    }

    /// Tells the host whether outputs wait for room; the caller tries once more after `true`.
    pub(crate) fn set_wants_room(&self, yes: bool) {
        self.control.report(self.slot).wants_room().say(yes);
    }

    /// Returns whether the host has cancelled `task`.
    pub(crate) fn is_cancelled(&self, task: &Claimed) -> Option<StateWord> {
        let now = self.record(task).state();
        (now.generation() == task.word.generation() && now.state() == Some(State::Cancelling))
            .then_some(now)
    }

    /// CANCELLING → DONE, once nothing of the task is left in this process.
    pub(crate) fn confirm(&mut self, task: Claimed, now: StateWord) {
        if let Some(printed) = &mut self.printed {
            printed.end();
        }
        // C8: dies here → CANCELLING, whose outcome is delivered; recovery frees the record.
        crash::here(Point::C8);
        if now.generation() == task.word.generation()
            && now.state() == Some(State::Cancelling)
            && self.record(&task).confirm_cancel(now).is_ok()
        {
            self.publish(task.record);
        }
        // Any other state is not this worker's any more: the record is damaged, or this worker was
        // declared dead. The host sorts it out.
    }

    /// Returns whether the host has raised attention since the last check, and whether it asked for
    /// an [`answer`](Self::answer).
    pub(crate) fn attention(&mut self) -> Option<Said> {
        let word = self.control.attention(self.slot).get();
        if word == self.seen_attention {
            return None;
        }
        self.tracing.read_switch();
        let before = std::mem::replace(&mut self.seen_attention, word);
        let (asks, assigns) = (Attention::asked(before, word), Attention::assigned(before, word));
        Some(Said { asks, assigns })
    }

    /// Returns whether the host wants this worker to leave.
    pub(crate) fn must_stop(&self) -> bool {
        Attention::says_stop(self.seen_attention)
    }

    /// Returns whether the host has raised attention since the last [`attention`](Self::attention).
    pub(crate) fn has_attention(&self) -> bool {
        self.control.attention(self.slot).get() != self.seen_attention
    }

    /// Returns whether there may be a task to claim; a hint without order.
    pub(crate) fn has_task(&self) -> bool {
        self.control.has_task()
    }

    /// Begins a search, unless enough others are searching.
    pub(crate) fn start_search(&mut self, at_most: u32) -> bool {
        let bells = self.control.bells();
        if !self.searching && bells.searching() < u64::from(at_most) {
            bells.start_search(self.slot);
            self.searching = true;
            self.processor.note();
        }
        self.searching
    }

    /// Ends a search that found no task.
    pub(crate) fn stop_search(&mut self) {
        if std::mem::take(&mut self.searching) {
            self.control.bells().stop_search(self.slot);
        }
    }

    /// Says that this worker sleeps and can take work; the caller looks once more after this.
    pub(crate) fn sleep(&mut self) {
        self.control.bells().sleep(self.slot);
        self.searching = false;
        self.asleep = true;
        // B8: dies here → a sleeper that may be rung in vain; recovery clears it, rings everybody.
        crash::here(Point::B8);
    }

    /// Says that this worker is awake; it looks at the rings before it polls user code.
    pub(crate) fn wake(&mut self) {
        if std::mem::take(&mut self.asleep) {
            self.control.bells().wake(self.slot);
            self.woken = true;
            self.processor.note();
        }
    }

    /// After a claim: wakes a sibling if there is more to do than searchers will find.
    fn pass_on(&mut self) {
        let backlog = || u64::from(self.control.has_task());
        let next = if std::mem::take(&mut self.searching) {
            self.control.bells().found(self.slot, backlog)
        } else if std::mem::take(&mut self.woken) {
            self.control.bells().pass_on(self.slot, backlog)
        } else {
            None
        };
        // B7: dies here → a sibling sleeps on beside a task; recovery rings everybody.
        crash::here(Point::B7);
        self.ring_worker(next);
    }

    fn ring_somebody_else(&self) {
        let next = self.control.bells().pass_on(self.slot, || u64::MAX);
        self.ring_worker(next);
    }

    fn ring_worker(&self, slot: Option<usize>) {
        if let Some(bell) = slot.and_then(|slot| self.bells.get(slot)) {
            let _ = bell.ring();
        }
    }

    /// Puts a DONE record into this worker's lane and rings the host if it waits.
    #[inline]
    fn publish(&mut self, record: u32) {
        // C6: dies here → DONE, no lane word; recovery finds it by its owner.
        crash::here(Point::C6);
        self.lane.push(self.control.lane(self.slot), record);
        self.control.report(self.slot).note_completed();
        // C7: dies here → DONE and in the lane; the death itself wakes the supervisor.
        crash::here(Point::C7);
        if let Some(armed) = self.control.host_flag().armed() {
            self.ring_host(armed);
        }
    }

    #[cold]
    fn ring_host(&self, armed: Armed) {
        // B3 in `doorbell`: ring first, clear after.
        let _ = self.host_bell.ring();
        crash::here(Point::B3);
        self.control.host_flag().rung(armed);
    }

    pub(super) fn record(&self, task: &Claimed) -> &Record {
        &self.control.records()[task.record as usize]
    }
}
