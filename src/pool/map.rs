//! The stream of a `map`: lazy input, constant memory, ordered or as completed.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use serde::de::DeserializeOwned;
use slab::Slab;

use crate::error::{Error, Result};
use crate::queue::{Receiver, Submission, Ticket, Waiting as RoomWaiting};
use crate::sys::clock::monotonic_ns;
use crate::task::{Outcome, TaskError};

use super::source::Source;
use super::submit::{Function, Submit, with_encoded};
use super::waiting::{bell_waker, look, slept};
use super::{Inner, one_shot};

/// The results of a `map`, a stream of `Result<T, TaskError>`.
///
/// In the order of the items, or [as completed](Self::as_completed). Awaited whole, it gives a
/// `Vec<T>` or the first error; [`results`](Self::results) gives every task's own result.
/// Dropping it calls off what is not over and frees the rest.
///
/// # Cancel safety
///
/// [`next`](Self::next) loses nothing when its future is dropped.
#[must_use = "a map does nothing until it is polled or awaited"]
pub struct Map<S: Source, T> {
    inner: Arc<Inner>,
    submit: (crate::TaskOptions, Option<Function>),
    /// Why nothing can be submitted at all.
    refused: Option<Error>,
    source: Option<S>,
    /// An item that found no room, encoded.
    held: Option<(u64, Vec<u8>)>,
    waiting: Option<RoomWaiting>,
    arrivals: Arc<Arrivals>,
    /// What arrived and is being sorted in; changes places with the list in `arrivals`, so that
    /// neither is ever allocated anew.
    taken: Vec<(u64, Outcome)>,
    /// Tasks in flight; the key is the token that their outcome comes with.
    tasks: Slab<InFlight>,
    /// In order: a place for each item from number `first` on, filled as results come.
    places: VecDeque<Option<Result<T, TaskError>>>,
    first: u64,
    /// As completed: results to be given next.
    completed: VecDeque<Result<T, TaskError>>,
    window: usize,
    ordered: bool,
    since: Option<u64>,
}

struct InFlight {
    ticket: Ticket,
    /// The number of its item.
    item: u64,
}

/// Where the outcomes of a map's tasks arrive.
#[derive(Debug, Default)]
struct Arrivals(Mutex<Arrived>);

#[derive(Debug, Default)]
struct Arrived {
    outcomes: Vec<(u64, Outcome)>,
    waker: Option<Waker>,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if there was no waker before.
    fn set_waker(&self, waker: &Waker) -> bool {
        one_shot::set(&mut self.lock().waker, waker)
    }
}

impl Receiver for Arrivals {
    fn deliver(&self, token: u64, outcome: Outcome) -> bool {
        let mut arrived = self.lock();
        arrived.outcomes.push((token, outcome));
        let waker = arrived.waker.take();
        drop(arrived);
        let woke = waker.is_some();
        waker.into_iter().for_each(Waker::wake);
        woke
    }
}

impl<S: Source, T> std::fmt::Debug for Map<S, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map")
            .field("first", &self.first)
            .field("in_flight", &self.tasks.len())
            .field("ordered", &self.ordered)
            .finish_non_exhaustive()
    }
}

impl<S: Source, T> Unpin for Map<S, T> {}

impl<S: Source, T> Map<S, T> {
    pub(super) fn new(submit: Submit<'_>, function: Result<Function>, source: S) -> Self {
        let inner = Arc::clone(submit.inner);
        let window = inner.shared.plan.default_window();
        let (function, refused) = match function {
            Ok(function) => (Some(function), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            inner,
            submit: (submit.options, function),
            refused,
            source: Some(source),
            held: None,
            waiting: None,
            arrivals: Arc::default(),
            taken: Vec::new(),
            tasks: Slab::new(),
            places: VecDeque::new(),
            first: 0,
            completed: VecDeque::new(),
            window,
            ordered: true,
            since: None,
        }
    }

    /// Gives results as their tasks end, whatever the order of the items.
    pub fn as_completed(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// At most `tasks` items are taken whose results were not given yet. At least 1 is used.
    pub fn window(mut self, tasks: usize) -> Self {
        self.window = tasks.max(1);
        self
    }
}

impl<S: Source, T: DeserializeOwned + 'static> Map<S, T> {
    /// The next result, or `None` after the last.
    pub async fn next(&mut self) -> Option<Result<T, TaskError>> {
        std::future::poll_fn(|context| self.poll_result(context)).await
    }

    /// Waits for all tasks and gives every one's own result, errors among them.
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
        let inner = Arc::clone(&self.inner);
        let waker = bell_waker(&inner.shared);
        let found = inner.waiting.block_parking(&inner.shared, None, |sleeps| {
            let mut context = Context::from_waker(&waker);
            self.fill(&mut context);
            if sleeps {
                self.park(&waker);
            }
            match self.take() {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            }
        });
        found.expect("without a deadline there is a result")
    }

    fn poll_result(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, TaskError>>> {
        if let Some(since) = self.since.take() {
            slept(monotonic_ns() - since);
        }
        if let Some(result) = self.next_at_hand() {
            return Poll::Ready(Some(result));
        }
        self.fill(context);
        let inner = Arc::clone(&self.inner);
        let ready = |this: &mut Self| match this.take() {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        };
        if !self.tasks.is_empty() {
            if let Some(result) = look(&inner.shared, || ready(self)) {
                return Poll::Ready(result);
            }
        } else if let Some(result) = ready(self) {
            return Poll::Ready(result);
        }
        self.park(context.waker());
        let polled = inner.waiting.poll_wait(&inner.shared, || ready(self));
        if polled.is_pending() {
            // What was received made room: use it before going to sleep.
            self.fill(context);
            self.since = Some(monotonic_ns());
        }
        polled
    }

    /// Has `waker` woken when outcomes come.
    fn park(&self, waker: &Waker) {
        if self.arrivals.set_waker(waker) {
            self.inner.shared.common.park();
        }
    }

    /// A result that is sorted in already, as long as the window is nearly full: it is filled up
    /// for several results at once.
    fn next_at_hand(&mut self) -> Option<Result<T, TaskError>> {
        let missing = self.window.saturating_sub(self.room_taken());
        let at_hand = missing < (self.window / 8).min(64) || self.source.is_none();
        (at_hand && self.refused.is_none() && self.inner.shared.check_process().is_ok())
            .then(|| self.pop())
            .flatten()
    }

    /// How many items were taken whose results were not given. In order, a slow item holds up
    /// what came after it: that counts, too.
    fn room_taken(&self) -> usize {
        if self.ordered { self.places.len() } else { self.tasks.len() + self.completed.len() }
    }

    /// The next result to be given, if it is sorted in.
    fn pop(&mut self) -> Option<Result<T, TaskError>> {
        if let Some(result) = self.completed.pop_front() {
            return Some(result);
        }
        if let Some(Some(_)) = self.places.front() {
            self.first += 1;
            return self.places.pop_front().flatten();
        }
        None
    }

    /// Submits items while there is room for them, in the window and in the pool.
    fn fill(&mut self, context: &mut Context<'_>) {
        if let Some(error) = self.refused.take() {
            self.source = None;
            self.settle_now(Err(TaskError::not_submitted(error)));
        }
        let inner = Arc::clone(&self.inner);
        if let Err(error) = inner.shared.check_process() {
            // A forked child's copy of the stream: nothing in it is the child's.
            self.source = None;
            self.held = None;
            if !self.tasks.is_empty() {
                self.tasks.clear();
                self.places.clear();
                self.settle_now(Err(TaskError::not_submitted(error)));
            }
            return;
        }
        let mut registered = false;
        loop {
            if self.held.is_none() && !self.take_item(context) {
                return;
            }
            let Some((number, input)) = self.held.take() else { continue };
            let Some(function) = self.submit.1 else { return };
            let queue = inner.shared.queue_for(&function.new_task(number, &self.submit.0, &input));
            let place = self.tasks.vacant_entry();
            let submission = Submission {
                task: number,
                function: function.number,
                input: &input,
                options: self.submit.0,
                receiver: self.arrivals.clone(),
                token: place.key() as u64,
            };
            match queue.try_submit(submission) {
                Ok(ticket) => {
                    let item = self.first + self.places.len() as u64;
                    place.insert(InFlight { ticket, item });
                    if self.ordered {
                        self.places.push_back(None);
                    }
                }
                Err(Error::Full) => {
                    self.held = Some((number, input));
                    if registered {
                        return;
                    }
                    inner.shared.drain();
                    let waiting = self.waiting.take();
                    self.waiting = Some(queue.wait_for_room(waiting, context.waker()));
                    registered = true;
                    continue;
                }
                Err(error) => {
                    if matches!(error, Error::Closed) {
                        // Nothing more can come of the items that are left.
                        self.source = None;
                    }
                    self.settle_now(Err(inner.shared.refusal(error)));
                }
            }
            give_back(input);
            self.waiting = None;
        }
    }

    /// An item that never was submitted has its result at once.
    fn settle_now(&mut self, result: Result<T, TaskError>) {
        if self.ordered {
            self.places.push_back(Some(result));
        } else {
            self.completed.push_back(result);
        }
    }

    /// Takes the next item and encodes it. False if there is none now, or no room for it.
    fn take_item(&mut self, context: &mut Context<'_>) -> bool {
        if self.room_taken() >= self.window {
            return false;
        }
        let Some(source) = &mut self.source else { return false };
        let item = match source.poll_item(context) {
            Poll::Ready(Some(item)) => item,
            Poll::Ready(None) => {
                self.source = None;
                return false;
            }
            Poll::Pending => return false,
        };
        let number = self.inner.shared.next_task.fetch_add(1, Ordering::Relaxed) as u64;
        let Some(function) = self.submit.1 else { return false };
        let submit = Submit { inner: &self.inner, options: self.submit.0 };
        let encoded = with_encoded(|buffer| {
            submit.encode(function, &item, buffer).map(|()| std::mem::take(buffer))
        });
        match encoded {
            Ok(input) => self.held = Some((number, input)),
            Err(error) => self.settle_now(Err(TaskError::not_submitted(error))),
        }
        true
    }

    /// The next result to be given, if it is there; `Ready(None)` at the end.
    fn take(&mut self) -> Poll<Option<Result<T, TaskError>>> {
        if let Some(result) = self.pop() {
            return Poll::Ready(Some(result));
        }
        let mut taken = std::mem::take(&mut self.taken);
        std::mem::swap(&mut taken, &mut self.arrivals.lock().outcomes);
        for (token, outcome) in taken.drain(..) {
            let Some(InFlight { item, .. }) = self.tasks.try_remove(token as usize) else {
                continue;
            };
            let result = outcome.decode();
            if !self.ordered {
                self.completed.push_back(result);
            } else if let Some(place) = self.places.get_mut((item - self.first) as usize) {
                *place = Some(result);
            }
        }
        self.taken = taken;
        if let Some(result) = self.pop() {
            return Poll::Ready(Some(result));
        }
        let over = self.source.is_none() && self.held.is_none() && self.tasks.is_empty();
        if over { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// Gives an encoding buffer back to this thread.
fn give_back(buffer: Vec<u8>) {
    with_encoded(|slot| *slot = buffer);
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

/// All values of a [`Map`], or the first error.
#[must_use = "futures do nothing unless awaited"]
pub struct Collect<S: Source, T> {
    map: Map<S, T>,
    values: Vec<T>,
}

impl<S: Source, T> std::fmt::Debug for Collect<S, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collect").field("map", &self.map).finish_non_exhaustive()
    }
}

impl<S: Source, T> Unpin for Collect<S, T> {}

impl<S: Source, T: DeserializeOwned + 'static> Future for Collect<S, T> {
    type Output = Result<Vec<T>, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.map.poll_result(context) {
                Poll::Ready(Some(Ok(value))) => self.values.push(value),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(std::mem::take(&mut self.values))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: Source, T: DeserializeOwned + 'static> IntoFuture for Map<S, T> {
    type Output = Result<Vec<T>, TaskError>;
    type IntoFuture = Collect<S, T>;

    fn into_future(self) -> Collect<S, T> {
        Collect { map: self, values: Vec::new() }
    }
}

impl<S: Source, T> Drop for Map<S, T> {
    fn drop(&mut self) {
        for (_, task) in &self.tasks {
            self.inner.shared.cancel(task.ticket);
        }
        if self.arrivals.lock().waker.take().is_some() {
            self.inner.shared.common.unpark();
        }
    }
}
