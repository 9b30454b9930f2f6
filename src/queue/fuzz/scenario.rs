//! A scenario: a queue, its host and two workers without processes, driven by choices.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::choices::Choices;
use super::dies;
use crate::control::{Control, Shape};
use crate::queue::timers::{Due, Expects, TaskDue};
use crate::queue::{
    Common, DeadWorker, For, HostQueue, Inputs, Reason, Receiver, Submission, Ticket,
};
use crate::shm::Region;
use crate::sys::eventfd::EventFd;
use crate::table::{INLINE_INPUT, Owner, State, StateWord, WorkerId};
use crate::task::{LossCause, Outcome, Status, TaskError, TaskOptions, WorkerExit};
use crate::worker::{Claimed, Engine, Look, Said, WorkerFds};

pub(super) const SHAPE: Shape = Shape { capacity: 16, slots: 2, classes: 2 };
pub(super) const ARENA: usize = 1 << 20;
/// Looks in peace after which everything must have come back.
const PEACE: usize = 200;

/// Counts what each token was given.
#[derive(Default)]
pub(super) struct Book(Mutex<Vec<u32>>);

impl Book {
    fn open(&self) -> u64 {
        let mut counts = self.0.lock().unwrap();
        counts.push(0);
        counts.len() as u64 - 1
    }

    fn undo(&self) {
        self.0.lock().unwrap().pop();
    }
}

impl Receiver for Book {
    fn deliver(&self, token: u64, outcome: Outcome) -> bool {
        if let Err(TaskError::Corrupt(what)) = &outcome.result {
            assert!(!what.is_empty(), "damage without a name");
        }
        // As a caller would: whatever the bytes are, decoding them is an error at worst.
        let _ = outcome.decode::<(Vec<String>, Option<u64>)>();
        self.0.lock().unwrap()[token as usize] += 1;
        false
    }
}

/// A worker without a process.
pub(super) struct WorkerSim {
    pub(super) id: WorkerId,
    pub(super) engine: Engine,
    pub(super) arena: Arc<Region>,
    pub(super) running: Vec<Claimed>,
}

impl WorkerSim {
    /// As state words have it.
    pub(super) fn owner_bits(&self) -> u64 {
        StateWord::new(0, Owner::of(self.id), State::Free).bits() >> 8
    }

    /// Does what the worker's root does when it was rung. Returns true if it is to leave.
    pub(super) fn attend(&mut self) -> bool {
        let Some(Said { asks: what_it_has, assigns }) = self.engine.attention() else {
            return false;
        };
        let Self { engine, running, .. } = self;
        if assigns {
            let has = |record| running.iter().any(|task| task.record == record);
            for mut task in engine.assigned(has) {
                if engine.start(&mut task, 1) {
                    running.push(task);
                }
            }
        }
        if what_it_has {
            engine.answer(|record| running.iter().any(|task| task.record == record));
        }
        running.retain(|task| match engine.is_cancelled(task) {
            Some(word) => {
                engine.confirm(*task, word);
                false
            }
            None => true,
        });
        engine.must_stop()
    }
}

pub(super) struct Scenario<'b> {
    pub(super) choices: Choices<'b>,
    pub(super) queue: Arc<HostQueue>,
    pub(super) common: Arc<Common>,
    book: Arc<Book>,
    pub(super) workers: Vec<Option<WorkerSim>>,
    incarnation: u32,
    pub(super) tickets: Vec<Ticket>,
    /// Damages that the host has found.
    pub(super) damages: u64,
}

impl<'b> Scenario<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        let bell = || EventFd::new().unwrap();
        let inputs = Inputs::create(2 << 20).unwrap();
        let common = Common::new(inputs, bell(), bell(), 1_000_000);
        let control = Control::create(SHAPE).unwrap();
        let bells = (0..SHAPE.slots).map(|_| bell()).collect();
        let queue = HostQueue::new(0, control, bells, Arc::clone(&common));
        let mut scenario = Self {
            choices: Choices::new(bytes),
            queue,
            common,
            book: Arc::default(),
            workers: Vec::from([None, None]),
            incarnation: 0,
            tickets: Vec::new(),
            damages: 0,
        };
        (0..2).for_each(|slot| scenario.spawn(slot));
        scenario
    }

    pub(super) fn spawn(&mut self, slot: usize) {
        self.incarnation += 1;
        let arena = Arc::new(Region::create(c"test", ARENA).unwrap());
        let (lane, handback) = self.queue.prepare(slot, Arc::clone(&arena));
        let own = |fd: BorrowedFd<'_>| -> OwnedFd { fd.try_clone_to_owned().unwrap() };
        let control = self.queue.control();
        let fds = WorkerFds {
            control: own(control.as_fd()),
            requests: own(self.common.inputs.as_fd()),
            outputs: own(arena.as_fd()),
            host_bell: own(self.common.host_bell.as_fd()),
            supervisor_bell: own(self.common.supervisor_bell.as_fd()),
            bells: self.queue.bells().map(own).collect(),
        };
        let id = WorkerId { queue: 0, slot: slot as u16, incarnation: self.incarnation };
        let engine = Engine::open(id, lane, handback, SHAPE, fds).expect("whatever stands there");
        self.workers[slot] = Some(WorkerSim { id, engine, arena, running: Vec::new() });
    }

    pub(super) fn recover(&mut self, slot: usize, cause: LossCause) {
        let Some(worker) = self.workers[slot].take() else { return };
        // As the supervisor reads it.
        let control = self.queue.control();
        let report = control.report(slot);
        let (_, _) = (report.phase(), report.has_completed());
        let _ = self.queue.failure_text(slot);
        let exit = WorkerExit::Unknown;
        self.queue.recover(&DeadWorker {
            id: worker.id,
            seat: 0,
            pid: 1,
            exit,
            cause,
            stderr: String::new(),
        });
    }

    fn replace(&mut self, what: String) {
        self.damages += 1;
        (0..2).for_each(|slot| self.recover(slot, LossCause::Damage));
        self.queue.rebuild(Control::create(SHAPE).unwrap(), &what);
        (0..2).for_each(|slot| self.spawn(slot));
    }

    fn submit(&mut self) {
        let len = [0, 8, 40, 64, 3_000][self.choices.below(5) as usize];
        let retries = self.choices.below(2) as u32 * 2;
        let priority = self.choices.below(2) as u8;
        let options = TaskOptions::new()
            .retries(retries)
            .retry_on_error(retries > 0)
            .retry_on_timeout(retries > 0)
            .priority(priority)
            .timeout(Duration::from_secs(3600));
        let options = match self.choices.below(4) {
            0 => options.retry_if(|_| true),
            1 => options.retry_if(|error| matches!(error, TaskError::Failed(_))),
            _ => options,
        };
        self.submit_with(&vec![7; len], options);
    }

    pub(super) fn submit_with(&mut self, input: &[u8], options: TaskOptions) {
        let token = self.book.open();
        let submission = Submission {
            task: token + 1,
            function: 0,
            input,
            options,
            receiver: For::One(self.book.clone()),
            token,
        };
        match self.queue.try_submit(submission) {
            Ok(ticket) => self.tickets.push(ticket),
            Err(_) => self.book.undo(),
        }
    }

    /// Gives the worker in `slot` a task of its own.
    pub(super) fn assign(&mut self, slot: usize) {
        let Some(worker) = &self.workers[slot] else { return };
        let token = self.book.open();
        let submission = Submission {
            task: token + 1,
            function: 0,
            input: &[7; 40],
            options: TaskOptions::new(),
            receiver: For::One(self.book.clone()),
            token,
        };
        if self.queue.try_assign(submission, worker.id).is_err() {
            self.book.undo();
        }
    }

    /// A worker does something; one that trips over damage is dead.
    fn work(&mut self, slot: usize, finish: bool) {
        let [pick, status, len] = [8, 3, 5].map(|limit| self.choices.below(limit));
        let Some(worker) = &mut self.workers[slot] else { return };
        let died = dies(|| {
            assert!(!worker.attend(), "leaves");
            if finish && !worker.running.is_empty() {
                let task = worker.running.remove(pick as usize % worker.running.len());
                let status = [Status::Ok, Status::Failed, Status::Ok][status as usize];
                let bytes = vec![1; [4, 100, 5_000, 40_000, 0][len as usize]];
                if worker.engine.complete(task, status, &bytes, 5).is_err() {
                    worker.running.push(task);
                }
            } else if let Look::Task(mut task) = worker.engine.claim(worker.running.is_empty()) {
                // Some die between the claim and the start.
                assert!(pick != 0, "dies with a claim");
                if worker.engine.start(&mut task, 1) {
                    let mut input = [0; INLINE_INPUT];
                    let _ = worker.engine.call(&task);
                    let _ = worker.engine.input(&task, &mut input);
                    worker.running.push(task);
                }
            } else {
                worker.engine.sleep();
                worker.engine.wake();
            }
        });
        if died {
            self.recover(slot, LossCause::Death);
            self.spawn(slot);
        }
    }

    /// What the supervisor does from time to time.
    pub(super) fn supervise(&mut self) {
        for (_, ticket) in self.queue.take_unassigned() {
            if let Some(worker) = &self.workers[0] {
                self.queue.reassign(ticket, worker.id);
            }
        }
        self.queue.drain();
        let owners: Vec<Option<Owner>> = self
            .workers
            .iter()
            .map(|worker| worker.as_ref().map(|worker| Owner::of(worker.id)))
            .collect();
        let damage = self.queue.audit(|slot| owners.get(slot).copied().flatten());
        for (slot, _) in self.queue.take_damage() {
            self.damages += 1;
            self.recover(slot, LossCause::Damage);
            self.spawn(slot);
        }
        if let Some(what) = damage {
            self.replace(what);
        }
        let mut due = Vec::new();
        while let Some(timer) = self.common.timers.take_due(u64::MAX) {
            due.push(timer);
        }
        for (ticket, due) in due {
            if matches!(due, Due::Task(TaskDue::Retry) | Due::Worker { expects: Expects::Drop, .. })
                && let Some(owner) = self.queue.expire(ticket, due)
            {
                let slot = owner.slot();
                if self.workers.get(slot).is_some_and(Option::is_some) {
                    self.recover(slot, LossCause::NeighbourTimedOut);
                    self.spawn(slot);
                }
            }
        }
    }

    pub(super) fn cancel(&mut self) {
        if self.tickets.is_empty() {
            return;
        }
        let pick = self.choices.below(self.tickets.len() as u64) as usize;
        let ticket = self.tickets[pick];
        let reasons =
            [Reason::Cancel, Reason::Deadline, Reason::Blocked(3), Reason::CancelWithin(1)];
        let reason = reasons[self.choices.below(4) as usize];
        self.queue.cancel(ticket, reason);
    }

    /// Lives as long as the bytes last.
    pub(super) fn run(&mut self) {
        while !self.choices.is_spent() {
            let slot = self.choices.below(2) as usize;
            match self.choices.below(24) {
                0..4 => self.submit(),
                4 => self.assign(slot),
                5..9 => self.work(slot, false),
                9..13 => self.work(slot, true),
                13 => self.cancel(),
                14 => {
                    self.recover(slot, LossCause::Death);
                    self.spawn(slot);
                }
                15..20 => self.damage(slot),
                20..22 => self.supervise(),
                22 => {
                    self.queue.drain();
                }
                _ => {
                    let _ = (self.queue.depth(9), self.queue.has_records_out());
                    self.queue.arm();
                }
            }
        }
    }

    /// No more damage is done: everything has to end, once, and to come back.
    pub(super) fn end(&mut self) {
        crate::sync::racing::stop();
        for _ in 0..PEACE {
            for slot in 0..2 {
                self.work(slot, false);
                (0..4).for_each(|_| self.work(slot, true));
            }
            self.supervise();
            if self.is_at_rest() {
                break;
            }
        }
        let given = self.book.0.lock().unwrap().clone();
        assert_eq!(self.queue.pending(), 0, "tasks are left: {given:?}");
        assert!(given.iter().all(|&n| n == 1), "not once each: {given:?}");
        assert_eq!(self.queue.free_records(), SHAPE.capacity as usize, "records are lost");
        assert_eq!(self.common.inputs.used(), 0, "input bytes are lost");
    }

    fn is_at_rest(&self) -> bool {
        self.queue.pending() == 0
            && self.queue.free_records() == SHAPE.capacity as usize
            && self.common.inputs.used() == 0
    }
}
