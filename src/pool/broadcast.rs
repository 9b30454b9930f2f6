//! A task on every worker of a pool.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::queue::{Delivery, Receiver};
use crate::supervisor::{Assignment, CALLER_SPIN_NS, Shared};
use crate::sync::SpinPolicy;
use crate::task::{Argument, Outcome, TaskError, TaskFn, TaskOptions, TryTaskFn, entry};

use super::arrivals::Arrivals;
use super::function::Function;
use super::polled::{NamedFunction, PolledPool};
use super::submit::{Submit, with_encoded};

/// The results of a function that runs once on every worker; see
/// [`Pool::broadcast`](crate::Pool::broadcast). Awaited, it gives one result for each seat of the
/// pool, by [`worker_id`](crate::WorkerContext::worker_id).
///
/// The tasks run whether it is awaited or not. Dropping it drops their results.
#[must_use = "the results are in it"]
pub struct Broadcast<T> {
    shared: Arc<Shared>,
    arrivals: Arc<Arrivals>,
    /// The number of the task of seat 0.
    first_task: u64,
    results: Vec<Option<std::result::Result<T, TaskError>>>,
    left: usize,
    since: Option<u64>,
    spin: SpinPolicy,
    value: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for Broadcast<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broadcast").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<T> Unpin for Broadcast<T> {}

impl<'p> Submit<'p> {
    /// Runs `function(argument)` once on every worker: to warm a cache, to change a key, to collect
    /// a number.
    ///
    /// Each worker runs it beside the tasks that it has, as soon as it comes round to it, and one
    /// that is being replaced has its successor do so. A worker that starts later does not run it:
    /// that is what [`initializer`](crate::PoolBuilder::initializer) is for. A task that a worker
    /// takes down with it is not tried again; of the options, the `timeout` counts.
    ///
    /// # Errors
    ///
    /// Those of each worker's own task.
    pub fn broadcast<F: TaskFn<A>, A: Argument>(
        self,
        function: F,
        argument: A,
    ) -> Broadcast<F::Value> {
        const { F::CHECK };
        Broadcast::new(self, self.know::<F>(entry::vtable(function)), &argument)
    }

    /// [`broadcast`](Self::broadcast) for a function that returns a `Result`.
    ///
    /// # Errors
    ///
    /// Those of each worker's own task.
    pub fn try_broadcast<F: TryTaskFn<A>, A: Argument>(
        self,
        function: F,
        argument: A,
    ) -> Broadcast<F::Value> {
        const { F::CHECK };
        Broadcast::new(self, self.know::<F>(entry::try_vtable(function)), &argument)
    }
}

impl<T> Broadcast<T> {
    fn new<A: Argument>(submit: Submit<'_>, known: Result<Function>, argument: &A) -> Self {
        let shared = Arc::clone(submit.shared);
        let arrivals: Arc<Arrivals> = Arc::default();
        let seats = shared.plan.processes;
        let receiver = Arc::clone(&arrivals) as Arc<dyn Receiver>;
        let first_task = shared.tasks_for_all();
        let assigned = known.and_then(|function| {
            let input = with_encoded(|buffer| {
                function.encode(&shared, argument, buffer)?;
                Ok::<_, crate::Error>(buffer.clone())
            })?;
            shared.assign(Assignment {
                function: function.number,
                input,
                options: submit.options.retries(0),
                receiver: Arc::clone(&receiver),
                token: 0,
                first_task,
                seats: (0..seats).collect(),
            })
        });
        if let Err(error) = assigned {
            let error = shared.refusal(error);
            let outcome = |task| {
                let outcome = Outcome::error(error.clone(), 0);
                Delivery { outcome, task, token: 0 }
            };
            let numbers = first_task..first_task + u64::from(seats);
            receiver.deliver_all(&mut numbers.map(outcome).collect());
        }
        Self {
            shared,
            arrivals,
            first_task,
            results: (0..seats).map(|_| None).collect(),
            left: seats as usize,
            since: None,
            spin: SpinPolicy::new(CALLER_SPIN_NS),
            value: PhantomData,
        }
    }

    /// Has `waker` woken when outcomes come.
    fn park(&self, waker: &Waker) {
        if self.arrivals.set_waker(waker) {
            self.shared.common.park();
        }
    }
}

impl<T: DeserializeOwned + 'static> Broadcast<T> {
    /// Returns all results, if they are there.
    fn take(&mut self) -> Option<Vec<std::result::Result<T, TaskError>>> {
        if let Err(error) = self.shared.check_process() {
            // A forked child's copy: nothing in it is the child's, and no lock may be taken.
            let forked = TaskError::not_submitted(error);
            let results = self.results.drain(..);
            return Some(results.map(|known| known.unwrap_or(Err(forked.clone()))).collect());
        }
        let mut taken = Vec::new();
        self.arrivals.take(&mut taken);
        for Delivery { task, outcome, .. } in taken {
            self.results[(task - self.first_task) as usize] = Some(outcome.decode());
            self.left -= 1;
        }
        (self.left == 0).then(|| self.results.drain(..).flatten().collect())
    }

    /// Blocks until every worker has its result.
    pub fn wait(mut self) -> Vec<std::result::Result<T, TaskError>> {
        let shared = Arc::clone(&self.shared);
        let waker = shared.bell_waker();
        let mut spin = self.spin;
        let all = shared.block_parking(None, &mut spin, |sleeps| {
            if sleeps {
                self.park(&waker);
            }
            self.take()
        });
        all.expect("without a deadline there are results")
    }
}

impl<T: DeserializeOwned + 'static> Future for Broadcast<T> {
    type Output = Vec<std::result::Result<T, TaskError>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = Arc::clone(&self.shared);
        let (mut since, mut spin) = (self.since.take(), self.spin);
        let polled = shared.poll_parking(&mut since, &mut spin, |sleeps| {
            if sleeps {
                self.park(context.waker());
            }
            self.take()
        });
        (self.since, self.spin) = (since, spin);
        polled
    }
}

impl<T> Drop for Broadcast<T> {
    fn drop(&mut self) {
        // A forked child takes no lock: a thread that it has not may hold it.
        if self.shared.is_owner() && self.arrivals.clear_waker() {
            self.shared.common.unpark(1);
        }
    }
}

impl PolledPool {
    /// Runs a function once on every worker, as [`Submit::broadcast`] does; never waits.
    ///
    /// The input is the bytes of all `parts`. The outcome of the worker on seat `n` comes with
    /// `token + n`, perhaps before this returns.
    ///
    /// # Errors
    ///
    /// Why no worker runs it; there are no outcomes then.
    pub fn broadcast(
        &self,
        function: NamedFunction,
        parts: &[&[u8]],
        options: TaskOptions,
        token: u64,
    ) -> std::result::Result<(), TaskError> {
        self.check(parts, options, None).map_err(TaskError::not_submitted)?;
        let shared = &self.pool().shared;
        let first_task = shared.tasks_for_all();
        let to = self.receiver();
        let assigned = shared.assign(Assignment {
            function: function.number(),
            input: parts.concat(),
            options: options.retries(0).lend_large(),
            receiver: Arc::new(ByToken { to, first_task, token }),
            token,
            first_task,
            seats: (0..shared.plan.processes).collect(),
        });
        assigned.map_err(|error| shared.refusal(error))
    }
}

/// Gives outcomes on, each with a token of its own instead of the one for all.
struct ByToken {
    to: Arc<dyn Receiver>,
    /// The number of the task of seat 0, and its token.
    first_task: u64,
    token: u64,
}

impl Receiver for ByToken {
    fn deliver(&self, token: u64, outcome: Outcome) -> bool {
        self.to.deliver(token, outcome)
    }

    fn deliver_all(&self, all: &mut Vec<Delivery>) -> usize {
        for delivery in all.iter_mut() {
            delivery.token = self.token + (delivery.task - self.first_task);
        }
        self.to.deliver_all(all)
    }
}
