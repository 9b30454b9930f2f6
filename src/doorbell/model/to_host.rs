//! Workers ring the host: arm, look, wait against publish, armed, ring, rung.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::doorbell::HostFlag;
use crate::ring::{LaneReader, LaneWriter, Next};
use crate::sync::atomic::AtomicU64;
use crate::sync::model::{Bell, check, mortal};

const WORKERS: usize = 2;

struct Shared {
    flag: AtomicU64,
    bell: Bell,
    lanes: Vec<Vec<AtomicU64>>,
}

impl Shared {
    fn new() -> Self {
        let lane = |_| (0..4).map(|_| AtomicU64::new(0)).collect();
        Self { flag: AtomicU64::new(0), bell: Bell::new(), lanes: (0..WORKERS).map(lane).collect() }
    }

    /// A worker completes `times` times.
    fn complete(&self, slot: usize, times: u32) {
        let mut lane = LaneWriter::at(0);
        for word in 0..times {
            lane.push(&self.lanes[slot], word);
            if let Some(armed) = HostFlag::new(&self.flag).armed() {
                self.bell.ring();
                HostFlag::new(&self.flag).rung(armed);
            }
        }
    }
}

/// The host's waiting side: its lanes, and how many words came from each.
struct Host {
    lanes: Vec<LaneReader>,
    came: [u32; WORKERS],
}

impl Host {
    fn new() -> Self {
        Self { lanes: (0..WORKERS).map(|_| LaneReader::at(0)).collect(), came: [0; WORKERS] }
    }

    fn look(&mut self, shared: &Shared) -> bool {
        let mut found = false;
        for (slot, reader) in self.lanes.iter_mut().enumerate() {
            while let Next::Record(_) = reader.peek(&shared.lanes[slot]) {
                reader.advance();
                self.came[slot] += 1;
                found = true;
            }
        }
        found
    }

    /// Sleeps until at least `want` words came from each.
    fn receive(&mut self, shared: &Shared, want: [u32; WORKERS]) {
        let flag = HostFlag::new(&shared.flag);
        while (0..WORKERS).any(|slot| self.came[slot] < want[slot]) {
            if self.look(shared) {
                continue;
            }
            flag.arm();
            if !self.look(shared) {
                shared.bell.wait();
            }
            flag.disarm();
        }
    }
}

fn two_workers(times: [u32; WORKERS]) {
    let shared = Arc::new(Shared::new());
    let lives: Vec<_> = (0..WORKERS)
        .map(|slot| {
            let shared = shared.clone();
            loom::thread::spawn(move || shared.complete(slot, times[slot]))
        })
        .collect();
    Host::new().receive(&shared, times);
    lives.into_iter().for_each(|life| life.join().unwrap());
}

/// Worker 0 stops for ever before its change number `stopped`; the host must still hear of all
/// that worker 1 completes. True if it came to that.
fn beside_a_stopped_one(stopped: usize) -> bool {
    let shared = Arc::new(Shared::new());
    let theirs = shared.clone();
    let stops = loom::thread::spawn(move || mortal(stopped, || theirs.complete(0, 1)));
    let theirs = shared.clone();
    let lives = loom::thread::spawn(move || theirs.complete(1, 2));
    Host::new().receive(&shared, [0, 2]);
    lives.join().unwrap();
    stops.join().unwrap()
}

#[test]
fn the_host_hears_of_every_completion() {
    check("completions", 3, || two_workers([1, 1]));
    check("completions, two of one worker", 2, || two_workers([2, 1]));
}

#[test]
fn a_worker_stopped_between_ring_and_clear_takes_no_wake_up_with_it() {
    for change in 0.. {
        let reached = Arc::new(AtomicBool::new(false));
        let notes = reached.clone();
        check(&format!("stopped before change {change}"), 2, move || {
            if beside_a_stopped_one(change) {
                notes.store(true, Relaxed);
            }
        });
        if !reached.load(Relaxed) {
            assert!(change >= 3, "push, ring and clear are three changes");
            return;
        }
    }
}
