//! What a worker with a loop of its own is to do next, with inputs where they are.
#![forbid(unsafe_code)]

use crate::table::InputDesc;

use super::claimed::Claimed;

/// As [`Event`](crate::Event), but nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventInPlace<'w> {
    /// Nothing: wait until the descriptor is readable, then ask again.
    Nothing,
    /// Run a task, and answer it.
    Run {
        /// Names the task in the answer.
        task: u64,
        /// The function's name.
        function: &'w str,
        /// The input's bytes.
        input: &'w [u8],
    },
    /// The task was cancelled, and its caller has the outcome: stop it, then complete it as
    /// [`Completion::Cancelled`](crate::Completion::Cancelled).
    Cancel {
        /// The task's number, as it came with [`EventInPlace::Run`].
        task: u64,
    },
    /// Drop what still runs and [leave](crate::AttachedWorker::leave).
    Leave,
}

/// What a look has found, before its input is read.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing to do.
    Nothing,
    /// A task that was started.
    Run {
        /// Its number in this worker.
        task: u64,
        /// Its claim.
        claimed: Claimed,
        /// The number of its function, whose name is known.
        function: u32,
        /// Where its input is; checked.
        input: InputDesc,
    },
    /// A task that was cancelled.
    Cancel {
        /// Its number in this worker.
        task: u64,
    },
    /// The worker is to leave.
    Leave,
}
