//! The host's client threads, one access of shared memory a step: they submit under the queue's
//! lock, call off, wait, and drain the lanes under the lanes' lock.

use crate::moves::{Moves, may_cancel};
use crate::rules::{Config, MAX, Room};
use crate::state::{CANCELS, Do, NONE, St, State, Word};

/// What client `client` does next.
pub fn step(moves: &mut Moves<'_>, now: &State, client: usize) {
    match now.threads[client].at {
        Do::Idle => idle(moves, now, client),
        Do::End => {}
        _ => busy(moves, now, client),
    }
}

/// The first task of `client` that is not submitted.
fn next_task(config: &Config, now: &State, client: usize) -> Option<u8> {
    let task = client + now.threads[client].submitted as usize * config.sizes.clients;
    (task < config.sizes.tasks).then_some(task as u8)
}

/// Whether every task that `client` has submitted is over.
fn is_served(config: &Config, now: &State, client: usize) -> bool {
    now.entries.iter().all(|entry| {
        entry.pending == NONE || entry.pending as usize % config.sizes.clients != client
    })
}

fn has_room(now: &State, config: &Config) -> bool {
    now.entries[..config.sizes.records].iter().any(|entry| !entry.used && !entry.deferred)
}

/// Whether `client` has what it waits for.
fn is_content(config: &Config, now: &State, client: usize) -> bool {
    if now.threads[client].wants_room {
        has_room(now, config)
    } else {
        is_served(config, now, client)
    }
}

fn idle(moves: &mut Moves<'_>, now: &State, client: usize) {
    let config = moves.config;
    let queue_is_free = now.queue_lock == NONE;
    if may_cancel(now) && queue_is_free {
        for index in 0..config.sizes.records {
            let task = now.entries[index].pending;
            if task != NONE && task as usize % config.sizes.clients == client {
                let mut to = now.clone();
                to.queue_lock = client as u8;
                to.left[CANCELS] -= 1;
                let me = &mut to.threads[client];
                (me.record, me.at) = (index as u8, Do::CancelLook);
                moves.push(10 + client, "locks to call off", to);
            }
        }
    }
    match next_task(config, now, client) {
        Some(_) if queue_is_free => {
            let mut to = now.clone();
            to.queue_lock = client as u8;
            find_room(config, &mut to, client);
            moves.push(10 + client, "locks to submit", to);
        }
        Some(_) => {}
        None => {
            let mut to = now.clone();
            let me = &mut to.threads[client];
            me.wants_room = false;
            me.at = if is_served(config, now, client) { Do::End } else { wait(config, client) };
            moves.push(10 + client, "waits for outcomes", to);
        }
    }
}

fn wait(config: &Config, client: usize) -> Do {
    if !config.host_bell {
        Do::Wait
    } else if config.leader && client == 1 {
        Do::Empty
    } else {
        Do::Arm
    }
}

/// With the queue locked: on to a free record, or to look at head, or to wait.
fn find_room(config: &Config, to: &mut State, client: usize) {
    let records = &to.entries[..config.sizes.records];
    if let Some(index) = records.iter().position(|entry| !entry.used && !entry.deferred) {
        let me = &mut to.threads[client];
        (me.record, me.at, me.wants_room) = (index as u8, Do::Push, false);
        // No process reads a record that is FREE: described and published in one step.
        let task = next_task(config, to, client).expect("the caller looked");
        to.threads[client].submitted += 1;
        let entry = &mut to.entries[index];
        (entry.pending, entry.used) = (task, true);
        to.records[index].input = task;
        to.books[task as usize].attempts += 1;
        to.audited = false;
        publish(to, index);
    } else if records.iter().any(|entry| entry.deferred) {
        to.threads[client].at = Do::RoomHead;
    } else {
        no_room(config, to, client);
    }
}

fn no_room(config: &Config, to: &mut State, client: usize) {
    to.queue_lock = NONE;
    let me = &mut to.threads[client];
    (me.wants_room, me.head, me.record) = (true, 0, 0);
    me.at = wait(config, client);
}

fn busy(moves: &mut Moves<'_>, now: &State, client: usize) {
    let config = moves.config;
    let rules = config.rules;
    let thread = now.threads[client];
    let index = thread.record as usize;
    let record = now.records[thread.record as usize % config.sizes.records];
    let mut to = now.clone();
    let me = &mut to.threads[client];
    let mut wrong = None;
    let what = match thread.at {
        Do::RoomHead => {
            me.head = now.head;
            me.at = Do::RoomSlot;
            let passed = pass_deferred(config, &mut to);
            if passed {
                find_room(config, &mut to, client);
            } else if rules.room == Room::Waits {
                no_room(config, &mut to, client);
            }
            "reads head for room"
        }
        Do::RoomSlot => {
            match now.entry_at(config, thread.head) {
                Some(names) => (me.other, me.at) = (names, Do::RoomRecord),
                None => no_room(config, &mut to, client),
            }
            "reads head's slot for room"
        }
        Do::RoomRecord => {
            let at_head = now.records[thread.other as usize];
            me.other = 0;
            if at_head.st == St::Queued && at_head.position == thread.head {
                no_room(config, &mut to, client);
            } else {
                me.at = Do::RoomHelp;
            }
            "looks at the record at head"
        }
        Do::RoomHelp => {
            me.at = Do::RoomHead;
            to.help(thread.head);
            "helps head to make room"
        }
        Do::Push => {
            wrong = push(config, &mut to, client, index);
            if config.worker_bells {
                to.threads[client].at = Do::FindSleeper;
            } else {
                to.flush_thread(config, client);
                unlock(&mut to, client);
            }
            "pushes"
        }
        Do::FindSleeper => {
            if rules.fence_b4 {
                to.flush_thread(config, client);
            }
            let me = &mut to.threads[client];
            if now.sleepers == 0 {
                me.at = Do::Unlock;
            } else {
                // `seen`: the backlog was counted before, and the sleeper it was for had gone.
                let again = thread.seen == 1;
                me.other = now.sleepers.trailing_zeros() as u8;
                me.at = if config.search && !again { Do::Backlog } else { Do::TakeSleeper };
            }
            "looks for a sleeper"
        }
        Do::Backlog => {
            (me.head, me.at) = (now.head, Do::CountSearchers);
            "counts the backlog"
        }
        Do::CountSearchers => {
            me.at = Do::TakeSleeper;
            if now.tail - thread.head <= now.searchers.count_ones() as u8 {
                me.at = Do::Unlock;
            }
            "counts the searchers"
        }
        Do::Unlock => {
            to.flush_thread(config, client);
            unlock(&mut to, client);
            "unlocks"
        }
        Do::TakeSleeper => {
            to.flush_thread(config, client);
            let me = &mut to.threads[client];
            if now.sleepers >> thread.other & 1 == 1 {
                to.sleepers &= !(1 << thread.other);
                to.queue_lock = NONE;
                to.threads[client].at = Do::RingWorker;
            } else {
                (me.at, me.seen) = (Do::FindSleeper, 1);
            }
            "takes a sleeper's bit"
        }
        Do::RingWorker => {
            to.worker_bells |= 1 << thread.other;
            at_ease(&mut to, client);
            "rings a worker"
        }
        Do::CancelLook => {
            me.seen = record.st as u8;
            me.other = record.owner;
            me.at = Do::CancelSwap;
            if !matches!(record.st, St::Queued | St::Claimed | St::Running) {
                unlock(&mut to, client);
            }
            "looks at what to call off"
        }
        Do::CancelSwap => {
            if record.st as u8 != thread.seen {
                me.at = Do::CancelLook;
            } else {
                wrong = cancel(config, &mut to, client, index);
            }
            "calls off"
        }
        Do::CancelRing => {
            to.worker_bells |= 1 << thread.other;
            at_ease(&mut to, client);
            "rings the worker of what it called off"
        }
        Do::Empty => {
            // A blocking client: it consumes the ring for all, unseen edges included.
            me.at = Do::Arm;
            if now.host_bell {
                to.host_bell = false;
                to.threads.iter_mut().for_each(|thread| thread.edge = false);
                let me = &mut to.threads[client];
                if !rules.leader_arms {
                    (me.at, me.then) = (Do::DrainAsk, Do::Idle);
                }
            }
            "empties the doorbell"
        }
        Do::Arm => {
            me.woken = false;
            me.at = if rules.host_looks_again { Do::DrainAsk } else { Do::Wait };
            me.then = Do::Wait;
            let wanted = if rules.arms_for_records {
                now.entries.iter().any(|entry| entry.used)
            } else {
                now.is_pending()
            };
            if wanted {
                to.arm();
            }
            "arms"
        }
        Do::Wait => {
            if !is_over(config, now, client) {
                return;
            }
            (me.woken, me.edge) = (false, false);
            (me.at, me.then) = (Do::DrainAsk, Do::Idle);
            "goes on"
        }
        _ => return crate::lanes::step(moves, now, client),
    };
    moves.push_wrong(10 + client, what, to, wrong);
}

/// Whether the wait of `client` has an end.
fn is_over(config: &Config, now: &State, client: usize) -> bool {
    let thread = now.threads[client];
    let content = is_content(config, now, client);
    if config.host_bell {
        let rung = if config.leader && client == 1 { now.host_bell } else { thread.edge };
        return content || rung || thread.woken;
    }
    let in_lanes = (0..config.sizes.workers).any(|slot| now.next_in_lane(config, slot).is_some());
    let helpable = || {
        now.entry_at(config, now.head).is_none_or(|names| {
            let record = now.records[names as usize];
            record.st != St::Queued || record.position != now.head
        })
    };
    let passable = || now.entries.iter().any(|entry| entry.deferred) && helpable();
    content || in_lanes || thread.wants_room && passable()
}

/// Frees what head has passed. True if that is any.
pub fn pass_deferred(config: &Config, to: &mut State) -> bool {
    let head = to.head;
    let mut any = false;
    for entry in &mut to.entries[..config.sizes.records] {
        if entry.deferred && entry.position < head {
            entry.deferred = false;
            any = true;
        }
    }
    any
}

/// QUEUED with a new generation, at the tail.
pub fn publish(to: &mut State, index: usize) {
    let entry = &mut to.entries[index];
    entry.generation += 1;
    entry.position = to.tail;
    (entry.held, entry.granted) = (false, false);
    // What an audit saw DONE was another generation.
    to.threads[MAX.clients].seen &= !(1 << index);
    let record = &mut to.records[index];
    (record.st, record.owner) = (St::Queued, NONE);
    (record.generation, record.position) = (entry.generation, entry.position);
}

/// The ring entry of what was published.
#[must_use]
pub fn push(config: &Config, to: &mut State, thread: usize, index: usize) -> Option<&'static str> {
    let position = to.tail;
    let wrong = (position - to.head >= config.ring() as u8).then_some("the task ring overflowed");
    to.threads[thread].buffer = Word { position, names: index as u8 };
    if !config.buffers {
        to.flush_thread(config, thread);
    }
    to.tail += 1;
    wrong
}

fn cancel(config: &Config, to: &mut State, client: usize, index: usize) -> Option<&'static str> {
    let task = to.entries[index].pending;
    let mut wrong = None;
    let record = &mut to.records[index];
    let queued = record.st == St::Queued;
    record.st = if queued { St::Cancelled } else { St::Cancelling };
    if queued && to.books[task as usize].runs >= to.books[task as usize].attempts {
        wrong = Some("a task ran before it was claimed");
    }
    if config.deadlines && !queued {
        let entry = &mut to.entries[index];
        if config.rules.waits_for_worker {
            entry.granted = true;
        } else {
            entry.held = true;
            to.records[index].st = St::Held;
        }
        to.queue_lock = NONE;
        to.threads[client].at = Do::CancelRing;
        if !config.rings_workers() {
            at_ease(to, client);
        }
        return wrong;
    }
    deliver(config, to, index, task);
    let two_phase = config.rules.two_phase_cancel;
    if queued || !two_phase {
        give_back(config, to, index);
        unlock(to, client);
    } else {
        to.queue_lock = NONE;
        to.threads[client].at = Do::CancelRing;
        if !config.rings_workers() {
            at_ease(to, client);
        }
    }
    wrong
}

/// The outcome of the task in entry `index`: once, by taking the entry.
pub fn deliver(config: &Config, to: &mut State, index: usize, task: u8) {
    to.entries[index].pending = NONE;
    to.books[task as usize].outcomes += 1;
    to.audited = false;
    to.threads[task as usize % config.sizes.clients].woken = config.sizes.clients > 1;
}

/// FREE, and to be used again at once or when head has passed it. Only the host looks at either.
pub fn give_back(config: &Config, to: &mut State, index: usize) {
    to.records[index].st = St::Free;
    let entry = &mut to.entries[index];
    entry.used = false;
    entry.deferred = config.rules.defer && entry.position >= to.head;
    for client in &mut to.threads[..config.sizes.clients] {
        client.woken |= client.wants_room && config.sizes.clients > 1;
    }
}

/// Lets go of the queue and of everything else.
pub fn unlock(to: &mut State, client: usize) {
    to.queue_lock = NONE;
    at_ease(to, client);
}

/// Back to the start with nothing in hand.
pub fn at_ease(to: &mut State, client: usize) {
    let me = &mut to.threads[client];
    (me.at, me.then, me.after_free) = (Do::Idle, Do::Idle, Do::Idle);
    (me.slot, me.record, me.scan, me.head, me.other, me.seen) = (0, 0, 0, 0, 0, 0);
}
