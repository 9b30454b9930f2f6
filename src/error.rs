//! Errors of the calls a host makes: building a pool, submitting, shutting down.
//!
//! What a *task* ended with is another matter: see [`TaskError`](crate::TaskError).
#![forbid(unsafe_code)]

use std::io;

/// What a call of the host can fail with.
///
/// The text says what was wrong and what to do; match on the variant to act on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option of the builder is outside its range.
    #[error("{name} = {value} is not possible: {allowed}")]
    InvalidOption {
        /// The option's name as the builder spells it.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// What would have been accepted.
        allowed: String,
    },
    /// The operating system refused something a pool needs.
    #[error("cannot {what}: {error}")]
    System {
        /// What was being done, and where it helps, what to do about a refusal.
        what: String,
        /// The system's own error. It is part of this one's text, and so not its `source`, which
        /// reports print behind the text.
        error: io::Error,
    },
    /// A call came at a moment at which it cannot be taken.
    #[error("{0}")]
    Misuse(&'static str),
    /// The pool takes no more work: it was closed or terminated.
    #[error("the pool is closed: submit before close() or build another pool")]
    Closed,
    /// Every record of the chosen queue is in use.
    #[error("the pool is full: receive some outcomes first, or await a submit that waits")]
    Full,
    /// The encoded input is larger than the pool takes.
    #[error(
        "the input is {size} bytes, the pool takes at most {max}: raise max_payload or send less"
    )]
    PayloadTooLarge {
        /// Encoded size in bytes.
        size: usize,
        /// The pool's limit in bytes.
        max: usize,
    },
    /// The input could not be encoded.
    #[error("the input of {function} cannot be encoded: {reason}")]
    Encode {
        /// The task function's name.
        function: &'static str,
        /// What the encoder said.
        reason: String,
    },
    /// Something did not happen in the time it was given.
    #[error("waited {limit:?} for {what}: wait longer, or terminate it")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// The time it was given.
        limit: std::time::Duration,
    },
    /// The zygote, from which all workers are forked, is gone.
    #[error(
        "the zygote process is gone ({0}): the pool has ended with it, build a new one, of any \
         start method; its zygote is this program executed anew, without what workers shared \
         since init()"
    )]
    ZygoteLost(String),
    /// Every try to start a worker's initializer failed.
    #[error("the initializer failed in every worker that was started: {0}")]
    Initializer(String),
    /// Workers could not be started, and the pool has given up.
    #[error("no worker could be started: {0}")]
    NoWorkers(String),
    /// Shared memory holds something that no correct process writes.
    #[error("shared memory is corrupt: {0}")]
    Corrupt(String),
    /// The pool has ended for another reason than its owner's call.
    #[error("the pool has failed: {0}")]
    Failed(std::sync::Arc<Error>),
    /// The call came from a process that was forked from the pool's host.
    #[error("this pool belongs to process {owner}; build another one in process {here}")]
    Forked {
        /// The pid of the process that built the pool.
        owner: u32,
        /// The pid of the caller.
        here: u32,
    },
}

impl Error {
    /// Makes the error of a system call, with what it was for.
    pub(crate) fn system(what: impl Into<String>, error: io::Error) -> Self {
        Self::System { what: what.into(), error }
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
