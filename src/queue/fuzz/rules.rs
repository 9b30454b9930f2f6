//! Lives without damage, for the rules that an audit, a death or luck would make good for when they
//! are broken: so a test with processes passes all the same.

use super::life::{ARENA, Life, SHAPE};
use crate::arena::Block;
use crate::control::Part;
use crate::queue::{Reason, lock};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sys::eventfd::EventFd;
use crate::table::{Owner, Place, State, StateWord};
use crate::task::{LossCause, Status, TaskOptions};
use crate::worker::{Claimed, Look};

/// With `count` small tasks.
fn with_tasks(tasks: u32) -> Life<'static> {
    // What is cancelled, if anything is, is the first.
    let mut life = Life::new(&[0; 16]);
    (0..tasks).for_each(|_| life.submit_with(&[7; 8], TaskOptions::new()));
    life
}

/// Has the worker in slot 0 claim the next task.
fn claim(life: &mut Life<'_>) -> Claimed {
    match life.hands[0].as_mut().unwrap().engine.claim(true) {
        Look::Task(task) => task,
        other => panic!("{other:?}"),
    }
}

/// Claims the next task, and starts it.
fn start(life: &mut Life<'_>) -> Claimed {
    let mut task = claim(life);
    let hand = life.hands[0].as_mut().unwrap();
    assert!(hand.engine.start(&mut task, 1));
    hand.running.push(task);
    task
}

/// Returns whether `slot`'s bell was rung since the last call.
fn is_rung(life: &Life<'_>, slot: usize) -> bool {
    let bell = life.queue.bells().nth(slot).unwrap().try_clone_to_owned().unwrap();
    EventFd::from(bell).drain().unwrap()
}

#[test]
fn a_record_is_used_again_only_when_head_has_passed_its_entry() {
    let mut life = with_tasks(SHAPE.capacity);
    assert_eq!(life.queue.free_records(), 0);
    // Its entry stands at head, and the next one's would be in the same slot.
    life.cancel();
    life.submit_with(&[7; 8], TaskOptions::new());
    assert_eq!(life.queue.pending(), SHAPE.capacity as usize);
    life.end();
    assert_eq!(life.damages, 0);
}

#[test]
fn a_record_that_a_worker_has_is_not_free_when_its_task_is_called_off() {
    let mut life = with_tasks(SHAPE.capacity);
    start(&mut life);
    life.cancel();
    assert_eq!(life.queue.pending(), SHAPE.capacity as usize - 1);
    assert_eq!(life.queue.free_records(), 0);
    life.end();
    assert_eq!(life.damages, 0);
}

#[test]
fn who_has_a_task_that_is_called_off_is_told_and_rung() {
    let mut life = with_tasks(1);
    start(&mut life);
    is_rung(&life, 0);
    let before = life.queue.control().attention(0).get();
    life.cancel();
    assert_ne!(life.queue.control().attention(0).get(), before);
    assert!(is_rung(&life, 0));
    life.end();
}

#[test]
fn an_output_that_comes_too_late_leaves_its_block() {
    let mut life = with_tasks(0);
    // Far more than the arena has room for at once.
    for _ in 0..600 {
        life.submit_with(&[7; 8], TaskOptions::new());
        let task = start(&mut life);
        assert!(life.queue.cancel(*life.tickets.last().unwrap(), Reason::Cancel));
        let hand = life.hands[0].as_mut().unwrap();
        hand.running.clear();
        assert!(hand.engine.complete(task, Status::Ok, &[1; 5_000], 1).is_ok(), "a block leaked");
        life.queue.drain();
    }
}

#[test]
fn recovery_queues_again_only_when_head_has_passed_the_old_entry() {
    let mut life = with_tasks(SHAPE.capacity);
    let control = life.queue.control();
    // C2: it dies between the claim and the help.
    let owner = Owner::of(life.hands[0].as_ref().unwrap().id);
    assert!(control.records()[0].try_claim(control.records()[0].state(), owner));
    life.bury(0, LossCause::Death);
    life.hire(0);
    life.end();
    assert_eq!(life.damages, 0);
}

#[test]
fn recovery_forgets_that_the_dead_slept_and_rings_the_others() {
    let mut life = with_tasks(0);
    let control = life.queue.control();
    (0..2).for_each(|slot| control.bells().sleep(slot));
    is_rung(&life, 1);
    life.bury(0, LossCause::Death);
    assert!(is_rung(&life, 1), "what the dead one was rung for is nobody's");
    assert_eq!(control.bells().to_wake(|| 1, 0), Some(1), "the dead one was chosen");
}

#[test]
fn blocks_of_the_dead_are_not_handed_to_the_next() {
    let mut life = with_tasks(0);
    let position = |life: &Life<'_>| lock(&life.queue.lanes).lanes[0].handback.position();
    let before = position(&life);
    lock(&life.queue.lanes).lanes[0].backlog.push_back(Block::from_bits(0));
    life.bury(0, LossCause::Death);
    life.hire(0);
    life.supervise();
    assert_eq!(position(&life), before);
}

#[test]
fn an_audit_rings_everybody_while_a_task_waits() {
    let mut life = with_tasks(1);
    let _ = [0, 1].map(|slot| is_rung(&life, slot));
    life.supervise();
    assert!(is_rung(&life, 0) && is_rung(&life, 1));
}

#[test]
fn the_last_outcome_of_a_closed_queue_calls_the_supervisor() {
    let mut life = with_tasks(1);
    life.queue.close();
    life.common.supervisor_bell.drain().unwrap();
    let task = start(&mut life);
    let hand = life.hands[0].as_mut().unwrap();
    assert!(hand.engine.complete(task, Status::Ok, &[], 1).is_ok());
    life.queue.drain();
    assert_eq!(life.queue.pending(), 0);
    assert!(life.common.supervisor_bell.drain().unwrap());
}

/// Only the host gives a record another generation.
#[test]
fn another_generation_than_the_hosts_is_damage() {
    let mut life = with_tasks(1);
    let control = life.queue.control();
    let seen = control.records()[0].state();
    let other = StateWord::new(seen.generation() + 1, Owner::NOBODY, State::Queued);
    control.part(Part::Records)[0].store(other.bits(), Relaxed);
    life.supervise();
    assert_eq!(life.damages, 1);
    life.end();
}

#[test]
fn a_worker_confirms_only_what_it_had() {
    let mut life = with_tasks(1);
    let mut task = claim(&mut life);
    let control = life.queue.control();
    let other = StateWord::new(task.word.generation() + 1, task.word.owner(), State::Cancelling);
    control.part(Part::Records)[0].store(other.bits(), Relaxed);
    let hand = life.hands[0].as_mut().unwrap();
    assert!(!hand.engine.start(&mut task, 1));
    assert_eq!(control.records()[0].state(), other);
}

/// The worker in slot 0 ends a task with `len` bytes, and the host has the outcome.
fn give(life: &mut Life<'_>, len: usize) {
    life.submit_with(&[7; 8], TaskOptions::new());
    let task = start(life);
    let hand = life.hands[0].as_mut().unwrap();
    hand.running.clear();
    assert!(hand.engine.complete(task, Status::Ok, &vec![1; len], 1).is_ok());
    life.queue.drain();
}

/// The host takes all blocks for unread that the worker has read, and has no room for more.
#[test]
fn a_hand_back_position_that_is_a_lane_too_low_is_said_again() {
    let mut life = with_tasks(0);
    (0..300).for_each(|_| give(&mut life, 300));
    let control = life.queue.control();
    let taken = control.report(0).handback_taken();
    // Its block is not back when the worker has read all that are.
    life.submit_with(&[7; 8], TaskOptions::new());
    let task = start(&mut life);
    let hand = life.hands[0].as_mut().unwrap();
    hand.running.clear();
    assert!(hand.engine.complete(task, Status::Ok, &[1; 300], 1).is_ok());
    taken.fetch_sub(control.handback(0).len() as u64, Relaxed);
    life.queue.drain();
    // Far more than the arena has room for at once.
    for _ in 0..100 {
        life.submit_with(&[7; 8], TaskOptions::new());
        let task = start(&mut life);
        let has_room = (0..4).any(|_| {
            let hand = life.hands[0].as_mut().unwrap();
            let placed = hand.engine.complete(task, Status::Ok, &[1; 40_000], 1);
            if placed.is_err() {
                life.supervise();
                life.hands[0].as_mut().unwrap().attend();
            }
            placed.is_ok()
        });
        assert!(has_room, "no block comes back");
        life.hands[0].as_mut().unwrap().running.clear();
        life.queue.drain();
    }
    assert_eq!(life.damages, 0);
    life.end();
}

/// The host takes blocks for read that the worker has not, and writes over them.
#[test]
fn a_hand_back_position_that_is_too_high_costs_the_worker_what_it_did() {
    let mut life = with_tasks(0);
    let control = life.queue.control();
    let words = control.handback(0).len();
    let store = |life: &Life<'_>| life.hands[0].as_ref().unwrap().engine.outputs().store(&[1; 200]);
    let blocks: Vec<Block> = (0..words + 9).map(|_| store(&life).unwrap()).collect();
    for (n, block) in blocks.into_iter().enumerate() {
        if n == words {
            control.report(0).handback_taken().store(words as u64, Relaxed);
        }
        lock(&life.queue.lanes).lanes[0].hand_back(&control, 0, block);
    }
    life.submit_with(&[7; 8], TaskOptions::new());
    start(&mut life);
    life.supervise();
    assert_eq!(life.damages, 0, "nothing shows it yet");
    life.hands[0].as_mut().unwrap().attend();
    life.supervise();
    assert_eq!(life.damages, 1);
    life.end();
}

/// Something in the place of the next word of the worker in slot 0, with the tag that it is read
/// by.
fn forge(life: &Life<'_>, block: u64) {
    let position = lock(&life.queue.lanes).lanes[0].handback.position();
    let control = life.queue.control();
    let lane = control.handback(0);
    lane[position as usize % lane.len()].store((position + 1) << 32 | block, Relaxed);
}

#[test]
fn a_hand_back_word_that_names_no_block_costs_the_worker() {
    let whole = (ARENA / 256).ilog2().into();
    // Beyond the arena, off its place, and more than the worker has out.
    for block in [u64::from(u32::MAX), 1 << 5 | 1, whole] {
        let mut life = with_tasks(0);
        give(&mut life, 300);
        for _ in 0..4 {
            assert!(life.hands[0].as_ref().unwrap().engine.outputs().store(&[1; 300]).is_ok());
        }
        forge(&life, block);
        // It takes two words, of which the second is not the host's.
        life.submit_with(&[7; 8], TaskOptions::new());
        let task = start(&mut life);
        let _ = life.hands[0].as_mut().unwrap().engine.complete(task, Status::Ok, &[1; 300], 1);
        life.supervise();
        assert_eq!(life.damages, 1, "{block:#x}");
        life.end();
    }
}

#[test]
fn what_the_dead_said_of_itself_is_not_read_as_the_next_one_s() {
    let mut life = with_tasks(0);
    life.queue.control().report(0).handback_taken().store(12_345, Relaxed);
    life.bury(0, LossCause::Death);
    life.hire(0);
    life.supervise();
    assert_eq!(life.damages, 0);
}

#[test]
fn an_output_beyond_the_arena_is_not_copied() {
    for len in [300, 5_000, ARENA / 2] {
        let mut life = with_tasks(1);
        let task = start(&mut life);
        let hand = life.hands[0].as_mut().unwrap();
        hand.running.clear();
        assert!(hand.engine.complete(task, Status::Ok, &vec![1; len], 1).is_ok());
        let control = life.queue.control();
        let mut output = control.records()[task.record as usize].output();
        output.place = Place::Block(Block::from_bits(u32::MAX));
        control.records()[task.record as usize].describe_output(output, &[]);
        life.queue.drain();
        life.supervise();
        assert_eq!(life.damages, 1, "{len}");
        life.end();
    }
}

/// A worker would wait for room that only loans can give, for as long as their receivers like.
#[test]
fn what_is_lent_is_said_again() {
    let mut life = with_tasks(0);
    for _ in 0..2 {
        assert!(life.hands[0].as_ref().unwrap().engine.outputs().store(&[1; ARENA / 2]).is_ok());
    }
    // As if all of it were lent, and a faulty process had overwritten the word that says so.
    lock(&life.queue.lanes).lanes[0].lent = ARENA as u64;
    life.submit_with(&[7; 8], TaskOptions::new());
    let task = start(&mut life);
    let has_ended = |life: &mut Life<'_>| {
        let engine = &mut life.hands[0].as_mut().unwrap().engine;
        engine.complete(task, Status::Ok, &[1; 300], 1).is_ok()
    };
    assert!(!has_ended(&mut life), "it waits for blocks");
    life.supervise();
    assert!(has_ended(&mut life), "no block will come");
    life.hands[0].as_mut().unwrap().running.clear();
    life.end();
}

#[test]
fn what_the_dead_wrote_into_a_hand_back_lane_is_not_read_by_the_next() {
    let mut life = with_tasks(0);
    forge(&life, 1 << 5);
    life.bury(0, LossCause::Death);
    life.hire(0);
    (0..3).for_each(|_| give(&mut life, 300));
    life.supervise();
    assert_eq!(life.damages, 0);
    life.end();
}
