//! The stream of a `map`: lazy input, constant memory, ordered or as completed.

mod feed;
mod flat;
mod gathered;
mod keyed;
mod progress;
mod results;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::queue::{Delivery, Receiver};
use crate::supervisor::{CALLER_SPIN_NS, Shared};
use crate::sync::{SpinPolicy, spin_hint};
use crate::sys::clock::monotonic_ns;
use crate::task::{Outcome, TaskError, TaskOptions};

use super::arrivals::Arrivals;
use super::function::Function;
use super::source::Source;
use feed::Feed;
use results::Results;

pub use flat::Flat;
pub use keyed::{Enumerated, Keyed};
pub use progress::Progress;

/// The results of a `map`, a stream of `Result<T, TaskError>`.
///
/// In the order of the items, or [as completed](Self::as_completed). Awaited whole, it gives a
/// `Vec<T>`, or the first error as soon as it is there and cancels the other tasks;
/// [`results`](Self::results) gives every task's own result. Dropping it cancels what is not over
/// and frees the rest.
///
/// # Cancel safety
///
/// [`next`](Self::next) loses nothing when its future is dropped.
#[must_use = "a map does nothing until it is polled or awaited"]
pub struct Map<S: Source, T> {
    shared: Arc<Shared>,
    feed: Feed<S>,
    results: Results,
    arrivals: Arc<Arrivals>,
    /// What arrived and is being sorted in; changes places with the list in `arrivals`, so that
    /// neither is ever allocated anew.
    taken: Vec<Delivery>,
    /// How many items may be taken whose results were not given yet.
    window: usize,
    since: Option<u64>,
    /// How long results take. Each map has its own: the wait for a single task says nothing of it.
    spin: SpinPolicy,
    /// The last poll brought fewer than [`FEW`] results.
    few: bool,
    progress: progress::Hook,
    value: PhantomData<fn() -> T>,
}

/// With at least this many tasks in flight, polling the lanes for fewer than `FEW` results is a
/// loss: it costs as much as polling for many, and takes the cache line that the worker is writing.
const MANY: usize = 256;
const FEW: usize = 32;
/// How long the next poll is put off in that case, unless recent waits were longer.
const GATHER_NS: u64 = 3_000;

impl<S: Source, T> std::fmt::Debug for Map<S, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map")
            .field("given", &self.results.given())
            .field("in_flight", &self.results.in_flight())
            .field("as_completed", &self.results.as_completed)
            .finish_non_exhaustive()
    }
}

impl<S: Source, T> Unpin for Map<S, T> {}

impl<S: Source, T> Map<S, T> {
    pub(super) fn new(
        shared: &Arc<Shared>,
        options: TaskOptions,
        function: Result<Function>,
        source: S,
    ) -> Self {
        let arrivals: Arc<Arrivals> = Arc::default();
        let receiver = Arc::clone(&arrivals) as Arc<dyn Receiver>;
        Self {
            shared: Arc::clone(shared),
            feed: Feed::new(options, function, source, receiver, shared.queues.len()),
            results: Results::default(),
            arrivals,
            taken: Vec::new(),
            window: shared.plan.default_window(),
            since: None,
            spin: SpinPolicy::new(CALLER_SPIN_NS),
            few: false,
            progress: progress::Hook::default(),
            value: PhantomData,
        }
    }

    /// Gives results as their tasks end, whatever the order of the items.
    pub fn as_completed(mut self) -> Self {
        self.results.give_as_completed();
        self
    }

    /// Gives each result with the number of its item, from 0, so that a result which comes
    /// [as completed](Self::as_completed) or is an error says which item it belongs to.
    ///
    /// ```
    /// # fn main() -> aiopool::Result<()> {
    /// async fn parse(text: String) -> Result<u32, std::num::ParseIntError> {
    ///     text.parse()
    /// }
    ///
    /// let pool = aiopool::Pool::builder().processes(1).build()?;
    /// let texts = ["1", "x", "3"].map(String::from);
    /// let results = pool.try_map(parse, texts.clone()).as_completed().enumerate();
    /// let failed = results.into_blocking_iter().find(|(_, result)| result.is_err());
    /// assert_eq!(texts[failed.unwrap().0], "x");
    /// # Ok(())
    /// # }
    /// ```
    pub fn enumerate(self) -> Enumerated<S, T> {
        Enumerated::new(self)
    }

    /// At most `tasks` items are taken whose results were not given yet. At least 1 is used.
    pub fn window(mut self, tasks: usize) -> Self {
        self.window = tasks.max(1);
        self
    }

    /// Calls `hook` whenever tasks have ended, with how many and of how many: for a progress bar.
    ///
    /// It is called while the map is awaited or asked for its next result, once for what has come
    /// together, so that it costs little where tasks are quick. Each call says more than the one
    /// before; once all tasks have ended, one has said so. `examples/progress.rs` draws a bar.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # async fn double(x: u64) -> u64 { x * 2 }
    /// let pool = aiopool::Pool::builder().processes(1).build()?;
    /// let (says, said) = std::sync::mpsc::channel();
    /// let doubled = pool.map(double, 0..100).progress(move |now| drop(says.send(now)));
    /// aiopool::block_on(doubled)?;
    /// let last = said.iter().last().unwrap();
    /// assert_eq!((last.done, last.total), (100, Some(100)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn progress(mut self, hook: impl FnMut(Progress) + Send + 'static) -> Self {
        self.progress = progress::Hook::new(hook);
        self
    }
}

impl<S: Source, T: DeserializeOwned + 'static> Map<S, T> {
    /// Returns the next result, or `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<Result<T, TaskError>> {
        std::future::poll_fn(|context| self.poll_result(context)).await
    }

    /// Waits for all tasks and gives every one's own result, errors among them.
    ///
    /// # Cancel safety
    ///
    /// When the wait is given up, what is not over is cancelled.
    pub async fn results(mut self) -> Vec<Result<T, TaskError>> {
        let mut all = Vec::new();
        while let Some(result) = self.next().await {
            all.push(result);
        }
        all
    }

    /// Blocks for each result; an iterator for code that is not async.
    pub fn into_blocking_iter(mut self) -> impl Iterator<Item = Result<T, TaskError>> {
        std::iter::from_fn(move || self.next_blocking())
    }

    fn next_blocking(&mut self) -> Option<Result<T, TaskError>> {
        if let Some(result) = self.next_at_hand() {
            return Some(result);
        }
        self.let_some_gather();
        let shared = Arc::clone(&self.shared);
        let waker = shared.bell_waker();
        let mut spin = self.spin;
        let found = shared.block_parking(None, &mut spin, |sleeps| {
            let mut context = Context::from_waker(&waker);
            self.fill(&mut context);
            if sleeps {
                self.park(&waker);
            }
            self.take()
        });
        self.spin = spin;
        found.expect("without a deadline there is a result")
    }

    fn poll_result(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, TaskError>>> {
        if let Some(result) = self.next_at_hand() {
            return Poll::Ready(Some(result));
        }
        self.fill(context);
        if self.results.in_flight() == 0 {
            // Over, or only the source is waited for, which has the context.
            return self.take().map_or(Poll::Pending, Poll::Ready);
        }
        self.let_some_gather();
        let shared = Arc::clone(&self.shared);
        let (mut since, mut spin) = (self.since.take(), self.spin);
        let polled = shared.poll_parking(&mut since, &mut spin, |sleeps| {
            if sleeps {
                self.park(context.waker());
            }
            self.take()
        });
        (self.since, self.spin) = (since, spin);
        if polled.is_pending() {
            // What was received made room: use it before going to sleep.
            self.fill(context);
        }
        polled
    }

    /// Waits a little before the next poll, if the last one came too early.
    fn let_some_gather(&self) {
        let crowded = self.shared.plan.worker.crowded;
        let soon = self.spin.is_below(GATHER_NS);
        if self.few && self.results.in_flight() >= MANY && soon && !crowded {
            let until = monotonic_ns() + GATHER_NS;
            while monotonic_ns() < until {
                spin_hint();
            }
        }
    }

    /// Has `waker` woken when outcomes come.
    fn park(&self, waker: &Waker) {
        if self.arrivals.set_waker(waker) {
            self.shared.common.park();
        }
    }

    /// Submits items while there is room for them.
    fn fill(&mut self, context: &mut Context<'_>) {
        self.feed.fill(&self.shared, &mut self.results, self.window, context);
    }

    /// Returns a result that is sorted in already, as long as the window is nearly full: it is
    /// filled up for several results at once.
    fn next_at_hand(&mut self) -> Option<Result<T, TaskError>> {
        let missing = self.window.saturating_sub(self.results.not_given());
        let at_hand = missing < self.feed.pace.refill(self.window) || self.feed.is_over();
        let ours = !self.feed.is_refused() && self.shared.is_owner();
        if at_hand && ours { self.pop() } else { None }
    }

    /// Returns the next result to be given, if it is sorted in.
    fn pop(&mut self) -> Option<Result<T, TaskError>> {
        self.results.pop().map(Outcome::decode)
    }

    /// Returns the next result to be given, if it is there; `Some(None)` at the end.
    fn take(&mut self) -> Option<Option<Result<T, TaskError>>> {
        if let Some(result) = self.pop() {
            return Some(Some(result));
        }
        if !self.shared.is_owner() {
            // A forked child's copy, of which `fill` has given the error.
            return Some(None);
        }
        let mut taken = std::mem::take(&mut self.taken);
        self.arrivals.take(&mut taken);
        if !taken.is_empty() {
            self.few = taken.len() < FEW;
        }
        for Delivery { token, outcome, .. } in taken.drain(..) {
            self.results.settle(token, outcome);
        }
        self.taken = taken;
        self.progress.call(&self.feed, &self.results);
        if let Some(result) = self.pop() {
            return Some(Some(result));
        }
        let over = self.feed.is_over() && self.results.in_flight() == 0;
        over.then_some(None)
    }
}

impl<S: Source, T: DeserializeOwned + 'static> Stream for Map<S, T> {
    type Item = Result<T, TaskError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, TaskError>>> {
        self.poll_result(context)
    }
}

/// All values of a [`Map`] in their order, or the first error that comes, whatever its item: the
/// tasks that are not over are cancelled then.
#[must_use = "futures do nothing unless awaited"]
pub struct Collect<S: Source, T> {
    /// Gives its results as they come, so that the first error is given at once.
    map: Map<S, T>,
    /// The values of the first items.
    values: Vec<T>,
    /// Those of the items after them, as far as they have come.
    early: VecDeque<Option<T>>,
}

impl<S: Source, T> std::fmt::Debug for Collect<S, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collect").field("map", &self.map).finish_non_exhaustive()
    }
}

impl<S: Source, T> Unpin for Collect<S, T> {}

impl<S: Source, T> Collect<S, T> {
    /// Sorts in the value of item number `item`.
    fn sort_in(&mut self, item: u64, value: T) {
        let at = item as usize - self.values.len();
        if at == 0 && self.early.is_empty() {
            self.values.push(value);
            return;
        }
        if self.early.len() <= at {
            self.early.resize_with(at + 1, || None);
        }
        self.early[at] = Some(value);
        while let Some(Some(_)) = self.early.front() {
            self.values.extend(self.early.pop_front().flatten());
        }
    }
}

impl<S: Source, T: DeserializeOwned + 'static> Future for Collect<S, T> {
    type Output = Result<Vec<T>, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.map.poll_result(context) {
                Poll::Ready(Some(Ok(value))) => {
                    let item = self.map.results.given();
                    self.sort_in(item, value);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.map.cancel_rest();
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(None) => {
                    let this = &mut *self;
                    // Behind the place of an item that was given before the map was awaited.
                    this.values.extend(this.early.drain(..).flatten());
                    return Poll::Ready(Ok(std::mem::take(&mut this.values)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: Source, T: DeserializeOwned + 'static> IntoFuture for Map<S, T> {
    type Output = Result<Vec<T>, TaskError>;
    type IntoFuture = Collect<S, T>;

    fn into_future(self) -> Collect<S, T> {
        Collect { map: self.as_completed(), values: Vec::new(), early: VecDeque::new() }
    }
}

impl<S: Source, T> Map<S, T> {
    /// Cancels the tasks that are not over, and takes no more items.
    fn cancel_rest(&mut self) {
        self.feed.end();
        for ticket in self.results.forget_tasks() {
            self.shared.cancel(ticket);
        }
    }
}

impl<S: Source, T> Drop for Map<S, T> {
    fn drop(&mut self) {
        if !self.shared.is_owner() {
            // A forked child's copy is of tasks that are not the child's.
            return;
        }
        self.cancel_rest();
        if self.arrivals.clear_waker() {
            self.shared.common.unpark(1);
        }
    }
}
