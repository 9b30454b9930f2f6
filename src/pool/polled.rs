//! A pool for an event loop that is not tokio's: tasks by name in, outcomes out, one descriptor.
//!
//! The descriptor is the pool's doorbell itself. It stays readable until a call of
//! [`PolledPool::receive`] finds less than it was asked for; that call empties the bell, arms the
//! flags of all queues and looks again, so that whatever comes later rings.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::queue::{Common, For, Receiver, Submission, Ticket};
use crate::scheduler::NewTask;
use crate::supervisor::{Stage, with_spin};
use crate::sync::atomic::AtomicU64;
use crate::sync::{SpinPolicy, lock};
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::poll;
use crate::task::address::ImageAddress;
use crate::task::entry::Vtable;
use crate::task::outcome::Lent;
use crate::task::{Outcome, Payload, TaskError, TaskOptions};

use super::Pool;

/// A [`Pool`] whose outcomes an event loop of any kind receives.
///
/// Watch [its descriptor](AsFd) for reading; when it is readable, [`receive`](Self::receive).
/// Every call may come from any thread, also from several at once. Its tasks are tasks by name, so
/// they do not carry their caller's context: see
/// [`Logs::carry_context`](crate::Logs::carry_context).
///
/// ```
/// use std::os::fd::AsFd;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = aiopool::Pool::builder().processes(1).build()?;
/// let pool = aiopool::PolledPool::new(pool)?;
/// let function = pool.function("no such function")?;
/// pool.submit(function, &[b"input"], aiopool::TaskOptions::new(), None, 7)?;
/// let mut outcomes = Vec::new();
/// while outcomes.is_empty() {
///     // Here an event loop would wait until `pool.as_fd()` is readable.
///     pool.receive(16, &mut outcomes);
/// }
/// assert_eq!(outcomes[0].token, 7);
/// assert!(outcomes[0].result.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PolledPool {
    pool: Pool,
    arrivals: Arc<Arrivals>,
    /// When the last search ended in vain, in nanoseconds; 0 if something has come since.
    idle_since: AtomicU64,
}

/// A task function by the name that workers know; of the pool that it comes from.
#[derive(Clone, Copy, Debug)]
pub struct NamedFunction {
    number: u32,
    name: &'static str,
}

impl NamedFunction {
    /// Returns the number under which the pool knows it.
    pub(super) fn number(self) -> u32 {
        self.number
    }
}

/// Names a task that was submitted to a [`PolledPool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolledTask(Ticket);

/// What became of a task.
#[derive(Debug)]
#[non_exhaustive]
pub struct Arrived {
    /// The number that the task was submitted with.
    pub token: u64,
    /// The output, or why there is none.
    pub result: std::result::Result<Output, TaskError>,
    /// Attempts made.
    pub attempts: u32,
    /// Time from the submission to the start of the last attempt.
    pub waited: Duration,
    /// Time that the last attempt ran.
    pub ran: Duration,
}

impl From<(u64, Outcome)> for Arrived {
    fn from((token, outcome): (u64, Outcome)) -> Self {
        let (waited, ran, attempts) = (outcome.waited(), outcome.ran(), outcome.attempts);
        Self { token, result: outcome.result.map(Output), attempts, waited, ran }
    }
}

/// The bytes of an output. A large one is in the pool's memory until this is dropped, where it
/// takes room from others: copy it out soon.
#[derive(Debug)]
pub struct Output(Payload);

impl Output {
    /// Returns how many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.address().1
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes, or `None` if they are in the pool's memory.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.0.bytes_here()
    }

    /// Copies the bytes to `into`, all of which is initialised then.
    ///
    /// # Panics
    ///
    /// If `into` has not as many.
    pub fn copy_to(&self, into: &mut [MaybeUninit<u8>]) {
        assert_eq!(into.len(), self.len(), "the place has another length than the output");
        match (&self.0, self.as_slice()) {
            (Payload::Lent(lent), _) => lent.copy_to(into),
            (_, bytes) => {
                for (place, byte) in into.iter_mut().zip(bytes.unwrap_or_default()) {
                    place.write(*byte);
                }
            }
        }
    }

    /// Returns what keeps the bytes, if they are in the pool's memory.
    pub(super) fn lent(&self) -> Option<Arc<dyn Lent>> {
        match &self.0 {
            Payload::Lent(lent) => Some(Arc::clone(lent)),
            _ => None,
        }
    }

    /// Returns the bytes in memory of this process.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Payload::Heap(bytes) => Bytes::from(bytes),
            other => Bytes::copy_from_slice(&other.bytes()),
        }
    }
}

/// Outcomes that wait to be received.
#[derive(Debug)]
struct Arrivals {
    ready: Mutex<VecDeque<(u64, Outcome)>>,
    common: Arc<Common>,
}

thread_local! {
    /// Whether this thread is in a call that checks what it delivers, so that it need not ring.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, Outcome)>> {
        lock(&self.ready)
    }

    /// Makes the descriptor readable.
    fn ring(&self) {
        // Must not block: the caller may be the supervisor. The bell is this process's own, so it
        // cannot be refused.
        let _ = self.common.host_bell.ring_nonblocking();
    }
}

impl Receiver for Arrivals {
    fn deliver(&self, token: u64, outcome: Outcome) -> bool {
        self.lock().push_back((token, outcome));
        if !LOOKS.get() {
            self.ring();
        }
        // The event loop arms the doorbell for itself, so no receiver is counted as parked.
        false
    }
}

impl PolledPool {
    /// Takes a pool over, before anything was submitted to it.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the system refuses the descriptors that blocking callers sleep on.
    pub fn new(pool: Pool) -> Result<Self> {
        let shared = &pool.shared;
        shared.share_bell().map_err(|error| Error::system("watch the pool's doorbell", error))?;
        let common = Arc::clone(&shared.common);
        let arrivals = Arc::new(Arrivals { ready: Mutex::default(), common });
        // The first call of `receive` finds what was rung for before the descriptor is watched.
        arrivals.ring();
        Ok(Self { pool, arrivals, idle_since: AtomicU64::new(0) })
    }

    /// Returns what the pool calls the function that its workers know as `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for a name that has no or more than 224 bytes, or beyond 1,024 functions.
    pub fn function(&self, name: &str) -> Result<NamedFunction> {
        let inputs = &self.pool.shared.common.inputs;
        let number = inputs.function_by_name(name)?;
        Ok(NamedFunction { number, name: inputs.function_name(number) })
    }

    /// Returns what the pool calls the function whose vtable this is.
    pub(crate) fn function_at(&self, vtable: &'static Vtable) -> Result<NamedFunction> {
        let (vtable, name) = (ImageAddress::of(vtable), (vtable.name)());
        let number = self.pool.with(TaskOptions::new()).number(vtable, name, false)?.number;
        Ok(NamedFunction { number, name })
    }

    /// Submits a task if there is room for it; never waits.
    ///
    /// The input is the bytes of all `parts`, which go straight into the pool's memory. `queue`
    /// is the queue's number, or `None` for the scheduler's choice. The outcome comes with
    /// `token`, perhaps before this returns.
    ///
    /// # Errors
    ///
    /// Why it was not submitted; [`TaskError::is_full`] tells whether to try again after the next
    /// outcome.
    pub fn submit(
        &self,
        function: NamedFunction,
        parts: &[&[u8]],
        options: TaskOptions,
        queue: Option<usize>,
        token: u64,
    ) -> std::result::Result<PolledTask, TaskError> {
        let shared = &self.pool.shared;
        let len = self.check(parts, options, queue).map_err(TaskError::not_submitted)?;
        let task = shared.next_task.fetch_add(1, Ordering::Relaxed) as u64;
        let queue = queue.unwrap_or_else(|| {
            let (name, priority) = (function.name, options.priority);
            shared.queue_for(&NewTask { task, function: name, priority, input_bytes: len })
        });
        // Copied once, from where the worker has put it to where the caller wants it.
        let options = options.lend_large();
        let push = || {
            let receiver = For::One(self.receiver());
            let function = function.number;
            let submission = Submission { task, function, input: &[], options, receiver, token };
            shared.queues[queue].try_submit_parts(submission, parts, len)
        };
        let mut pushed = push();
        if matches!(pushed, Err(Error::Full)) {
            // Outcomes that wait in the lanes hold records.
            self.looking(|| shared.drain());
            pushed = push();
        }
        pushed.map(PolledTask).map_err(|error| shared.refusal(error))
    }

    /// Returns where outcomes arrive.
    pub(super) fn receiver(&self) -> Arc<dyn Receiver> {
        Arc::clone(&self.arrivals) as Arc<dyn Receiver>
    }

    pub(super) fn check(
        &self,
        parts: &[&[u8]],
        options: TaskOptions,
        queue: Option<usize>,
    ) -> Result<usize> {
        let shared = &self.pool.shared;
        shared.check_process()?;
        self.pool.with(options).check()?;
        if let Some(queue) = queue.filter(|&queue| queue >= shared.queues.len()) {
            return Err(Error::InvalidOption {
                name: "queue",
                value: queue.to_string(),
                allowed: format!("the pool's queues are numbered 0 to {}", shared.queues.len() - 1),
            });
        }
        let size = parts.iter().map(|part| part.len()).sum();
        let max = shared.plan.max_payload;
        if size > max { Err(Error::PayloadTooLarge { size, max }) } else { Ok(size) }
    }

    /// Cancels a task, as [`Task::cancel`](crate::Task::cancel) does; its outcome comes all the
    /// same. False if it was over.
    pub fn cancel(&self, task: PolledTask) -> bool {
        self.pool.shared.cancel(task.0)
    }

    /// Cancels a task that no worker has; its outcome comes all the same. False if a worker has it,
    /// which then goes on with it, or if it was over.
    pub fn cancel_queued(&self, task: PolledTask) -> bool {
        self.pool.shared.cancel_queued(task.0)
    }

    /// Cancels a task, and has its worker killed that has not dropped it within `grace`, as
    /// [`Task::cancel_within`](crate::Task::cancel_within) does. False if it was over.
    pub fn cancel_within(&self, task: PolledTask, grace: Duration) -> bool {
        self.pool.shared.cancel_within(task.0, grace)
    }

    /// Returns how far a task has come, as [`Task::progress`](crate::Task::progress) does.
    #[must_use]
    pub fn progress(&self, task: PolledTask) -> Option<u64> {
        self.pool.shared.progress(task.0)
    }

    /// Adds up to `limit` outcomes to `into`. Never waits.
    ///
    /// If it adds less than `limit`, the descriptor becomes readable as soon as there is more;
    /// otherwise it is readable already.
    pub fn receive(&self, limit: usize, into: &mut Vec<Arrived>) {
        let shared = &self.pool.shared;
        if shared.check_process().is_err() {
            return;
        }
        let end = into.len() + limit;
        let _looks = Looks::begin();
        if self.idle_since.load(Ordering::Relaxed) > 0 {
            with_spin(|spin| self.learn(spin));
        }
        shared.drain();
        self.take(end, into);
        if into.len() < end {
            if self.arrivals.common.host_bell.drain().unwrap_or(false) {
                shared.bell_was_emptied();
            }
            // Also the queues that have nothing pending: what is submitted next is to ring, too.
            shared.queues.iter().for_each(|queue| queue.arm());
            shared.drain();
            let before = into.len();
            self.take(end, into);
            if into.len() == before {
                return;
            }
        }
        // This call found something, so the descriptor stays readable until the next call.
        self.arrivals.ring();
    }

    /// Looks for outcomes for as long as a sleep would cost, if the last waits were short, and adds
    /// up to `limit` of them to `into`. Returns whether it has found some.
    ///
    /// For the one event loop that watches the descriptor, when it is about to wait for a task and
    /// has nothing else to do. It ends as soon as `others` is readable: the descriptor of the loop
    /// itself, by which it gives way to the loop's other work.
    ///
    /// **After this the descriptor says nothing** until [`receive`](Self::receive) has found less
    /// than it was asked for: before the event loop waits, it searches once more or receives.
    pub fn search(&self, others: BorrowedFd<'_>, limit: usize, into: &mut Vec<Arrived>) -> bool {
        let shared = &self.pool.shared;
        if shared.check_process().is_err() {
            return false;
        }
        let _looks = Looks::begin();
        let look = |last: bool| {
            let found = shared.drain_if_any() > 0 || last && !self.arrivals.lock().is_empty();
            if found { Some(true) } else { (last && poll::is_readable(others)).then_some(false) }
        };
        let found = with_spin(|spin| {
            self.learn(spin);
            if shared.drain_if_any() > 0 || !self.arrivals.lock().is_empty() {
                return true;
            }
            if !shared.may_worker_run() || !spin.should_spin() {
                return false;
            }
            shared.queues.iter().for_each(|queue| queue.disarm());
            let found = spin.spin(monotonic_ns, shared.plan.worker.crowded, look);
            found.is_some_and(|(found, _)| found)
        });
        if found {
            self.take(into.len() + limit, into);
        } else {
            self.idle_since.store(monotonic_ns(), Ordering::Relaxed);
        }
        found
    }

    /// Has `spin` learn how long the wait was that followed the last search.
    fn learn(&self, spin: &mut SpinPolicy) {
        let since = self.idle_since.swap(0, Ordering::Relaxed);
        if since > 0 {
            spin.slept(monotonic_ns().saturating_sub(since));
        }
    }

    fn take(&self, end: usize, into: &mut Vec<Arrived>) {
        let mut ready = self.arrivals.lock();
        let count = ready.len().min(end - into.len());
        into.extend(ready.drain(..count).map(Arrived::from));
    }

    /// Runs `look`, which may deliver outcomes in this thread, and rings once if it has.
    fn looking<T>(&self, look: impl FnOnce() -> T) -> T {
        let looks = Looks::begin();
        let result = look();
        drop(looks);
        if !self.arrivals.lock().is_empty() {
            self.arrivals.ring();
        }
        result
    }

    /// Returns the descriptor, to be listened to.
    pub(crate) fn bell(&self) -> std::io::Result<EventFd> {
        self.arrivals.common.host_bell.try_clone()
    }

    /// The pool, for what does not wait for tasks: its numbers and its workers.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Takes no more tasks; those that were submitted are finished. The end of the pool makes the
    /// descriptor readable.
    pub fn close(&self) {
        if self.pool.shared.is_owner() {
            self.pool.close();
            self.arrivals.ring();
        }
    }

    /// Ends every task that is not over, and has the workers leave.
    pub fn terminate(&self) {
        if self.pool.shared.is_owner() {
            self.looking(|| self.pool.terminate());
            self.arrivals.ring();
        }
    }

    /// Returns how the pool ended, or `None` while it is open or workers are still leaving.
    ///
    /// # Errors
    ///
    /// What ended the pool, if that was not its owner; [`Error::Forked`] in a forked child.
    pub fn ended(&self) -> Option<Result<()>> {
        if let Err(error) = self.pool.shared.check_process() {
            return Some(Err(error));
        }
        (self.pool.shared.stage() == Stage::Ended).then(|| self.pool.ended())
    }
}

impl AsFd for PolledPool {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrivals.common.host_bell.as_fd()
    }
}

/// A time in which this thread does not ring for the outcomes that it delivers.
struct Looks(bool);

impl Looks {
    fn begin() -> Self {
        Self(LOOKS.replace(true))
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        LOOKS.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{PollFd, poll};

    /// Waits until `pool` is readable: a watchdog's time at most.
    fn is_readable(pool: &PolledPool, limit: Duration) -> bool {
        let mut fds = [PollFd::readable(pool.as_fd())];
        poll(&mut fds, Some(limit)).unwrap() > 0
    }

    fn built(capacity: usize) -> PolledPool {
        let builder = Pool::builder().processes(1).capacity(capacity);
        PolledPool::new(builder.build().unwrap()).unwrap()
    }

    #[test]
    fn every_task_arrives_once_however_few_are_taken_at_a_time() {
        let pool = built(16);
        let unknown = pool.function("unknown").unwrap();
        let (mut next, mut seen) = (0, Vec::new());
        while seen.len() < 200 {
            let input = vec![7; 100 * next as usize];
            while next < 200 {
                match pool.submit(unknown, &[&input[..], b"x"], TaskOptions::new(), None, next) {
                    Ok(_) => next += 1,
                    Err(error) => {
                        assert!(error.is_full(), "{error}");
                        break;
                    }
                }
            }
            assert!(is_readable(&pool, Duration::from_secs(60)), "{} of {next}", seen.len());
            let mut arrived = Vec::new();
            pool.receive(3, &mut arrived);
            assert!(arrived.len() <= 3);
            assert!(arrived.iter().all(|one| matches!(one.result, Err(TaskError::Refused(_)))));
            seen.extend(arrived.iter().map(|one| one.token));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..200).collect::<Vec<u64>>());
        let mut none = Vec::new();
        pool.receive(1, &mut none);
        // The worker may ring for what was taken before it came to that.
        for looks in 0.. {
            assert!(none.is_empty() && looks < 1000);
            if !is_readable(&pool, Duration::from_millis(20)) {
                break;
            }
            pool.receive(1, &mut none);
        }
    }

    #[test]
    fn a_search_finds_each_outcome_once_and_gives_way() {
        let pool = built(16);
        let unknown = pool.function("unknown").unwrap();
        let bell = crate::sys::eventfd::EventFd::new().unwrap();
        let mut seen = Vec::new();
        for token in 0..50 {
            // Sometimes others are in the way, which may be found out or not.
            if token % 7 == 0 {
                bell.ring().unwrap();
            }
            pool.submit(unknown, &[b"x"], TaskOptions::new(), None, token).unwrap();
            let mut arrived = Vec::new();
            if !pool.search(bell.as_fd(), 16, &mut arrived) {
                assert!(arrived.is_empty());
                // As the contract says: what comes after this makes the descriptor readable.
                pool.receive(16, &mut arrived);
                while arrived.is_empty() {
                    assert!(is_readable(&pool, Duration::from_secs(60)), "{token}");
                    pool.receive(16, &mut arrived);
                }
            }
            assert_eq!(arrived.len(), 1);
            seen.push(arrived[0].token);
            bell.drain().unwrap();
        }
        assert_eq!(seen, (0..50).collect::<Vec<u64>>());
        // A search that found something has said nothing to the descriptor; this does.
        pool.receive(16, &mut Vec::new());
        pool.submit(unknown, &[b"x"], TaskOptions::new(), None, 50).unwrap();
        assert!(is_readable(&pool, Duration::from_secs(60)));
    }

    #[test]
    fn a_broadcast_has_an_outcome_of_each_worker_with_its_own_token() {
        let pool = PolledPool::new(Pool::builder().processes(3).build().unwrap()).unwrap();
        let unknown = pool.function("unknown").unwrap();
        pool.submit(unknown, &[b"x"], TaskOptions::new(), None, 9).unwrap();
        pool.broadcast(unknown, &[b"x", b"y"], TaskOptions::new(), 10).unwrap();
        pool.broadcast(unknown, &[], TaskOptions::new(), 20).unwrap();
        let mut arrived = Vec::new();
        while arrived.len() < 7 {
            assert!(is_readable(&pool, Duration::from_secs(60)), "{arrived:?}");
            pool.receive(2, &mut arrived);
        }
        assert!(arrived.iter().all(|one| matches!(one.result, Err(TaskError::Refused(_)))));
        let mut tokens: Vec<u64> = arrived.iter().map(|one| one.token).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, [9, 10, 11, 12, 20, 21, 22]);
        pool.close();
        let closed = pool.broadcast(unknown, &[], TaskOptions::new(), 30).unwrap_err();
        assert!(matches!(closed, TaskError::PoolClosed { .. }), "{closed}");
    }

    #[test]
    fn what_cannot_be_submitted_says_why() {
        let pool = built(16);
        let function = pool.function("f").unwrap();
        let refused =
            |options, queue| pool.submit(function, &[], options, queue, 0).unwrap_err().to_string();
        assert!(refused(TaskOptions::new().priority(1), None).contains("priority = 1"));
        assert!(refused(TaskOptions::new(), Some(1)).contains("queue = 1"));
        assert!(pool.ended().is_none());
    }

    #[test]
    fn terminating_delivers_every_outcome_and_the_end_is_seen() {
        let pool = built(16);
        let function = pool.function("f").unwrap();
        pool.submit(function, &[], TaskOptions::new(), None, 9).unwrap();
        pool.terminate();
        let mut arrived = Vec::new();
        while arrived.is_empty() || pool.ended().is_none() {
            assert!(is_readable(&pool, Duration::from_secs(60)));
            pool.receive(8, &mut arrived);
        }
        assert_eq!(arrived.len(), 1);
        assert!(pool.ended().unwrap().is_ok());
        let closed = pool.submit(function, &[], TaskOptions::new(), None, 1).unwrap_err();
        assert!(matches!(closed, TaskError::PoolClosed { .. }), "{closed}");
    }
}
