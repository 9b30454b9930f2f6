//! A map whose tasks yield several values each, or none.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aiopool::{Progress, Value};
use futures_core::Stream;

use super::map::{Encoded, Map};
use super::task::block;
use crate::error::ClusterError;

/// The values of a [`Map`] whose tasks yield several each; see
/// [`Submit::map_flat`](super::Submit::map_flat).
///
/// The values of one task come one after the other. What is held is what the tasks of the
/// [window](Self::window) have yielded, so an endless iterator takes constant memory.
#[must_use = "nothing is submitted before it is polled"]
pub struct Flat<S, V: IntoIterator> {
    map: Map<S, V>,
    /// What is left of the task whose values are being given.
    values: Option<V::IntoIter>,
}

impl<S, V: IntoIterator> std::fmt::Debug for Flat<S, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flat").field("map", &self.map).finish_non_exhaustive()
    }
}

impl<S, V: IntoIterator> Unpin for Flat<S, V> {}

impl<S: Stream<Item = Encoded>, V: IntoIterator> Flat<S, V> {
    pub(super) fn new(map: Map<S, V>) -> Self {
        Self { map, values: None }
    }

    /// Gives the values of each task as it ends, whatever the order of the items.
    pub fn as_completed(self) -> Self {
        Self { map: self.map.as_completed(), ..self }
    }

    /// As [`Map::window`].
    pub fn window(self, tasks: usize) -> Self {
        Self { map: self.map.window(tasks), ..self }
    }

    /// As [`Map::progress`].
    pub fn progress(self, hook: impl FnMut(Progress) + Send + 'static) -> Self {
        Self { map: self.map.progress(hook), ..self }
    }
}

impl<S: Stream<Item = Encoded>, V: IntoIterator + Value> Flat<S, V> {
    /// Waits for the next value, or for the error of a task that has none; `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<Result<V::Item, ClusterError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Returns the values one by one, for code that is not async.
    pub fn into_blocking_iter(mut self) -> impl Iterator<Item = Result<V::Item, ClusterError>> {
        std::iter::from_fn(move || block(self.next(), None).flatten())
    }
}

impl<S: Stream<Item = Encoded>, V: IntoIterator + Value> Stream for Flat<S, V> {
    type Item = Result<V::Item, ClusterError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(value) = self.values.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(value)));
            }
            self.values = None;
            match ready!(Pin::new(&mut self.map).poll_next(context)) {
                Some(Ok(values)) => self.values = Some(values.into_iter()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}
