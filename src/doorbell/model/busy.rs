//! A worker that takes a task and is then busy for long, against a push: the task after it goes to
//! another worker. One step of each side, so that loom tries every order of it.

use std::sync::Arc;

use crate::doorbell::{SlotSet, WorkerBells};
use crate::ring::{Claim, TaskRing, claim, has_task, place};
use crate::sync::atomic::AtomicU64;
use crate::sync::model::check;
use crate::table::{Owner, Record, WorkerId};

/// The worker that becomes busy, and one that sleeps all the while.
const BUSY: usize = 0;
const SLEEPER: usize = 1;

struct Shared {
    head: AtomicU64,
    slots: Vec<AtomicU64>,
    records: Vec<Record>,
    sleepers: Vec<AtomicU64>,
    searchers: Vec<AtomicU64>,
}

impl Shared {
    fn new() -> Self {
        let words = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let shared = Self {
            head: AtomicU64::new(0),
            slots: words(2),
            records: (0..2).map(|_| Record::default()).collect(),
            sleepers: words(1),
            searchers: words(1),
        };
        SlotSet::new(&shared.sleepers).insert(SLEEPER);
        shared
    }

    fn ring(&self) -> TaskRing<'_> {
        TaskRing::new(&self.head, &self.slots)
    }

    fn bells(&self) -> WorkerBells<'_> {
        WorkerBells::new(SlotSet::new(&self.sleepers), SlotSet::new(&self.searchers))
    }

    /// The host's: task `number` goes into the ring.
    fn push(&self, number: u64) {
        self.records[number as usize].publish(1, place(0, number));
        self.ring().push(number, number as u32);
    }

    /// Runs the host's step after a push that made the tail `tail`; returns the worker that it
    /// rings.
    fn to_wake(&self, tail: u64) -> Option<usize> {
        self.bells().to_wake(|| tail - self.ring().head(), 0)
    }

    /// Runs the worker's step; returns whether it has claimed a task.
    fn claim(&self) -> bool {
        let me = Owner::of(WorkerId { queue: 0, slot: BUSY as u16, incarnation: 1 });
        matches!(claim(self.ring(), 0, &self.records, me, |_| true), Claim::Task { .. })
    }

    /// Runs the worker's step after a claim; returns the worker that it rings.
    fn backlog(&self) -> u64 {
        u64::from(has_task(self.ring()))
    }
}

/// The host rings no worker for a task that a searcher will find. If the searcher has found another
/// meanwhile, it sees the task and rings (B4 against B5).
#[test]
fn what_the_host_leaves_to_a_searcher_is_passed_on_by_it() {
    check("a push against a searcher that claims", 3, || {
        let shared = Arc::new(Shared::new());
        shared.bells().start_search(BUSY);
        shared.push(0);
        let theirs = shared.clone();
        let worker = loom::thread::spawn(move || {
            assert!(theirs.claim());
            theirs.bells().found(BUSY, || theirs.backlog())
        });
        shared.push(1);
        let by_host = shared.to_wake(2);
        let by_worker = worker.join().unwrap();
        let rung = [by_host, by_worker].contains(&Some(SLEEPER));
        assert!(rung, "a task waits behind a busy worker and beside one that sleeps");
    });
}

/// The host rings a worker by its sleeper's bit. If that one has woken by itself meanwhile, the
/// ring will be heard only after a poll of user code; so it sees the task before.
#[test]
fn who_is_rung_while_it_wakes_by_itself_sees_the_task_before_user_code() {
    check("a push against a worker that wakes by itself", 3, || {
        let shared = Arc::new(Shared::new());
        SlotSet::new(&shared.sleepers).insert(BUSY);
        let theirs = shared.clone();
        let worker = loom::thread::spawn(move || {
            theirs.bells().wake(BUSY);
            theirs.claim()
        });
        shared.push(0);
        let rung = shared.to_wake(1);
        let claimed = worker.join().unwrap();
        assert!(claimed || rung == Some(SLEEPER), "the ring went to who is busy");
    });
}
