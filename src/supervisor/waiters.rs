//! What waits for a pool's outcomes: runtimes that listen to its doorbell, and blocked threads.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Id;

use super::shared_bell::SharedBell;
use crate::sync::lock;

/// All that waits for the outcomes of one pool.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// The tokio runtimes that futures were polled in.
    pub(super) runtimes: Mutex<HashMap<Id, Listener>>,
    pub(super) blocking: BlockingWaiters,
    /// What the leader sleeps on where an event loop of the user's empties the doorbell, too. Only
    /// there: it costs two descriptors, and a sleep half as much again as on the doorbell alone.
    pub(super) shared_bell: OnceLock<SharedBell>,
}

/// What a tokio runtime does about the doorbell.
#[derive(Debug)]
pub(super) enum Listener {
    /// It listens, until this is gone.
    Listens(Weak<()>),
    /// It has no I/O driver.
    Cannot,
}

impl Listener {
    /// Returns whether nothing is to be done about the runtime.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Listens(alive) => alive.strong_count() > 0,
            Self::Cannot => true,
        }
    }
}

/// The threads that block until an outcome comes. One at a time leads: it sleeps on the doorbell
/// and, when it has been rung, wakes the others.
#[derive(Debug, Default)]
pub(super) struct BlockingWaiters {
    state: Mutex<State>,
    /// Notified when the leader has been woken.
    led: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_leader: bool,
    followers: usize,
}

/// What became of a thread that was about to block.
pub(super) enum Joined<'w, T> {
    /// It leads, as long as it has this.
    Leads(Lead<'w>),
    /// It slept until the leader was woken, and has to check again.
    Followed,
    /// It found what it waits for, and did not sleep.
    Found(T),
}

/// The lead of one thread. When it is dropped, the lead ends and the followers wake.
///
/// By a drop, since a leader decodes the outcome that it finds, and a value's own code can panic.
pub(super) struct Lead<'w>(&'w BlockingWaiters);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.0.resign();
    }
}

impl BlockingWaiters {
    /// Makes the caller the leader, or has it sleep for at most `limit` until the leader is woken.
    /// Calls `done` before such a sleep.
    pub(super) fn join<T>(
        &self,
        limit: Option<Duration>,
        done: impl FnOnce() -> Option<T>,
    ) -> Joined<'_, T> {
        /// How long a follower sleeps that has no limit of its own: it only checks again then.
        const NO_LIMIT: Duration = Duration::from_secs(3600);
        let mut state = lock(&self.state);
        if !state.has_leader {
            state.has_leader = true;
            return Joined::Leads(Lead(self));
        }
        // Under the lock, so that the leader cannot notify between this check and the sleep.
        if let Some(found) = done() {
            return Joined::Found(found);
        }
        state.followers += 1;
        let woken = self.led.wait_timeout(state, limit.unwrap_or(NO_LIMIT));
        woken.unwrap_or_else(PoisonError::into_inner).0.followers -= 1;
        Joined::Followed
    }

    /// Ends the caller's lead, and wakes the followers.
    fn resign(&self) {
        let mut state = lock(&self.state);
        state.has_leader = false;
        // A system call, so only where a thread waits for it.
        if state.followers > 0 {
            self.led.notify_all();
        }
    }

    /// Returns whether a thread leads: it sleeps on the doorbell, or is about to.
    pub(super) fn has_leader(&self) -> bool {
        lock(&self.state).has_leader
    }
}
