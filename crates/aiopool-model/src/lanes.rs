//! Draining the lanes, one access of shared memory a step; clients and the supervisor do it alike.

use crate::host::{at_ease, deliver, give_back};
use crate::moves::Moves;
use crate::state::{Do, NONE, St, State, Thread, Word};

/// Words of a hand-back lane.
const HANDBACK: u8 = 1;

/// The next step of a thread that drains.
pub fn step(moves: &mut Moves<'_>, now: &State, thread: usize) {
    let config = moves.config;
    let rules = config.rules;
    let number = thread as u8;
    let mine = now.threads[thread];
    let slot = mine.slot as usize;
    let index = mine.record as usize;
    let mut to = now.clone();
    let me = &mut to.threads[thread];
    let mut wrong = None;
    let what = match mine.at {
        Do::DrainAsk if now.lanes_lock == NONE => {
            (me.at, me.slot) = (Do::Lane, 0);
            (to.lanes_lock, to.again) = (number, false);
            "locks the lanes"
        }
        Do::DrainAsk => {
            me.at = Do::DrainTry;
            to.again |= rules.drains_again;
            "asks for another drain"
        }
        Do::DrainTry => {
            if now.lanes_lock == NONE {
                to.lanes_lock = number;
                to.again = false;
                let me = &mut to.threads[thread];
                (me.at, me.slot) = (Do::Lane, 0);
            } else {
                go_on(&mut to, thread);
            }
            "tries to lock the lanes"
        }
        Do::Lane => {
            if let Some(names) = now.next_in_lane(config, slot) {
                if now.queue_lock != NONE && now.queue_lock != number {
                    return;
                }
                (me.record, me.at) = (names, Do::Receive);
                me.after_free = Do::Lane;
                to.queue_lock = number;
                to.read[slot] += 1;
            } else {
                me.record = 0;
                me.slot += 1;
                if me.slot as usize == config.sizes.workers {
                    me.slot = 0;
                    me.at = Do::DrainEnd;
                    if now.queue_lock == number {
                        to.queue_lock = NONE;
                    }
                }
            }
            "looks into a lane"
        }
        Do::Receive => {
            wrong = receive(moves, &mut to, thread, slot, index);
            "receives"
        }
        Do::HandBack => {
            me.at = Do::WantsRoom;
            if now.backlog[slot] != 0 && now.handed[slot] - now.taken[slot] < HANDBACK {
                me.at = Do::HandBackPush;
            }
            "reads how far the worker took back"
        }
        Do::HandBackPush => {
            me.at = Do::WantsRoom;
            let block = now.backlog[slot].trailing_zeros() as u8;
            to.backlog[slot] &= !(1 << block);
            to.handback[slot] = Word { position: now.handed[slot], names: block };
            to.handed[slot] += 1;
            "hands a block back"
        }
        Do::WantsRoom => {
            me.at = if now.wants_room >> slot & 1 == 1 { Do::RingRoom } else { Do::Free };
            if me.at == Do::Free && !rules.reads_before_hand_back {
                wrong = read(&mut to, index, now.records[index].output);
            }
            "asks whether the worker wants room"
        }
        Do::RingRoom => {
            me.at = Do::Free;
            to.worker_bells |= 1 << slot;
            if !rules.reads_before_hand_back {
                wrong = read(&mut to, index, now.records[index].output);
            }
            "rings for room"
        }
        Do::Hold => {
            me.at = mine.after_free;
            // A dead worker may not have moved head.
            let position = to.entries[index].position;
            to.help(position);
            to.records[index].st = St::Held;
            (to.entries[index].held, to.entries[index].granted) = (true, false);
            "holds for a retry"
        }
        Do::Free => {
            me.at = mine.after_free;
            give_back(config, &mut to, index);
            "frees the record"
        }
        Do::DrainEnd => {
            if matches!(mine.then, Do::Scan | Do::AuditScan) {
                // The supervisor keeps the lanes and takes the queue.
                if now.queue_lock != NONE {
                    return;
                }
                to.queue_lock = number;
                let me = &mut to.threads[thread];
                (me.at, me.record) = (mine.then, 0);
                "locks the queue"
            } else {
                to.lanes_lock = NONE;
                to.threads[thread].at = Do::DrainAgain;
                if config.is_alone() {
                    go_on(&mut to, thread);
                }
                "unlocks the lanes"
            }
        }
        Do::DrainAgain => {
            if now.again {
                me.at = Do::DrainTry;
            } else {
                go_on(&mut to, thread);
            }
            "asks whether to drain again"
        }
        other => unreachable!("{other:?} of thread {thread}"),
    };
    moves.push_wrong(10 + thread, what, to, wrong);
}

fn go_on(to: &mut State, thread: usize) {
    // The supervisor's task outlasts a drain.
    let Thread { then, head, other, .. } = to.threads[thread];
    at_ease(to, thread);
    let me = &mut to.threads[thread];
    (me.at, me.head, me.other) = (then, head, other);
    if then == Do::Idle {
        at_ease(to, thread);
    }
}

/// Takes what lane `slot` says of record `index`, if it is so.
pub fn receive(
    moves: &Moves<'_>,
    to: &mut State,
    thread: usize,
    slot: usize,
    index: usize,
) -> Option<&'static str> {
    let config = moves.config;
    let record = to.records[index];
    let entry = to.entries[index];
    to.threads[thread].at = to.threads[thread].after_free;
    let known = entry.used && record.generation == entry.generation;
    if !known || record.st != St::Done || record.owner as usize != slot {
        return None;
    }
    let task = if config.rules.private_entry { entry.pending } else { record.input };
    if task == NONE {
        // Called off, confirmed now.
        give_back(config, to, index);
        return None;
    }
    if entry.granted {
        to.threads[thread].at = Do::Hold;
        return None;
    }
    if record.output != task {
        return Some("a task got another's output");
    }
    if record.failed {
        to.threads[thread].at = Do::Hold;
        return None;
    }
    deliver(config, to, index, task);
    if record.block == NONE {
        give_back(config, to, index);
        return None;
    }
    to.threads[thread].at = Do::HandBack;
    to.backlog[slot] |= 1 << record.block;
    if config.rules.reads_before_hand_back { read(to, index, task) } else { None }
}

/// Reads the block of record `index`'s output.
fn read(to: &mut State, index: usize, task: u8) -> Option<&'static str> {
    let record = to.records[index];
    if record.block == NONE {
        return None;
    }
    let unread = &mut to.unread[record.owner as usize][record.block as usize];
    if std::mem::replace(unread, NONE) == task {
        None
    } else {
        Some("an output was overwritten before it was read")
    }
}
