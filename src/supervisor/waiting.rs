//! How the host waits for outcomes: waiting threads drain the lanes.
//!
//! A future that is polled drains, spins a little if outcomes have lately come that fast, and
//! then has its event loop listen to the pool's doorbell: one small task per tokio runtime. Where
//! there is no tokio runtime, the supervisor listens. Blocking callers wait on the doorbell
//! themselves, one at a time.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

use super::Shared;
use super::shared_bell::Beside;
use crate::sync::spin_hint;
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::poll::{PollFd, poll};

/// The ways in which outcomes are waited for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Runtimes that listen.
    runtimes: Mutex<HashMap<Id, Weak<()>>>,
    callers: Mutex<Callers>,
    led: Condvar,
    /// There if an event loop of the user's may empty the doorbell, too.
    beside: OnceLock<Beside>,
}

/// The blocking callers.
#[derive(Debug, Default)]
struct Callers {
    /// One of them waits on the doorbell for the others.
    led: bool,
    /// Number of waiters besides the leader.
    followers: usize,
}

thread_local! {
    /// How long this thread's waits for single outcomes took.
    static GAP: Cell<Gap> = const { Cell::new(Gap { average: 0, skipped: 0 }) };
}

/// The approximate cost of going to sleep and being woken. If waits take longer on average,
/// spinning does not pay.
const SPIN_NS: u64 = 50_000;

/// Every n-th wait spins regardless: the time of a wait that sleeps is mostly the wake-up, so
/// sleeping alone would never show that spinning pays again.
const PROBE: u32 = 16;

/// What a waiter has learned: whether outcomes come so soon that spinning is cheaper than sleep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gap {
    /// How long waits took on average, in nanoseconds.
    average: u64,
    /// Waits in a row that did not spin.
    skipped: u32,
}

impl Gap {
    fn is_worth_it(&mut self) -> bool {
        if self.average > SPIN_NS && self.skipped < PROBE {
            self.skipped += 1;
            return false;
        }
        self.skipped = 0;
        true
    }

    /// Returns whether waits have lately been shorter than `ns`.
    pub(crate) fn is_below(&self, ns: u64) -> bool {
        self.average < ns
    }

    /// A wait took `ns`.
    fn learn(&mut self, ns: u64) {
        self.average = (self.average * 3 + ns) / 4;
    }

    /// A wait that spun ended after `ns`: proof that spinning is worth it.
    fn found_after(&mut self, ns: u64) {
        self.average = self.average.min(SPIN_NS);
        self.learn(ns);
    }

    /// A wait that slept took `ns`. A long one counts for two budgets at most: a pause in a busy
    /// spell must not end the spinning. A short one proves nothing: where processors are scarce,
    /// the worker runs just because this thread sleeps.
    pub(crate) fn slept(&mut self, ns: u64) {
        self.learn(ns.min(2 * SPIN_NS).max(self.average));
    }
}

/// Lends what this thread has learned of waits for single outcomes.
pub(crate) fn with_gap<R>(f: impl FnOnce(&mut Gap) -> R) -> R {
    let mut gap = GAP.get();
    let result = f(&mut gap);
    GAP.set(gap);
    result
}

/// Drains, and for a while spins, until `done` has something.
pub(crate) fn look<T>(
    shared: &Shared,
    gap: &mut Gap,
    mut done: impl FnMut() -> Option<T>,
) -> Option<T> {
    if let Some(found) = done() {
        return Some(found);
    }
    if shared.drain_if_any() > 0
        && let Some(found) = done()
    {
        return Some(found);
    }
    if !gap.is_worth_it() {
        return None;
    }
    let start = monotonic_ns();
    loop {
        for _ in 0..16 {
            spin_hint();
            if shared.drain_if_any() > 0
                && let Some(found) = done()
            {
                gap.found_after(monotonic_ns() - start);
                return Some(found);
            }
        }
        // Another thread's drain may have delivered it.
        if let Some(found) = done() {
            gap.found_after(monotonic_ns() - start);
            return Some(found);
        }
        if shared.plan.worker.crowded {
            std::thread::yield_now();
        }
        if monotonic_ns() - start > SPIN_NS {
            // It takes who knows how much longer.
            gap.learn(4 * SPIN_NS);
            return None;
        }
    }
}

impl Shared {
    /// After the caller's waker is in place: has it woken when something comes. `Ready` if
    /// something has come meanwhile.
    pub(crate) fn poll_wait<T>(self: &Arc<Self>, mut done: impl FnMut() -> Option<T>) -> Poll<T> {
        match Handle::try_current() {
            Ok(handle) => self.ensure_listener(&handle),
            Err(_) => self.have_supervisor_listen(),
        }
        // Armed first, looked at after: the doorbell's rule.
        self.arm();
        self.drain();
        done().map_or(Poll::Pending, Poll::Ready)
    }

    /// Sees to it that `handle`'s runtime listens to the doorbell.
    fn ensure_listener(self: &Arc<Self>, handle: &Handle) {
        let mut runtimes = lock(&self.waiting.runtimes);
        if runtimes.get(&handle.id()).is_some_and(|listener| listener.strong_count() > 0) {
            return;
        }
        runtimes.retain(|_, listener| listener.strong_count() > 0);
        let bell = self.common.host_bell.try_clone().and_then(EventFd::listen);
        match bell {
            Ok(bell) => {
                let alive = Arc::new(());
                runtimes.insert(handle.id(), Arc::downgrade(&alive));
                handle.spawn(listen(Arc::downgrade(self), bell, alive));
            }
            // A runtime without an I/O driver, or no descriptor to be had.
            Err(_) => self.have_supervisor_listen(),
        }
    }

    /// Before any thread waits: an event loop of the user's will watch the doorbell and empty it.
    pub(crate) fn share_bell(&self) -> std::io::Result<()> {
        let beside = Beside::new(&self.common.host_bell)?;
        self.waiting.beside.get_or_init(|| beside);
        Ok(())
    }

    /// Wakes the threads that sleep on the doorbell, since it was emptied.
    pub(crate) fn bell_was_emptied(&self) {
        // A thread that is not asleep yet checks everything after this lock.
        if lock(&self.waiting.callers).led
            && let Some(beside) = self.waiting.beside.get()
        {
            beside.nudge();
        }
    }

    /// Returns a waker for blocking callers: rings the doorbell that one of them waits on.
    pub(crate) fn bell_waker(self: &Arc<Self>) -> Waker {
        // Weak: the pool itself keeps wakers, of callers that gave up, until it has room again.
        struct Bell(Weak<Shared>);
        impl Wake for Bell {
            fn wake(self: Arc<Self>) {
                if let Some(shared) = self.0.upgrade() {
                    // The bell is this process's own; it cannot be refused. Warily: it may be the
                    // supervisor that wakes.
                    let _ = shared.common.host_bell.ring_warily();
                }
            }
        }
        Waker::from(Arc::new(Bell(Arc::downgrade(self))))
    }

    /// Blocks until `done` has something, at most until `deadline`.
    pub(crate) fn block<T>(
        &self,
        deadline: Option<Instant>,
        mut done: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        with_gap(|gap| self.block_parking(deadline, gap, |_| done()))
    }

    /// Like `block`, for a `done` that learns when the caller is about to sleep, so that it sets
    /// its waker only then: a waker that is set costs the delivery a system call.
    pub(crate) fn block_parking<T>(
        &self,
        deadline: Option<Instant>,
        gap: &mut Gap,
        mut done: impl FnMut(bool) -> Option<T>,
    ) -> Option<T> {
        loop {
            if let Some(found) = look(self, gap, || done(false)) {
                return Some(found);
            }
            let left = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return None,
                left => left,
            };
            let mut callers = lock(&self.waiting.callers);
            if callers.led {
                // Another thread listens, and notifies all when it was rung. Under the lock, so
                // that it cannot notify between this check and the wait.
                if let Some(found) = done(true) {
                    return Some(found);
                }
                let left = left.unwrap_or(Duration::from_secs(3600));
                callers.followers += 1;
                let waited = self.waiting.led.wait_timeout(callers, left);
                waited.unwrap_or_else(PoisonError::into_inner).0.followers -= 1;
                continue;
            }
            callers.led = true;
            drop(callers);
            let found = self.lead(left, gap, &mut done);
            let mut callers = lock(&self.waiting.callers);
            callers.led = false;
            // A system call, so only where a thread waits for it.
            if callers.followers > 0 {
                self.waiting.led.notify_all();
            }
            drop(callers);
            if found.is_some() {
                return found;
            }
        }
    }

    /// Waits on the doorbell once, for all blocking callers.
    fn lead<T>(
        &self,
        left: Option<Duration>,
        gap: &mut Gap,
        done: &mut impl FnMut(bool) -> Option<T>,
    ) -> Option<T> {
        if let Some(beside) = self.waiting.beside.get() {
            return lead_beside(self, beside, left, gap, done);
        }
        let bell = &self.common.host_bell;
        // Emptied before the looks, so that a ring after them is seen by the poll. A ring that
        // was there may have been for another blocking caller: its turn comes at once.
        if bell.drain().unwrap_or(false) {
            // An event loop that listens may not have heard the ring that was taken away here:
            // the next completion is to ring again, even if this caller goes.
            self.arm();
            self.drain();
            return done(false);
        }
        if let Some(found) = done(true) {
            return Some(found);
        }
        self.arm();
        self.drain();
        if let Some(found) = done(true) {
            return Some(found);
        }
        let start = monotonic_ns();
        let _ = poll(&mut [PollFd::readable(bell.as_fd())], left);
        gap.slept(monotonic_ns() - start);
        self.drain();
        done(false)
    }
}

/// [`Shared::lead`] that leaves the doorbell to those who watch it.
fn lead_beside<T>(
    shared: &Shared,
    beside: &Beside,
    left: Option<Duration>,
    gap: &mut Gap,
    done: &mut impl FnMut(bool) -> Option<T>,
) -> Option<T> {
    // Before the looks, so that a ring after them is heard.
    beside.forget();
    if let Some(found) = done(true) {
        return Some(found);
    }
    // All queues: in C, a caller may wait for any outcome before there is a task.
    shared.queues.iter().for_each(|queue| queue.arm());
    shared.drain();
    if let Some(found) = done(true) {
        return Some(found);
    }
    let start = monotonic_ns();
    beside.sleep(left);
    gap.slept(monotonic_ns() - start);
    shared.drain();
    done(false)
}

/// A runtime's listener: wakes up at each ring, drains, and arms the bell again for parked
/// receivers.
///
/// A future that is being polled drains for itself and arms before it waits: arming for it here
/// would have the worker ring for outcomes that are about to be found.
async fn listen(shared: Weak<Shared>, bell: AsyncFd<EventFd>, alive: Arc<()>) {
    let _alive = alive;
    loop {
        let Ok(mut guard) = bell.readable().await else { return };
        guard.clear_ready();
        let Some(shared) = shared.upgrade() else { return };
        loop {
            shared.drain();
            if !shared.is_awaited() {
                break;
            }
            shared.arm();
            // Armed, so whatever this does not find rings.
            if shared.drain() == 0 {
                break;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
