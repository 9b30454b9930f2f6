//! Floor 3: what a task is: its function, its options, its bytes and its outcome.

#![cfg(not(aiopool_loom))]

pub(crate) mod address;
pub(crate) mod callback;
pub(crate) mod codec;
pub(crate) mod context;
pub(crate) mod entry;
mod error;
pub(crate) mod exception;
mod exit;
mod failure;
pub(crate) mod function;
mod options;
pub(crate) mod outcome;
mod predicate;
mod task_fn;

pub use codec::described::{self, Described};
pub use error::{Blocked, LossCause, TaskError, WorkerLost};
pub use exception::LiveError;
pub use exit::WorkerExit;
pub use failure::{TaskFailure, TaskPanic, TypedError, typed};
pub use options::TaskOptions;
pub use task_fn::{Argument, TaskFn, TryTaskFn, Value, sync_fn};

pub use failure::Status;
pub(crate) use failure::panic_text;
pub use outcome::{Outcome, Payload};
pub(crate) use predicate::{Ended, Predicate};
pub(crate) use task_fn::{IsResult, Stateless};
