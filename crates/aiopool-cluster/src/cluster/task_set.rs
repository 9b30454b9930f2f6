//! A batch of tasks, of any functions, that owns its handles.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aiopool::{Argument, TaskFn, TaskOptions, TryTaskFn, Value};
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::map::WINDOW;
use super::submit::Submit;
use super::task::{Task, block};
use super::{Error, Shared};
use crate::error::ClusterError;

/// Tasks that are waited for together; see [`Submit::task_set`](super::Submit::task_set).
///
/// The tasks may be of several functions, as long as all give a `T`. Each has its number in the
/// set, from 0, with which its result comes. Dropping the set calls off what is not over.
///
/// # Cancel safety
///
/// [`join_next`](Self::join_next) loses nothing when its future is dropped.
#[must_use = "dropping a set calls its tasks off"]
pub struct TaskSet<T> {
    shared: Arc<Shared>,
    options: TaskOptions,
    tasks: FuturesUnordered<Member<T>>,
    /// Tasks that were added so far.
    added: usize,
}

/// A task with its number in the set.
struct Member<T>(Task<T>, usize);

impl<T: Value> Future for Member<T> {
    type Output = (usize, Result<T, ClusterError>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let number = self.1;
        Pin::new(&mut self.0).poll(context).map(|result| (number, result))
    }
}

impl<T> std::fmt::Debug for TaskSet<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskSet")
            .field("added", &self.added)
            .field("left", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

impl<T> TaskSet<T> {
    pub(super) fn new(shared: Arc<Shared>, options: TaskOptions) -> Self {
        Self { shared, options, tasks: FuturesUnordered::new(), added: 0 }
    }

    /// Sets the options of the tasks that are added from now on.
    pub fn set_options(&mut self, options: TaskOptions) {
        self.options = options;
    }

    /// Returns how many results are still to come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns whether every result was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Calls every task off that is not over. Their results come as cancelled, as those of tasks
    /// that were over come as they are.
    pub fn abort_all(&mut self) {
        for member in &mut self.tasks {
            member.0.cancel();
        }
    }

    /// Returns how many tasks a map has out at once.
    pub(super) fn window(&self) -> usize {
        WINDOW.min(self.shared.capacity)
    }

    /// Returns why a map of parts is not to add its tasks to this set, if it is not: which part is
    /// the next to begin differs from run to run, and with it the numbers that a durable job goes
    /// by.
    pub(super) fn refuses_parts(&self) -> Option<ClusterError> {
        self.shared.durable.then(|| {
            ClusterError::Ended(Error::InvalidOption {
                name: "map_parts",
                value: "in a durable job".to_owned(),
                allowed: "in a cluster's own job: the order of parts differs from run to run, so \
                          that a job with them cannot be resumed"
                    .to_owned(),
            })
        })
    }

    fn add(&mut self, begin: impl FnOnce(Submit<'_>) -> Task<T>) -> usize {
        let number = self.added;
        self.added += 1;
        let task = begin(Submit { shared: &self.shared, options: self.options });
        self.tasks.push(Member(task, number));
        number
    }
}

impl<T: Value> TaskSet<T> {
    /// Adds a task, as [`Submit::apply`](super::Submit::apply) takes it. Returns its number in the
    /// set.
    pub fn apply<F, A>(&mut self, function: F, argument: A) -> usize
    where
        F: TaskFn<A, Value = T>,
        A: Argument,
    {
        self.add(|submit| submit.apply(function, argument))
    }

    /// Adds a task, as [`Submit::try_apply`](super::Submit::try_apply) takes it. Returns its number.
    pub fn try_apply<F, A>(&mut self, function: F, argument: A) -> usize
    where
        F: TryTaskFn<A, Value = T>,
        A: Argument,
    {
        self.add(|submit| submit.try_apply(function, argument))
    }

    /// Waits for the next task that is over: its number in the set and its result; `None` after
    /// the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn join_next(&mut self) -> Option<(usize, Result<T, ClusterError>)> {
        self.tasks.next().await
    }

    /// Waits for every task, and gives the results in the order in which they were added. Those
    /// that [`join_next`](Self::join_next) gave already are not among them.
    ///
    /// # Cancel safety
    ///
    /// When the wait is given up, what is not over is called off.
    pub async fn join_all(mut self) -> Vec<Result<T, ClusterError>> {
        let mut all = Vec::with_capacity(self.len());
        while let Some(result) = self.join_next().await {
            all.push(result);
        }
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, result)| result).collect()
    }

    /// [`join_next`](Self::join_next) for code that is not async.
    pub fn join_next_blocking(&mut self) -> Option<(usize, Result<T, ClusterError>)> {
        block(self.join_next(), None).flatten()
    }
}

impl<T: Value> Stream for TaskSet<T> {
    type Item = (usize, Result<T, ClusterError>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.tasks.poll_next_unpin(context)
    }
}
