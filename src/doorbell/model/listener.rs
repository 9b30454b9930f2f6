//! A runtime's listener, which arms again only while a receiver is parked, against a receiver that
//! parks and a worker that completes.

use std::sync::Arc;

use loom::sync::Mutex;

use crate::doorbell::{DrainBaton, HostFlag, Parked};
use crate::ring::{LaneReader, LaneWriter, Next};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::model::{Bell, check};

struct Host {
    flag: AtomicU64,
    lane: Vec<AtomicU64>,
    reader: Mutex<LaneReader>,
    baton: DrainBaton,
    parked: Parked,
    /// The host's doorbell, which the listener has an ear on.
    bell: Bell,
    over: AtomicU64,
    receivers: [Mutex<Receiver>; 2],
    /// What the receivers' waker wakes.
    receiver: Bell,
}

/// As a `OneShot`.
#[derive(Default)]
struct Receiver {
    came: bool,
    waits: bool,
}

impl Host {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            flag: AtomicU64::new(0),
            lane: (0..4).map(|_| AtomicU64::new(0)).collect(),
            reader: Mutex::new(LaneReader::at(0)),
            baton: DrainBaton::new(),
            parked: Parked::new(),
            bell: Bell::new(),
            over: AtomicU64::new(0),
            receivers: Default::default(),
            receiver: Bell::new(),
        })
    }

    /// As `HostQueue::arm`.
    fn arm(&self) {
        let _lanes = self.reader.lock().unwrap();
        HostFlag::new(&self.flag).arm();
    }

    /// As `HostQueue::drain` and `HostQueue::deliver`.
    fn drain(&self) -> u32 {
        let mut delivered = 0;
        loop {
            self.baton.ask();
            let Ok(mut reader) = self.reader.try_lock() else { return delivered };
            self.baton.take();
            let mut came = Vec::new();
            while let Next::Record(index) = reader.peek(&self.lane) {
                reader.advance();
                came.push(index as usize);
            }
            drop(reader);
            for index in came {
                delivered += 1;
                let mut receiver = self.receivers[index].lock().unwrap();
                receiver.came = true;
                let waits = std::mem::take(&mut receiver.waits);
                drop(receiver);
                if waits {
                    self.receiver.ring();
                    self.parked.unpark(1);
                }
            }
            if !self.baton.is_asked() {
                return delivered;
            }
        }
    }

    /// As `listen` in `src/supervisor/waiting.rs`.
    fn listen(&self) {
        loop {
            self.bell.wait();
            if self.over.load(Relaxed) != 0 {
                return;
            }
            loop {
                self.drain();
                if !self.parked.any() {
                    break;
                }
                self.arm();
                if self.drain() == 0 {
                    break;
                }
            }
        }
    }

    fn take(&self, index: usize) -> bool {
        let mut receiver = self.receivers[index].lock().unwrap();
        if receiver.came && std::mem::take(&mut receiver.waits) {
            self.parked.unpark(1);
        }
        receiver.came
    }

    /// As the poll of a `Task`, and the sleep between two of them.
    fn receive(&self, index: usize) {
        while !self.take(index) {
            // A wake-up takes the waker away, so each sleep is a park.
            self.receivers[index].lock().unwrap().waits = true;
            self.parked.park();
            self.arm();
            self.drain();
            if self.take(index) {
                return;
            }
            self.receiver.wait();
        }
    }

    /// As `Engine::publish`.
    fn complete(&self, lane: &mut LaneWriter, record: u32) {
        lane.push(&self.lane, record);
        if let Some(armed) = HostFlag::new(&self.flag).armed() {
            self.bell.ring();
            HostFlag::new(&self.flag).rung(armed);
        }
    }
}

/// No receiver waits for task 0, whose ring may have been for the receiver of task 1.
#[test]
fn a_listener_that_was_rung_arms_again_for_who_is_parked() {
    check("a listener, a receiver, a worker", 2, || {
        let host = Host::new();
        let theirs = host.clone();
        let worker = loom::thread::spawn(move || {
            let mut lane = LaneWriter::at(0);
            (0..2).for_each(|record| theirs.complete(&mut lane, record));
        });
        let theirs = host.clone();
        let listener = loom::thread::spawn(move || theirs.listen());
        host.receive(1);
        host.over.store(1, Relaxed);
        host.bell.ring();
        worker.join().unwrap();
        listener.join().unwrap();
        assert!(!host.parked.any());
    });
}
