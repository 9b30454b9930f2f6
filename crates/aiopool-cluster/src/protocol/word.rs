//! The word: what the newest message of a task says.

use serde::{Deserialize, Serialize};

/// How an attempt, or the whole task, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ending {
    /// A value, or an error after which no attempt may follow: refused, no room, timed out where the
    /// caller did not ask for another attempt.
    Final,
    /// The function returned an error or panicked: an attempt may follow where the caller said so.
    Failed,
    /// The attempt ran out of time, and its code cannot run on: an attempt may follow where the
    /// caller said so.
    TimedOut,
    /// The worker died: an attempt may follow where the caller allowed retries.
    WorkerLost,
    /// The node gave the task back before any code of it ran: the attempt is not used up.
    NotStarted,
    /// The submitter called the task off.
    Cancelled,
    /// The submitter found the node dead, and no attempt is left.
    NodeLost,
    /// The submitter's limit on waiting was over before a node took the task.
    Expired,
}

/// The newest message of a task, as its sequence number in the stream and what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Word {
    /// There is no message: never submitted, or purged.
    #[default]
    Absent,
    /// Any node of the build may claim it.
    Queued {
        /// The message's number in the stream.
        seq: u64,
        /// The attempt that it stands for, the first is 1.
        attempt: u32,
    },
    /// A node has it.
    Claimed {
        /// The message's number in the stream; also the fence of the attempt.
        seq: u64,
        /// The attempt.
        attempt: u32,
        /// The node's life that claimed it.
        incarnation: u128,
        /// What tells this claim from every other one of that node.
        nonce: u64,
    },
    /// The attempt, or the task, is over.
    Done {
        /// The message's number in the stream.
        seq: u64,
        /// The attempt that ended.
        attempt: u32,
        /// How.
        ending: Ending,
    },
}

impl Word {
    /// Returns the number of the message; 0 where there is none.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match *self {
            Self::Absent => 0,
            Self::Queued { seq, .. } | Self::Claimed { seq, .. } | Self::Done { seq, .. } => seq,
        }
    }

    /// Returns the attempt that it stands for; 0 where there is no message.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        match *self {
            Self::Absent => 0,
            Self::Queued { attempt, .. }
            | Self::Claimed { attempt, .. }
            | Self::Done { attempt, .. } => attempt,
        }
    }
}
