//! How the host waits for outcomes: waiting threads drain the lanes.
//!
//! A future that is polled drains, spins a little if outcomes have lately come that fast, and
//! then has its event loop listen to the pool's doorbell: one small task per tokio runtime. Where
//! there is no tokio runtime, or one without I/O, the supervisor listens. Blocking callers wait on
//! the doorbell themselves, one at a time.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::Shared;
use super::shared_bell::SharedBell;
use super::waiters::{Joined, Listener};
use crate::sync::{SpinPolicy, lock};
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::poll::{PollFd, poll};
use crate::sys::{cpus, epoll, quiet};

thread_local! {
    /// What this thread has learned from its waits for single outcomes.
    static SPIN: Cell<SpinPolicy> = const { Cell::new(SpinPolicy::new(CALLER_SPIN_NS)) };
}

/// How long a caller spins at most, in nanoseconds: about what a sleep and a wake-up cost.
///
/// Half of [`WORKER_SPIN_NS`], since a caller that spins keeps its thread from the rest of the
/// program, other futures of the runtime among it, where a worker has nothing else to do.
pub(crate) const CALLER_SPIN_NS: u64 = 50_000;

/// How long a worker spins at most, in nanoseconds: about what a sleep and a wake-up cost on a
/// virtual machine, where they are slowest.
pub(crate) const WORKER_SPIN_NS: u64 = 100_000;

/// Lends `f` what this thread has learned from its waits for single outcomes.
pub(crate) fn with_spin<R>(f: impl FnOnce(&mut SpinPolicy) -> R) -> R {
    let mut spin = SPIN.get();
    let result = f(&mut spin);
    SPIN.set(spin);
    result
}

/// Drains the lanes until `done` finds something. Spins for a while if that has lately paid.
fn look<T>(
    shared: &Shared,
    spin: &mut SpinPolicy,
    mut done: impl FnMut() -> Option<T>,
) -> Option<T> {
    if let Some(found) = done() {
        return Some(found);
    }
    // The last check asks `done` in any case: another thread's drain may have delivered the
    // outcome.
    let mut check = |last| if shared.drain_if_any() > 0 || last { done() } else { None };
    if let Some(found) = check(false) {
        return Some(found);
    }
    if !shared.may_worker_run() || !spin.should_spin() {
        return None;
    }
    spin.spin(monotonic_ns, shared.plan.worker.crowded, check).map(|(found, _)| found)
}

impl Shared {
    /// The caller is about to wait: returns whether a worker may be running meanwhile, and tells
    /// the workers where the caller is.
    pub(crate) fn may_worker_run(&self) -> bool {
        let own = cpus::current();
        let queues = self.queues.iter().filter(|queue| queue.has_records_out());
        // Each is asked: all of them learn where the caller is.
        queues.filter(|queue| queue.may_worker_run(own)).count() > 0
    }

    /// After the caller's waker is in place: has it woken when something comes. `Ready` if
    /// something has come meanwhile.
    pub(crate) fn poll_wait<T>(self: &Arc<Self>, mut done: impl FnMut() -> Option<T>) -> Poll<T> {
        match Handle::try_current() {
            Ok(handle) => self.ensure_listener(&handle),
            Err(_) => self.have_supervisor_listen(),
        }
        // First arm, then check: the rule of the doorbell.
        self.arm();
        self.drain();
        done().map_or(Poll::Pending, Poll::Ready)
    }

    /// Polls for what `done` finds. Spins for a while if that has lately paid.
    ///
    /// `done(true)` is called when the caller is about to sleep, so that it sets its waker only
    /// then: one that is set costs the delivery a system call. `since` is when the caller went to
    /// sleep at the end of its last poll, if it did, for `spin` to learn from.
    pub(crate) fn poll_parking<T>(
        self: &Arc<Self>,
        since: &mut Option<u64>,
        spin: &mut SpinPolicy,
        mut done: impl FnMut(bool) -> Option<T>,
    ) -> Poll<T> {
        if let Some(since) = since.take() {
            spin.slept(monotonic_ns() - since);
        }
        if let Some(found) = look(self, spin, || done(false)).or_else(|| done(true)) {
            return Poll::Ready(found);
        }
        let polled = self.poll_wait(|| done(true));
        if polled.is_pending() {
            *since = Some(monotonic_ns());
        }
        polled
    }

    /// Has the runtime of `handle` listen to the doorbell, if it does not yet.
    fn ensure_listener(self: &Arc<Self>, handle: &Handle) {
        let mut runtimes = lock(&self.waiters.runtimes);
        if runtimes.get(&handle.id()).is_some_and(Listener::is_settled) {
            return;
        }
        runtimes.retain(|_, listener| listener.is_settled());
        let bell =
            self.common.host_bell.try_clone().and_then(|bell| ask_to_listen(bell).transpose());
        match bell {
            Ok(Some(bell)) => {
                let alive = Arc::new(());
                runtimes.insert(handle.id(), Listener::Listens(Arc::downgrade(&alive)));
                handle.spawn(listen(Arc::downgrade(self), bell, alive));
            }
            Ok(None) => {
                runtimes.insert(handle.id(), Listener::Cannot);
                self.have_supervisor_listen();
            }
            // No descriptor is to be had.
            Err(_) => self.have_supervisor_listen(),
        }
    }

    /// Prepares for an event loop of the user's that watches the doorbell and empties it. Comes
    /// before any thread waits.
    pub(crate) fn share_bell(&self) -> std::io::Result<()> {
        let bell = SharedBell::new(&self.common.host_bell)?;
        self.waiters.shared_bell.get_or_init(|| bell);
        Ok(())
    }

    /// Wakes the threads that sleep on the doorbell, since it was emptied.
    pub(crate) fn bell_was_emptied(&self) {
        // A thread that is not asleep yet checks everything after this lock.
        if self.waiters.blocking.has_leader()
            && let Some(bell) = self.waiters.shared_bell.get()
        {
            bell.nudge();
        }
    }

    /// Returns a waker for blocking callers. It rings the doorbell that one of them waits on.
    pub(crate) fn bell_waker(self: &Arc<Self>) -> Waker {
        // Weak: the pool itself keeps wakers of callers that gave up, until it has room again.
        struct Bell(Weak<Shared>);
        impl Wake for Bell {
            fn wake(self: Arc<Self>) {
                if let Some(shared) = self.0.upgrade() {
                    // Must not block: the caller may be the supervisor. The bell is this process's
                    // own, so it cannot be refused.
                    let _ = shared.common.host_bell.ring_nonblocking();
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
        with_spin(|spin| self.block_parking(deadline, spin, |_| done()))
    }

    /// Blocks until `done` has something, at most until `deadline`. As in
    /// [`poll_parking`](Self::poll_parking), `done(true)` is called before a sleep.
    pub(crate) fn block_parking<T>(
        &self,
        deadline: Option<Instant>,
        spin: &mut SpinPolicy,
        mut done: impl FnMut(bool) -> Option<T>,
    ) -> Option<T> {
        loop {
            if let Some(found) = look(self, spin, || done(false)) {
                return Some(found);
            }
            let left = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return None,
                left => left,
            };
            let lead = match self.waiters.blocking.join(left, || done(true)) {
                Joined::Leads(lead) => lead,
                Joined::Followed => continue,
                Joined::Found(found) => return Some(found),
            };
            let found = self.lead(left, spin, &mut done);
            drop(lead);
            if found.is_some() {
                return found;
            }
        }
    }

    /// Waits on the doorbell once, for all blocking callers.
    fn lead<T>(
        &self,
        left: Option<Duration>,
        spin: &mut SpinPolicy,
        done: &mut impl FnMut(bool) -> Option<T>,
    ) -> Option<T> {
        if let Some(bell) = self.waiters.shared_bell.get() {
            return lead_on_shared_bell(self, bell, left, spin, done);
        }
        let bell = &self.common.host_bell;
        // Emptied before the checks, so that the poll sees a ring that comes after them. A ring
        // that was there may have been for another blocking caller, which leads next.
        if bell.drain().unwrap_or(false) {
            // A listening event loop may have missed the ring that was taken here: the next
            // completion has to ring again, even if this caller leaves.
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
        spin.slept(monotonic_ns() - start);
        self.drain();
        done(false)
    }
}

/// Does what [`Shared::lead`] does, and leaves the doorbell to the event loop that empties it.
fn lead_on_shared_bell<T>(
    shared: &Shared,
    bell: &SharedBell,
    left: Option<Duration>,
    spin: &mut SpinPolicy,
    done: &mut impl FnMut(bool) -> Option<T>,
) -> Option<T> {
    // Before the checks, so that a ring after them wakes.
    bell.forget();
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
    bell.sleep(left);
    spin.slept(monotonic_ns() - start);
    shared.drain();
    done(false)
}

/// Has the runtime of the caller listen to `bell`; `None` if it has no I/O driver (`enable_io`).
///
/// tokio only says so by a panic. Where that would end the program, a process without any epoll is
/// taken to have no driver.
fn ask_to_listen(bell: EventFd) -> Option<io::Result<AsyncFd<EventFd>>> {
    if cfg!(panic = "abort") && !epoll::any() {
        return None;
    }
    quiet::ask(|| bell.listen())
}

/// Listens to the doorbell for one runtime: drains at each ring, and arms the bell again for parked
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
            // Armed, so an outcome that this drain does not find rings.
            if shared.drain() == 0 {
                break;
            }
        }
    }
}
