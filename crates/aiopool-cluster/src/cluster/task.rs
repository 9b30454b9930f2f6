//! The handle of one task.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use aiopool::{TaskOptions, Value, remote};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, oneshot};

use super::Shared;
use super::map::Encoded;
use super::submit::check;
use crate::error::ClusterError;
use crate::keeper::{Command, Outcome, Recipient, Submission};
use crate::wire::Function;

/// A submitted task; awaiting it gives its value or its [`ClusterError`].
///
/// Dropping the handle calls the task off; see [`detach`](Self::detach).
///
/// # Cancel safety
///
/// Polling it through a reference and giving up the wait loses nothing.
#[must_use = "dropping the handle calls the task off; see detach()"]
pub struct Task<T> {
    shared: Arc<Shared>,
    state: State,
    attempts: u32,
    value: PhantomData<fn() -> T>,
}

enum State {
    /// Too many tasks are out.
    Waiting(Box<Waiting>),
    Out {
        n: u64,
        outcome: oneshot::Receiver<(Outcome, u32)>,
    },
    Failed(ClusterError),
    Over,
}

struct Waiting {
    /// The number, where tasks are numbered in the order of their submission.
    n: Option<u64>,
    function: Function,
    options: TaskOptions,
    build: String,
    input: Bytes,
    room: BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>,
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Waiting(_) => "waits for room",
            State::Out { .. } => "submitted",
            State::Failed(_) => "failed",
            State::Over => "over",
        };
        f.debug_tuple("Task").field(&self.id()).field(&state).finish()
    }
}

// The value is not in there before it is returned.
impl<T> Unpin for Task<T> {}

impl<T> Task<T> {
    pub(super) fn submit(
        shared: &Arc<Shared>,
        function: Function,
        options: TaskOptions,
        input: Encoded,
    ) -> Self {
        let mut batch = Vec::new();
        let task = Self::submit_into(shared, function, options, input, &mut batch);
        shared.submit(batch);
        task
    }

    /// Makes a task; what is to be submitted of it now is added to `batch`.
    pub(super) fn submit_into(
        shared: &Arc<Shared>,
        function: Function,
        options: TaskOptions,
        input: Encoded,
        batch: &mut Vec<Submission>,
    ) -> Self {
        let mut task = Self {
            shared: Arc::clone(shared),
            state: State::Over,
            attempts: 0,
            value: PhantomData,
        };
        task.state = match check(shared, &options, input) {
            Err(error) => State::Failed(error),
            Ok((build, input)) => {
                let n = shared.durable.then(|| shared.next.fetch_add(1, Ordering::Relaxed));
                if let Some(n) = n.filter(|&n| n < shared.skip) {
                    task.state = State::Failed(ClusterError::Taken { n });
                    return task;
                }
                let room = Box::pin(Arc::clone(&shared.room).acquire_owned());
                let waiting = Waiting { n, function, options, build, input, room };
                match Arc::clone(&shared.room).try_acquire_owned() {
                    Ok(permit) => task.send(waiting, permit, batch),
                    Err(_) => State::Waiting(Box::new(waiting)),
                }
            }
        };
        task
    }

    fn send(
        &self,
        waiting: Waiting,
        room: OwnedSemaphorePermit,
        batch: &mut Vec<Submission>,
    ) -> State {
        if self.shared.closed.load(Ordering::Relaxed) {
            return State::Failed(aiopool::TaskError::PoolClosed { reason: None }.into());
        }
        let (handle, outcome) = oneshot::channel();
        let to = Recipient { handle, _room: room };
        let Waiting { n, function, options, build, input, .. } = waiting;
        let n = n.unwrap_or_else(|| self.shared.next.fetch_add(1, Ordering::Relaxed));
        batch.push(Submission { n, function, build, input, options, to });
        State::Out { n, outcome }
    }

    /// Returns the task's number in its job, or `None` if it is not submitted or is over.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        match &self.state {
            State::Out { n, .. } => Some(*n),
            _ => None,
        }
    }

    /// Returns the number that the task has in its job, also where it waits for room; `None` where
    /// it was refused or is over, and where tasks are numbered only when they are sent.
    pub(super) fn number(&self) -> Option<u64> {
        match &self.state {
            State::Out { n, .. } => Some(*n),
            State::Waiting(waiting) => waiting.n,
            State::Failed(_) | State::Over => None,
        }
    }

    /// Returns whether the outcome was taken before the job was resumed.
    pub(super) fn was_taken(&self) -> bool {
        matches!(self.state, State::Failed(ClusterError::Taken { .. }))
    }

    /// Returns whether the task is submitted or over, and does not wait for room.
    #[must_use]
    pub fn is_submitted(&self) -> bool {
        !matches!(self.state, State::Waiting(_))
    }

    /// Returns how many attempts were made, once the outcome was given; 0 before, and where nothing
    /// of the task was stored. A task that ended while it waited for a node, called off or expired,
    /// counts the attempt that it waited for.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Calls the task off. A task that no node has claimed never runs; one that runs ends on its
    /// node, and its outcome is not taken. The handle then gives what was decided first.
    pub fn cancel(&mut self) {
        match &self.state {
            State::Waiting(_) => {
                self.state = State::Failed(aiopool::TaskError::Cancelled.into());
            }
            State::Out { n, .. } => self.shared.command(Command::Cancel(*n)),
            State::Failed(_) | State::Over => {}
        }
    }

    /// Lets the task go on without anybody waiting for its outcome, as long as the cluster handle
    /// lives.
    ///
    /// # Errors
    ///
    /// Why it cannot go on: it was refused, or waits for room.
    pub fn detach(mut self) -> Result<(), ClusterError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Failed(error) => Err(error),
            State::Waiting(_) => {
                let error = aiopool::Error::Full;
                Err(aiopool::TaskError::NotSubmitted(Arc::new(error)).into())
            }
            State::Out { .. } | State::Over => Ok(()),
        }
    }

    /// Waits until the task is submitted.
    ///
    /// # Errors
    ///
    /// Why it was not; the handle does not give that again.
    pub async fn submitted(mut self) -> Result<Self, ClusterError> {
        std::future::poll_fn(|context| self.settle(context)).await;
        self.refused_or_self()
    }

    /// [`submitted`](Self::submitted) without waiting.
    ///
    /// # Errors
    ///
    /// As [`submitted`](Self::submitted), and where too many tasks are out.
    pub fn submitted_now(self) -> Result<Self, ClusterError> {
        if !self.is_submitted() {
            let error = Arc::new(aiopool::Error::Full);
            return Err(aiopool::TaskError::NotSubmitted(error).into());
        }
        self.refused_or_self()
    }

    /// [`submitted`](Self::submitted) for code that is not async.
    ///
    /// # Errors
    ///
    /// As [`submitted`](Self::submitted).
    pub fn submitted_blocking(self) -> Result<Self, ClusterError> {
        block(self.submitted(), None).expect("without a limit there is a result")
    }

    fn refused_or_self(mut self) -> Result<Self, ClusterError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Failed(error) => Err(error),
            state => {
                self.state = state;
                Ok(self)
            }
        }
    }

    /// Gives up a forked process's copy without dropping it, as [`Shared::leave_behind`].
    fn leave_behind(&mut self) {
        self.shared.leave_behind();
        std::mem::forget(std::mem::replace(&mut self.state, State::Over));
    }

    /// Submits what waits for room, if there is some.
    fn settle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let State::Waiting(waiting) = &mut self.state else { return Poll::Ready(()) };
        let Poll::Ready(permit) = waiting.room.as_mut().poll(context) else {
            return Poll::Pending;
        };
        let State::Waiting(waiting) = std::mem::replace(&mut self.state, State::Over) else {
            return Poll::Ready(());
        };
        self.state = match permit {
            Ok(permit) => {
                let mut batch = Vec::new();
                let state = self.send(*waiting, permit, &mut batch);
                self.shared.submit(batch);
                state
            }
            Err(_) => State::Failed(aiopool::TaskError::PoolClosed { reason: None }.into()),
        };
        Poll::Ready(())
    }
}

impl<T: Value> Task<T> {
    /// Blocks until the task is over.
    ///
    /// # Errors
    ///
    /// What the task ended with.
    pub fn wait(self) -> Result<T, ClusterError> {
        block(self, None).expect("without a limit there is a result")
    }

    /// Blocks until the task is over, at most `limit`; `None` if it is not over by then.
    ///
    /// # Errors
    ///
    /// What the task ended with.
    ///
    /// # Panics
    ///
    /// If the handle has already given its outcome.
    pub fn wait_timeout(&mut self, limit: Duration) -> Option<Result<T, ClusterError>> {
        block(self, Some(limit))
    }
}

impl<T: Value> Future for Task<T> {
    type Output = Result<T, ClusterError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let (State::Out { .. } | State::Waiting(_), Err(error)) =
            (&self.state, self.shared.check_process())
        {
            self.leave_behind();
            return Poll::Ready(Err(error.into()));
        }
        if self.settle(context).is_pending() {
            return Poll::Pending;
        }
        let outcome = match &mut self.state {
            State::Out { outcome, .. } => match Pin::new(outcome).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(outcome) => outcome,
            },
            State::Failed(_) => {
                let State::Failed(error) = std::mem::replace(&mut self.state, State::Over) else {
                    unreachable!("just matched")
                };
                return Poll::Ready(Err(error));
            }
            State::Waiting(_) | State::Over => panic!("a task's outcome was asked for twice"),
        };
        self.state = State::Over;
        let gone = |_| (Err(ClusterError::Ended(self.shared.gone())), 0);
        let (outcome, attempts) = outcome.unwrap_or_else(gone);
        self.attempts = attempts;
        Poll::Ready(match outcome {
            Ok(bytes) => remote::decode(bytes.into()).map_err(ClusterError::from),
            Err(error) => Err(error),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if self.shared.check_process().is_err() {
            return self.leave_behind();
        }
        if let State::Out { n, .. } = &self.state
            && !self.shared.durable
        {
            self.shared.command(Command::Cancel(*n));
        }
    }
}

/// Wakes the thread that blocks.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread until `future` is ready, at most `limit`.
pub(super) fn block<F: Future>(future: F, limit: Option<Duration>) -> Option<F::Output> {
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match end.map(|end| end.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => std::thread::park_timeout(left),
        }
    }
}
