use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::attempts::with_a_late_task;
use super::rules::start;
use super::scenario::Scenario;
use super::{choices, run};
use crate::control::Part;
use crate::queue::lock;
use crate::ring::LaneWriter;
use crate::table::{Owner, State, StateWord};
use crate::task::{LossCause, Status, TaskOptions};

pub(crate) fn random_bytes(seed: u64, len: u64) -> Vec<u8> {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len).map(|_| (choices::next(&mut random) >> 32) as u8).collect()
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// `AIOPOOL_FUZZ_ROUNDS` sets how many random scenarios are run, `AIOPOOL_FUZZ_SEED` which is the
/// first.
#[test]
fn whatever_workers_write_every_task_ends_once_and_everything_comes_back() {
    let first = from_environment("AIOPOOL_FUZZ_SEED").unwrap_or(1);
    let rounds = from_environment("AIOPOOL_FUZZ_ROUNDS").unwrap_or(300);
    let mut damages = 0;
    for seed in first..first + rounds {
        let bytes = random_bytes(seed, 200 + seed % 1_500);
        match std::panic::catch_unwind(|| run(&bytes)) {
            Ok(found) => damages += found,
            Err(_) => panic!("scenario {seed} went wrong"),
        }
    }
    assert!(damages > 0 || rounds < 10, "no damage was ever found");
}

/// A worker that writes while the host reads: the same words again and again, as fast as it can.
#[test]
fn a_worker_that_writes_while_the_host_reads_is_survived() {
    for seed in 1..=20 {
        let bytes = random_bytes(seed, 3_000);
        let mut scenario = Scenario::new(&bytes);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (queue, stop) = (Arc::clone(&scenario.queue), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut random = seed;
                while !stop.load(Relaxed) {
                    let control = queue.control();
                    let start = lock(&queue.lanes).lanes[0].reader.position();
                    let mut lane = LaneWriter::at(start);
                    let records = control.part(Part::Records);
                    for _ in 0..200 {
                        let any = choices::next(&mut random);
                        let record = any as usize % 16 * 32;
                        match any >> 32 & 7 {
                            0..3 => (0..64).for_each(|i| lane.push(control.lane(0), i & 15)),
                            3 => records[record].store(any & !0xFF | any >> 40 & 7, Relaxed),
                            4 => records[record + 5].store(any, Relaxed),
                            5 => control.part(Part::Heads)[0].store(any >> 60, Relaxed),
                            6 => control.part(Part::HostFlag)[0].store(any, Relaxed),
                            _ => control.part(Part::Sleepers)[0].store(any, Relaxed),
                        }
                    }
                }
            })
        };
        scenario.run();
        stop.store(true, Relaxed);
        writer.join().unwrap();
        scenario.end();
    }
}

fn with_one_task(options: TaskOptions) -> Scenario<'static> {
    let mut scenario = Scenario::new(&[]);
    scenario.submit_with(&[7; 40], options);
    scenario
}

/// Writes the state of record 0, of its use of now, with the worker in slot 0 as its owner.
fn scribble(scenario: &Scenario<'_>, state: State) {
    let control = scenario.queue.control();
    let seen = control.records()[0].state();
    let owner = Owner::of(scenario.workers[0].as_ref().unwrap().id);
    let word = StateWord::new(seen.generation(), owner, state);
    control.part(Part::Records)[0].store(word.bits(), Relaxed);
}

#[test]
fn a_dead_worker_s_task_that_nobody_called_off_has_its_outcome() {
    let mut scenario = with_one_task(TaskOptions::new());
    scribble(&scenario, State::Cancelling);
    scenario.recover(0, LossCause::Death);
    scenario.spawn(0);
    assert_eq!(scenario.queue.pending(), 0);
    scenario.end();
}

#[test]
fn a_task_that_a_worker_is_said_to_have_and_has_not_ends_by_its_word() {
    for state in [State::Claimed, State::Running, State::Cancelling, State::Done] {
        let mut scenario = with_one_task(TaskOptions::new());
        scribble(&scenario, state);
        scenario.end();
    }
}

#[test]
fn a_lane_word_of_a_task_that_is_not_done_is_not_believed() {
    let mut scenario = with_one_task(TaskOptions::new());
    scribble(&scenario, State::Running);
    LaneWriter::at(0).push(scenario.queue.control().lane(0), 0);
    scenario.queue.drain();
    assert_eq!(scenario.queue.pending(), 1);
    scenario.end();
}

#[test]
fn a_task_that_was_called_off_does_not_come_back() {
    for state in [State::Queued, State::Claimed, State::Running] {
        let mut scenario = with_one_task(TaskOptions::new());
        scribble(&scenario, State::Running);
        scenario.cancel();
        scribble(&scenario, state);
        // A task that waits has the supervisor look.
        scenario.supervise();
        assert_eq!(scenario.damages, 1, "{state:?}");
        scenario.end();
    }
}

#[test]
fn a_worker_that_moves_its_start_or_never_starts_is_timed_out_all_the_same() {
    for state in [State::Running, State::Claimed] {
        let scenario = with_one_task(TaskOptions::new().timeout(Duration::from_millis(1)));
        scribble(&scenario, state);
        for _ in 0..6 {
            scenario.queue.control().records()[0].set_started(u64::MAX);
            if let Some((ticket, due)) = scenario.common.timers.take_due(u64::MAX) {
                std::thread::sleep(Duration::from_millis(2));
                let _ = scenario.queue.expire(ticket, due);
            }
        }
        assert_eq!(scenario.queue.pending(), 0, "{state:?}");
    }
}

/// The worker's word is no evidence of an attempt that the host knows to be over.
#[test]
fn a_dead_worker_s_word_begins_and_ends_no_attempt_between_two() {
    for state in [State::Claimed, State::Running, State::Cancelling, State::Done] {
        for has_let_go in [false, true] {
            if state == State::Done && !has_let_go {
                // A worker that has not let go yet may say so: the attempt that it has is over.
                continue;
            }
            let mut scenario = with_a_late_task(None);
            if has_let_go {
                scenario.workers[0].as_mut().unwrap().attend();
                scenario.queue.drain();
            }
            scribble(&scenario, state);
            scenario.recover(0, LossCause::Death);
            scenario.spawn(0);
            assert_eq!(scenario.queue.pending(), 1, "{state:?}: it has another attempt");
            scenario.supervise();
            assert_eq!(scenario.damages, 0, "{state:?}: and nothing stands that has to be mended");
            let task = start(&mut scenario);
            let worker = scenario.workers[0].as_mut().unwrap();
            worker.running.clear();
            assert_eq!(worker.engine.call(&task).attempts, 1, "{state:?}");
            worker.engine.complete(task, Status::Ok, &[1; 4], 5).unwrap();
            scenario.queue.drain();
            assert_eq!(scenario.queue.pending(), 0, "{state:?}: once is enough");
            // Nor is the next task of the record affected.
            scenario.submit_with(&[7; 40], TaskOptions::new());
            scenario.end();
        }
    }
}
