//! A map whose tasks yield their values part by part.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aiopool::{Argument, Part, Value};
use futures_core::Stream;

use super::task::block;
use super::task_set::TaskSet;
use crate::error::ClusterError;

/// Adds a task for an argument to a set.
type Add<V, A> = Box<dyn Fn(&mut TaskSet<Part<V, A>>, A) + Send>;

/// The values of a map whose tasks yield them part by part; see
/// [`Submit::map_parts`](super::Submit::map_parts).
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
    /// Why nothing is begun, until that was given.
    refused: Option<ClusterError>,
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
    V: Value,
    A: Argument + Value,
{
    pub(super) fn new(items: I, tasks: TaskSet<Part<V, A>>, add: Add<V, A>) -> Self {
        let (window, refused) = (tasks.window(), tasks.refuses_parts());
        let items = refused.is_none().then_some(items);
        Self { items, tasks, add, window, refused, values: VecDeque::new() }
    }

    /// Limits how many items are under way at once; at least 1 is used. Each has one part at most
    /// that is computed or was not given yet. The default is that of [`Map::window`](super::Map::window).
    pub fn window(self, items: usize) -> Self {
        Self { window: items.max(1), ..self }
    }

    /// Waits for the next value, or for the error of an item that failed; `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<Result<V, ClusterError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Returns the values one by one, for code that is not async.
    pub fn into_blocking_iter(mut self) -> impl Iterator<Item = Result<V, ClusterError>> {
        std::iter::from_fn(move || block(self.next(), None).flatten())
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
    V: Value,
    A: Argument + Value,
{
    type Item = Result<V, ClusterError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(value) = self.values.pop_front() {
                return Poll::Ready(Some(Ok(value)));
            }
            if let Some(error) = self.refused.take() {
                return Poll::Ready(Some(Err(error)));
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
