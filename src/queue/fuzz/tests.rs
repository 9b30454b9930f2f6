use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::life::Life;
use super::{choices, live};
use crate::control::Part;
use crate::queue::lock;
use crate::ring::LaneWriter;
use crate::table::{Owner, State, StateWord};
use crate::task::TaskOptions;

pub(crate) fn random_bytes(seed: u64, len: u64) -> Vec<u8> {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len).map(|_| (choices::next(&mut random) >> 32) as u8).collect()
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// `AIOPOOL_FUZZ_ROUNDS` sets how many random lives are lived, `AIOPOOL_FUZZ_SEED` which is the
/// first.
#[test]
fn whatever_workers_write_every_task_ends_once_and_everything_comes_back() {
    let first = from_environment("AIOPOOL_FUZZ_SEED").unwrap_or(1);
    let rounds = from_environment("AIOPOOL_FUZZ_ROUNDS").unwrap_or(300);
    let mut damages = 0;
    for seed in first..first + rounds {
        let bytes = random_bytes(seed, 200 + seed % 1_500);
        match std::panic::catch_unwind(|| live(&bytes)) {
            Ok(found) => damages += found,
            Err(_) => panic!("life {seed} went wrong"),
        }
    }
    assert!(damages > 0 || rounds < 10, "no damage was ever found");
}

/// A worker that writes while the host reads: the same words again and again, as fast as it can.
#[test]
fn a_worker_that_writes_while_the_host_reads_is_survived() {
    for seed in 1..=20 {
        let bytes = random_bytes(seed, 3_000);
        let mut life = Life::new(&bytes);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (queue, stop) = (Arc::clone(&life.queue), Arc::clone(&stop));
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
        life.live();
        stop.store(true, Relaxed);
        writer.join().unwrap();
        life.end();
    }
}

fn with_one_task(options: TaskOptions) -> Life<'static> {
    let mut life = Life::new(&[]);
    life.submit_with(&[7; 40], options);
    life
}

/// Writes the state of record 0, of its use of now, with the worker in slot 0 as its owner.
fn scribble(life: &Life<'_>, state: State) {
    let control = life.queue.control();
    let seen = control.records()[0].state();
    let owner = Owner::of(life.hands[0].as_ref().unwrap().id);
    let word = StateWord::new(seen.generation(), owner, state);
    control.part(Part::Records)[0].store(word.bits(), Relaxed);
}

#[test]
fn a_dead_worker_s_task_that_nobody_called_off_has_its_outcome() {
    let mut life = with_one_task(TaskOptions::new());
    scribble(&life, State::Cancelling);
    life.bury(0, crate::task::LossCause::Death);
    life.hire(0);
    assert_eq!(life.queue.pending(), 0);
    life.end();
}

#[test]
fn a_task_that_a_worker_is_said_to_have_and_has_not_ends_by_its_word() {
    for state in [State::Claimed, State::Running, State::Cancelling, State::Done] {
        let mut life = with_one_task(TaskOptions::new());
        scribble(&life, state);
        life.end();
    }
}

#[test]
fn a_lane_word_of_a_task_that_is_not_done_is_not_believed() {
    let mut life = with_one_task(TaskOptions::new());
    scribble(&life, State::Running);
    LaneWriter::at(0).push(life.queue.control().lane(0), 0);
    life.queue.drain();
    assert_eq!(life.queue.pending(), 1);
    life.end();
}

#[test]
fn a_task_that_was_called_off_does_not_come_back() {
    for state in [State::Queued, State::Claimed, State::Running] {
        let mut life = with_one_task(TaskOptions::new());
        scribble(&life, State::Running);
        life.cancel();
        scribble(&life, state);
        // A task that waits has the supervisor look.
        life.supervise();
        assert_eq!(life.damages, 1, "{state:?}");
        life.end();
    }
}

#[test]
fn a_worker_that_moves_its_start_or_never_starts_is_timed_out_all_the_same() {
    for state in [State::Running, State::Claimed] {
        let life = with_one_task(TaskOptions::new().timeout(Duration::from_millis(1)));
        scribble(&life, state);
        for _ in 0..6 {
            life.queue.control().records()[0].set_started(u64::MAX);
            if let Some((ticket, due)) = life.common.timers.take_due(u64::MAX) {
                std::thread::sleep(Duration::from_millis(2));
                let _ = life.queue.expire(ticket, due);
            }
        }
        assert_eq!(life.queue.pending(), 0, "{state:?}");
    }
}
