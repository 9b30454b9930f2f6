//! A handle that cancels a task from elsewhere than its own handle.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use crate::queue::Ticket;
use crate::supervisor::Shared;
use crate::sync::lock;
use crate::sys::forked;

/// Cancels a task; see [`Task::abort_handle`](crate::Task::abort_handle).
///
/// Dropping it does nothing. It keeps the memory of the pool, not the pool itself: that ends with
/// its last [`Pool`](crate::Pool).
#[derive(Clone)]
pub struct AbortHandle {
    shared: Arc<Shared>,
    target: Target,
}

#[derive(Clone)]
enum Target {
    /// The task is refused or over.
    Nothing,
    Ticket(Ticket),
    Waiting(Arc<Waiting>),
}

/// A task that waits for room in a full pool.
#[derive(Debug)]
pub(super) struct Waiting {
    place: Mutex<Place>,
    /// The process that waits, by `forked::generation`.
    generation: u32,
}

#[derive(Debug, Default)]
struct Place {
    aborted: bool,
    /// Nobody waits any more.
    over: bool,
    ticket: Option<Ticket>,
    /// Of the task that polls the handle.
    waker: Option<Waker>,
}

impl std::fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AbortHandle").field(&self.ticket().map(|ticket| ticket.task)).finish()
    }
}

impl AbortHandle {
    /// Of a task that is refused or over.
    pub(super) fn of_nothing(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), target: Target::Nothing }
    }

    /// Of a task in its queue.
    pub(super) fn of_ticket(shared: &Arc<Shared>, ticket: Ticket) -> Self {
        Self { shared: Arc::clone(shared), target: Target::Ticket(ticket) }
    }

    /// Of a task that waits for room.
    pub(super) fn of_waiting(shared: &Arc<Shared>, waiting: &Arc<Waiting>) -> Self {
        Self { shared: Arc::clone(shared), target: Target::Waiting(Arc::clone(waiting)) }
    }

    /// Cancels the task, as [`Task::cancel`](crate::Task::cancel) does.
    pub fn abort(&self) {
        if let Some(ticket) = self.aborted() {
            self.shared.cancel(ticket);
        }
    }

    /// Cancels the task, as [`Task::cancel_within`](crate::Task::cancel_within) does.
    pub fn abort_within(&self, grace: Duration) {
        if let Some(ticket) = self.aborted() {
            self.shared.cancel_within(ticket, grace);
        }
    }

    /// Returns whether the task has its outcome, or never can have one.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        if let Target::Waiting(waiting) = &self.target
            && self.shared.is_owner()
        {
            let place = waiting.lock();
            if place.ticket.is_none() {
                return place.aborted || place.over;
            }
        }
        self.ticket().is_none_or(|ticket| !self.shared.is_pending(ticket))
    }

    fn ticket(&self) -> Option<Ticket> {
        match &self.target {
            Target::Nothing => None,
            Target::Ticket(ticket) => Some(*ticket),
            // A forked child takes no lock: a thread that it has not may hold it.
            Target::Waiting(_) if !self.shared.is_owner() => None,
            Target::Waiting(waiting) => waiting.lock().ticket,
        }
    }

    /// Notes that the task is cancelled; where it is, if it is in its queue.
    fn aborted(&self) -> Option<Ticket> {
        if let Target::Waiting(waiting) = &self.target
            && self.shared.is_owner()
        {
            let mut place = waiting.lock();
            place.aborted = true;
            let woken = place.waker.take();
            drop(place);
            woken.into_iter().for_each(Waker::wake);
        }
        self.ticket()
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self { place: Mutex::default(), generation: forked::generation() }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Place> {
        lock(&self.place)
    }

    /// The task waits no longer: it is in its queue, or never will be.
    pub(super) fn end(&self) {
        if self.generation == forked::generation() {
            self.lock().over = true;
        }
    }

    /// Returns whether the task was cancelled; else `waker` is woken when it is.
    pub(super) fn is_aborted(&self, waker: &Waker) -> bool {
        let mut place = self.lock();
        if !place.aborted {
            place.waker = Some(waker.clone());
        }
        place.aborted
    }

    /// The task is in its queue now. Returns whether it was cancelled meanwhile.
    pub(super) fn submitted(&self, ticket: Ticket) -> bool {
        let mut place = self.lock();
        place.ticket = Some(ticket);
        place.waker = None;
        place.aborted
    }
}
