//! What the queues of a pool share with each other and with the supervisor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::doorbell::{Parked, Watching};
use crate::sys::cpus;
use crate::sys::eventfd::EventFd;
use crate::task::Outcome;
use crate::view::Events;

use super::counters::Counters;
use super::entry::Ticket;
use super::inputs::Inputs;
use super::probation::Probation;
use super::timers::{Due, Timers};

/// Returns how many workers of a queue may search for tasks at once: one processor is the host's.
pub fn searchers() -> u64 {
    (cpus::available() as u64).saturating_sub(1).max(1)
}

/// The observer of every outcome, besides the task's own receiver.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// Returns whether it wants to know of values: most observe errors only.
    fn minds_values(&self) -> bool;

    /// Tasks, each with its number, which were on `queue`, have ended. No lock is held.
    fn completed(&self, queue: u16, outcomes: &mut dyn Iterator<Item = (u64, &Outcome)>);
}

/// Shared by all queues of a pool.
#[derive(Debug)]
pub struct Common {
    pub(crate) inputs: Inputs,
    pub(crate) timers: Timers,
    pub(crate) counters: Counters,
    pub(crate) events: Arc<Events>,
    /// Rung by workers for the host.
    pub(crate) host_bell: EventFd,
    /// Rung by any thread for the supervisor.
    pub(crate) supervisor_bell: EventFd,
    /// Whether the supervisor checks pending tasks from time to time; false while the pool is idle.
    watching: Watching,
    /// Whether a queue was closed: the supervisor is to be woken when the last task is over.
    closing: AtomicBool,
    /// Number of receivers whose waker is to be called when their outcome comes.
    parked: Parked,
    observer: OnceLock<Box<dyn Observer>>,
    /// There if functions have to prove themselves.
    pub(super) probation: OnceLock<Probation>,
    /// Time between a cooperative deadline and the end of the worker, and between a stop and it.
    pub(crate) grace_ns: u64,
    /// Workers of a queue that look for tasks at once, at most: the processors besides the host's.
    pub(crate) searchers: u64,
}

impl Common {
    /// Makes the part that the queues of a new pool share.
    pub fn new(
        inputs: Inputs,
        host_bell: EventFd,
        supervisor_bell: EventFd,
        grace_ns: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            inputs,
            timers: Timers::default(),
            counters: Counters::default(),
            events: Arc::default(),
            host_bell,
            supervisor_bell,
            watching: Watching::new(),
            closing: AtomicBool::new(false),
            parked: Parked::new(),
            observer: OnceLock::new(),
            probation: OnceLock::new(),
            grace_ns,
            searchers: searchers(),
        })
    }

    /// Sets the observer of every outcome; once.
    pub(crate) fn set_observer(&self, observer: Box<dyn Observer>) {
        self.observer.get_or_init(|| observer);
    }

    /// Has functions prove themselves with that many tasks; once.
    pub(crate) fn set_probation(&self, tasks: u32) {
        self.probation.get_or_init(|| Probation::new(tasks));
    }

    /// Returns whether the tasks of a function are to run alone.
    #[inline]
    pub(super) fn is_on_probation(&self, function: u32) -> bool {
        self.probation.get().is_some_and(|probation| probation.is_on(function))
    }

    /// Counts `count` outcomes of tasks on `queue`, of which `errors` are no values, and reports
    /// them to the observer.
    pub(super) fn note<'o>(
        &self,
        queue: u16,
        (count, errors): (usize, usize),
        mut outcomes: impl Iterator<Item = (u64, &'o Outcome)> + Clone,
    ) {
        if errors == 0 {
            // Mostly so, and then nobody looks at each of them.
            self.counters.ok.add(count);
        } else {
            self.counters.count(outcomes.clone().map(|(_, outcome)| outcome));
        }
        if let Some(observer) = self.observer.get()
            && (errors > 0 || observer.minds_values())
        {
            observer.completed(queue, &mut outcomes);
        }
    }

    /// Counts a receiver that has set its waker. The caller arms the doorbell after this, and then
    /// checks for outcomes.
    pub(crate) fn park(&self) {
        self.parked.park();
    }

    /// Uncounts `receivers` whose wakers were called or are no longer wanted.
    pub(crate) fn unpark(&self, receivers: usize) {
        self.parked.unpark(receivers);
    }

    /// Returns whether a receiver needs to be woken for an outcome.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked.any()
    }

    /// Notes that a queue was closed.
    pub(super) fn set_closing(&self) {
        // Relaxed: a delivery that does not see it yet is found by the supervisor's next look,
        // which closing brings about.
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Returns whether a queue was closed.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Wakes the supervisor.
    pub(crate) fn call_supervisor(&self) {
        // Must not block: the caller may be the supervisor itself. The bell is this process's own,
        // so ringing it cannot fail while the pool exists.
        let _ = self.supervisor_bell.ring_nonblocking();
    }

    /// Sets a timer, and wakes the supervisor if it is the first to come due.
    pub(super) fn set_timer(&self, at_ns: u64, ticket: Ticket, due: Due) {
        if self.timers.add(at_ns, ticket, due) {
            self.call_supervisor();
        }
    }

    /// Has the supervisor begin its watch, if it does not keep one, since a task was submitted.
    ///
    /// The caller has a SeqCst fence between making the task pending and this.
    pub(crate) fn ensure_watched(&self) {
        if self.watching.begin() {
            self.call_supervisor();
        }
    }

    /// Ends the supervisor's watch; the supervisor checks for pending tasks once more after this.
    pub(crate) fn stop_watching(&self) {
        self.watching.stop();
    }

    /// Goes on with the supervisor's watch.
    pub(crate) fn keep_watching(&self) {
        self.watching.keep();
    }
}
