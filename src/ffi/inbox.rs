//! Where the outcomes of a pool arrive, and how its callers wait for them.
//!
//! The pool's descriptor is the doorbell itself. It stays readable until a look finds nothing;
//! that look drains it, arms the flags of all queues and looks again, so that whatever comes
//! later rings. A call that takes an outcome and may have drained the bell rings it again. Threads
//! in a wait sleep on the bell without emptying it (`supervisor::shared_bell`); what they deliver
//! to others they ring for.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::arrivals::{Arrivals, is_delivering, is_idle, no_more};
use super::boundary::Failure;
use super::outcome::{CompleteFn, lend};
use super::room::RoomBell;
use super::status::*;
use super::turns::{self, deadline};
use crate::queue::{Common, Delivery, Receiver};
use crate::supervisor::{Shared, Stage};
use crate::sync::lock;
use crate::sys::clock::monotonic_ns;
use crate::task::Outcome;

/// The outcomes of one pool.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<Arrivals>,
    /// A submitter that waits for a receiver is to look again.
    received: Condvar,
    pub(super) common: Arc<Common>,
    /// What an event loop waits for room on.
    pub(super) room: RoomBell,
    /// Outcomes that wait to be received, at most, before no more tasks are taken.
    limit: usize,
    /// Outcomes that wait to be received; written with the lock.
    unreceived: AtomicUsize,
    /// The caller has the pool's descriptor.
    polled: AtomicBool,
    /// Threads in a wait.
    waiting: AtomicUsize,
}

/// Where the outcome of a task goes that is not received by whatever thread is next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goes {
    /// To the caller that asks for its ticket.
    ByTicket,
    /// To a function.
    To(CompleteFn),
    /// To any thread, unless it asks for its ticket, perhaps before the task is in a queue.
    ToAny,
}

/// What a thread that receives has found.
enum Next {
    /// An outcome, for its caller.
    Outcome(Delivery),
    /// One that it is to hand to this function.
    Call(CompleteFn, Delivery),
}

/// Hands an outcome to the function of its call.
fn call(function: CompleteFn, arrived: Delivery) {
    let user_data = arrived.token;
    // SAFETY: the call named a function of this type for its outcome; nothing is locked.
    turns::aside(|| unsafe { function(lend(arrived), user_data) });
}

/// How long an outcome can be on its way from a worker's word to this inbox: a few instructions of
/// another thread, which may have to wait for a processor.
const ON_ITS_WAY_NS: u64 = 5_000_000_000;

/// What a thread is about that delivers outcomes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Looking {
    /// It is not of this API's.
    No,
    /// It takes any outcome, and rings for what it leaves.
    ForAny,
    /// It waits for something else: one task, room, the end.
    ForOther,
}

thread_local! {
    static LOOKING: Cell<Looking> = const { Cell::new(Looking::No) };
}

/// The longest pause between two looks at who receives.
const LOOK: Duration = Duration::from_millis(100);

impl Inbox {
    pub(super) fn new(common: Arc<Common>, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            received: Condvar::new(),
            common,
            room: RoomBell::default(),
            limit,
            unreceived: AtomicUsize::new(0),
            polled: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Arrivals> {
        lock(&self.state)
    }

    /// Returns whether another task's outcome can wait here.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        // Relaxed: a bound, which one more or less does not matter to.
        self.unreceived.load(Ordering::Relaxed) < self.limit
    }

    /// Returns how many tasks' outcomes can wait here besides those that do.
    pub(super) fn room(&self) -> usize {
        // Relaxed: as for `has_room`.
        self.limit.saturating_sub(self.unreceived.load(Ordering::Relaxed))
    }

    /// Waits `until` then for other threads to receive outcomes, if too many are here.
    pub(super) fn make_room(
        &self,
        shared: &Shared,
        until: impl FnOnce() -> Option<Option<Instant>>,
    ) -> Result<(), Failure> {
        if self.has_room() {
            return Ok(());
        }
        self.await_receiver(self.lock(), shared, until()).map(drop)
    }

    /// Too many outcomes are here: has the descriptor for room say when some were received. True if
    /// a task can be submitted now, or is refused for another reason.
    pub(super) fn look_for_room(&self, shared: &Arc<Shared>) -> bool {
        let again = || {
            let mut state = self.lock();
            state.wants_room = state.unreceived() >= self.limit;
            (!state.wants_room || shared.queues[0].is_closed()).then_some(())
        };
        self.room.refused(shared, |_| None, again).is_some()
    }

    /// Waits until another thread has received outcomes that are too many.
    #[cold]
    fn await_receiver<'s>(
        &'s self,
        mut state: MutexGuard<'s, Arrivals>,
        shared: &Shared,
        until: Option<Option<Instant>>,
    ) -> Result<MutexGuard<'s, Arrivals>, Failure> {
        let begun = Instant::now();
        state.receivers.submits();
        // This thread may be the one that others wait for.
        self.received.notify_all();
        let result = loop {
            // A closed pool refuses the task itself.
            if state.unreceived() < self.limit || shared.stage() != Stage::Open {
                break Ok(());
            }
            let unreceived = state.unreceived();
            let Some(until) = until.filter(|_| state.receivers.any_other(begun.elapsed())) else {
                let text = format!("{unreceived} outcomes wait to be received: receive some first");
                break Err(Failure::new(AIOPOOL_ERR_FULL, text));
            };
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                let text = format!(
                    "{unreceived} outcomes wait to be received, and no thread has received one in \
                     the time given"
                );
                break Err(Failure::new(AIOPOOL_ERR_TIMEOUT, text));
            }
            let left = until.map_or(LOOK, |until| LOOK.min(until - now));
            let waited = self.received.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.receivers.submits_no_more();
        result.map(|()| state)
    }

    /// Outcomes were received: has submitters that wait for that look again.
    ///
    /// A thread is known as one that receives when it waits, or when outcomes pile up.
    #[inline]
    pub(super) fn note_received(&self, state: &mut Arrivals) {
        let unreceived = state.unreceived();
        self.unreceived.store(unreceived, Ordering::Relaxed);
        if state.wants_room {
            self.note_room(state);
        }
        if unreceived >= self.limit / 4 {
            self.note_receiver(state);
        }
    }

    #[cold]
    fn note_room(&self, state: &mut Arrivals) {
        state.wants_room = state.unreceived() >= self.limit;
        if !state.wants_room {
            self.room.ring();
        }
    }

    #[cold]
    fn note_receiver(&self, state: &mut Arrivals) {
        if state.receivers.note() {
            self.received.notify_all();
        }
    }

    /// Takes note of where the outcome of `task` goes, before it is submitted.
    pub(super) fn expect(&self, task: u64, goes: Goes) {
        let mut state = self.lock();
        match goes {
            Goes::ByTicket => drop(state.kept.insert(task, None)),
            Goes::To(function) => drop(state.calls.insert(task, Some(function))),
            Goes::ToAny => drop(state.calls.insert(task, None)),
        }
    }

    /// Forgets what [`expect`](Self::expect) was told: the task was not submitted.
    pub(super) fn withdraw(&self, task: u64) {
        let mut state = self.lock();
        state.kept.remove(&task);
        state.calls.remove(&task);
    }

    /// Keeps the outcome of `task` for the caller that asks for it. False if there is no such task.
    fn keep(&self, shared: &Shared, task: u64) -> bool {
        let mut state = self.lock();
        if state.kept.contains_key(&task) {
            return true;
        }
        match state.calls.get(&task) {
            Some(Some(_)) => return false,
            Some(None) => {
                state.calls.remove(&task);
                state.kept.insert(task, None);
                return true;
            }
            None => {}
        }
        // From here on it is kept, whenever it comes.
        state.kept.insert(task, None);
        if state.move_to_kept(task) {
            return true;
        }
        drop(state);
        let until = monotonic_ns() + ON_ITS_WAY_NS;
        loop {
            if shared.queues.iter().any(|queue| queue.find(task).is_some()) {
                return true;
            }
            // It is no task, or over: then its outcome is here or on its way.
            let on_its_way = is_delivering(shared) && monotonic_ns() < until;
            let mut state = self.lock();
            match state.kept.get(&task) {
                Some(None) if on_its_way => {}
                Some(None) => {
                    state.kept.remove(&task);
                    return false;
                }
                // It has come, perhaps been received by another thread that asks for it.
                _ => return true,
            }
            drop(state);
            std::thread::yield_now();
        }
    }

    fn pop(&self) -> Option<Next> {
        let mut state = self.lock();
        let next = match state.called.pop_front() {
            Some((function, arrived)) => Some(Next::Call(function, arrived)),
            None => state.ready.pop_front().map(Next::Outcome),
        };
        self.note_received(&mut state);
        next
    }

    /// Returns the outcome, unless it goes to its call's function, which gets it then.
    #[inline]
    fn unless_called(next: Next) -> Option<Delivery> {
        match next {
            Next::Outcome(arrived) => Some(arrived),
            Next::Call(function, arrived) => {
                call(function, arrived);
                None
            }
        }
    }

    /// Hands those outcomes that have come to the functions of their calls. False if there is none.
    pub(super) fn call_functions(&self) -> bool {
        // No more than there are now: functions may submit others for ever.
        let count = self.lock().called.len();
        for _ in 0..count {
            let mut state = self.lock();
            // One at a time: a function that waits for the pool hands over those behind it.
            let Some((function, arrived)) = state.called.pop_front() else { break };
            self.note_received(&mut state);
            drop(state);
            call(function, arrived);
        }
        count > 0
    }

    /// The pool's descriptor is given out: from here on it has to tell the truth.
    pub(super) fn set_polled(&self) {
        self.polled.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// Wakes the waiting threads, here or in an event loop.
    pub(super) fn ring(&self) {
        // Must not block: the caller may be the supervisor. The bell is this process's own, so it
        // cannot be refused.
        let _ = self.common.host_bell.ring_nonblocking();
    }

    fn is_watched(&self) -> bool {
        self.polled.load(Ordering::SeqCst) || self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Runs `look` in a call that may deliver outcomes of other callers; rings for them.
    pub(super) fn looking<T>(&self, look: impl FnOnce() -> T) -> T {
        self.looking_for(Looking::ForOther, look)
    }

    fn looking_for<T>(&self, what: Looking, look: impl FnOnce() -> T) -> T {
        let before = LOOKING.replace(what);
        let result = look();
        LOOKING.set(before);
        let more = self.lock().has_any();
        if self.polled.load(Ordering::SeqCst) || more && self.waiting.load(Ordering::SeqCst) > 0 {
            self.ring();
        }
        result
    }

    /// Takes an outcome without waiting; hands others to the functions of their calls.
    #[inline]
    pub(super) fn try_wait(&self, shared: &Arc<Shared>) -> Option<Delivery> {
        loop {
            let next = match self.pop() {
                Some(next) => next,
                None => self.look(shared)?,
            };
            if let Some(arrived) = Self::unless_called(next) {
                return Some(arrived);
            }
        }
    }

    /// Takes an outcome that is still in the lanes.
    fn look(&self, shared: &Arc<Shared>) -> Option<Next> {
        self.note_receiver(&mut self.lock());
        let before = LOOKING.replace(Looking::ForAny);
        let arrived = self.peek_lanes(shared);
        LOOKING.set(before);
        if arrived.is_some() && self.waiting.load(Ordering::SeqCst) > 0 {
            self.ring();
        }
        arrived
    }

    fn peek_lanes(&self, shared: &Arc<Shared>) -> Option<Next> {
        shared.drain();
        let found = self.pop();
        if found.is_some() || !self.polled.load(Ordering::SeqCst) {
            return found;
        }
        if self.common.host_bell.drain().unwrap_or(false) {
            shared.bell_was_emptied();
        }
        // Also the queues that have nothing pending: what is submitted next is to ring, too.
        shared.queues.iter().for_each(|queue| queue.arm());
        shared.drain();
        let found = self.pop();
        if found.is_some() {
            // Not the one that found nothing: the next look is.
            self.ring();
        }
        found
    }

    /// Waits for an outcome that `take` takes, at most until `deadline`.
    fn wait_for<T>(
        &self,
        shared: &Arc<Shared>,
        what: Looking,
        deadline: Option<Instant>,
        mut take: impl FnMut(&Self) -> Option<Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let found = self.looking_for(what, || {
            let found = shared.block(deadline, || take(self));
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            found
        });
        found.unwrap_or_else(|| {
            Err(Failure::new(AIOPOOL_ERR_TIMEOUT, "no outcome came within the time given"))
        })
    }

    /// Waits for any outcome that was not asked for by ticket and goes to no function.
    #[inline]
    pub(super) fn wait(&self, shared: &Arc<Shared>, timeout_ms: u64) -> Result<Delivery, Failure> {
        match self.try_wait(shared) {
            Some(arrived) => Ok(arrived),
            None => self.wait_until(shared, deadline(timeout_ms)),
        }
    }

    fn wait_until(
        &self,
        shared: &Arc<Shared>,
        deadline: Option<Instant>,
    ) -> Result<Delivery, Failure> {
        loop {
            let found = self.wait_for(shared, Looking::ForAny, deadline, |inbox| {
                if let Some(next) = inbox.pop() {
                    return Some(Ok(next));
                }
                let over = shared.stage() != Stage::Open && is_idle(shared);
                over.then(|| inbox.pop().ok_or_else(no_more))
            });
            match found {
                Ok(next) => {
                    if let Some(arrived) = Self::unless_called(next) {
                        return Ok(arrived);
                    }
                }
                // The look that leaves the descriptor unreadable: the wait itself does not.
                Err(failure) => return self.try_wait(shared).ok_or(failure),
            }
        }
    }

    /// Waits for the outcome of task `task`.
    pub(super) fn wait_task(
        &self,
        shared: &Arc<Shared>,
        task: u64,
        timeout_ms: u64,
    ) -> Result<Delivery, Failure> {
        if !self.keep(shared, task) {
            let text = format!("no task has the ticket {task}, or its outcome was received");
            return Err(Failure::new(AIOPOOL_ERR_UNKNOWN, text));
        }
        self.wait_for(shared, Looking::ForOther, deadline(timeout_ms), |inbox| {
            let mut state = inbox.lock();
            match state.kept.get_mut(&task) {
                Some(None) => None,
                Some(arrived) => {
                    let arrived = arrived.take();
                    state.kept.remove(&task);
                    state.kept_arrived -= 1;
                    inbox.note_received(&mut state);
                    arrived.map(Ok)
                }
                None => Some(Err(Failure::new(
                    AIOPOOL_ERR_UNKNOWN,
                    format!("the outcome of ticket {task} was received by another thread"),
                ))),
            }
        })
    }
}

impl Receiver for Inbox {
    fn deliver(&self, token: u64, outcome: Outcome) -> bool {
        // Tasks have numbers from 1 on; the engine delivers with them.
        self.deliver_all(&mut vec![Delivery { outcome, task: 0, token }]) > 0
    }

    fn deliver_all(&self, all: &mut Vec<Delivery>) -> usize {
        let mut state = self.lock();
        let for_any = state.arrive(all);
        self.unreceived.store(state.unreceived(), Ordering::Relaxed);
        drop(state);
        let others = match LOOKING.get() {
            Looking::No => self.is_watched(),
            Looking::ForAny => false,
            Looking::ForOther => for_any && self.polled.load(Ordering::SeqCst),
        };
        if others {
            self.ring();
        }
        // Who polls or waits here arms the doorbell for itself.
        0
    }
}
