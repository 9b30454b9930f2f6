//! Random words over everything that workers can write, then every reader of it: an in-process
//! fuzz target. `AIOPOOL_FUZZ_ROUNDS` sets how many random lives are lived.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::timers::Due;
use super::*;
use crate::control::Shape;
use crate::shm::Region;
use crate::sync::atomic::Ordering::Relaxed;
use crate::table::{Owner, WorkerId};
use crate::task::{LossCause, Outcome, Status, TaskOptions, WorkerExit};
use crate::worker::{Claimed, Engine, Look, WorkerFds};

const SHAPE: Shape = Shape { capacity: 16, slots: 2, classes: 2 };
const ARENA: usize = 1 << 20;

/// Counts what each token was given.
#[derive(Default)]
struct Book(Mutex<Vec<u32>>);

impl Receiver for Book {
    fn deliver(&self, token: u64, _: Outcome) -> bool {
        self.0.lock().unwrap()[token as usize] += 1;
        false
    }
}

/// A worker without a process.
struct Hand {
    id: WorkerId,
    engine: Engine,
    arena: Arc<Region>,
    running: Vec<Claimed>,
}

struct Life {
    random: u64,
    queue: Arc<HostQueue>,
    common: Arc<Common>,
    book: Arc<Book>,
    hands: Vec<Option<Hand>>,
    incarnation: u32,
    tickets: Vec<Ticket>,
    damages: u64,
}

impl Life {
    fn new(seed: u64) -> Self {
        let bell = || EventFd::new().unwrap();
        let inputs = Inputs::create(2 << 20).unwrap();
        let common = Common::new(inputs, bell(), bell(), 1_000_000);
        let control = Control::create(SHAPE).unwrap();
        let bells = (0..SHAPE.slots).map(|_| bell()).collect();
        let queue = Arc::new(HostQueue::new(0, control, bells, Arc::clone(&common)));
        let mut life = Self {
            random: seed | 1,
            queue,
            common,
            book: Arc::default(),
            hands: Vec::from([None, None]),
            incarnation: 0,
            tickets: Vec::new(),
            damages: 0,
        };
        (0..2).for_each(|slot| life.hire(slot));
        life
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    fn hire(&mut self, slot: usize) {
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
        match Engine::open(id, lane, handback, fds) {
            Ok(engine) => self.hands[slot] = Some(Hand { id, engine, arena, running: Vec::new() }),
            // The header is damaged, as the supervisor finds when the worker does not start.
            Err(_) => self.replace("a header".to_owned()),
        }
    }

    fn bury(&mut self, slot: usize, cause: LossCause) {
        let Some(hand) = self.hands[slot].take() else { return };
        let exit = WorkerExit::Unknown;
        self.queue.recover(&Death { id: hand.id, seat: 0, pid: 1, exit, cause });
    }

    fn replace(&mut self, what: String) {
        self.damages += 1;
        (0..2).for_each(|slot| self.bury(slot, LossCause::Damage));
        self.queue.rebuild(Control::create(SHAPE).unwrap(), &what);
        (0..2).for_each(|slot| self.hire(slot));
    }

    fn submit(&mut self) {
        let len = [0, 8, 40, 64, 3_000][self.below(5) as usize];
        let token = self.book.0.lock().unwrap().len() as u64;
        let retries = self.below(2) as u32 * 2;
        let priority = self.below(2) as u8;
        let options = TaskOptions::new()
            .retries(retries)
            .retry_on_error(retries > 0)
            .priority(priority)
            .timeout(Duration::from_secs(3600));
        self.book.0.lock().unwrap().push(0);
        let submission = Submission {
            task: token + 1,
            function: 0,
            input: &vec![7; len],
            options,
            receiver: self.book.clone(),
            token,
        };
        match self.queue.try_submit(submission) {
            Ok(ticket) => self.tickets.push(ticket),
            Err(_) => {
                self.book.0.lock().unwrap().pop();
            }
        }
    }

    /// A worker does something; one that trips over damage is dead.
    fn work(&mut self, slot: usize, finish: bool) {
        let (pick, status, len) = (self.below(8), self.below(3), self.below(5));
        let Some(hand) = &mut self.hands[slot] else { return };
        let worked = catch_unwind(AssertUnwindSafe(|| {
            if finish && !hand.running.is_empty() {
                let task = hand.running.remove(pick as usize % hand.running.len());
                let status = [Status::Ok, Status::Failed, Status::Ok][status as usize];
                let bytes = vec![1; [4, 100, 5_000, 40_000, 0][len as usize]];
                if hand.engine.complete(task, status, &bytes, 5).is_err() {
                    hand.running.push(task);
                }
            } else if let Look::Task(mut task) = hand.engine.claim(hand.running.is_empty()) {
                // Some die between the claim and the start.
                if pick == 0 || hand.engine.start(&mut task, 1) {
                    let mut input = Vec::new();
                    let _ = hand.engine.call(&task);
                    let _ = hand.engine.read_input(&task, &mut input);
                    hand.running.push(task);
                    if pick == 0 {
                        panic!("dies with a claim");
                    }
                }
            } else {
                hand.engine.sleep();
                hand.engine.wake();
            }
        }));
        if worked.is_err() {
            self.bury(slot, LossCause::Death);
            self.hire(slot);
        }
    }

    fn scribble(&mut self) {
        let control = self.queue.control();
        let words = control.all_words();
        for _ in 0..1 + self.below(6) {
            let at = self.below(words.len() as u64) as usize;
            let value = match self.below(4) {
                0 => 0,
                1 => u64::MAX,
                _ => self.random,
            };
            words[at].store(value, Relaxed);
        }
        let slot = self.below(2) as usize;
        let at = self.below(ARENA as u64 / 16) as usize;
        let value = self.random;
        if let Some(hand) = &self.hands[slot] {
            hand.arena.words(0, ARENA / 16)[at].store(value, Relaxed);
        }
    }

    /// What the supervisor does from time to time.
    fn supervise(&mut self) {
        self.queue.drain();
        let owners: Vec<Option<Owner>> =
            self.hands.iter().map(|hand| hand.as_ref().map(|hand| Owner::of(hand.id))).collect();
        let finding = self.queue.audit(|slot| owners.get(slot).copied().flatten());
        for (slot, _) in self.queue.take_damage() {
            self.damages += 1;
            self.bury(slot, LossCause::Damage);
            self.hire(slot);
        }
        if let Some(what) = finding.damage {
            self.replace(what);
        }
        let mut due = Vec::new();
        while let Some(timer) = self.common.timers.take_due(u64::MAX) {
            due.push(timer);
        }
        for (ticket, due) in due {
            if matches!(due, Due::Retry | Due::Grace(_))
                && let Expired::Kill(owner) = self.queue.expire(ticket, due)
            {
                let slot = owner.slot();
                if self.hands.get(slot).is_some_and(Option::is_some) {
                    self.bury(slot, LossCause::NeighbourTimedOut);
                    self.hire(slot);
                }
            }
        }
    }

    fn live(&mut self) {
        for _ in 0..300 {
            let slot = self.below(2) as usize;
            match self.below(20) {
                0..5 => self.submit(),
                5..9 => self.work(slot, false),
                9..13 => self.work(slot, true),
                13 if !self.tickets.is_empty() => {
                    let pick = self.below(self.tickets.len() as u64) as usize;
                    let ticket = self.tickets[pick];
                    let reason = if self.below(2) == 0 { Reason::Cancel } else { Reason::Deadline };
                    self.queue.cancel(ticket, reason);
                }
                14 => {
                    self.bury(slot, LossCause::Death);
                    self.hire(slot);
                }
                15 => self.scribble(),
                16..18 => self.supervise(),
                _ => {
                    self.queue.drain();
                }
            }
        }
    }

    /// No more damage is done: everything has to end, once, and to come back.
    fn end(&mut self, seed: u64) {
        for _ in 0..400 {
            for slot in 0..2 {
                self.work(slot, false);
                (0..4).for_each(|_| self.work(slot, true));
            }
            self.supervise();
        }
        let given = self.book.0.lock().unwrap().clone();
        assert_eq!(self.queue.pending(), 0, "seed {seed}");
        assert!(given.iter().all(|&n| n == 1), "seed {seed}: {given:?}");
        assert_eq!(self.queue.free_records(), SHAPE.capacity as usize, "seed {seed}");
        assert_eq!(self.common.inputs.used(), 0, "seed {seed}");
    }
}

#[test]
fn whatever_workers_write_every_task_ends_once_and_everything_comes_back() {
    let rounds = std::env::var("AIOPOOL_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok());
    // The panics of the dying are part of the game.
    std::panic::set_hook(Box::new(|info| {
        if info.to_string().contains("seed ") {
            eprintln!("{info}");
        }
    }));
    let mut damages = 0;
    for seed in 1..=rounds.unwrap_or(150_u64) {
        let mut life = Life::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        life.live();
        life.end(seed);
        damages += life.damages;
    }
    assert!(damages > 0, "no damage was ever found");
}
