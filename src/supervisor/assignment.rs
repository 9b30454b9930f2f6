//! A task for each of some seats, before the supervisor has given it to their workers.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::queue::{Delivery, Receiver};
use crate::task::{Outcome, TaskError, TaskOptions};

/// A task for each of some seats.
#[allow(missing_debug_implementations, reason = "a receiver has none")]
pub(crate) struct Assignment {
    /// The number under which the pool knows the function.
    pub(crate) function: u32,
    /// The encoded argument.
    pub(crate) input: Vec<u8>,
    pub(crate) options: TaskOptions,
    /// Gets an outcome for each seat.
    pub(crate) receiver: Arc<dyn Receiver>,
    /// Comes with each outcome.
    pub(crate) token: u64,
    /// The number of the task of seat 0; that of each other seat is as much larger as the seat's
    /// number.
    pub(crate) first_task: u64,
    /// The seats that have not been given their task.
    pub(crate) seats: Vec<u32>,
}

impl Assignment {
    /// Returns the number of a seat's task.
    pub(super) fn task(&self, seat: u32) -> u64 {
        self.first_task + u64::from(seat)
    }

    /// Ends the task of a seat that no worker gets. Returns how many receivers it woke.
    pub(crate) fn refuse(&self, seat: u32, error: TaskError) -> usize {
        let (outcome, token) = (Outcome::error(error, 0), self.token);
        self.receiver.deliver_all(&mut vec![Delivery { outcome, task: self.task(seat), token }])
    }
}
