//! The host's supervisor thread: recovers what the dead held, respawns, retries, audits.

use crate::host::{at_ease, deliver, give_back, publish, push};
use crate::lanes;
use crate::moves::Moves;
use crate::rules::Requeue;
use crate::state::{AUDITS, Do, NONE, St, State, Worker};

/// In `Thread::other`: it recovers from a death, whose slot is `Thread::head`.
const DEATH: u8 = 2;
/// In `Thread::other`: the audit saw a task that is QUEUED.
const QUEUED: u8 = 1;

/// What the supervisor does next.
pub fn step(moves: &mut Moves<'_>, now: &State) {
    let config = moves.config;
    let me = config.supervisor();
    if now.threads[me].at != Do::Idle {
        return busy(moves, now);
    }
    if now.dead != 0 && now.lanes_lock == NONE {
        let mut to = now.clone();
        to.lanes_lock = me as u8;
        let mine = &mut to.threads[me];
        (mine.at, mine.other) = (Do::Forget, DEATH);
        mine.head = now.dead.trailing_zeros() as u8;
        moves.push(10 + me, "sees a death and locks the lanes", to);
    }
    for index in 0..config.sizes.records {
        if now.entries[index].held && now.queue_lock == NONE {
            let mut to = now.clone();
            to.queue_lock = me as u8;
            let mine = &mut to.threads[me];
            (mine.at, mine.record) = (Do::Publish, index as u8);
            let task = to.entries[index].pending;
            to.books[task as usize].attempts += 1;
            moves.push(10 + me, "locks for a retry", to);
        }
    }
    if now.left[AUDITS] > 0 && now.is_pending() {
        let mut paid = now.clone();
        paid.left[AUDITS] -= 1;
        audit(moves, &paid);
    }
}

/// Begins an audit.
pub fn audit(moves: &mut Moves<'_>, now: &State) {
    let me = moves.config.supervisor();
    if now.threads[me].at != Do::Idle || now.lanes_lock != NONE {
        return;
    }
    let mut to = now.clone();
    to.lanes_lock = me as u8;
    to.threads[me].at = Do::AuditLook;
    moves.push(10 + me, "begins an audit", to);
}

fn busy(moves: &mut Moves<'_>, now: &State) {
    let config = moves.config;
    let rules = config.rules;
    let thread = config.supervisor();
    let mine = now.threads[thread];
    let index = mine.record as usize;
    let dead = mine.head as usize;
    let mut to = now.clone();
    let me = &mut to.threads[thread];
    let mut wrong = None;
    let what = match mine.at {
        Do::Publish => {
            me.at = Do::Push;
            publish(&mut to, index);
            "queues a retry"
        }
        Do::Push => {
            wrong = push(config, &mut to, thread, index);
            // The locks that it lets go of order this before whatever follows.
            to.flush_thread(config, thread);
            to.threads[thread].at = Do::RingAll;
            to.queue_lock = NONE;
            "pushes a retry"
        }
        Do::Forget => {
            me.at = Do::ForgetSearch;
            if rules.forget {
                to.sleepers &= !(1 << dead);
            }
            "forgets that it slept"
        }
        Do::ForgetSearch => {
            (me.at, me.slot, me.then) = (Do::Lane, 0, Do::Scan);
            if rules.forget {
                to.searchers &= !(1 << dead);
            }
            "forgets that it searched"
        }
        Do::Scan => {
            me.record = mine.scan;
            me.scan += 1;
            if mine.scan as usize == config.sizes.records {
                (me.at, me.scan, me.record) = (Do::Bury, 0, 0);
                to.queue_lock = NONE;
            } else {
                scan(moves, &mut to, mine.scan as usize, dead);
            }
            "looks at a record"
        }
        Do::Help => {
            me.at = Do::Requeue;
            let position = now.entries[index].position;
            to.help(position);
            "helps head past the dead worker's claim"
        }
        Do::Requeue => {
            let in_place =
                rules.requeue == Requeue::InPlace && now.head <= now.entries[index].position;
            me.at = if in_place { Do::Scan } else { Do::RequeuePush };
            let position = now.entries[index].position;
            publish(&mut to, index);
            if in_place {
                to.entries[index].position = position;
                to.records[index].position = position;
            }
            "queues it again"
        }
        Do::RequeuePush => {
            me.at = if mine.then == Do::AuditScan { Do::AuditScan } else { Do::Scan };
            wrong = push(config, &mut to, thread, index);
            // The locks that it lets go of order this before whatever follows.
            to.flush_thread(config, thread);
            "pushes it again"
        }
        Do::Bury => {
            (me.at, me.then) = (Do::DrainAgain, Do::RingAll);
            if !rules.supervisor_drains_again {
                me.at = Do::RingAll;
            }
            to.lanes_lock = NONE;
            to.backlog[dead] = 0;
            to.taken[dead] = to.handed[dead];
            to.wants_room &= !(1 << dead);
            to.unread[dead] = [NONE; crate::rules::MAX.blocks];
            "drops the dead worker's arena"
        }
        Do::RingAll => {
            // After a death, or after a retry or an audit.
            let death = mine.other == DEATH;
            if rules.ring_all || !death {
                to.worker_bells = config.all() * u8::from(config.rings_workers());
            }
            if death {
                to.threads[thread].at = Do::Respawn;
            } else {
                at_ease(&mut to, thread);
            }
            "rings every worker"
        }
        Do::Respawn => {
            to.dead &= !(1 << dead);
            if config.respawn {
                to.workers[dead] = Worker::new(config, now.read[dead], now.handed[dead]);
            }
            at_ease(&mut to, thread);
            "respawns"
        }
        Do::AuditLook => {
            // Which records are DONE before the lanes are drained.
            (me.at, me.slot, me.then) = (Do::Lane, 0, Do::AuditScan);
            let done = |index: &usize| now.records[*index].st == St::Done;
            me.seen = (0..config.sizes.records).filter(done).map(|index| 1 << index).sum();
            "looks for what is done"
        }
        Do::AuditScan => {
            me.record = mine.scan;
            me.scan += 1;
            if mine.scan as usize == config.sizes.records {
                me.at = Do::AuditEnd;
                (me.scan, me.record) = (0, 0);
                to.queue_lock = NONE;
            } else {
                wrong = audit_record(moves, &mut to, mine.scan as usize);
            }
            "audits a record"
        }
        Do::AuditEnd => {
            me.then = if mine.other == QUEUED { Do::RingAll } else { Do::Idle };
            me.at = if rules.supervisor_drains_again { Do::DrainAgain } else { me.then };
            me.seen = 0;
            to.lanes_lock = NONE;
            "ends the audit"
        }
        _ => return lanes::step(moves, now, thread),
    };
    moves.push_wrong(10 + thread, what, to, wrong);
}

/// What becomes of record `index` if the dead worker had it.
fn scan(moves: &Moves<'_>, to: &mut State, index: usize, dead: usize) {
    let config = moves.config;
    let (record, entry) = (to.records[index], to.entries[index]);
    if !entry.used || record.generation != entry.generation || record.owner as usize != dead {
        return;
    }
    let thread = config.supervisor();
    to.threads[thread].after_free = Do::Scan;
    let again = match record.st {
        St::Claimed => true,
        St::Running if config.retries => {
            to.books[entry.pending as usize].attempts += 1;
            true
        }
        St::Done | St::Cancelling if entry.granted => {
            to.threads[thread].at = Do::Hold;
            false
        }
        St::Running => {
            deliver(config, to, index, entry.pending);
            give_back(config, to, index);
            false
        }
        St::Done if config.rules.harvest && entry.pending != NONE => {
            if record.failed {
                to.threads[thread].at = Do::Hold;
            } else {
                deliver(config, to, index, entry.pending);
                give_back(config, to, index);
            }
            false
        }
        St::Done if !config.rules.harvest => false,
        St::Done | St::Cancelling => {
            give_back(config, to, index);
            false
        }
        _ => false,
    };
    if again {
        let helps = config.rules.requeue == Requeue::HelpPublishPush;
        to.threads[thread].at = if helps { Do::Help } else { Do::Requeue };
    }
}

/// The audit of record `index`.
fn audit_record(moves: &Moves<'_>, to: &mut State, index: usize) -> Option<&'static str> {
    let config = moves.config;
    let thread = config.supervisor();
    let (record, entry) = (to.records[index], to.entries[index]);
    if !entry.used || entry.held || record.generation != entry.generation {
        return None;
    }
    let owner_lives = || to.dead >> record.owner & 1 == 0;
    let was_done = !config.rules.audit_looks_first || to.threads[thread].seen >> index & 1 == 1;
    match record.st {
        St::Queued => {
            to.threads[thread].other = QUEUED;
            if to.head > entry.position {
                return Some("a queued task is behind head");
            }
            None
        }
        St::Done if owner_lives() && was_done => {
            to.threads[thread].after_free = Do::AuditScan;
            to.threads[thread].slot = record.owner;
            lanes::receive(moves, to, thread, record.owner as usize, index)
        }
        _ => None,
    }
}
