//! A map whose tasks yield several values each, or none.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use serde::de::DeserializeOwned;

use crate::pool::source::Source;
use crate::task::TaskError;

use super::{Map, Progress};

/// The values of a map whose tasks yield several each; see
/// [`Pool::map_flat`](crate::Pool::map_flat).
///
/// The values of one task come one after the other. What is held is what the tasks of the
/// [window](Self::window) have yielded, so an endless iterator takes constant memory.
///
/// # Cancel safety
///
/// [`next`](Self::next) loses nothing when its future is dropped.
#[must_use = "a map does nothing until it is polled"]
pub struct Flat<S: Source, V: IntoIterator> {
    map: Map<S, V>,
    /// What is left of the task whose values are being given.
    values: Option<V::IntoIter>,
}

impl<S: Source, V: IntoIterator> std::fmt::Debug for Flat<S, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flat").field("map", &self.map).finish_non_exhaustive()
    }
}

impl<S: Source, V: IntoIterator> Unpin for Flat<S, V> {}

impl<S: Source, V: IntoIterator> Flat<S, V> {
    pub(in crate::pool) fn new(map: Map<S, V>) -> Self {
        Self { map, values: None }
    }

    /// Gives the values of each task as it ends, whatever the order of the items.
    pub fn as_completed(self) -> Self {
        Self { map: self.map.as_completed(), ..self }
    }

    /// Limits how many items are taken whose values were not given yet; at least 1 is used.
    pub fn window(self, tasks: usize) -> Self {
        Self { map: self.map.window(tasks), ..self }
    }

    /// Calls `hook` whenever tasks have ended, as [`Map::progress`] does.
    pub fn progress(self, hook: impl FnMut(Progress) + Send + 'static) -> Self {
        Self { map: self.map.progress(hook), ..self }
    }

    /// Returns the next value of the task whose values are being given.
    fn at_hand(&mut self) -> Option<V::Item> {
        let next = self.values.as_mut()?.next();
        if next.is_none() {
            self.values = None;
        }
        next
    }
}

impl<S: Source, V: IntoIterator + DeserializeOwned + 'static> Flat<S, V> {
    /// Waits for the next value, or for the error of a task that has none; `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<Result<V::Item, TaskError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Blocks for each value; an iterator for code that is not async.
    pub fn into_blocking_iter(mut self) -> impl Iterator<Item = Result<V::Item, TaskError>> {
        std::iter::from_fn(move || {
            loop {
                if let Some(value) = self.at_hand() {
                    return Some(Ok(value));
                }
                match self.map.next_blocking()? {
                    Ok(values) => self.values = Some(values.into_iter()),
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }
}

impl<S: Source, V: IntoIterator + DeserializeOwned + 'static> Stream for Flat<S, V> {
    type Item = Result<V::Item, TaskError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<V::Item, TaskError>>> {
        loop {
            if let Some(value) = self.at_hand() {
                return Poll::Ready(Some(Ok(value)));
            }
            match ready!(self.map.poll_result(context)) {
                Some(Ok(values)) => self.values = Some(values.into_iter()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}
