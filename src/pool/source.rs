//! Where the items of a `map` come from: an iterator or an async stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Items that a `map` takes as it has room for them.
pub trait Source {
    /// What is mapped.
    type Item: Serialize + DeserializeOwned + 'static;

    /// The next item; as [`Stream::poll_next`].
    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Self::Item>>;
}

/// Items of an iterator.
#[derive(Debug)]
pub struct FromIter<I>(pub(super) I);

impl<I> Source for FromIter<I>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned + 'static,
{
    type Item = I::Item;

    fn poll_item(&mut self, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

/// Items of an async stream.
#[derive(Debug)]
pub struct FromStream<S>(Pin<Box<S>>);

impl<S> FromStream<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Box::pin(stream))
    }
}

impl<S> Source for FromStream<S>
where
    S: Stream,
    S::Item: Serialize + DeserializeOwned + 'static,
{
    type Item = S::Item;

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(context)
    }
}
