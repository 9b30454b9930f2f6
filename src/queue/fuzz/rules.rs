//! Lives without damage, for the rules that an audit, a death or luck would make good for when they
//! are broken: so a test with processes passes all the same.

use super::scenario::{ARENA, SHAPE, Scenario};
use crate::arena::Block;
use crate::control::Part;
use crate::queue::{Reason, lock};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sys::eventfd::EventFd;
use crate::table::{Owner, Place, State, StateWord};
use crate::task::{LossCause, Status, TaskOptions};
use crate::worker::{Claimed, Look};

/// With `count` small tasks.
pub(super) fn with_tasks(tasks: u32) -> Scenario<'static> {
    // What is cancelled, if anything is, is the first.
    let mut scenario = Scenario::new(&[0; 16]);
    (0..tasks).for_each(|_| scenario.submit_with(&[7; 8], TaskOptions::new()));
    scenario
}

/// Has the worker in slot 0 claim the next task.
fn claim(scenario: &mut Scenario<'_>) -> Claimed {
    match scenario.workers[0].as_mut().unwrap().engine.claim(true) {
        Look::Task(task) => task,
        other => panic!("{other:?}"),
    }
}

/// Claims the next task, and starts it.
pub(super) fn start(scenario: &mut Scenario<'_>) -> Claimed {
    let mut task = claim(scenario);
    let worker = scenario.workers[0].as_mut().unwrap();
    assert!(worker.engine.start(&mut task, 1));
    worker.running.push(task);
    task
}

/// Returns whether `slot`'s bell was rung since the last call.
fn is_rung(scenario: &Scenario<'_>, slot: usize) -> bool {
    let bell = scenario.queue.bells().nth(slot).unwrap().try_clone_to_owned().unwrap();
    EventFd::from(bell).drain().unwrap()
}

#[test]
fn a_record_is_used_again_only_when_head_has_passed_its_entry() {
    let mut scenario = with_tasks(SHAPE.capacity);
    assert_eq!(scenario.queue.free_records(), 0);
    // Its entry stands at head, and the next one's would be in the same slot.
    scenario.cancel();
    scenario.submit_with(&[7; 8], TaskOptions::new());
    assert_eq!(scenario.queue.pending(), SHAPE.capacity as usize);
    scenario.end();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn a_record_that_a_worker_has_is_not_free_when_its_task_is_cancelled() {
    let mut scenario = with_tasks(SHAPE.capacity);
    start(&mut scenario);
    scenario.cancel();
    assert_eq!(scenario.queue.pending(), SHAPE.capacity as usize - 1);
    assert_eq!(scenario.queue.free_records(), 0);
    scenario.end();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn who_has_a_task_that_is_cancelled_is_told_and_rung() {
    let mut scenario = with_tasks(1);
    start(&mut scenario);
    is_rung(&scenario, 0);
    let before = scenario.queue.control().attention(0).get();
    scenario.cancel();
    assert_ne!(scenario.queue.control().attention(0).get(), before);
    assert!(is_rung(&scenario, 0));
    scenario.end();
}

#[test]
fn an_output_that_comes_too_late_leaves_its_block() {
    let mut scenario = with_tasks(0);
    // Far more than the arena has room for at once.
    for _ in 0..600 {
        scenario.submit_with(&[7; 8], TaskOptions::new());
        let task = start(&mut scenario);
        assert!(scenario.queue.cancel(*scenario.tickets.last().unwrap(), Reason::Cancel));
        let worker = scenario.workers[0].as_mut().unwrap();
        worker.running.clear();
        assert!(worker.engine.complete(task, Status::Ok, &[1; 5_000], 1).is_ok(), "a block leaked");
        scenario.queue.drain();
    }
}

#[test]
fn recovery_queues_again_only_when_head_has_passed_the_old_entry() {
    let mut scenario = with_tasks(SHAPE.capacity);
    let control = scenario.queue.control();
    // C2: it dies between the claim and the help.
    let owner = Owner::of(scenario.workers[0].as_ref().unwrap().id);
    assert!(control.records()[0].try_claim(control.records()[0].state(), owner));
    scenario.recover(0, LossCause::Death);
    scenario.spawn(0);
    scenario.end();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn recovery_forgets_that_the_dead_slept_and_rings_the_others() {
    let mut scenario = with_tasks(0);
    let control = scenario.queue.control();
    (0..2).for_each(|slot| control.bells().sleep(slot));
    is_rung(&scenario, 1);
    scenario.recover(0, LossCause::Death);
    assert!(is_rung(&scenario, 1), "what the dead one was rung for is nobody's");
    assert_eq!(control.bells().to_wake(|| 1, 0), Some(1), "the dead one was chosen");
}

#[test]
fn blocks_of_the_dead_are_not_handed_to_the_next() {
    let mut scenario = with_tasks(0);
    let position =
        |scenario: &Scenario<'_>| lock(&scenario.queue.lanes).lanes[0].handback.position();
    let before = position(&scenario);
    lock(&scenario.queue.lanes).lanes[0].backlog.push_back(Block::from_bits(0));
    scenario.recover(0, LossCause::Death);
    scenario.spawn(0);
    scenario.supervise();
    assert_eq!(position(&scenario), before);
}

#[test]
fn an_audit_rings_everybody_while_a_task_waits() {
    let mut scenario = with_tasks(1);
    let _ = [0, 1].map(|slot| is_rung(&scenario, slot));
    scenario.supervise();
    assert!(is_rung(&scenario, 0) && is_rung(&scenario, 1));
}

#[test]
fn the_last_outcome_of_a_closed_queue_calls_the_supervisor() {
    let mut scenario = with_tasks(1);
    scenario.queue.close();
    scenario.common.supervisor_bell.drain().unwrap();
    let task = start(&mut scenario);
    let worker = scenario.workers[0].as_mut().unwrap();
    assert!(worker.engine.complete(task, Status::Ok, &[], 1).is_ok());
    scenario.queue.drain();
    assert_eq!(scenario.queue.pending(), 0);
    assert!(scenario.common.supervisor_bell.drain().unwrap());
}

/// Only the host gives a record another generation.
#[test]
fn another_generation_than_the_hosts_is_damage() {
    let mut scenario = with_tasks(1);
    let control = scenario.queue.control();
    let seen = control.records()[0].state();
    let other = StateWord::new(seen.generation() + 1, Owner::NOBODY, State::Queued);
    control.part(Part::Records)[0].store(other.bits(), Relaxed);
    scenario.supervise();
    assert_eq!(scenario.damages, 1);
    scenario.end();
}

#[test]
fn a_worker_confirms_only_what_it_had() {
    let mut scenario = with_tasks(1);
    let mut task = claim(&mut scenario);
    let control = scenario.queue.control();
    let other = StateWord::new(task.word.generation() + 1, task.word.owner(), State::Cancelling);
    control.part(Part::Records)[0].store(other.bits(), Relaxed);
    let worker = scenario.workers[0].as_mut().unwrap();
    assert!(!worker.engine.start(&mut task, 1));
    assert_eq!(control.records()[0].state(), other);
}

/// The worker in slot 0 ends a task with `len` bytes, and the host has the outcome.
fn give(scenario: &mut Scenario<'_>, len: usize) {
    scenario.submit_with(&[7; 8], TaskOptions::new());
    let task = start(scenario);
    let worker = scenario.workers[0].as_mut().unwrap();
    worker.running.clear();
    assert!(worker.engine.complete(task, Status::Ok, &vec![1; len], 1).is_ok());
    scenario.queue.drain();
}

/// The host takes all blocks for unread that the worker has read, and has no room for more.
#[test]
fn a_hand_back_position_that_is_a_lane_too_low_is_said_again() {
    let mut scenario = with_tasks(0);
    (0..300).for_each(|_| give(&mut scenario, 300));
    let control = scenario.queue.control();
    let taken = control.report(0).handback_taken();
    // Its block is not back when the worker has read all that are.
    scenario.submit_with(&[7; 8], TaskOptions::new());
    let task = start(&mut scenario);
    let worker = scenario.workers[0].as_mut().unwrap();
    worker.running.clear();
    assert!(worker.engine.complete(task, Status::Ok, &[1; 300], 1).is_ok());
    taken.fetch_sub(control.handback(0).len() as u64, Relaxed);
    scenario.queue.drain();
    // Far more than the arena has room for at once.
    for _ in 0..100 {
        scenario.submit_with(&[7; 8], TaskOptions::new());
        let task = start(&mut scenario);
        let has_room = (0..4).any(|_| {
            let worker = scenario.workers[0].as_mut().unwrap();
            let placed = worker.engine.complete(task, Status::Ok, &[1; 40_000], 1);
            if placed.is_err() {
                scenario.supervise();
                scenario.workers[0].as_mut().unwrap().attend();
            }
            placed.is_ok()
        });
        assert!(has_room, "no block comes back");
        scenario.workers[0].as_mut().unwrap().running.clear();
        scenario.queue.drain();
    }
    assert_eq!(scenario.damages, 0);
    scenario.end();
}

/// The host takes blocks for read that the worker has not, and writes over them.
#[test]
fn a_hand_back_position_that_is_too_high_costs_the_worker_what_it_did() {
    let mut scenario = with_tasks(0);
    let control = scenario.queue.control();
    let words = control.handback(0).len();
    let store = |scenario: &Scenario<'_>| {
        scenario.workers[0].as_ref().unwrap().engine.outputs().store(&[1; 200])
    };
    let blocks: Vec<Block> = (0..words + 9).map(|_| store(&scenario).unwrap()).collect();
    for (n, block) in blocks.into_iter().enumerate() {
        if n == words {
            control.report(0).handback_taken().store(words as u64, Relaxed);
        }
        lock(&scenario.queue.lanes).lanes[0].hand_back(&control, 0, block);
    }
    scenario.submit_with(&[7; 8], TaskOptions::new());
    start(&mut scenario);
    scenario.supervise();
    assert_eq!(scenario.damages, 0, "nothing shows it yet");
    scenario.workers[0].as_mut().unwrap().attend();
    scenario.supervise();
    assert_eq!(scenario.damages, 1);
    scenario.end();
}

/// Writes something in the place of the next word for the worker in slot 0, or of one of the
/// host's, `before` words earlier, with the tag that it is read by.
fn forge(scenario: &Scenario<'_>, before: u64, block: u64) {
    let position = lock(&scenario.queue.lanes).lanes[0].handback.position() - before;
    let control = scenario.queue.control();
    let lane = control.handback(0);
    lane[position as usize % lane.len()].store((position + 1) << 32 | block, Relaxed);
}

#[test]
fn a_hand_back_word_that_names_no_block_costs_the_worker() {
    let whole = (ARENA / 256).ilog2().into();
    // Beyond the arena, off its place, and more than the worker has out.
    let blocks = [u64::from(u32::MAX), 1 << 5 | 1, whole];
    for (before, block) in blocks.into_iter().flat_map(|block| [(0, block), (1, block)]) {
        let mut scenario = with_tasks(0);
        give(&mut scenario, 300);
        if before > 0 {
            // It takes one word, which was the host's.
            forge(&scenario, before, block);
        }
        for _ in 0..4 {
            assert!(
                scenario.workers[0].as_ref().unwrap().engine.outputs().store(&[1; 300]).is_ok()
            );
        }
        if before == 0 {
            // It takes two words, of which the second is not the host's.
            forge(&scenario, before, block);
        }
        scenario.submit_with(&[7; 8], TaskOptions::new());
        let task = start(&mut scenario);
        let _ =
            scenario.workers[0].as_mut().unwrap().engine.complete(task, Status::Ok, &[1; 300], 1);
        scenario.supervise();
        assert_eq!(scenario.damages, 1, "{block:#x}");
        scenario.end();
    }
}

#[test]
fn what_the_dead_said_of_itself_is_not_read_as_the_next_one_s() {
    let mut scenario = with_tasks(0);
    scenario.queue.control().report(0).handback_taken().store(12_345, Relaxed);
    scenario.recover(0, LossCause::Death);
    scenario.spawn(0);
    scenario.supervise();
    assert_eq!(scenario.damages, 0);
}

#[test]
fn an_output_beyond_the_arena_is_not_copied() {
    for len in [300, 5_000, ARENA / 2] {
        let mut scenario = with_tasks(1);
        let task = start(&mut scenario);
        let worker = scenario.workers[0].as_mut().unwrap();
        worker.running.clear();
        assert!(worker.engine.complete(task, Status::Ok, &vec![1; len], 1).is_ok());
        let control = scenario.queue.control();
        let mut output = control.records()[task.record as usize].output();
        output.place = Place::Block(Block::from_bits(u32::MAX));
        control.records()[task.record as usize].describe_output(output, &[]);
        scenario.queue.drain();
        scenario.supervise();
        assert_eq!(scenario.damages, 1, "{len}");
        scenario.end();
    }
}

/// A worker would wait for room that only loans can give, for as long as their receivers like.
#[test]
fn what_is_lent_is_said_again() {
    let mut scenario = with_tasks(0);
    for _ in 0..2 {
        assert!(
            scenario.workers[0].as_ref().unwrap().engine.outputs().store(&[1; ARENA / 2]).is_ok()
        );
    }
    // As if all of it were lent, and a faulty process had overwritten the word that says so.
    lock(&scenario.queue.lanes).lanes[0].lent = ARENA as u64;
    scenario.submit_with(&[7; 8], TaskOptions::new());
    let task = start(&mut scenario);
    let has_ended = |scenario: &mut Scenario<'_>| {
        let engine = &mut scenario.workers[0].as_mut().unwrap().engine;
        engine.complete(task, Status::Ok, &[1; 300], 1).is_ok()
    };
    assert!(!has_ended(&mut scenario), "it waits for blocks");
    scenario.supervise();
    assert!(has_ended(&mut scenario), "no block will come");
    scenario.workers[0].as_mut().unwrap().running.clear();
    scenario.end();
}

#[test]
fn what_the_dead_wrote_into_a_hand_back_lane_is_not_read_by_the_next() {
    let mut scenario = with_tasks(0);
    forge(&scenario, 0, 1 << 5);
    scenario.recover(0, LossCause::Death);
    scenario.spawn(0);
    (0..3).for_each(|_| give(&mut scenario, 300));
    scenario.supervise();
    assert_eq!(scenario.damages, 0);
    scenario.end();
}
