//! A task for each of some seats, before the supervisor has given it to their workers.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::queue::Receiver;
use crate::task::TaskOptions;

/// A task for each of some seats.
#[allow(missing_debug_implementations, reason = "a receiver has none")]
pub(crate) struct Assignment {
    /// The number under which the pool knows the function.
    pub(crate) function: u32,
    /// The encoded argument.
    pub(crate) input: Vec<u8>,
    pub(crate) options: TaskOptions,
    /// Gets an outcome for each seat, whose number is the token.
    pub(crate) receiver: Arc<dyn Receiver>,
    /// The seats that have not been given their task.
    pub(crate) seats: Vec<u32>,
}
