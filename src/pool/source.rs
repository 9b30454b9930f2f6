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

    /// Returns how many items are left, where that is known.
    fn left(&self) -> Option<usize> {
        None
    }
}

impl<I: Iterator<Item: Argument>> Source for I {
    type Item = I::Item;

    fn poll_item(&mut self, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.next())
    }

    fn left(&self) -> Option<usize> {
        exact(self.size_hint())
    }
}

/// Returns the number that a size hint says, if it says one.
pub(super) fn exact((least, most): (usize, Option<usize>)) -> Option<usize> {
    most.filter(|&most| most == least)
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

    fn left(&self) -> Option<usize> {
        exact(self.0.size_hint())
    }
}
