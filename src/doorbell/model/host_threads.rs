//! Between the host's threads: one drains while another asks and waits; the supervisor goes to
//! sleep while a task is submitted.

use std::sync::Arc;

use loom::sync::{Mutex, MutexGuard};

use crate::doorbell::{DrainBaton, HostFlag, Watching};
use crate::ring::{LaneReader, LaneWriter, Next};
use crate::sync::atomic::{
    AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst, fence,
};
use crate::sync::model::{Bell, check};

struct Shared {
    flag: AtomicU64,
    lane: Vec<AtomicU64>,
    baton: DrainBaton,
    reader: Mutex<LaneReader>,
    came: AtomicU64,
    bell: Bell,
}

impl Shared {
    fn new() -> Self {
        Self {
            flag: AtomicU64::new(0),
            lane: (0..4).map(|_| AtomicU64::new(0)).collect(),
            baton: DrainBaton::new(),
            reader: Mutex::new(LaneReader::at(0)),
            came: AtomicU64::new(0),
            bell: Bell::new(),
        }
    }

    /// As `HostQueue::drain`; a thread that finds something wakes the waiting one.
    fn drain(&self) {
        loop {
            self.baton.ask();
            let Ok(reader) = self.reader.try_lock() else { return };
            self.drain_held(reader);
            if !self.baton.is_asked() {
                return;
            }
        }
    }

    /// As `HostQueue::drain_if_any`.
    fn drain_if_any(&self) {
        let Ok(reader) = self.reader.try_lock() else { return };
        if reader.peek(&self.lane) == Next::Empty {
            drop(reader);
        } else {
            self.drain_held(reader);
        }
        if self.baton.is_asked() {
            self.drain();
        }
    }

    fn drain_held(&self, mut reader: MutexGuard<'_, LaneReader>) {
        self.baton.take();
        let mut found = false;
        while let Next::Record(_) = reader.peek(&self.lane) {
            reader.advance();
            found = true;
        }
        drop(reader);
        if found {
            // Release: pairs with the Acquire in `came`.
            self.came.store(1, Release);
            self.bell.ring();
        }
    }

    fn came(&self) -> bool {
        self.came.load(Acquire) != 0
    }

    fn complete(&self) {
        LaneWriter::at(0).push(&self.lane, 1);
        if let Some(armed) = HostFlag::new(&self.flag).armed() {
            self.bell.ring();
            HostFlag::new(&self.flag).rung(armed);
        }
    }
}

fn waits_beside(name: &str, looks: fn(&Shared)) {
    check(name, 3, move || {
        let shared = Arc::new(Shared::new());
        let theirs = shared.clone();
        let worker = loom::thread::spawn(move || theirs.complete());
        let theirs = shared.clone();
        let drainer = loom::thread::spawn(move || looks(&theirs));
        HostFlag::new(&shared.flag).arm();
        shared.drain();
        while !shared.came() {
            shared.bell.wait();
            shared.drain();
        }
        worker.join().unwrap();
        drainer.join().unwrap();
    });
}

#[test]
fn who_cannot_drain_and_waits_is_woken_by_who_drains() {
    waits_beside("drain against drain", Shared::drain);
}

#[test]
fn who_cannot_drain_and_waits_is_woken_by_who_looks() {
    waits_beside("drain against a look", Shared::drain_if_any);
}

#[test]
fn a_task_that_is_submitted_while_the_watch_ends_has_one() {
    check("submit against the end of the watch", 3, || {
        struct Host {
            watching: Watching,
            pending: AtomicU64,
            bell: Bell,
        }
        let host = Arc::new(Host {
            watching: Watching::new(),
            pending: AtomicU64::new(0),
            bell: Bell::new(),
        });
        host.watching.keep();
        let theirs = host.clone();
        let submitter = loom::thread::spawn(move || {
            theirs.pending.store(1, Relaxed);
            fence(SeqCst);
            if theirs.watching.begin() {
                theirs.bell.ring();
            }
        });
        host.watching.stop();
        if host.pending.load(Relaxed) == 0 {
            host.bell.wait();
        }
        host.watching.keep();
        submitter.join().unwrap();
        assert_eq!(host.pending.load(Relaxed), 1);
    });
}
