//! Submitters that wait for room, against threads that free a record, give up, or close the queue.

use std::sync::Arc;

use loom::sync::Mutex;

use crate::doorbell::Room;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::model::{Bell, check};

/// What the queue's mutex guards.
#[derive(Default)]
struct State {
    room: Room,
    free: u32,
    submitted: u64,
}

struct Queue {
    state: Mutex<State>,
    /// A copy for readers without the lock.
    pending: AtomicU64,
}

/// What a submission came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    Submitted,
    Closed,
    Full,
}

impl Queue {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), pending: AtomicU64::new(0) })
    }

    fn try_submit(&self) -> Try {
        let mut state = self.state.lock().unwrap();
        if state.room.is_closed() {
            return Try::Closed;
        }
        if state.free == 0 {
            return Try::Full;
        }
        state.free -= 1;
        state.submitted += 1;
        self.pending.store(state.submitted, Relaxed);
        Try::Submitted
    }

    /// As the drop of a `Waiting`.
    fn leave(&self, place: Option<u64>) {
        let Some(number) = place else { return };
        let mut state = self.state.lock().unwrap();
        let woken = if state.room.leave(number) { state.room.take(1) } else { Vec::new() };
        drop(state);
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    /// As `Task::settle` and the thread that polls it; gives up after this many sleeps.
    fn submit(&self, bell: &Arc<Bell>, sleeps: u32) -> Try {
        let waker = bell.waker();
        let mut place = None;
        for slept in 0.. {
            let mut result = self.try_submit();
            if result == Try::Full {
                place = Some(self.state.lock().unwrap().room.wait(place, &waker));
                result = self.try_submit();
            }
            if result != Try::Full || slept == sleeps {
                self.leave(place);
                return result;
            }
            bell.wait();
        }
        unreachable!()
    }

    /// A record is free.
    fn free(&self) {
        let mut state = self.state.lock().unwrap();
        state.free += 1;
        let woken = state.room.take(1);
        drop(state);
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    fn close(&self) {
        let woken = self.state.lock().unwrap().room.close();
        woken.into_iter().for_each(std::task::Waker::wake);
    }
}

fn submitter(queue: &Arc<Queue>, sleeps: u32) -> loom::thread::JoinHandle<Try> {
    let queue = queue.clone();
    loom::thread::spawn(move || queue.submit(&Arc::new(Bell::new()), sleeps))
}

/// Every waiter is woken, and no task comes in after that: a thread that closes and then finds
/// nothing pending may end the pool.
#[test]
fn closing_ends_every_wait_and_lets_nobody_in_later() {
    for free in [0, 1] {
        check(&format!("close against submit, {free} free"), 3, move || {
            let queue = Queue::new();
            let waits = submitter(&queue, u32::MAX);
            let theirs = queue.clone();
            let frees = loom::thread::spawn(move || (0..free).for_each(|_| theirs.free()));
            queue.close();
            let pending = queue.pending.load(Relaxed);
            frees.join().unwrap();
            let result = waits.join().unwrap();
            assert_eq!(u64::from(result == Try::Submitted), pending);
        });
    }
}

/// One record becomes free, and one of two waiters gives up; the other gets it.
#[test]
fn who_gives_up_passes_its_turn_on() {
    check("room for one of two, and one gives up", 3, || {
        let queue = Queue::new();
        let gives_up = submitter(&queue, 0);
        let waits = submitter(&queue, u32::MAX);
        queue.free();
        if gives_up.join().unwrap() == Try::Submitted {
            queue.free();
        }
        assert_eq!(waits.join().unwrap(), Try::Submitted);
    });
}
