//! Results with what tells which item they are of: its place, or a key.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use aiopool::{Progress, Value};
use futures_core::Stream;

use super::map::{Encoded, Item, Map};
use super::task::block;
use crate::error::ClusterError;

/// The results of a [`Map`], each with its item's place; see [`Map::enumerate`].
#[derive(Debug)]
#[must_use = "nothing is submitted before it is polled"]
pub struct Enumerated<S, T>(Map<S, T>);

impl<S: Stream<Item = Encoded>, T: Value> Enumerated<S, T> {
    pub(super) fn new(map: Map<S, T>) -> Self {
        Self(map)
    }

    /// Returns the next result with its item's place, or `None` after the last.
    pub async fn next(&mut self) -> Option<(usize, Result<T, ClusterError>)> {
        std::future::poll_fn(|context| self.0.poll_item(context)).await
    }

    /// Returns the results one by one, for code that is not async.
    pub fn into_blocking_iter(mut self) -> impl Iterator<Item = (usize, Result<T, ClusterError>)> {
        std::iter::from_fn(move || block(self.next(), None).flatten())
    }
}

impl<S: Stream<Item = Encoded>, T: Value> Stream for Enumerated<S, T> {
    type Item = Item<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item<T>>> {
        self.0.poll_item(context)
    }
}

/// The keys of the items that are out, by their places.
type Keys<K> = Arc<Mutex<HashMap<usize, K>>>;

/// Results with the keys of their items; see [`Submit::map_keyed`](super::Submit::map_keyed).
#[must_use = "nothing is submitted before it is polled"]
pub struct Keyed<S, K, T> {
    map: Map<S, T>,
    keys: Keys<K>,
}

impl<S, K, T> std::fmt::Debug for Keyed<S, K, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keyed").field(&self.map).finish()
    }
}

impl<S, K, T> Unpin for Keyed<S, K, T> {}

/// Splits items into keys, which stay here, and arguments.
pub(super) fn split<K, A>(
    items: impl IntoIterator<Item = (K, A)>,
) -> (Keys<K>, impl Iterator<Item = A>) {
    let keys: Keys<K> = Arc::default();
    let kept = Arc::clone(&keys);
    let arguments = items.into_iter().enumerate().map(move |(place, (key, argument))| {
        kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(place, key);
        argument
    });
    (keys, arguments)
}

impl<S: Stream<Item = Encoded>, K, T: Value> Keyed<S, K, T> {
    pub(super) fn new(map: Map<S, T>, keys: Keys<K>) -> Self {
        Self { map, keys }
    }

    /// Gives results as their tasks end, whatever the order of the items.
    pub fn as_completed(mut self) -> Self {
        self.map = self.map.as_completed();
        self
    }

    /// As [`Map::window`].
    pub fn window(mut self, tasks: usize) -> Self {
        self.map = self.map.window(tasks);
        self
    }

    /// As [`Map::progress`].
    pub fn progress(mut self, hook: impl FnMut(Progress) + Send + 'static) -> Self {
        self.map = self.map.progress(hook);
        self
    }

    /// Returns the next result with its key, or `None` after the last.
    pub async fn next(&mut self) -> Option<(K, Result<T, ClusterError>)> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Returns a key and a result for each item.
    pub async fn results(mut self) -> Vec<(K, Result<T, ClusterError>)> {
        let mut all = Vec::new();
        while let Some(result) = self.next().await {
            self.map.given = None;
            all.push(result);
        }
        all
    }

    /// Returns keys and results one by one, for code that is not async.
    pub fn into_blocking_iter(mut self) -> impl Iterator<Item = (K, Result<T, ClusterError>)> {
        std::iter::from_fn(move || block(self.next(), None).flatten())
    }
}

impl<S: Stream<Item = Encoded>, K, T: Value> Stream for Keyed<S, K, T> {
    type Item = (K, Result<T, ClusterError>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.map.poll_item(context).map(|next| {
            let (place, result) = next?;
            let mut keys = this.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Some((keys.remove(&place)?, result))
        })
    }
}
