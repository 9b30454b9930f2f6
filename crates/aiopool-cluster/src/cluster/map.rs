//! The results of a `map`.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use aiopool::{Progress, TaskError, TaskOptions, Value, remote};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};

use super::keyed::Enumerated;
use super::progress::Hook;
use super::task::{Task, block};
use super::{Error, Shared};
use crate::error::ClusterError;
use crate::wire::Function;

/// An encoded item, or why it cannot be encoded.
pub type Encoded = Result<Bytes, String>;

/// The results of a function over many items: a stream, or a future of them all.
///
/// Awaited, it gives every value in the order of the items, or the first error, and then calls the
/// rest off. As a stream it gives a result for each item.
#[must_use = "nothing is submitted before it is polled"]
pub struct Map<S, T> {
    shared: Arc<Shared>,
    function: Function,
    options: TaskOptions,
    source: Option<Pin<Box<S>>>,
    window: usize,
    out: Out,
    /// The task of a durable job whose outcome was given last: asking for the next one says that it
    /// was taken.
    pub(super) given: Option<u64>,
    /// Items that were taken from the source.
    items: usize,
    progress: Hook,
    value: PhantomData<fn() -> T>,
}

/// The tasks that are out, their values still encoded.
enum Out {
    Ordered(FuturesOrdered<Numbered>),
    Completed(FuturesUnordered<Numbered>),
}

/// A task that gives its number and its item's place with its outcome, and counts itself then.
struct Numbered(Task<Bytes>, Option<u64>, usize, Arc<AtomicU64>);

impl Future for Numbered {
    type Output = (Option<u64>, usize, Result<Bytes, ClusterError>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (n, item) = (self.1, self.2);
        let outcome = std::task::ready!(Pin::new(&mut self.0).poll(context));
        self.3.fetch_add(1, Ordering::Relaxed);
        Poll::Ready((n, item, outcome))
    }
}

impl<S, T> std::fmt::Debug for Map<S, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map").field("window", &self.window).finish_non_exhaustive()
    }
}

impl<S, T> Unpin for Map<S, T> {}

/// Items that are out at once, unless the caller or the capacity says otherwise.
pub(super) const WINDOW: usize = 1024;

/// Bytes of input that go into one message together, where the server takes so large ones; larger
/// ones go by themselves.
pub(super) const TOGETHER: usize = 16 << 10;

impl<S: Stream<Item = Encoded>, T> Map<S, T> {
    pub(super) fn new(
        shared: Arc<Shared>,
        function: Function,
        options: TaskOptions,
        source: S,
    ) -> Self {
        let window = WINDOW.min(shared.capacity);
        let (source, out) = (Some(Box::pin(source)), Out::Ordered(FuturesOrdered::new()));
        let (given, items, progress, value) = (None, 0, Hook::default(), PhantomData);
        Self { shared, function, options, source, window, out, given, items, progress, value }
    }

    /// Gives results as their tasks end, whatever the order of the items.
    pub fn as_completed(mut self) -> Self {
        self.out = Out::Completed(FuturesUnordered::new());
        self
    }

    /// Takes at most `tasks` items whose results were not given yet. At least 1 is used.
    pub fn window(mut self, tasks: usize) -> Self {
        self.window = tasks.max(1);
        self
    }

    /// Calls `hook` whenever tasks have ended, with how many and of how many, in the thread that
    /// asks for results. In a durable job, what an earlier holder took counts from the start.
    pub fn progress(mut self, hook: impl FnMut(Progress) + Send + 'static) -> Self {
        self.progress.set(hook);
        self
    }
}

impl<S: Stream<Item = Encoded>, T: Value> Map<S, T> {
    /// Gives each result with its item's place among the items, from 0.
    pub fn enumerate(self) -> Enumerated<S, T> {
        Enumerated::new(self)
    }

    /// Returns the next result, or `None` after the last.
    pub async fn next(&mut self) -> Option<Result<T, ClusterError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Returns a result for each item.
    pub async fn results(mut self) -> Vec<Result<T, ClusterError>> {
        let mut all = Vec::new();
        while let Some(result) = self.next().await {
            // In this list alone, as in that of `Collect`.
            self.given = None;
            all.push(result);
        }
        all
    }

    /// Returns the results one by one, for code that is not async.
    pub fn into_blocking_iter(mut self) -> impl Iterator<Item = Result<T, ClusterError>> {
        std::iter::from_fn(move || block(self.next(), None).flatten())
    }
}

impl<S: Stream<Item = Encoded>, T: Value> Stream for Map<S, T> {
    type Item = Result<T, ClusterError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(context).map(|next| next.map(|(_, result)| result))
    }
}

/// A result with its item's place.
pub(super) type Item<T> = (usize, Result<T, ClusterError>);

impl<S: Stream<Item = Encoded>, T: Value> Map<S, T> {
    /// The next result, with its item's place among the items.
    pub(super) fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Item<T>>> {
        let this = self;
        if let Some(n) = this.given.take() {
            this.shared.take(n);
        }
        let len = |out: &Out| match out {
            Out::Ordered(out) => out.len(),
            Out::Completed(out) => out.len(),
        };
        // Where items go together, room is made for a whole message first.
        let fit = this.shared.fit(&this.function, &this.options).min(this.window / 4).max(1);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let is_due = this.window.saturating_sub(len(&this.out)) >= fit || len(&this.out) == 0;
        while is_due && len(&this.out) < this.window {
            let Some(source) = &mut this.source else { break };
            match source.as_mut().poll_next(context) {
                Poll::Ready(Some(input)) => {
                    let size = input.as_ref().map_or(0, Bytes::len);
                    if batch.len() >= fit || bytes + size > this.shared.together {
                        this.shared.submit(std::mem::take(&mut batch));
                        bytes = 0;
                    }
                    bytes += size;
                    let (shared, function) = (&this.shared, this.function.clone());
                    let task = Task::submit_into(shared, function, this.options, input, &mut batch);
                    let item = this.items;
                    this.items += 1;
                    let over = this.progress.counter();
                    if task.was_taken() {
                        over.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let n = task.number();
                    let task = Numbered(task, n, item, over);
                    match &mut this.out {
                        Out::Ordered(out) => out.push_back(task),
                        Out::Completed(out) => out.push(task),
                    }
                }
                Poll::Ready(None) => this.source = None,
                Poll::Pending => break,
            }
        }
        this.shared.submit(batch);
        let next = match &mut this.out {
            Out::Ordered(out) => out.poll_next_unpin(context),
            Out::Completed(out) => out.poll_next_unpin(context),
        };
        let (taken, source) = (this.items as u64, &this.source);
        this.progress.call(|| match source.as_ref().map(|source| source.size_hint()) {
            None => Some(taken),
            Some((least, most)) => (Some(least) == most).then_some(taken + least as u64),
        });
        match next {
            // Nothing is out, but the source may have more.
            Poll::Ready(None) if this.source.is_some() => Poll::Pending,
            next => next.map(|next| {
                let (n, item, result) = next?;
                if this.shared.durable && !is_for_the_next_holder(&result) {
                    this.given = n;
                }
                let decode = |bytes: Bytes| Ok(remote::decode(bytes.into())?);
                Some((item, result.and_then(decode)))
            }),
        }
    }
}

/// Whether a task of a durable job may have another outcome: it has none yet, and its handle's end
/// is what the caller was given in place of it.
fn is_for_the_next_holder(result: &Result<Bytes, ClusterError>) -> bool {
    let Err(error) = result else { return false };
    matches!(
        error,
        ClusterError::Ended(Error::JobLost(_)) | ClusterError::Task(TaskError::PoolClosed { .. })
    )
}

/// Every value of a [`Map`], or the first error; what is out then is called off.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Collect<S, T> {
    map: Option<Map<S, T>>,
    all: Vec<T>,
}

impl<S, T> Unpin for Collect<S, T> {}

impl<S: Stream<Item = Encoded>, T: Value> Future for Collect<S, T> {
    type Output = Result<Vec<T>, ClusterError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let map = this.map.as_mut().expect("polled again after its end");
        loop {
            match Pin::new(&mut *map).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(value))) => {
                    // In this list alone: it counts as taken when the job is finished.
                    map.given = None;
                    this.all.push(value);
                }
                Poll::Ready(Some(Err(error))) => {
                    this.map = None;
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(None) => {
                    this.map = None;
                    return Poll::Ready(Ok(std::mem::take(&mut this.all)));
                }
            }
        }
    }
}

impl<S: Stream<Item = Encoded>, T: Value> IntoFuture for Map<S, T> {
    type Output = Result<Vec<T>, ClusterError>;
    type IntoFuture = Collect<S, T>;

    fn into_future(self) -> Self::IntoFuture {
        Collect { map: Some(self), all: Vec::new() }
    }
}
