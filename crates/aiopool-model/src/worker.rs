//! The worker, one access of shared memory a step.

use crate::moves::Moves;
use crate::rules::{Config, Rules};
use crate::state::{At, ERRORS, NEWEST, NONE, Record, St, State, Word};

/// What worker `slot` does next.
pub fn step(moves: &mut Moves<'_>, now: &State, slot: usize) {
    let config = moves.config;
    let rules = config.rules;
    let worker = now.workers[slot];
    let bit = 1_u8 << slot;
    let mut to = now.clone();
    if is_ordering(worker.at, rules) {
        to.flush_worker(config, slot);
    }
    let me = &mut to.workers[slot];
    let record = now.records[worker.record as usize];
    let mine = |st| record.st == st && record.owner as usize == slot;
    let mut wrong = None;
    let what = match worker.at {
        At::Dead => return,
        At::Head => {
            // Without doorbells it sees by itself that there is something.
            if !config.worker_bells && now.entry_at(config, now.head).is_none() {
                return;
            }
            me.position = now.head;
            me.at = At::Slot;
            if !config.fine {
                return look(moves, now, slot);
            }
            "reads head"
        }
        At::Slot => {
            match now.entry_at(config, worker.position) {
                Some(index) => (me.record, me.at) = (index, At::RecordState),
                None => me.at = At::HeadAgain,
            }
            "reads the slot"
        }
        At::HeadAgain => {
            if now.head == worker.position && config.worker_bells {
                return nothing(moves, now, slot);
            }
            *me = worker.at_top();
            "reads head again"
        }
        At::RecordState => {
            me.generation = record.generation;
            me.at = At::RecordPosition;
            if record.st != St::Queued {
                help_stale(&mut to, slot);
            } else if !config.fine {
                to.workers[slot].at = At::Claim;
                if !stands(rules, now, slot) {
                    help_stale(&mut to, slot);
                }
            }
            "reads the record"
        }
        At::RecordPosition => {
            me.at = At::Claim;
            if !stands(rules, now, slot) {
                help_stale(&mut to, slot);
            }
            "reads the record's position"
        }
        At::Claim => {
            let same = !rules.claim_generation || record.generation == worker.generation;
            if record.st == St::Queued && same {
                me.generation = record.generation;
                me.at = At::HelpOwn;
                to.audited = false;
                let claimed = Record { st: St::Claimed, owner: slot as u8, ..record };
                to.records[worker.record as usize] = claimed;
                // Head moves one way: a swap that would fail now fails for ever.
                if now.head != worker.position {
                    after_claim(&mut to, slot, config);
                }
                "claims"
            } else {
                help_stale(&mut to, slot);
                "fails to claim"
            }
        }
        At::HelpStale => {
            *me = worker.at_top();
            to.help(worker.position);
            "helps"
        }
        At::HelpOwn => {
            after_claim(&mut to, slot, config);
            to.help(worker.position);
            "moves head"
        }
        At::FindSleeper => {
            let others = now.sleepers & !bit;
            me.at = if others == 0 { done_looking(worker.searching) } else { At::LookForMore };
            me.other = next_after(others, slot);
            "looks for a sleeper"
        }
        At::LookForMore => {
            let more = now.entry_at(config, now.head).is_some();
            me.at = if more { At::CountSearchers } else { done_looking(worker.searching) };
            "looks for more"
        }
        At::CountSearchers => {
            me.at = if now.searchers.count_ones() == 0 {
                At::RingSleeper
            } else {
                done_looking(worker.searching)
            };
            "counts the searchers"
        }
        At::RingSleeper => {
            to.worker_bells |= 1 << worker.other;
            to.workers[slot].other = 0;
            to.workers[slot].at = done_looking(worker.searching);
            "rings a sleeper"
        }
        At::LeaveLate => {
            (me.searching, me.at) = (false, At::Start);
            to.searchers &= !bit;
            "leaves the searchers late"
        }
        At::Start => {
            me.other = 0;
            if mine(St::Claimed) {
                to.records[worker.record as usize].st = St::Running;
                return run(moves, to, slot);
            }
            me.at = At::Confirm;
            "finds it called off"
        }
        At::Gate => {
            // Task 0 runs until all others are over, or until it is cancelled.
            let others = 1..config.sizes.tasks;
            if !mine(St::Cancelling) && others.into_iter().any(|t| now.books[t].outcomes == 0) {
                return;
            }
            me.at = At::Commit;
            "runs to its end"
        }
        At::TakeBlock => {
            if let Some(block) = handed(now, slot) {
                (me.other, me.at) = (block, At::SayTaken);
            } else if worker.free != 0 {
                me.block = worker.free.trailing_zeros() as u8;
                me.free &= !(1 << me.block);
                me.at = if worker.wants { At::WantNoRoom } else { At::Commit };
            } else {
                me.at = if worker.wants { At::AwaitRoom } else { At::WantRoom };
            }
            "looks for a block"
        }
        At::SayTaken => {
            me.free |= 1 << worker.other;
            me.handback += 1;
            (me.other, me.at) = (0, At::TakeBlock);
            to.taken[slot] = to.workers[slot].handback;
            "takes a block back"
        }
        At::WantRoom => {
            me.wants = true;
            me.at = if rules.wants_room_looks_again { At::TakeBlock } else { At::AwaitRoom };
            to.wants_room |= bit;
            "says that it wants room"
        }
        At::AwaitRoom => {
            if now.worker_bells & bit == 0 {
                return;
            }
            to.worker_bells &= !bit;
            let cancelled = mine(St::Cancelling);
            to.workers[slot].at = if cancelled { At::WantNoRoom } else { At::TakeBlock };
            "is rung for room"
        }
        At::WantNoRoom => {
            me.wants = false;
            me.at = if worker.block == NONE { At::Confirm } else { At::Commit };
            to.wants_room &= !bit;
            "wants no more room"
        }
        At::Commit => {
            if record.input != worker.task {
                wrong = Some("the input changed under a running task");
            }
            if mine(St::Running) && record.generation == worker.generation {
                me.at = At::Push;
                to.audited = false;
                wrong = wrong.or(commit(&mut to, slot));
                "commits"
            } else {
                if worker.block != NONE {
                    me.free |= 1 << worker.block;
                }
                (me.at, me.block) = (At::Confirm, NONE);
                "finds it called off at the end"
            }
        }
        At::Confirm => {
            if mine(St::Cancelling) && record.generation == worker.generation {
                me.at = At::Push;
                let confirmed = &mut to.records[worker.record as usize];
                (confirmed.st, confirmed.block, confirmed.output) = (St::Done, NONE, NONE);
                "confirms the cancel"
            } else {
                *me = worker.at_top();
                "lets go of what is not its own"
            }
        }
        At::Push => {
            let lane = config.lane();
            if worker.lane - now.read[slot] >= lane as u8 {
                wrong = Some("a lane overflowed");
            }
            to.workers[slot].buffer = Word { position: worker.lane, names: worker.record };
            if !config.buffers {
                to.flush_worker(config, slot);
            }
            let me = &mut to.workers[slot];
            me.lane += 1;
            *me = me.at_top();
            if config.host_bell {
                me.at = At::ReadFlag;
            }
            "pushes into its lane"
        }
        At::ReadFlag => {
            (me.at, me.other) = match (now.armed, rules.ring_first) {
                (false, _) => (At::Head, 0),
                (true, true) => (At::RingHost, NEWEST),
                (true, false) => (At::ClearFlag, NEWEST),
            };
            "reads the host's flag"
        }
        At::RingHost => {
            me.at = At::ClearFlag;
            if !rules.ring_first {
                *me = worker.at_top();
            }
            to.ring_host(config);
            "rings the host"
        }
        At::ClearFlag => {
            *me = worker.at_top();
            if !rules.ring_first {
                me.at = At::RingHost;
            }
            if !rules.epoch || worker.other == NEWEST {
                to.armed = false;
            }
            "clears the host's flag"
        }
        At::Search => {
            (me.searching, me.at) = (true, At::Head);
            to.searchers |= bit;
            "searches"
        }
        At::Sleep => {
            me.at = if worker.searching {
                At::StopSearch
            } else if rules.worker_looks_again {
                At::LastLook
            } else {
                At::Asleep
            };
            to.sleepers |= bit;
            "sets its sleeper bit"
        }
        At::LeaveSearchers => {
            me.searching = false;
            me.at = if rules.pass_on { At::FindSleeper } else { At::Start };
            if rules.found_leaves {
                to.searchers &= !bit;
            }
            "leaves the searchers, having found"
        }
        At::StopSearch => {
            me.searching = false;
            me.at = if rules.worker_looks_again { At::LastLook } else { At::Asleep };
            to.searchers &= !bit;
            "stops searching"
        }
        At::LastLook => {
            let more = now.entry_at(config, now.head).is_some();
            me.at = if more { At::Wake } else { At::Asleep };
            "looks once more"
        }
        At::Asleep => {
            if now.worker_bells & bit == 0 {
                return;
            }
            me.at = At::Wake;
            to.worker_bells &= !bit;
            "is rung"
        }
        At::Wake => {
            (me.woken, me.at) = (true, At::Head);
            to.sleepers &= !bit;
            "clears its sleeper bit"
        }
    };
    moves.push_wrong(slot, what, to, wrong);
}

/// Whether what was stored before must be there before this: a fence, a read-modify-write
/// operation or a system call.
fn is_ordering(at: At, rules: Rules) -> bool {
    match at {
        At::Claim | At::HelpStale | At::HelpOwn | At::Start | At::Commit | At::Confirm => true,
        At::LeaveSearchers | At::LeaveLate | At::Search | At::Sleep | At::StopSearch => true,
        At::Wake | At::ClearFlag | At::RingHost | At::RingSleeper | At::FindSleeper => true,
        At::ReadFlag => rules.fence_b2,
        _ => false,
    }
}

/// Head and the slot it names in one look, where only the rest is of interest.
fn look(moves: &mut Moves<'_>, now: &State, slot: usize) {
    let Some(index) = now.entry_at(moves.config, now.head) else {
        return nothing(moves, now, slot);
    };
    let mut to = now.clone();
    let me = &mut to.workers[slot];
    (me.position, me.record, me.at) = (now.head, index, At::RecordState);
    moves.push(slot, "reads head and its slot", to);
}

/// The ring is empty: it searches for a while, or lies down.
fn nothing(moves: &mut Moves<'_>, now: &State, slot: usize) {
    let mut to = now.clone();
    let me = &mut to.workers[slot];
    (me.position, me.at) = (0, At::Sleep);
    if moves.config.search && !me.searching {
        let mut searches = to.clone();
        searches.workers[slot].at = At::Search;
        moves.push(slot, "finds nothing and goes on looking", searches);
    }
    moves.push(slot, "finds nothing and lies down", to);
}

/// Whether the entry that was found is the record's newest.
fn stands(rules: Rules, now: &State, slot: usize) -> bool {
    let worker = now.workers[slot];
    let position = now.records[worker.record as usize].position;
    !rules.claim_position || position == worker.position
}

fn help_stale(to: &mut State, slot: usize) {
    let me = &mut to.workers[slot];
    if to.head == me.position {
        me.at = At::HelpStale;
    } else {
        *me = me.at_top();
    }
}

fn after_claim(to: &mut State, slot: usize, config: &Config) {
    let me = &mut to.workers[slot];
    me.position = 0;
    me.at = match (me.searching, std::mem::take(&mut me.woken)) {
        (true, _) if config.rules.leaves_before_look => At::LeaveSearchers,
        (true, _) | (_, true) if config.rules.pass_on => At::FindSleeper,
        (true, _) => At::LeaveLate,
        _ => At::Start,
    };
}

/// User code runs: well, or to an error.
fn run(moves: &mut Moves<'_>, mut to: State, slot: usize) {
    let config = moves.config;
    let task = to.records[to.workers[slot].record as usize].input;
    to.books[task as usize].runs += 1;
    // One that has committed, or finds that it was cancelled, runs no more.
    let runs_in = |other: usize| {
        let ends = [At::WantRoom, At::AwaitRoom, At::WantNoRoom, At::SayTaken, At::TakeBlock];
        let at = to.workers[other].at;
        to.workers[other].task == task
            && ([At::Gate, At::Commit].contains(&at) || ends.contains(&at))
    };
    let twice = (0..config.sizes.workers).any(|other| other != slot && runs_in(other));
    let wrong = twice.then_some("two attempts of a task run at once");
    let me = &mut to.workers[slot];
    me.task = task;
    me.at = match config.sizes.blocks {
        _ if config.gate && task == 0 => At::Gate,
        0 => At::Commit,
        _ => At::TakeBlock,
    };
    if to.left[ERRORS] > 0 {
        let mut fails = to.clone();
        fails.left[ERRORS] -= 1;
        // An error's text is short: it needs no block.
        (fails.workers[slot].failed, fails.workers[slot].at) = (true, At::Commit);
        moves.push_wrong(slot, "starts, and will fail", fails, wrong);
    }
    moves.push_wrong(slot, "starts", to, wrong);
}

/// The output, then the commit: the output is not read before the commit.
fn commit(to: &mut State, slot: usize) -> Option<&'static str> {
    let me = &mut to.workers[slot];
    let record = &mut to.records[me.record as usize];
    (record.st, record.output) = (St::Done, me.task);
    (record.failed, record.block) = (me.failed, me.block);
    if me.block == NONE {
        return None;
    }
    let unread = &mut to.unread[slot][me.block as usize];
    let before = std::mem::replace(unread, me.task);
    (before != NONE).then_some("an output was overwritten before it was read")
}

fn handed(now: &State, slot: usize) -> Option<u8> {
    let word = now.handback[slot];
    (word.position == now.workers[slot].handback).then_some(word.names)
}

fn done_looking(searching: bool) -> At {
    if searching { At::LeaveLate } else { At::Start }
}

fn next_after(set: u8, slot: usize) -> u8 {
    let later = set & !((2 << slot) - 1);
    let from = if later == 0 { set } else { later };
    (from.trailing_zeros() & 7) as u8
}
