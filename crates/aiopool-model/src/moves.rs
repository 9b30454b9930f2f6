//! What can happen next.

use crate::rules::Config;
use crate::state::{At, CANCELS, KILLS, NONE, STOPS, St, State, Worker};
use crate::{host, supervisor, worker};

/// Something that can happen.
pub struct Move {
    /// The actor: a worker's number, or 10 and a thread's.
    pub who: u8,
    pub what: &'static str,
    pub to: State,
    /// A rule that this breaks.
    pub wrong: Option<&'static str>,
    /// A kill, a stop or a continuation: no process may wait for one.
    pub fault: bool,
}

/// Collects what can happen.
pub struct Moves<'a> {
    pub config: &'a Config,
    pub found: Vec<Move>,
}

impl Moves<'_> {
    pub fn push(&mut self, who: usize, what: &'static str, to: State) {
        self.found.push(Move { who: who as u8, what, to, wrong: None, fault: false });
    }

    pub fn push_wrong(
        &mut self,
        who: usize,
        what: &'static str,
        to: State,
        wrong: Option<&'static str>,
    ) {
        self.found.push(Move { who: who as u8, what, to, wrong, fault: false });
    }

    fn fault(&mut self, who: usize, what: &'static str, to: State) {
        self.found.push(Move { who: who as u8, what, to, wrong: None, fault: true });
    }
}

/// Everything that can happen in `now`, faults last. Empty but for faults: the system is at rest.
pub fn moves(config: &Config, now: &State, found: Vec<Move>) -> Vec<Move> {
    let mut moves = Moves { config, found };
    moves.found.clear();
    for slot in 0..config.sizes.workers {
        let worker = now.workers[slot];
        if worker.at != At::Dead && now.stopped >> slot & 1 == 0 {
            worker::step(&mut moves, now, slot);
        }
    }
    for client in 0..config.sizes.clients {
        host::step(&mut moves, now, client);
    }
    arrivals(&mut moves, now);
    supervisor::step(&mut moves, now);
    if config.mends && moves.found.is_empty() && now.is_pending() && !now.audited {
        // Nothing moves because a worker is stopped: this is what the audit is for. Once, until
        // something has moved; without stops nothing may depend on it.
        let mut audited = now.clone();
        audited.audited = true;
        supervisor::audit(&mut moves, &audited);
    }
    for slot in 0..config.sizes.workers {
        faults(&mut moves, now, slot);
    }
    moves.found
}

/// What waits in a buffer arrives, whatever its process does.
fn arrivals(moves: &mut Moves<'_>, now: &State) {
    let config = moves.config;
    for slot in 0..config.sizes.workers {
        if now.workers[slot].buffer.position != NONE {
            let mut to = now.clone();
            to.flush_worker(config, slot);
            moves.push(slot, "(its lane word arrives)", to);
        }
    }
    for thread in 0..now.threads.len() {
        if now.threads[thread].buffer.position != NONE {
            let mut to = now.clone();
            to.flush_thread(config, thread);
            moves.push(10 + thread, "(its ring entry arrives)", to);
        }
    }
}

fn faults(moves: &mut Moves<'_>, now: &State, slot: usize) {
    let worker = now.workers[slot];
    if worker.at == At::Dead {
        return;
    }
    if now.left[KILLS] > 0 {
        let mut to = now.clone();
        to.left[KILLS] -= 1;
        to.dead |= 1 << slot;
        to.stopped &= !(1 << slot);
        // What it has stored outlives it.
        to.flush_worker(moves.config, slot);
        to.workers[slot] = Worker { at: At::Dead, ..Worker::new(moves.config, 0, 0) };
        moves.fault(slot, "KILL", to);
    }
    if now.stopped >> slot & 1 == 1 {
        let mut to = now.clone();
        to.stopped &= !(1 << slot);
        moves.fault(slot, "CONT", to);
    } else if now.left[STOPS] > 0 {
        let mut to = now.clone();
        to.left[STOPS] -= 1;
        to.stopped |= 1 << slot;
        moves.fault(slot, "STOP", to);
    }
}

/// What is wrong with a state in which nothing moves, if anything is.
pub fn at_rest(config: &Config, now: &State) -> Option<&'static str> {
    let held_up = |index: usize| {
        let record = now.records[index];
        // What it committed and did not tell is for the audit to find.
        let untold = record.st == St::Done && !config.mends;
        now.stopped >> record.owner.min(7) & 1 == 1
            && (untold || matches!(record.st, St::Claimed | St::Running | St::Cancelling))
    };
    let records = || 0..config.sizes.records;
    let submitted: usize =
        (0..config.sizes.clients).map(|client| now.threads[client].submitted as usize).sum();
    let living = (0..config.sizes.workers).filter(|&slot| now.workers[slot].at != At::Dead);
    let living: u8 = living.map(|slot| 1 << slot).sum();
    if now.stopped == living {
        // No process is left that could move.
        return None;
    }
    if now.stopped != 0 {
        // A task that a stopped worker has must wait for it, and so must what needs its record.
        let fair = records().all(|index| now.entries[index].pending == NONE || held_up(index));
        let full = records().all(|index| now.entries[index].used && held_up(index));
        return (!fair || submitted < config.sizes.tasks && !full)
            .then_some("a task waits for a stopped worker that does not have it");
    }
    if now.is_pending() || submitted < config.sizes.tasks {
        return Some("nothing moves and a task has no outcome (a wake-up or a task was lost)");
    }
    if now.books[..config.sizes.tasks].iter().any(|book| book.outcomes != 1) {
        return Some("a task has no outcome");
    }
    // What was cancelled is freed by the next drain, which finds it in a lane.
    let leaked =
        records().any(|index| now.entries[index].used && now.records[index].st != St::Done);
    if leaked {
        return Some("a record leaked");
    }
    let blocks = (1 << config.sizes.blocks) - 1;
    let lost = (0..config.sizes.workers).any(|slot| {
        let worker = now.workers[slot];
        let on_the_way =
            if now.handed[slot] > worker.handback { 1 << now.handback[slot].names } else { 0 };
        let unread = records()
            .any(|index| now.entries[index].used && now.records[index].owner as usize == slot);
        worker.at != At::Dead && !unread && worker.free | now.backlog[slot] | on_the_way != blocks
    });
    lost.then_some("an output block leaked")
}

/// What is wrong with the books of any state, if anything is.
pub fn books(config: &Config, now: &State) -> Option<&'static str> {
    for book in &now.books[..config.sizes.tasks] {
        if book.outcomes > 1 {
            return Some("a task has two outcomes");
        }
        if book.runs > book.attempts {
            return Some("a task ran more often than it may");
        }
    }
    None
}

/// Whether there is a cancel left to spend.
pub fn may_cancel(now: &State) -> bool {
    now.left[CANCELS] > 0
}
