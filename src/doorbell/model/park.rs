//! A worker that parks, against all that may want it: a task cancelled, a future that is woken by
//! another thread, a push, and the order to leave.

use std::sync::Arc;

use crate::doorbell::{Attention, ReadySet, SlotSet, WorkerBells};
use crate::ring::{Claim, TaskRing, claim, has_task, place};
use crate::sync::atomic::AtomicU64;
use crate::sync::model::{Bell, Bytes, check};
use crate::table::{CancelResult, Owner, Record, State, StateWord, WorkerId};

struct Shared {
    head: AtomicU64,
    slots: Vec<AtomicU64>,
    /// 0 is the one in flight, 1 one that is pushed.
    records: Vec<Record>,
    sleepers: Vec<AtomicU64>,
    searchers: Vec<AtomicU64>,
    attention: AtomicU64,
    /// Wakes the worker's root: by its eventfd, or by the waker of a future.
    root: Arc<Bell>,
    ready: Arc<ReadySet>,
    /// What the future in flight waits for; plain memory, which its waker has to carry.
    answer: Bytes,
    /// Rung by the worker for each task that is over.
    host: Bell,
}

impl Shared {
    fn new() -> Arc<Self> {
        let words = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let shared = Self {
            head: AtomicU64::new(0),
            slots: words(2),
            records: (0..2).map(|_| Record::default()).collect(),
            sleepers: words(1),
            searchers: words(1),
            attention: AtomicU64::new(0),
            root: Arc::new(Bell::new()),
            ready: ReadySet::new(1),
            answer: Bytes::new(),
            host: Bell::new(),
        };
        shared.ready.set_root(&shared.root.waker());
        Arc::new(shared)
    }

    fn ring(&self) -> TaskRing<'_> {
        TaskRing::new(&self.head, &self.slots)
    }

    fn bells(&self) -> WorkerBells<'_> {
        WorkerBells::new(SlotSet::new(&self.sleepers), SlotSet::new(&self.searchers))
    }

    fn attention(&self) -> Attention<'_> {
        Attention::new(&self.attention)
    }

    /// Task 0 runs, and its future waits.
    fn start(&self) -> StateWord {
        self.records[0].publish(1, place(0, 0));
        self.ring().push(0, 0);
        let Claim::Task { claimed, .. } = claim(self.ring(), 0, &self.records, me(), |_| true)
        else {
            panic!("nothing else is there")
        };
        self.records[0].try_start(claimed).unwrap()
    }

    /// The host pushes task 1.
    fn push(&self) {
        self.records[1].publish(1, place(0, 1));
        self.ring().push(1, 1);
        if self.bells().to_wake(|| 2 - self.ring().head(), 0).is_some() {
            self.root.ring();
        }
    }

    /// Cancels task 0 for the host; returns true if its worker has to confirm.
    fn cancel(&self) -> bool {
        let result = self.records[0].cancel(1);
        self.attention().call();
        self.root.ring();
        matches!(result, CancelResult::WhileOwned(_))
    }

    /// The host wants the worker to leave.
    fn stop(&self) {
        self.attention().stop();
        self.root.ring();
    }
}

fn me() -> Owner {
    Owner::of(WorkerId { queue: 0, slot: 0, incarnation: 1 })
}

/// The worker's root, as in `src/worker/root.rs`, with `running` in flight.
struct Root<'s> {
    shared: &'s Shared,
    running: Option<StateWord>,
    seen: u64,
}

impl Root<'_> {
    fn live(&mut self) {
        while !self.poll() {
            self.shared.root.wait();
        }
    }

    /// True if it leaves.
    fn poll(&mut self) -> bool {
        let shared = self.shared;
        shared.bells().wake(0);
        loop {
            self.attend();
            if Attention::says_stop(self.seen) {
                return true;
            }
            if self.step() {
                continue;
            }
            shared.bells().sleep(0);
            let more = has_task(shared.ring())
                || shared.attention().get() != self.seen
                || shared.ready.any();
            if !more {
                return false;
            }
            shared.bells().wake(0);
        }
    }

    fn attend(&mut self) {
        let word = self.shared.attention().get();
        if word == std::mem::replace(&mut self.seen, word) {
            return;
        }
        let now = self.shared.records[0].state();
        if self.running.is_some() && now.state() == Some(State::Cancelling) {
            self.running = None;
            self.shared.records[0].confirm_cancel(now).unwrap();
            self.shared.host.ring();
        }
    }

    fn step(&mut self) -> bool {
        let shared = self.shared;
        let task = claim(shared.ring(), 0, &shared.records, me(), |_| true);
        if let Claim::Task { record, claimed } = task {
            let running = shared.records[record as usize].try_start(claimed).unwrap();
            shared.records[record as usize].try_commit(running).unwrap();
            shared.host.ring();
            return true;
        }
        if shared.ready.take(0).is_none() {
            return false;
        }
        if let Some(running) = self.running.take() {
            assert_eq!(shared.answer.read(), 1);
            match shared.records[0].try_commit(running) {
                Ok(_) => {}
                Err(cancelling) => drop(shared.records[0].confirm_cancel(cancelling).unwrap()),
            }
            shared.host.ring();
        }
        true
    }
}

/// A worker with task 0 in flight beside `host`, who ends it.
fn beside(host: impl FnOnce(&Arc<Shared>)) {
    let shared = Shared::new();
    let running = shared.start();
    let theirs = shared.clone();
    let worker = loom::thread::spawn(move || {
        Root { shared: &theirs, running: Some(running), seen: 0 }.live();
    });
    host(&shared);
    shared.stop();
    worker.join().unwrap();
}

/// Another thread of the worker's process has the answer that its future waits for.
fn answers(shared: &Arc<Shared>) -> loom::thread::JoinHandle<()> {
    let shared = shared.clone();
    loom::thread::spawn(move || {
        shared.answer.write(1);
        shared.ready.waker(0).wake();
    })
}

#[test]
fn a_worker_that_parks_hears_that_a_task_was_called_off() {
    check("a call against a park", 3, || {
        beside(|shared| {
            assert!(shared.cancel());
            shared.host.wait();
        });
    });
}

#[test]
fn a_worker_that_parks_hears_of_a_push_and_of_a_call() {
    check("a call and a push against a park", 2, || {
        beside(|shared| {
            assert!(shared.cancel());
            shared.push();
            let done = |record: &Record| record.state().state() == Some(State::Done);
            while !shared.records.iter().all(done) {
                shared.host.wait();
            }
        });
    });
}

#[test]
fn a_future_that_another_thread_wakes_is_polled() {
    check("a wake against a park", 3, || {
        beside(|shared| {
            let answers = answers(shared);
            shared.host.wait();
            answers.join().unwrap();
        });
    });
}

#[test]
fn a_call_and_a_wake_end_the_task_once() {
    check("a call and a wake against a park", 2, || {
        beside(|shared| {
            let answers = answers(shared);
            if shared.cancel() {
                shared.host.wait();
            }
            answers.join().unwrap();
        });
    });
}
