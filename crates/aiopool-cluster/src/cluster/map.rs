//! The results of a `map`.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use aiopool::{Progress, TaskError, TaskOptions, Value, remote};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

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
/// Awaited, it gives every value in the order of the items, or the first error that comes, and then
/// calls the rest off. As a stream it gives a result for each item.
#[must_use = "nothing is submitted before it is polled"]
pub struct Map<S, T> {
    shared: Arc<Shared>,
    function: Function,
    options: TaskOptions,
    source: Option<Pin<Box<S>>>,
    window: usize,
    /// The tasks that are out, their values still encoded.
    out: FuturesUnordered<Numbered>,
    /// Outcomes that wait for their turn.
    early: BTreeMap<usize, Came>,
    /// Turns of tasks so far, and of those that were given where results come in order.
    turns: usize,
    given_turns: usize,
    as_completed: bool,
    /// The task of a durable job whose outcome was given last: asking for the next one says that it
    /// was taken.
    pub(super) given: Option<u64>,
    /// Items that were taken from the source.
    items: usize,
    progress: Hook,
    value: PhantomData<fn() -> T>,
}

/// A task of the map, which counts itself when it is over.
struct Numbered {
    task: Task<Bytes>,
    /// Its place in the order of the tasks that are out.
    turn: usize,
    /// Its number in a durable job.
    n: Option<u64>,
    /// Its item's place.
    item: usize,
    over: Arc<AtomicU64>,
}

/// The outcome of a task, with its number and its item's place.
type Came = (Option<u64>, usize, Result<Bytes, ClusterError>);

impl Future for Numbered {
    type Output = (usize, Came);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.task).poll(context));
        self.over.fetch_add(1, Ordering::Relaxed);
        Poll::Ready((self.turn, (self.n, self.item, outcome)))
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
        Self {
            shared,
            function,
            options,
            source: Some(Box::pin(source)),
            window,
            out: FuturesUnordered::new(),
            early: BTreeMap::new(),
            turns: 0,
            given_turns: 0,
            as_completed: false,
            given: None,
            items: 0,
            progress: Hook::default(),
            value: PhantomData,
        }
    }

    /// Gives results as their tasks end, whatever the order of the items.
    pub fn as_completed(mut self) -> Self {
        self.as_completed = true;
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
        let not_given = |this: &Self| this.out.len() + this.early.len();
        // Where items go together, room is made for a whole message first.
        let fit = this.shared.fit(&this.function, &this.options).min(this.window / 4).max(1);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let is_due = this.window.saturating_sub(not_given(this)) >= fit || not_given(this) == 0;
        while is_due && not_given(this) < this.window {
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
                    let (turn, n) = (this.turns, task.number());
                    this.turns += 1;
                    this.out.push(Numbered { task, turn, n, item, over });
                }
                Poll::Ready(None) => this.source = None,
                Poll::Pending => break,
            }
        }
        this.shared.submit(batch);
        let next = this.poll_came(context);
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

    /// The outcome whose turn it is; `None` where nothing is out.
    fn poll_came(&mut self, context: &mut Context<'_>) -> Poll<Option<Came>> {
        loop {
            if let Some(first) = self.early.first_entry()
                && (self.as_completed || *first.key() == self.given_turns)
            {
                self.given_turns += 1;
                return Poll::Ready(Some(first.remove()));
            }
            match ready!(self.out.poll_next_unpin(context)) {
                Some((turn, came)) => drop(self.early.insert(turn, came)),
                None => return Poll::Ready(None),
            }
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

/// Every value of a [`Map`], or the first error that comes, whatever its item; what is out then is
/// called off.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Collect<S, T> {
    /// Gives its results as they come, so that the first error is given at once.
    map: Option<Map<S, T>>,
    /// With their items' places.
    all: Vec<(usize, T)>,
}

impl<S, T> Unpin for Collect<S, T> {}

impl<S: Stream<Item = Encoded>, T: Value> Future for Collect<S, T> {
    type Output = Result<Vec<T>, ClusterError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let map = this.map.as_mut().expect("polled again after its end");
        loop {
            match ready!(map.poll_item(context)) {
                Some((item, Ok(value))) => {
                    // In this list alone: it counts as taken when the job is finished.
                    map.given = None;
                    this.all.push((item, value));
                }
                Some((_, Err(error))) => {
                    this.map = None;
                    return Poll::Ready(Err(error));
                }
                None => {
                    this.map = None;
                    let mut all = std::mem::take(&mut this.all);
                    all.sort_unstable_by_key(|(item, _)| *item);
                    return Poll::Ready(Ok(all.into_iter().map(|(_, value)| value).collect()));
                }
            }
        }
    }
}

impl<S: Stream<Item = Encoded>, T: Value> IntoFuture for Map<S, T> {
    type Output = Result<Vec<T>, ClusterError>;
    type IntoFuture = Collect<S, T>;

    fn into_future(self) -> Self::IntoFuture {
        Collect { map: Some(self.as_completed()), all: Vec::new() }
    }
}
