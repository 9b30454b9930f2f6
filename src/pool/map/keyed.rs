//! Results that say which item they belong to: by its number, or by a key of the caller's.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::de::DeserializeOwned;

use crate::pool::source::{Source, exact};
use crate::sync::lock;
use crate::task::{Argument, TaskError};

use super::{Map, Progress};

/// The results of a [`Map`], each with the number of its item; see [`Map::enumerate`].
///
/// # Cancel safety
///
/// [`next`](Self::next) loses nothing when its future is dropped.
#[derive(Debug)]
#[must_use = "a map does nothing until it is polled"]
pub struct Enumerated<S: Source, T> {
    map: Map<S, T>,
}

impl<S: Source, T> Enumerated<S, T> {
    pub(super) fn new(map: Map<S, T>) -> Self {
        Self { map }
    }
}

impl<S: Source, T: DeserializeOwned + 'static> Enumerated<S, T> {
    /// Waits for the next result, in the order of the map; `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<(usize, Result<T, TaskError>)> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Blocks for each result; an iterator for code that is not async.
    pub fn into_blocking_iter(mut self) -> impl Iterator<Item = (usize, Result<T, TaskError>)> {
        std::iter::from_fn(move || {
            let result = self.map.next_blocking()?;
            Some((self.map.results.given() as usize, result))
        })
    }
}

impl<S: Source, T: DeserializeOwned + 'static> Stream for Enumerated<S, T> {
    type Item = (usize, Result<T, TaskError>);

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<T, TaskError>)>> {
        let polled = self.map.poll_result(context);
        polled.map(|result| result.map(|result| (self.map.results.given() as usize, result)))
    }
}

/// The results of [`Pool::map_keyed`](crate::Pool::map_keyed), each with the key of its item.
///
/// In the order of the items, or [as completed](Self::as_completed). Every item that was taken
/// gives one result with its key. Dropping it cancels what is not over.
///
/// # Cancel safety
///
/// [`next`](Self::next) loses nothing when its future is dropped.
#[must_use = "a map does nothing until it is polled"]
pub struct Keyed<I, K, A, T>
where
    I: Iterator<Item = (K, A)>,
    A: Argument,
{
    map: Map<Keys<I, K>, T>,
    kept: Kept<K>,
}

/// The keys of the items whose results were not given yet, by the numbers of the items.
type Kept<K> = Arc<Mutex<HashMap<u64, K>>>;

/// Items that leave their keys behind; a [`Source`] of what is mapped.
pub struct Keys<I, K> {
    items: I,
    taken: u64,
    kept: Kept<K>,
}

impl<I, K> Keys<I, K> {
    pub(in crate::pool) fn new(items: I) -> Self {
        Self { items, taken: 0, kept: Kept::default() }
    }
}

impl<I, K> std::fmt::Debug for Keys<I, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl<I: Iterator<Item = (K, A)>, K, A: Argument> Source for Keys<I, K> {
    type Item = A;

    fn poll_item(&mut self, _: &mut Context<'_>) -> Poll<Option<A>> {
        Poll::Ready(self.items.next().map(|(key, argument)| {
            lock(&self.kept).insert(self.taken, key);
            self.taken += 1;
            argument
        }))
    }

    fn left(&self) -> Option<usize> {
        exact(self.items.size_hint())
    }
}

impl<I, K, A, T> std::fmt::Debug for Keyed<I, K, A, T>
where
    I: Iterator<Item = (K, A)>,
    A: Argument,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyed").field("map", &self.map).finish_non_exhaustive()
    }
}

impl<I, K, A, T> Unpin for Keyed<I, K, A, T>
where
    I: Iterator<Item = (K, A)>,
    A: Argument,
{
}

impl<I, K, A, T> Keyed<I, K, A, T>
where
    I: Iterator<Item = (K, A)>,
    A: Argument,
{
    pub(in crate::pool) fn new(
        map: impl FnOnce(Keys<I, K>) -> Map<Keys<I, K>, T>,
        items: I,
    ) -> Self {
        let keys = Keys::new(items);
        let kept = Arc::clone(&keys.kept);
        Self { map: map(keys), kept }
    }

    /// Gives results as their tasks end, whatever the order of the items.
    pub fn as_completed(self) -> Self {
        Self { map: self.map.as_completed(), ..self }
    }

    /// Limits how many items are taken whose results were not given yet; at least 1 is used.
    pub fn window(self, tasks: usize) -> Self {
        Self { map: self.map.window(tasks), ..self }
    }

    /// Calls `hook` whenever tasks have ended, as [`Map::progress`] does.
    pub fn progress(self, hook: impl FnMut(Progress) + Send + 'static) -> Self {
        Self { map: self.map.progress(hook), ..self }
    }

    /// Joins the result that the map gave last with the key of its item. `None` if there was no
    /// item: a map that the pool refuses has an error even without one.
    fn join(&self, result: Result<T, TaskError>) -> Option<(K, Result<T, TaskError>)> {
        let key = lock(&self.kept).remove(&self.map.results.given())?;
        Some((key, result))
    }
}

impl<I, K, A, T> Keyed<I, K, A, T>
where
    I: Iterator<Item = (K, A)>,
    A: Argument,
    T: DeserializeOwned + 'static,
{
    /// Waits for the next result; `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<(K, Result<T, TaskError>)> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Waits for all tasks and gives each one's own result with its key.
    ///
    /// # Cancel safety
    ///
    /// When the wait is given up, what is not over is cancelled.
    pub async fn results(mut self) -> Vec<(K, Result<T, TaskError>)> {
        let mut all = Vec::new();
        while let Some(result) = self.next().await {
            all.push(result);
        }
        all
    }

    /// Blocks for each result; an iterator for code that is not async.
    pub fn into_blocking_iter(mut self) -> impl Iterator<Item = (K, Result<T, TaskError>)> {
        std::iter::from_fn(move || {
            let result = self.map.next_blocking()?;
            self.join(result)
        })
    }
}

impl<I, K, A, T> Stream for Keyed<I, K, A, T>
where
    I: Iterator<Item = (K, A)>,
    A: Argument,
    T: DeserializeOwned + 'static,
{
    type Item = (K, Result<T, TaskError>);

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<(K, Result<T, TaskError>)>> {
        let polled = self.map.poll_result(context);
        polled.map(|result| result.and_then(|result| self.join(result)))
    }
}
