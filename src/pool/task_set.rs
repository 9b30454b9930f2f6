//! A batch of tasks, of any functions, that owns its handles.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use serde::de::DeserializeOwned;
use slab::Slab;

use crate::error::{Error, Result};
use crate::queue::{Delivery, For, Receiver, RoomWait, Submission, Ticket};
use crate::supervisor::{CALLER_SPIN_NS, Shared};
use crate::sync::SpinPolicy;
use crate::task::{Argument, Outcome, TaskError, TaskFn, TaskOptions, TryTaskFn, entry};

use super::arrivals::Arrivals;
use super::function::Function;
use super::submit::{Submit, with_encoded};

/// Tasks that are waited for together; see [`Pool::task_set`](crate::Pool::task_set).
///
/// The tasks may be of several functions, as long as all give a `T`. Each has its number in the
/// set, from 0, with which its result comes. What finds no room in a full pool waits in the set, in
/// its order, and is submitted while results are waited for. Dropping the set cancels what is not
/// over, so that no task outlives its scope.
///
/// ```
/// use aiopool::Pool;
///
/// async fn double(x: u64) -> u64 {
///     x * 2
/// }
///
/// async fn parse(text: String) -> Result<u64, std::num::ParseIntError> {
///     text.parse()
/// }
///
/// # fn main() -> aiopool::Result<()> {
/// let pool = Pool::builder().processes(2).build()?;
/// aiopool::block_on(async {
///     let mut tasks = pool.task_set();
///     tasks.apply(double, 4);
///     tasks.try_apply(parse, "7".to_owned());
///     while let Some((number, result)) = tasks.join_next().await {
///         assert_eq!(result.unwrap(), [8, 7][number]);
///     }
/// });
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// [`join_next`](Self::join_next) loses nothing when its future is dropped.
#[must_use = "dropping a set cancels its tasks"]
pub struct TaskSet<T> {
    shared: Arc<Shared>,
    options: TaskOptions,
    arrivals: Arc<Arrivals>,
    /// The same, as the queues know it.
    receiver: Arc<dyn Receiver>,
    /// Tasks that are not over; the key is the token that their outcome comes with.
    tasks: Slab<Member>,
    /// Those of them that wait for room, oldest first.
    waiting: VecDeque<Waiting>,
    /// Its place among the submitters that wait for room.
    turn: Option<RoomWait>,
    /// Results to be given next.
    results: VecDeque<(usize, Outcome)>,
    /// What arrives; keeps its memory.
    taken: Vec<Delivery>,
    /// Tasks that were added so far.
    added: usize,
    since: Option<u64>,
    spin: SpinPolicy,
    value: PhantomData<fn() -> T>,
}

struct Member {
    /// Its number in the set.
    number: usize,
    /// `None` while it waits for room.
    ticket: Option<Ticket>,
}

/// A task that waits for room.
struct Waiting {
    token: u64,
    task: u64,
    function: u32,
    queue: usize,
    input: Vec<u8>,
}

impl<T> std::fmt::Debug for TaskSet<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskSet")
            .field("added", &self.added)
            .field("left", &self.len())
            .finish_non_exhaustive()
    }
}

impl<T> Unpin for TaskSet<T> {}

impl<T> TaskSet<T> {
    pub(super) fn new(submit: Submit<'_>) -> Self {
        let arrivals: Arc<Arrivals> = Arc::default();
        Self {
            shared: Arc::clone(submit.shared),
            options: submit.options,
            receiver: Arc::clone(&arrivals) as Arc<dyn Receiver>,
            arrivals,
            tasks: Slab::new(),
            waiting: VecDeque::new(),
            turn: None,
            results: VecDeque::new(),
            taken: Vec::new(),
            added: 0,
            since: None,
            spin: SpinPolicy::new(CALLER_SPIN_NS),
            value: PhantomData,
        }
    }

    /// Sets the options of the tasks that are added from now on.
    pub fn set_options(&mut self, options: TaskOptions) {
        self.options = options;
    }

    /// Returns how many results are still to come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len() + self.results.len()
    }

    /// Returns whether every result was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns twice the number of tasks that the pool's workers run at once.
    pub(super) fn twice_what_runs(&self) -> usize {
        let plan = &self.shared.plan;
        2 * plan.processes as usize * plan.worker.child_concurrency as usize
    }

    /// Cancels every task that is not over. Their results come as
    /// [`TaskError::Cancelled`], as those of tasks that were over come as they are.
    pub fn abort_all(&mut self) {
        for Waiting { token, .. } in std::mem::take(&mut self.waiting) {
            self.settle(token, Outcome::error(TaskError::Cancelled, 0));
        }
        self.turn = None;
        for (_, member) in &self.tasks {
            if let Some(ticket) = member.ticket {
                self.shared.cancel(ticket);
            }
        }
    }

    /// Adds a task of the function that `known` is, and returns its number.
    fn add<A: Argument>(&mut self, known: Result<Function>, argument: &A) -> usize {
        let number = self.added;
        self.added += 1;
        let added = known.and_then(|function| {
            let shared = Arc::clone(&self.shared);
            with_encoded(|buffer| {
                function.encode(&shared, argument, buffer)?;
                self.submit(number, function, buffer);
                Ok(())
            })
        });
        if let Err(error) = added {
            let error = self.shared.refusal(error);
            self.results.push_back((number, Outcome::error(error, 0)));
        }
        number
    }

    fn submit(&mut self, number: usize, function: Function, input: &[u8]) {
        let task = self.shared.next_task.fetch_add(1, Ordering::Relaxed) as u64;
        let queue = self.shared.queue_for(&function.new_task(task, &self.options, input));
        let token = self.tasks.insert(Member { number, ticket: None }) as u64;
        let waiting = Waiting { token, task, function: function.number, queue, input: Vec::new() };
        // Behind what waits already: the order is the caller's.
        let mut pushed = Err(Error::Full);
        if self.waiting.is_empty() {
            pushed = self.push(&waiting, input);
            if matches!(pushed, Err(Error::Full)) {
                // Outcomes that wait in the lanes hold records.
                self.shared.drain();
                pushed = self.push(&waiting, input);
            }
        }
        match pushed {
            Err(Error::Full) => {
                self.waiting.push_back(Waiting { input: input.to_vec(), ..waiting });
            }
            other => self.submitted(token, other),
        }
    }

    fn push(&self, waiting: &Waiting, input: &[u8]) -> Result<Ticket> {
        let Waiting { token, task, function, queue, .. } = *waiting;
        self.shared.queues[queue].try_submit(Submission {
            task,
            function,
            input,
            options: self.options,
            receiver: For::Many(&self.receiver),
            token,
        })
    }

    /// Takes note of what a submission came to.
    fn submitted(&mut self, token: u64, pushed: Result<Ticket>) {
        match pushed {
            Ok(ticket) => self.tasks[token as usize].ticket = Some(ticket),
            Err(error) => {
                let error = self.shared.refusal(error);
                self.settle(token, Outcome::error(error, 0));
            }
        }
    }

    /// Submits what waits for room, as far as there is some; else `waker` is woken when there is.
    fn fill(&mut self, waker: &Waker) {
        if let Err(error) = self.shared.check_process() {
            // A forked child's copy: nothing in it is the child's.
            self.waiting.clear();
            let mut lost = std::mem::take(&mut self.tasks).into_iter();
            if let Some((_, member)) = lost.next() {
                let outcome = Outcome::error(TaskError::not_submitted(error), 0);
                self.results.push_back((member.number, outcome));
            }
            return;
        }
        let shared = Arc::clone(&self.shared);
        while let Some(waiting) = self.waiting.pop_front() {
            let mut turn = self.turn.take();
            let queue = &shared.queues[waiting.queue];
            let push = || self.push(&waiting, &waiting.input);
            match shared.admit(queue, &mut turn, waker, push) {
                Poll::Ready(pushed) => self.submitted(waiting.token, pushed),
                Poll::Pending => {
                    self.turn = turn;
                    self.waiting.push_front(waiting);
                    return;
                }
            }
        }
    }

    /// The task with this token is over.
    fn settle(&mut self, token: u64, outcome: Outcome) {
        if let Some(member) = self.tasks.try_remove(token as usize) {
            self.results.push_back((member.number, outcome));
        }
    }

    /// Has `waker` woken when outcomes come.
    fn park(&self, waker: &Waker) {
        if self.arrivals.set_waker(waker) {
            self.shared.common.park();
        }
    }

    /// Returns the next result, if it is there; `Some(None)` at the end.
    fn take(&mut self) -> Option<Option<(usize, Outcome)>> {
        // A forked child takes no lock: a thread that it has not may hold it.
        if self.results.is_empty() && self.shared.is_owner() {
            let mut taken = std::mem::take(&mut self.taken);
            self.arrivals.take(&mut taken);
            for Delivery { token, outcome, .. } in taken.drain(..) {
                self.settle(token, outcome);
            }
            self.taken = taken;
        }
        let next = self.results.pop_front();
        (next.is_some() || self.tasks.is_empty()).then_some(next)
    }
}

impl<T: DeserializeOwned + 'static> TaskSet<T> {
    /// Adds a task, as [`Pool::apply`](crate::Pool::apply) takes it. Returns its number in the set.
    pub fn apply<F, A>(&mut self, function: F, argument: A) -> usize
    where
        F: TaskFn<A, Value = T>,
        A: Argument,
    {
        const { F::CHECK };
        let known = self.verbs().know::<F>(entry::vtable(function));
        self.add(known, &argument)
    }

    /// Adds a task, as [`Pool::try_apply`](crate::Pool::try_apply) takes it. Returns its number.
    pub fn try_apply<F, A>(&mut self, function: F, argument: A) -> usize
    where
        F: TryTaskFn<A, Value = T>,
        A: Argument,
    {
        const { F::CHECK };
        let known = self.verbs().know::<F>(entry::try_vtable(function));
        self.add(known, &argument)
    }

    fn verbs(&self) -> Submit<'_> {
        Submit { shared: &self.shared, options: self.options }
    }

    /// Waits for the next task that is over: its number in the set and its result; `None` after
    /// the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn join_next(&mut self) -> Option<(usize, Result<T, TaskError>)> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Waits for every task, and gives the results in the order in which they were added. Those
    /// that [`join_next`](Self::join_next) gave already are not among them.
    ///
    /// # Cancel safety
    ///
    /// When the wait is given up, what is not over is cancelled.
    pub async fn join_all(mut self) -> Vec<Result<T, TaskError>> {
        let mut all = Vec::with_capacity(self.len());
        while let Some(result) = self.join_next().await {
            all.push(result);
        }
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, result)| result).collect()
    }

    /// [`join_next`](Self::join_next) for code that is not async.
    pub fn join_next_blocking(&mut self) -> Option<(usize, Result<T, TaskError>)> {
        let shared = Arc::clone(&self.shared);
        let waker = shared.bell_waker();
        let mut spin = self.spin;
        let found = shared.block_parking(None, &mut spin, |sleeps| {
            self.fill(&waker);
            if sleeps {
                self.park(&waker);
            }
            self.take()
        });
        self.spin = spin;
        let (number, outcome) = found.expect("without a deadline there is a result")?;
        Some((number, outcome.decode()))
    }
}

impl Submit<'_> {
    /// Runs `function` on each of `arguments`, all of which are taken now: a [`TaskSet`] of them,
    /// whose results come with the number of the argument.
    ///
    /// For arguments that are at hand and results that are wanted as they come. A handle for each
    /// ([`apply`](Self::apply) in a loop) costs an allocation and a waker a task, and a future
    /// that polls thousands of handles spends its time on them: 200,000 handles in a `join_all`
    /// take some twenty times as long as [`map`](Self::map), which needs constant memory, too.
    pub fn apply_many<F, A, I>(self, function: F, arguments: I) -> TaskSet<F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        let mut tasks = self.task_set();
        for argument in arguments {
            tasks.apply(function, argument);
        }
        tasks
    }

    /// Returns an empty set for tasks that are waited for together.
    pub fn task_set<T>(self) -> TaskSet<T> {
        TaskSet::new(self)
    }
}

impl<T: DeserializeOwned + 'static> Stream for TaskSet<T> {
    type Item = (usize, Result<T, TaskError>);

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<T, TaskError>)>> {
        self.fill(context.waker());
        let shared = Arc::clone(&self.shared);
        let (mut since, mut spin) = (self.since.take(), self.spin);
        let polled = shared.poll_parking(&mut since, &mut spin, |sleeps| {
            if sleeps {
                self.park(context.waker());
            }
            self.take()
        });
        (self.since, self.spin) = (since, spin);
        if polled.is_pending() {
            // What was received made room: use it before going to sleep.
            self.fill(context.waker());
        }
        polled.map(|next| next.map(|(number, outcome)| (number, outcome.decode())))
    }
}

impl<T> Drop for TaskSet<T> {
    fn drop(&mut self) {
        self.abort_all();
        if self.shared.is_owner() && self.arrivals.clear_waker() {
            self.shared.common.unpark(1);
        }
    }
}
