//! Where the outcomes of a pool arrive, and how its callers wait for them.
//!
//! The pool's descriptor is the doorbell itself. It stays readable until a look finds nothing;
//! that look drains it, arms the flags of all queues and looks again, so that whatever comes
//! later rings. A call that takes an outcome and may have drained the bell rings it again. Threads
//! in a wait sleep on the bell without emptying it (`supervisor::shared_bell`); what they deliver
//! to others they ring for.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::boundary::Failure;
use super::receivers::Receivers;
use super::status::*;
use super::turns::deadline;
use crate::queue::{Common, Receiver};
use crate::supervisor::{Shared, Stage};
use crate::sync::lock;
use crate::task::Outcome;

/// An outcome that has come.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) task: u64,
    pub(super) user_data: u64,
    pub(super) outcome: Outcome,
}

/// A task that is not over.
#[derive(Debug)]
struct Job {
    task: u64,
    user_data: u64,
    /// Asked for by ticket.
    kept: bool,
}

#[derive(Debug, Default)]
struct State {
    /// What the engine delivers an outcome with is the task's index here: no search.
    jobs: Vec<Option<Job>>,
    free: Vec<u32>,
    ready: VecDeque<Arrived>,
    /// Tasks that were asked for by ticket, and their outcomes once those have come.
    kept: HashMap<u64, Option<Arrived>, BuildHasherDefault<NumberHasher>>,
    /// Those of `kept` that have come.
    kept_arrived: usize,
    /// The threads that take outcomes out of here.
    receivers: Receivers,
}

impl State {
    /// Returns whether every task is over.
    fn is_idle(&self) -> bool {
        self.free.len() == self.jobs.len()
    }

    /// Returns how many outcomes wait to be received.
    fn unreceived(&self) -> usize {
        self.ready.len() + self.kept_arrived
    }

    fn take_job(&mut self, token: u64) -> Option<Job> {
        let job = self.jobs.get_mut(token as usize)?.take()?;
        self.free.push(token as u32);
        Some(job)
    }
}

/// The outcomes of one pool.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    /// A submitter that waits for a receiver is to look again.
    received: Condvar,
    pub(super) common: Arc<Common>,
    /// Outcomes that wait to be received, at most, before no more tasks are taken.
    limit: usize,
    /// The caller has the pool's descriptor.
    polled: AtomicBool,
    /// Threads in a wait.
    waiting: AtomicUsize,
    /// Outcome handles that are not released.
    pub(super) lent: AtomicUsize,
}

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
            limit,
            polled: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            lent: AtomicUsize::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Makes a place for the outcome of `task`, before it is submitted: with what is returned.
    /// Waits `until` then for other threads to receive outcomes, if too many are here.
    pub(super) fn expect(
        &self,
        task: u64,
        user_data: u64,
        kept: bool,
        shared: &Shared,
        until: Option<Option<Instant>>,
    ) -> Result<u64, Failure> {
        let mut state = self.lock();
        if state.unreceived() >= self.limit {
            state = self.await_receiver(state, shared, until)?;
        }
        if kept {
            state.kept.insert(task, None);
        }
        let job = Some(Job { task, user_data, kept });
        if let Some(free) = state.free.pop() {
            state.jobs[free as usize] = job;
            return Ok(u64::from(free));
        }
        state.jobs.push(job);
        Ok(state.jobs.len() as u64 - 1)
    }

    /// Waits until another thread has received outcomes that are too many.
    #[cold]
    fn await_receiver<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        shared: &Shared,
        until: Option<Option<Instant>>,
    ) -> Result<MutexGuard<'s, State>, Failure> {
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

    /// Has submitters that wait for a receiver look again.
    fn note_received(&self, state: &mut State) {
        if state.receivers.note() {
            self.received.notify_all();
        }
    }

    /// Takes back a place of [`expect`](Self::expect): the task was not submitted.
    pub(super) fn withdraw(&self, token: u64) {
        let mut state = self.lock();
        if let Some(job) = state.take_job(token).filter(|job| job.kept) {
            state.kept.remove(&job.task);
        }
    }

    /// Keeps the outcome of `task` for the caller that asks for it. False if there is no such task.
    fn keep(&self, task: u64) -> bool {
        let mut state = self.lock();
        if state.kept.contains_key(&task) {
            return true;
        }
        let jobs = &mut state.jobs;
        if let Some(job) = jobs.iter_mut().flatten().find(|job| job.task == task) {
            job.kept = true;
            state.kept.insert(task, None);
            return true;
        }
        let Some(at) = state.ready.iter().position(|arrived| arrived.task == task) else {
            return false;
        };
        let arrived = state.ready.remove(at);
        state.kept_arrived += 1;
        state.kept.insert(task, arrived);
        true
    }

    fn pop(&self) -> Option<Arrived> {
        let mut state = self.lock();
        let arrived = state.ready.pop_front();
        self.note_received(&mut state);
        arrived
    }

    /// Takes up to `room` outcomes more.
    pub(super) fn pop_many(&self, room: usize, into: &mut Vec<Arrived>) {
        let mut state = self.lock();
        let count = room.min(state.ready.len());
        into.extend(state.ready.drain(..count));
        self.note_received(&mut state);
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
        let more = !self.lock().ready.is_empty();
        if self.polled.load(Ordering::SeqCst) || more && self.waiting.load(Ordering::SeqCst) > 0 {
            self.ring();
        }
        result
    }

    /// Takes an outcome without waiting.
    pub(super) fn peek(&self, shared: &Arc<Shared>) -> Option<Arrived> {
        if let Some(arrived) = self.pop() {
            return Some(arrived);
        }
        let before = LOOKING.replace(Looking::ForAny);
        let arrived = self.peek_lanes(shared);
        LOOKING.set(before);
        if arrived.is_some() && self.waiting.load(Ordering::SeqCst) > 0 {
            self.ring();
        }
        arrived
    }

    fn peek_lanes(&self, shared: &Arc<Shared>) -> Option<Arrived> {
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
    fn wait_for(
        &self,
        shared: &Arc<Shared>,
        what: Looking,
        deadline: Option<Instant>,
        mut take: impl FnMut(&Self) -> Option<Result<Arrived, Failure>>,
    ) -> Result<Arrived, Failure> {
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

    /// Waits for any outcome that was not asked for by ticket.
    pub(super) fn wait(&self, shared: &Arc<Shared>, timeout_ms: u64) -> Result<Arrived, Failure> {
        if let Some(arrived) = self.peek(shared) {
            return Ok(arrived);
        }
        let found = self.wait_for(shared, Looking::ForAny, deadline(timeout_ms), |inbox| {
            if let Some(arrived) = inbox.pop() {
                return Some(Ok(arrived));
            }
            let over = shared.stage() != Stage::Open && inbox.lock().is_idle();
            over.then(|| inbox.pop().ok_or_else(no_more))
        });
        // The look that leaves the descriptor unreadable: the wait itself does not.
        found.or_else(|failure| self.peek(shared).ok_or(failure))
    }

    /// Waits for the outcome of task `task`.
    pub(super) fn wait_task(
        &self,
        shared: &Arc<Shared>,
        task: u64,
        timeout_ms: u64,
    ) -> Result<Arrived, Failure> {
        if !self.keep(task) {
            let text = format!("no task has the ticket {task}, or its outcome was received");
            return Err(Failure::new(AIOPOOL_ERR_UNKNOWN, text));
        }
        self.wait_for(shared, Looking::ForOther, deadline(timeout_ms), |inbox| {
            let mut state = inbox.lock();
            let found = match state.kept.get_mut(&task) {
                Some(None) => None,
                Some(arrived) => {
                    let arrived = arrived.take();
                    state.kept.remove(&task);
                    state.kept_arrived -= 1;
                    arrived.map(Ok)
                }
                None => Some(Err(Failure::new(
                    AIOPOOL_ERR_UNKNOWN,
                    format!("the outcome of ticket {task} was received by another thread"),
                ))),
            };
            inbox.note_received(&mut state);
            found
        })
    }
}

fn no_more() -> Failure {
    let text = "the pool is closed and every outcome was received";
    Failure::new(AIOPOOL_ERR_CLOSED, text)
}

impl Receiver for Inbox {
    fn deliver(&self, token: u64, outcome: Outcome) -> bool {
        let mut state = self.lock();
        let Some(Job { task, user_data, kept }) = state.take_job(token) else { return false };
        let arrived = Arrived { task, user_data, outcome };
        if kept {
            state.kept_arrived += 1;
            state.kept.insert(task, Some(arrived));
        } else {
            state.ready.push_back(arrived);
        }
        drop(state);
        let others = match LOOKING.get() {
            Looking::No => self.is_watched(),
            Looking::ForAny => false,
            Looking::ForOther => !kept && self.polled.load(Ordering::SeqCst),
        };
        if others {
            self.ring();
        }
        // Who polls or waits here arms the doorbell for itself.
        false
    }
}

/// Spreads the running numbers of tasks over a table.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0 << 8 | u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio's bits: neighbours land far apart, in the upper bits, too.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
