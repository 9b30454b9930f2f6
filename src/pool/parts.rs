//! A map whose tasks yield their values part by part.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::task::{Argument, TaskError, TaskFn, TryTaskFn, Value};

use super::submit::Submit;
use super::task_set::TaskSet;

/// Some values of an item, and what the function is called with for the next ones; see
/// [`Pool::map_parts`](crate::Pool::map_parts).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part<V, A> {
    /// The values: any number, none too.
    pub values: Vec<V>,
    /// What to go on with; `None` if these were the last values of the item.
    pub next: Option<A>,
}

impl<V, A> Part<V, A> {
    /// Makes a part after which the function is called with `next`.
    pub fn more(values: Vec<V>, next: A) -> Self {
        Self { values, next: Some(next) }
    }

    /// Makes the last part of an item.
    pub fn last(values: Vec<V>) -> Self {
        Self { values, next: None }
    }
}

/// Adds a task for an argument to a set.
type Add<V, A> = Box<dyn Fn(&mut TaskSet<Part<V, A>>, A) + Send>;

/// The values of a map whose tasks yield them part by part; see
/// [`Pool::map_parts`](crate::Pool::map_parts).
///
/// The values of an item come in their order, those of several items among each other as they are
/// there. An item that fails gives its error, and no more values; the others go on.
///
/// # Cancel safety
///
/// [`next`](Self::next) loses nothing when its future is dropped.
#[must_use = "dropping a map cancels its tasks"]
pub struct Parts<I, V, A> {
    items: Option<I>,
    tasks: TaskSet<Part<V, A>>,
    add: Add<V, A>,
    window: usize,
    /// Values of the part that came last.
    values: VecDeque<V>,
}

impl<I, V, A> std::fmt::Debug for Parts<I, V, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tasks, values, .. } = self;
        f.debug_struct("Parts").field("tasks", tasks).field("values", &values.len()).finish()
    }
}

impl<I, V, A> Unpin for Parts<I, V, A> {}

impl<I, V, A> Parts<I, V, A>
where
    I: Iterator<Item = A>,
    V: DeserializeOwned + 'static,
    A: Argument,
{
    fn new(items: I, tasks: TaskSet<Part<V, A>>, add: Add<V, A>) -> Self {
        let window = tasks.twice_what_runs();
        Self { items: Some(items), tasks, add, window, values: VecDeque::new() }
    }

    /// Limits how many items are under way at once; at least 1 is used. Each has one part at most
    /// that is computed or was not given yet. The default is twice as many as the workers run at
    /// once.
    pub fn window(self, items: usize) -> Self {
        Self { window: items.max(1), ..self }
    }

    /// Waits for the next value, or for the error of an item that failed; `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<Result<V, TaskError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Blocks for each value; an iterator for code that is not async.
    pub fn into_blocking_iter(mut self) -> impl Iterator<Item = Result<V, TaskError>> {
        std::iter::from_fn(move || {
            loop {
                if let Some(value) = self.values.pop_front() {
                    return Some(Ok(value));
                }
                self.fill();
                match self.tasks.join_next_blocking()?.1 {
                    Ok(part) => self.take(part),
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }

    /// Begins items as the window has room.
    fn fill(&mut self) {
        while self.tasks.len() < self.window
            && let Some(items) = &mut self.items
        {
            match items.next() {
                Some(item) => (self.add)(&mut self.tasks, item),
                None => self.items = None,
            }
        }
    }

    /// Gives the values of a part next, while the item's next part is computed.
    fn take(&mut self, part: Part<V, A>) {
        self.values.extend(part.values);
        if let Some(next) = part.next {
            (self.add)(&mut self.tasks, next);
        }
    }
}

impl<I, V, A> Stream for Parts<I, V, A>
where
    I: Iterator<Item = A>,
    V: DeserializeOwned + 'static,
    A: Argument,
{
    type Item = Result<V, TaskError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<V, TaskError>>> {
        loop {
            if let Some(value) = self.values.pop_front() {
                return Poll::Ready(Some(Ok(value)));
            }
            self.fill();
            match ready!(Pin::new(&mut self.tasks).poll_next(context)) {
                Some((_, Ok(part))) => self.take(part),
                Some((_, Err(error))) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Submit<'_> {
    /// [`map`](Self::map) for a function that yields its values part by part, for results that are
    /// too large, or take too long, to come at once.
    ///
    /// The function returns a [`Part`]: some values, and what it is to be called with for the next
    /// ones, in whichever worker. So a reader of values that stops holds the tasks up, and memory
    /// is bounded by the [window](Parts::window). Each part is a task: options, such as `timeout`
    /// and `retries`, are of each, and a death costs one part and no value that was given.
    pub fn map_parts<F, V, A, I>(self, function: F, items: I) -> Parts<I::IntoIter, V, A>
    where
        F: TaskFn<A, Value = Part<V, A>>,
        V: Value,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        let add = move |tasks: &mut TaskSet<F::Value>, argument| {
            tasks.apply(function, argument);
        };
        Parts::new(items.into_iter(), self.task_set(), Box::new(add))
    }

    /// [`map_parts`](Self::map_parts) for a function that returns a `Result`.
    pub fn try_map_parts<F, V, A, I>(self, function: F, items: I) -> Parts<I::IntoIter, V, A>
    where
        F: TryTaskFn<A, Value = Part<V, A>>,
        V: Value,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        let add = move |tasks: &mut TaskSet<F::Value>, argument| {
            tasks.try_apply(function, argument);
        };
        Parts::new(items.into_iter(), self.task_set(), Box::new(add))
    }
}
