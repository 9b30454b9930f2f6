//! Memory of inputs that is no longer used: when it goes back to the system.
//!
//! Not at once: a program that submits large inputs again and again would have the system clear the
//! same pages each time. The watch looks at least once a second while tasks are pending, and once
//! more when the last of them is over, so this needs no timer of its own before there is something
//! to give.

use crate::queue::Inputs;

/// So long most of the memory has to be unused, in nanoseconds.
const UNUSED: u64 = 1_000_000_000;

/// Since when there is much to give back.
#[derive(Debug, Default)]
pub(super) struct Slack {
    due: Option<u64>,
}

impl Slack {
    /// Returns when the memory is looked at next; `None` while there is nothing to give.
    pub(super) fn next(&self) -> Option<u64> {
        self.due
    }

    /// Gives memory of `inputs` back that was not used for a while.
    pub(super) fn look(&mut self, inputs: &Inputs, now: u64) {
        if !inputs.has_slack() {
            self.due = None;
        } else if *self.due.get_or_insert(now.saturating_add(UNUSED)) <= now {
            inputs.give_back();
            self.due = None;
        }
    }
}
