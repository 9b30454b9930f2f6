//! Where the items of a `map` come from: an iterator or an async stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::task::Argument;
use futures_core::Stream;

/// Items that a `map` takes as it has room for them: those of any iterator, or of a stream.
pub trait Source {
    /// What is mapped.
    type Item: Argument;

    /// Polls for the next item, like [`Stream::poll_next`].
    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Self::Item>>;
}

impl<I: Iterator<Item: Argument>> Source for I {
    type Item = I::Item;

    fn poll_item(&mut self, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.next())
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

impl<S: Stream<Item: Argument>> Source for FromStream<S> {
    type Item = S::Item;

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(context)
    }
}
