//! The host rings workers: push and to_wake against search, sleep, found and pass_on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use loom::sync::Mutex;

use crate::doorbell::{SlotSet, WorkerBells};
use crate::ring::{Claim, Head, TaskRing, claim, has_task, place};
use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use crate::sync::model::{Bell, check, mortal};
use crate::table::{Owner, Record, State, StateWord, WorkerId};

const NEVER: usize = usize::MAX;

struct Shared {
    head: AtomicU64,
    slots: Vec<AtomicU64>,
    records: Vec<Record>,
    sleepers: Vec<AtomicU64>,
    searchers: Vec<AtomicU64>,
    stop: AtomicU64,
    bells: Vec<Bell>,
    host_bell: Bell,
    /// Which worker's pidfd is readable.
    dead: Mutex<Option<usize>>,
    /// Task 0, where it is to occupy its worker, does so until task 1 runs.
    gate: Option<Bell>,
}

impl Shared {
    fn new(tasks: usize, workers: usize, gate: bool) -> Self {
        let words = |n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        Self {
            head: AtomicU64::new(0),
            // Room for a second push of each: what a dead worker had CLAIMED queues again.
            slots: words((2 * tasks).next_power_of_two()),
            records: (0..tasks).map(|_| Record::default()).collect(),
            sleepers: words(1),
            searchers: words(1),
            stop: AtomicU64::new(0),
            bells: (0..workers).map(|_| Bell::new()).collect(),
            host_bell: Bell::new(),
            dead: Mutex::new(None),
            gate: gate.then(Bell::new),
        }
    }

    fn ring(&self) -> TaskRing<'_> {
        TaskRing::new(&self.head, &self.slots)
    }

    fn bells(&self) -> WorkerBells<'_> {
        WorkerBells::new(SlotSet::new(&self.sleepers), SlotSet::new(&self.searchers))
    }

    /// Claims, without the checks that tell one use of a record from another: no worker dies here
    /// and no record is used again, and so loom can try more orders of the rest.
    fn claim(&self, owner: Owner) -> Claim {
        if self.gate.is_none() {
            return claim(self.ring(), 0, &self.records, owner, |_| true);
        }
        let queued = StateWord::new(1, Owner::NOBODY, State::Queued);
        while let Head::Entry { position, record } = self.ring().peek() {
            let won = self.records[record as usize].try_claim(queued, owner);
            self.ring().help(position);
            if won {
                return Claim::Task { record, claimed: queued.with(owner, State::Claimed) };
            }
        }
        Claim::Empty
    }

    fn ring_workers(&self) {
        self.bells.iter().for_each(Bell::ring);
    }
}

/// A worker's loop, as far as the doorbell goes.
fn serve(shared: &Shared, me: usize) {
    let bells = shared.bells();
    let owner = Owner::of(WorkerId { queue: 0, slot: me as u16, incarnation: 1 });
    // A worker sees no tail: one entry at head is all it counts, the next claim looks for more.
    let backlog = || u64::from(has_task(shared.ring()));
    let stopped = || shared.stop.load(Acquire) != 0;
    let mut searching = true;
    bells.start_search(me);
    loop {
        if let Claim::Task { record, claimed } = shared.claim(owner) {
            let next =
                if searching { bells.found(me, backlog) } else { bells.pass_on(me, backlog) };
            if let Some(sleeper) = next {
                shared.bells[sleeper].ring();
            }
            let running = shared.records[record as usize].try_start(claimed).unwrap();
            match (&shared.gate, record) {
                (Some(gate), 0) => gate.wait(),
                (Some(gate), 1) => gate.ring(),
                _ => {}
            }
            let _ = shared.records[record as usize].try_commit(running).unwrap();
            shared.host_bell.ring();
        } else if searching {
            bells.sleep(me);
            if stopped() {
                return;
            }
            if !has_task(shared.ring()) {
                shared.bells[me].wait();
            }
            bells.wake(me);
            searching = false;
            continue;
        }
        searching = true;
        bells.start_search(me);
    }
}

/// The host: pushes every task, wakes whom it must, waits until all ended, stops everybody.
fn host(shared: &Shared) {
    let mut tail = 0;
    let mut generations = vec![1; shared.records.len()];
    let mut push = |index: usize, generation| {
        shared.records[index].publish(generation, place(0, tail));
        shared.ring().push(tail, index as u32);
        tail += 1;
        tail
    };
    let wake = |tail| {
        let backlog = || tail - shared.ring().head();
        if let Some(sleeper) = shared.bells().to_wake(backlog, 0) {
            shared.bells[sleeper].ring();
        }
    };
    for index in 0..shared.records.len() {
        let tail = push(index, 1);
        wake(tail);
    }
    let mut lost = vec![false; shared.records.len()];
    loop {
        if let Some(dead) = shared.dead.lock().unwrap().take() {
            shared.bells().forget(dead);
            for (index, record) in shared.records.iter().enumerate() {
                let seen = record.state();
                match seen.state() {
                    Some(State::Claimed) if seen.owner().slot() == dead => {
                        shared.ring().help(record.position());
                        generations[index] += 1;
                        let _ = push(index, generations[index]);
                    }
                    Some(State::Running) if seen.owner().slot() == dead => lost[index] = true,
                    _ => {}
                }
            }
            shared.ring_workers();
        }
        let ended = |(index, record): (usize, &Record)| {
            lost[index] || record.state().state() == Some(State::Done)
        };
        if shared.records.iter().enumerate().all(ended) {
            break;
        }
        shared.host_bell.wait();
    }
    // Release: pairs with the Acquire in `serve`.
    shared.stop.store(1, Release);
    shared.ring_workers();
}

/// `workers` serve `tasks`; worker 0 is killed before its change number `killed`. True if it came
/// to that.
fn doorbell(tasks: usize, workers: usize, gate: bool, killed: usize) -> bool {
    let shared = Arc::new(Shared::new(tasks, workers, gate));
    let lives: Vec<_> = (0..workers)
        .map(|me| {
            let shared = shared.clone();
            loom::thread::spawn(move || {
                let died = mortal(if me == 0 { killed } else { NEVER }, || serve(&shared, me));
                if died {
                    *shared.dead.lock().unwrap() = Some(me);
                    shared.host_bell.ring();
                }
                died
            })
        })
        .collect();
    host(&shared);
    let ends: Vec<bool> = lives.into_iter().map(|life| life.join().unwrap()).collect();
    ends[0]
}

#[test]
fn one_worker_hears_of_every_task() {
    check("two tasks, one worker", 2, || {
        doorbell(2, 1, false, NEVER);
    });
}

#[test]
fn no_task_waits_behind_a_busy_worker_while_another_sleeps() {
    check("a busy worker and another", 1, || {
        doorbell(2, 2, true, NEVER);
    });
}

#[test]
fn a_dead_worker_takes_no_wake_up_with_it() {
    for change in 0.. {
        let died = Arc::new(AtomicBool::new(false));
        let notes = died.clone();
        check(&format!("killed before change {change}"), 1, move || {
            if doorbell(1, 2, false, change) {
                notes.store(true, Relaxed);
            }
        });
        if !died.load(Relaxed) {
            assert!(change >= 10);
            return;
        }
    }
}
