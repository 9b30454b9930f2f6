//! What a worker process ended with.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sys::wait::Ended;

/// How a worker process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WorkerExit {
    /// It ended by itself with this exit status.
    Exited(i32),
    /// A signal ended it.
    Signalled {
        /// The signal's number.
        signal: i32,
        /// Whether a core file was written.
        core_dumped: bool,
    },
    /// The kernel killed it because memory ran out: it died of a `SIGKILL` that the pool did not
    /// send, and the count of out-of-memory kills of its control group had grown.
    OutOfMemory,
    /// It never came to run tasks: a limit could not be set, or the program to execute was not
    /// there, was another build, or did not attach.
    NotStarted {
        /// What was refused, and what to do about it.
        reason: String,
    },
    /// The zygote did not report it in time.
    Unknown,
}

impl WorkerExit {
    /// Returns the signal that ended it, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self {
            Self::Signalled { signal, .. } => Some(*signal),
            Self::OutOfMemory => Some(libc::SIGKILL),
            _ => None,
        }
    }
}

impl From<Ended> for WorkerExit {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Exited(status) => Self::Exited(status),
            Ended::Signalled { signal, core_dumped } => Self::Signalled { signal, core_dumped },
        }
    }
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Signalled { signal, core_dumped: false } => {
                write!(f, "was killed by signal {signal}")
            }
            Self::Signalled { signal, core_dumped: true } => {
                write!(f, "was killed by signal {signal} and dumped core")
            }
            Self::OutOfMemory => f.write_str("was killed because memory ran out"),
            Self::NotStarted { reason } => write!(f, "could not start: {reason}"),
            Self::Unknown => f.write_str("ended for an unknown reason"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WorkerExit;

    #[test]
    fn reads_as_the_end_of_a_sentence() {
        let dumped = WorkerExit::Signalled { signal: 11, core_dumped: true };
        assert_eq!(dumped.to_string(), "was killed by signal 11 and dumped core");
        assert_eq!(WorkerExit::Exited(3).to_string(), "exited with status 3");
    }
}
