//! The handle of one task.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::queue::{For, HostQueue, RoomWait, Submission, Ticket};
use crate::supervisor::{Shared, with_spin};
use crate::task::{TaskError, TaskOptions};

use super::abort::{AbortHandle, Waiting};
use super::function::Function;
use super::one_shot::OneShot;

/// A submitted task; awaiting it gives its value or its [`TaskError`].
///
/// Dropping the handle cancels the task, whether it is running or not; see
/// [`detach`](Self::detach).
///
/// # Cancel safety
///
/// Polling it through a reference and giving up the wait loses nothing.
#[must_use = "dropping the handle cancels the task; see detach()"]
pub struct Task<T> {
    shared: Arc<Shared>,
    state: State,
    since: Option<u64>,
    value: PhantomData<fn() -> T>,
}

enum State {
    /// The pool was full; the encoded input is kept until there is room.
    Unsubmitted(Box<Unsubmitted>),
    Submitted {
        ticket: Ticket,
        outcome: Arc<OneShot>,
    },
    Failed(TaskError),
    Over,
}

struct Unsubmitted {
    function: Function,
    input: Vec<u8>,
    options: TaskOptions,
    number: u64,
    queue: Arc<HostQueue>,
    /// Its place among the submitters that wait for room.
    turn: Option<RoomWait>,
    /// By which it can be cancelled from elsewhere, if it can.
    abort: Option<Arc<Waiting>>,
}

impl Drop for Unsubmitted {
    fn drop(&mut self) {
        self.abort.iter().for_each(|abort| abort.end());
    }
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Unsubmitted(_) => "waits for room",
            State::Submitted { .. } => "submitted",
            State::Failed(_) => "failed",
            State::Over => "over",
        };
        f.debug_tuple("Task").field(&self.id()).field(&state).finish()
    }
}

// A handle holds no `T`: the value is decoded when it is returned.
impl<T> Unpin for Task<T> {}

impl<T> Task<T> {
    pub(super) fn submit(
        shared: &Arc<Shared>,
        options: TaskOptions,
        function: Function,
        input: &[u8],
    ) -> Self {
        let number = shared.next_task.fetch_add(1, Ordering::Relaxed) as u64;
        let chosen = shared.queue_for(&function.new_task(number, &options, input));
        let queue = &shared.queues[chosen];
        let outcome = OneShot::lease();
        let submission = Submission {
            task: number,
            function: function.number,
            input,
            options,
            receiver: For::One(outcome.clone()),
            token: 0,
        };
        let state = match queue.try_submit(submission) {
            Ok(ticket) => State::Submitted { ticket, outcome },
            Err(Error::Full) => State::Unsubmitted(Box::new(Unsubmitted {
                function,
                input: input.to_vec(),
                options,
                number,
                queue: Arc::clone(queue),
                turn: None,
                abort: None,
            })),
            Err(error) => State::Failed(shared.refusal(error)),
        };
        tracing::trace!(
            pool = shared.id,
            task = number,
            function = function.name,
            "a task is submitted"
        );
        Self { shared: Arc::clone(shared), state, since: None, value: PhantomData }
    }

    pub(super) fn failed(shared: &Arc<Shared>, error: TaskError) -> Self {
        let shared = Arc::clone(shared);
        Self { shared, state: State::Failed(error), since: None, value: PhantomData }
    }

    /// Returns the task's number in its pool, or `None` if it was refused or is over.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        match &self.state {
            State::Unsubmitted(unsubmitted) => Some(unsubmitted.number),
            State::Submitted { ticket, .. } => Some(ticket.task),
            State::Failed(_) | State::Over => None,
        }
    }

    /// Returns a handle that cancels the task from elsewhere: another thread, a timer, a signal
    /// handler's task.
    pub fn abort_handle(&mut self) -> AbortHandle {
        match &mut self.state {
            State::Unsubmitted(unsubmitted) => {
                let waiting = unsubmitted.abort.get_or_insert_default();
                AbortHandle::of_waiting(&self.shared, waiting)
            }
            State::Submitted { ticket, .. } => AbortHandle::of_ticket(&self.shared, *ticket),
            State::Failed(_) | State::Over => AbortHandle::of_nothing(&self.shared),
        }
    }

    /// Returns how far the task has come, as it said last with [`progress`](crate::progress);
    /// `None` where it said nothing in this attempt, waits, or is over.
    #[must_use]
    pub fn progress(&self) -> Option<u64> {
        match &self.state {
            State::Submitted { ticket, .. } => self.shared.progress(*ticket),
            _ => None,
        }
    }

    /// Cancels the task as [`cancel`](Self::cancel) does, and has its worker killed if it has not
    /// dropped the task within `grace`: for a function that computes and does not ask
    /// [`is_cancelled`](crate::is_cancelled). What else runs in that worker is lost with it, or
    /// runs again where its caller allowed [`retries`](crate::TaskOptions::retries): a
    /// `child_concurrency(1)` leaves nothing else there.
    pub fn cancel_within(&mut self, grace: Duration) {
        match &self.state {
            State::Submitted { ticket, .. } => {
                self.shared.cancel_within(*ticket, grace);
            }
            _ => self.cancel(),
        }
    }

    /// Calls the task off. The handle then gives [`TaskError::Cancelled`] at once, unless the task
    /// was over before.
    ///
    /// A queued task never runs; of a running one the future is dropped when its worker comes
    /// round to it. A cancel never kills: a function that does not yield keeps its worker busy,
    /// and its place in the pool taken, until it does, or asks
    /// [`is_cancelled`](crate::is_cancelled). What must not run on is cancelled with
    /// [`cancel_within`](Self::cancel_within) or has a [`timeout`](crate::TaskOptions::timeout),
    /// which do kill. The end of the pool waits for neither.
    pub fn cancel(&mut self) {
        match &self.state {
            State::Unsubmitted(_) => self.state = State::Failed(TaskError::Cancelled),
            State::Submitted { ticket, .. } => {
                self.shared.cancel(*ticket);
            }
            State::Failed(_) | State::Over => {}
        }
    }

    /// Lets the task run to its end, and drops its outcome.
    ///
    /// # Errors
    ///
    /// Why it cannot go on: it was refused, or still waits for room in a full pool
    /// ([`TaskError::is_full`]); [`submitted`](Self::submitted) waits until it has some.
    pub fn detach(mut self) -> Result<(), TaskError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Unsubmitted(_) => Err(TaskError::not_submitted(Error::Full)),
            State::Failed(error) => Err(error),
            State::Submitted { .. } | State::Over => Ok(()),
        }
    }

    /// Returns whether the task is in its queue or over, and not waiting for room in a full pool.
    #[must_use]
    pub fn is_submitted(&self) -> bool {
        !matches!(self.state, State::Unsubmitted(_))
    }

    /// Waits until there is room for the task in its queue; for a caller that is to be held up by
    /// a full pool rather than to collect handles that wait.
    ///
    /// # Errors
    ///
    /// Why the task was not submitted; the handle does not give that again.
    ///
    /// # Cancel safety
    ///
    /// Giving up the wait drops the handle, and so cancels the task.
    pub async fn submitted(mut self) -> Result<Self, TaskError> {
        std::future::poll_fn(|context| {
            let Self { shared, state, .. } = &mut self;
            if state.settle(shared, context.waker()) {
                return Poll::Ready(());
            }
            shared.poll_wait(|| state.settle(shared, context.waker()).then_some(()))
        })
        .await;
        self.refused_or_self()
    }

    /// [`submitted`](Self::submitted) without waiting: a full pool is an error.
    ///
    /// # Errors
    ///
    /// Why the task was not submitted; [`TaskError::is_full`] tells whether to try again later.
    pub fn submitted_now(self) -> Result<Self, TaskError> {
        if !self.is_submitted() {
            return Err(TaskError::not_submitted(Error::Full));
        }
        self.refused_or_self()
    }

    /// [`submitted`](Self::submitted) for code that is not async.
    ///
    /// # Errors
    ///
    /// Why the task was not submitted.
    pub fn submitted_blocking(mut self) -> Result<Self, TaskError> {
        let Self { shared, state, .. } = &mut self;
        let waker = shared.bell_waker();
        let _ = shared.block(None, || state.settle(shared, &waker).then_some(()));
        self.refused_or_self()
    }

    fn refused_or_self(mut self) -> Result<Self, TaskError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Failed(error) => Err(error),
            state => {
                self.state = state;
                Ok(self)
            }
        }
    }
}

impl<T: DeserializeOwned + 'static> Task<T> {
    /// Blocks until the task is over.
    ///
    /// # Errors
    ///
    /// What the task ended with.
    ///
    /// # Panics
    ///
    /// If the handle has already given its outcome.
    pub fn wait(mut self) -> Result<T, TaskError> {
        self.wait_until(None).expect("without a deadline there is an outcome")
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
    pub fn wait_timeout(&mut self, limit: Duration) -> Option<Result<T, TaskError>> {
        // A limit past the end of the clock is as good as none.
        self.wait_until(Instant::now().checked_add(limit))
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Option<Result<T, TaskError>> {
        let Self { shared, state, .. } = self;
        let waker = shared.bell_waker();
        let mut settled = false;
        let done = |sleeps| state.look(shared, &waker, &mut settled, sleeps);
        with_spin(|spin| shared.block_parking(deadline, spin, done))
    }
}

impl State {
    /// Submits the task if it waits for room and there is some. Returns true if it no longer waits.
    fn settle(&mut self, shared: &Arc<Shared>, waker: &Waker) -> bool {
        if let (Self::Submitted { .. } | Self::Unsubmitted(_), Err(error)) =
            (&*self, shared.check_process())
        {
            *self = Self::Failed(TaskError::not_submitted(error));
        }
        let Self::Unsubmitted(unsubmitted) = self else { return true };
        let Unsubmitted { function, input, options, number, queue, turn, abort } =
            &mut **unsubmitted;
        if abort.as_ref().is_some_and(|abort| abort.is_aborted(waker)) {
            *self = Self::Failed(TaskError::Cancelled);
            return true;
        }
        let outcome = OneShot::lease();
        let push = || {
            queue.try_submit(Submission {
                task: *number,
                function: function.number,
                input,
                options: *options,
                receiver: For::One(outcome.clone()),
                token: 0,
            })
        };
        let Poll::Ready(pushed) = shared.admit(queue, turn, waker, push) else { return false };
        *self = match pushed {
            Ok(ticket) => {
                if abort.as_ref().is_some_and(|abort| abort.submitted(ticket)) {
                    shared.cancel(ticket);
                }
                Self::Submitted { ticket, outcome }
            }
            Err(error) => Self::Failed(shared.refusal(error)),
        };
        true
    }

    /// Returns the task's outcome, if it has come. If the caller `sleeps` after this, `waker` is
    /// woken when the outcome comes. It is woken in any case when there is room for a task that
    /// waits for room. `settled` remembers between the calls of one wait that the task no longer
    /// does.
    fn look<T: DeserializeOwned + 'static>(
        &mut self,
        shared: &Arc<Shared>,
        waker: &Waker,
        settled: &mut bool,
        sleeps: bool,
    ) -> Option<Result<T, TaskError>> {
        *settled = *settled || self.settle(shared, waker);
        if !*settled {
            return None;
        }
        if sleeps {
            self.park(shared, waker);
        }
        self.take(shared)
    }

    /// Has `waker` woken when the outcome comes.
    fn park(&self, shared: &Shared, waker: &Waker) {
        if let Self::Submitted { outcome, .. } = self
            && outcome.set_waker(waker)
        {
            shared.common.park();
        }
    }

    /// Returns the task's outcome, if it has come.
    fn take<T: DeserializeOwned + 'static>(
        &mut self,
        shared: &Shared,
    ) -> Option<Result<T, TaskError>> {
        match self {
            Self::Submitted { outcome: arrival, .. } => {
                let (outcome, parked) = arrival.take()?;
                if parked {
                    shared.common.unpark(1);
                }
                if let Self::Submitted { outcome, .. } = std::mem::replace(self, Self::Over) {
                    outcome.give_back();
                }
                Some(outcome.decode())
            }
            Self::Failed(_) => match std::mem::replace(self, Self::Over) {
                Self::Failed(error) => Some(Err(error)),
                _ => unreachable!("just matched"),
            },
            Self::Unsubmitted(_) => None,
            Self::Over => panic!("a task's outcome was asked for twice"),
        }
    }
}

impl<T: DeserializeOwned + 'static> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, state, since, .. } = &mut *self;
        let mut settled = false;
        let done = |sleeps| state.look(shared, context.waker(), &mut settled, sleeps);
        with_spin(|spin| shared.poll_parking(since, spin, done))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        // A forked child's copy is of a task that is not the child's.
        if let State::Submitted { ticket, outcome } = &self.state
            && self.shared.is_owner()
        {
            self.shared.cancel(*ticket);
            if outcome.clear_waker() {
                self.shared.common.unpark(1);
            }
        }
    }
}
