//! The seam for engines that run tasks on other machines; `crates/aiopool-cluster` is one.
//!
//! A task there is the identity of its function and bytes: the machine that submits makes both with
//! [`Place`] and [`encode`], the machine that runs it calls [`call`] and sends back bytes, of a
//! value or of an error ([`error_to_bytes`]). Nothing here knows of a network.
//!
//! ```
//! use aiopool::remote::{self, Place};
//!
//! async fn double(x: u64) -> u64 {
//!     x * 2
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Here, on the one machine:
//! let (place, input) = (Place::of::<_, u64>(double).to_bits(), remote::encode(&21_u64)?);
//! // There, on the other, which runs the same build:
//! let pool = aiopool::Pool::builder().processes(1).build()?;
//! let place = Place::from_bits(place).ok_or("no task function of this build")?;
//! let output = remote::call(pool.with(Default::default()), place, input.into()).wait()?;
//! // And here again:
//! assert_eq!(remote::decode::<u64>(output.into())?, 42);
//! # Ok(())
//! # }
//! ```
#![cfg(not(aiopool_loom))]
#![forbid(unsafe_code)]

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};
use crate::pool::{NamedFunction, PolledPool, Progress, StarFn, Submit, Task, TryStarFn};
use crate::sys::eventfd::EventFd;
use crate::sys::image;
use crate::task::address::ImageAddress;
use crate::task::entry::{self, Vtable};
use crate::task::{
    Argument, Blocked, Predicate, TaskError, TaskFailure, TaskFn, TaskOptions, TaskPanic,
    TryTaskFn, Value, WorkerLost, codec,
};

/// Which task function of this build: the same number in every process that runs the same build,
/// on every machine.
#[derive(Clone, Copy, Debug)]
pub struct Place(&'static Vtable);

impl Place {
    /// Returns the place of a function as [`Pool::apply`](crate::Pool::apply) takes it.
    pub fn of<F: TaskFn<A>, A: Argument>(function: F) -> Self {
        const { F::CHECK };
        Self(entry::vtable(function))
    }

    /// Returns the place of a function as [`Pool::try_apply`](crate::Pool::try_apply) takes it.
    pub fn of_try<F: TryTaskFn<A>, A: Argument>(function: F) -> Self {
        const { F::CHECK };
        Self(entry::try_vtable(function))
    }

    /// Returns the place of a function as [`Pool::starmap`](crate::Pool::starmap) takes it.
    pub fn of_star<F: StarFn<A>, A: Argument>(function: F) -> Self {
        const { F::CHECK };
        Self(entry::vtable(move |arguments: A| function.call(arguments)))
    }

    /// Returns the place of a function as [`Pool::try_starmap`](crate::Pool::try_starmap) takes it.
    pub fn of_try_star<F: TryStarFn<A>, A: Argument>(function: F) -> Self {
        const { F::CHECK };
        Self(entry::try_vtable(move |arguments: A| function.call(arguments)))
    }

    /// Returns the number that travels.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        ImageAddress::of(self.0).to_raw()
    }

    /// Returns the place that a number stands for, or `None` if no task function is there: any
    /// number may be asked for.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        entry::find(bits).map(Self)
    }

    /// Returns the function's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        (self.0.name)()
    }
}

/// Returns what tells this build from every other, in hexadecimal digits: the build id that the
/// linker wrote into the program, or into the library that holds this code.
///
/// # Errors
///
/// [`Error::Misuse`] for a program that was linked without one. What the file system says of a file
/// differs from machine to machine, so nothing else can stand for it.
pub fn build() -> Result<String> {
    let own = image::own().map_err(|error| Error::system("look for the build id", error))?;
    own.build().ok_or(Error::Misuse(
        "this program has no build id, by which machines know that they run the same build: link \
         it with `-Wl,--build-id` (RUSTFLAGS=\"-C link-arg=-Wl,--build-id\")",
    ))
}

/// Runs the function at `place` on an encoded argument; the task's value is the encoded output.
///
/// # Errors
///
/// As [`Submit::apply`]; all of them come from the handle.
pub fn call(submit: Submit<'_>, place: Place, input: Bytes) -> Task<Bytes> {
    submit.apply_place(place.0, &input)
}

/// Returns the function at `place` as `pool` knows it, for [`PolledPool::submit`] on an encoded
/// argument; the output's bytes are the encoded output.
///
/// # Errors
///
/// [`Error::Misuse`] beyond 1,024 functions.
pub fn function(pool: &PolledPool, place: Place) -> Result<NamedFunction> {
    pool.function_at(place.0)
}

/// The doorbell of a [`PolledPool`], for an event loop that is tokio's.
#[derive(Debug)]
pub struct Bell(AsyncFd<EventFd>);

impl Bell {
    /// Has the runtime of the caller listen to the doorbell of `pool`.
    ///
    /// # Errors
    ///
    /// [`Error::System`] where the system refuses a descriptor.
    pub fn of(pool: &PolledPool) -> Result<Self> {
        let bell = pool.bell().and_then(EventFd::listen);
        bell.map(Self).map_err(|error| Error::system("watch the pool's doorbell", error))
    }

    /// Waits until the pool has outcomes. Each ring is told of once: what
    /// [`PolledPool::receive`] leaves there it rings for again.
    ///
    /// # Cancel safety
    ///
    /// A ring that comes while nobody waits is told of at the next wait.
    pub async fn rung(&self) {
        match self.0.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            // The runtime is at its end.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Encodes an argument as the pool's workers expect it.
///
/// # Errors
///
/// The reason, where serde cannot encode it.
pub fn encode<A: Argument>(argument: &A) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    codec::encode(argument, &mut bytes)?;
    Ok(bytes)
}

/// Decodes an output.
///
/// # Errors
///
/// [`TaskError::Value`] where the bytes are no such value.
pub fn decode<T: Value>(bytes: Vec<u8>) -> std::result::Result<T, TaskError> {
    codec::decode_owned(bytes).map_err(TaskError::Value)
}

/// Makes what a map tells its hook, for maps over several machines: tasks that are over, and all.
#[must_use]
pub fn progress(done: u64, total: Option<u64>) -> Progress {
    Progress { done, total }
}

/// Returns the nanoseconds of `CLOCK_BOOTTIME`: it never goes backwards, and counts while the
/// machine sleeps.
#[must_use]
pub fn boottime_ns() -> u64 {
    crate::sys::clock::boottime_ns()
}

/// Returns the nanoseconds of `CLOCK_MONOTONIC`: it never goes backwards, and stands still while
/// the machine sleeps.
#[must_use]
pub fn monotonic_ns() -> u64 {
    crate::sys::clock::monotonic_ns()
}

/// Returns a number that differs between a process and the children that `fork` made of it: these
/// have none of its threads.
#[must_use]
pub fn forks() -> u32 {
    crate::sys::forked::generation()
}

/// What [`TaskOptions`] say, to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How long one attempt may run.
    pub timeout: Option<Duration>,
    /// How long the task may wait for a worker.
    pub queue_ttl: Option<Duration>,
    /// How many attempts the task may have.
    pub attempts: u32,
    /// Whether an error or a panic counts as an attempt.
    pub retry_on_error: bool,
    /// Whether an attempt that ran out of time counts as an attempt.
    pub retry_on_timeout: bool,
    /// Whether nothing is to run beside the task in its worker.
    pub alone: bool,
    /// The priority class, 0 the most urgent.
    pub priority: u8,
}

/// Returns what `options` say.
#[must_use]
pub fn limits(options: &TaskOptions) -> Limits {
    Limits {
        timeout: options.run_limit(),
        queue_ttl: options.wait_limit(),
        attempts: options.retries.saturating_add(1),
        retry_on_error: options.retries_on_error(),
        retry_on_timeout: options.retries_on_timeout(),
        alone: options.runs_alone(),
        priority: options.priority,
    }
}

/// Returns the pause before attempt `attempt` (the second is 2), shortened by the `chance` of a
/// number where `options` want that.
#[must_use]
pub fn pause_before(options: &TaskOptions, attempt: u32, chance: u64) -> Duration {
    options.pause_by_chance(attempt, chance)
}

/// Returns what decides whether an attempt that ended so is made again, if `options` have it.
#[must_use]
pub fn predicate(options: &TaskOptions) -> Option<fn(&TaskError) -> bool> {
    match options.predicate()? {
        Predicate::Rust(predicate) => Some(predicate),
        // One of C's, whose tasks are not sent anywhere.
        Predicate::Foreign(..) => None,
    }
}

/// Makes of `options` those of attempt `number` of a task whose attempts another machine counts and
/// decides about. The task's code sees that number, and so does its error. Back-off and retries
/// count for nothing; with [`retry_on_timeout`](TaskOptions::retry_on_timeout) an attempt that runs
/// out of time has its outcome when its code cannot run on, and not before.
#[must_use]
pub fn one_attempt(options: TaskOptions, number: u32) -> TaskOptions {
    options.decided_elsewhere(number.saturating_sub(1))
}

/// A [`TaskError`] as it travels.
#[derive(Debug, Serialize, Deserialize)]
enum Wire {
    Failed(TaskFailure),
    Panicked(TaskPanic),
    Cancelled,
    TimedOut { limit: Duration, started: bool },
    WorkerLost(Box<WorkerLost>),
    NeighbourBlocked(Box<Blocked>),
    Refused(String),
    Value(String),
    OutputSpace(String),
    Corrupt(String),
}

/// Encodes a task's error. What ended or refused a whole pool there travels as its text.
#[must_use]
pub fn error_to_bytes(error: &TaskError) -> Vec<u8> {
    let wire = match error.clone() {
        TaskError::Failed(failure) => Wire::Failed(failure),
        TaskError::Panicked(panic) => Wire::Panicked(panic),
        TaskError::Cancelled => Wire::Cancelled,
        TaskError::TimedOut { limit, started } => Wire::TimedOut { limit, started },
        TaskError::WorkerLost(lost) => Wire::WorkerLost(lost),
        TaskError::NeighbourBlocked(blocked) => Wire::NeighbourBlocked(blocked),
        TaskError::Refused(text) => Wire::Refused(text),
        TaskError::Value(text) => Wire::Value(text),
        TaskError::OutputSpace(text) => Wire::OutputSpace(text),
        TaskError::Corrupt(text) => Wire::Corrupt(text),
        other => Wire::Refused(other.to_string()),
    };
    postcard::to_stdvec(&wire).expect("strings and numbers can be encoded")
}

/// Decodes a task's error; bytes that are none give [`TaskError::Corrupt`].
#[must_use]
pub fn error_from_bytes(bytes: &[u8]) -> TaskError {
    match postcard::from_bytes(bytes) {
        Ok(Wire::Failed(failure)) => TaskError::Failed(failure),
        Ok(Wire::Panicked(panic)) => TaskError::Panicked(panic),
        Ok(Wire::Cancelled) => TaskError::Cancelled,
        Ok(Wire::TimedOut { limit, started }) => TaskError::TimedOut { limit, started },
        Ok(Wire::WorkerLost(lost)) => TaskError::WorkerLost(lost),
        Ok(Wire::NeighbourBlocked(blocked)) => TaskError::NeighbourBlocked(blocked),
        Ok(Wire::Refused(text)) => TaskError::Refused(text),
        Ok(Wire::Value(text)) => TaskError::Value(text),
        Ok(Wire::OutputSpace(text)) => TaskError::OutputSpace(text),
        Ok(Wire::Corrupt(text)) => TaskError::Corrupt(text),
        Err(error) => TaskError::Corrupt(format!("an error that cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_comes_back_or_says_what_it_was() {
        let limit = Duration::from_millis(7);
        let errors = [
            TaskError::Failed(TaskFailure::of(&"no")),
            TaskError::Panicked(TaskPanic::new("oh".into(), "a.rs:1:1".into(), String::new())),
            TaskError::Cancelled,
            TaskError::TimedOut { limit, started: true },
            TaskError::Refused("why".into()),
            TaskError::Value("why".into()),
            TaskError::OutputSpace("why".into()),
            TaskError::Corrupt("why".into()),
        ];
        for error in errors {
            let back = error_from_bytes(&error_to_bytes(&error));
            assert_eq!(format!("{back:?}"), format!("{error:?}"));
        }
        let closed = error_from_bytes(&error_to_bytes(&TaskError::PoolClosed { reason: None }));
        assert!(matches!(closed, TaskError::Refused(text) if text.contains("the pool ended")));
        assert!(matches!(error_from_bytes(&[99, 1, 2]), TaskError::Corrupt(_)));
        assert!(matches!(error_from_bytes(&[]), TaskError::Corrupt(_)));
    }

    #[test]
    fn a_build_has_a_number_of_even_length() {
        let build = build().unwrap();
        assert!(build.len() >= 16 && build.len().is_multiple_of(2), "{build}");
    }
}
