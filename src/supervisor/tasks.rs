//! What a handle does to its task, or asks about it.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::queue::{Reason, Ticket};

use super::Shared;

impl Shared {
    /// Cancels a task that its owner no longer wants. False if it was over already, or if
    /// the caller is a forked child that dropped its copy of a handle.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        self.cancel_for(ticket, Reason::Cancel)
    }

    /// The same, and has the worker killed that has not dropped the task within `grace`.
    pub(crate) fn cancel_within(&self, ticket: Ticket, grace: Duration) -> bool {
        let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        self.cancel_for(ticket, Reason::CancelWithin(grace_ns))
    }

    /// Cancels a task that no worker has. False if one has it, or if it was over.
    pub(crate) fn cancel_queued(&self, ticket: Ticket) -> bool {
        self.cancel_for(ticket, Reason::CancelQueued)
    }

    fn cancel_for(&self, ticket: Ticket, reason: Reason) -> bool {
        self.is_owner() && self.queues[usize::from(ticket.queue)].cancel(ticket, reason)
    }

    /// Returns whether a task has no outcome yet.
    pub(crate) fn is_pending(&self, ticket: Ticket) -> bool {
        self.is_owner() && self.queues[usize::from(ticket.queue)].is_pending(ticket)
    }

    /// Returns how far a task says that it is; `None` if it has not said so or does not run.
    pub(crate) fn progress(&self, ticket: Ticket) -> Option<u64> {
        if !self.is_owner() {
            return None;
        }
        self.queues[usize::from(ticket.queue)].progress(ticket)
    }
}
