//! A doorbell that blocking callers share with an event loop, which empties it.
//!
//! Both sleep on the same bell: a caller must not consume a ring that the loop has not seen, and
//! the loop, which has to empty it, may consume one that a caller has not seen. So the callers wait
//! for the bell's edges and never read it, and the thread that emptied it nudges them.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::sys::epoll::Edges;
use crate::sys::eventfd::EventFd;
use crate::sys::poll::{PollFd, poll};

/// What blocking callers sleep on.
#[derive(Debug)]
pub(super) struct SharedBell {
    edges: Edges,
    /// Never drained: each ring is an edge.
    nudge: EventFd,
}

impl SharedBell {
    pub(super) fn new(bell: &EventFd) -> io::Result<Self> {
        let nudge = EventFd::new()?;
        Ok(Self { edges: Edges::of(&[bell.as_fd(), nudge.as_fd()])?, nudge })
    }

    /// The caller looks at everything after this, so what was rung before need not wake it.
    pub(super) fn forget(&self) {
        // Descriptors of our own: at worst the caller looks once more.
        let _ = self.edges.take();
    }

    /// Sleeps until the bell rings or a thread nudges, at most for `left`.
    pub(super) fn sleep(&self, left: Option<Duration>) {
        let _ = poll(&mut [PollFd::readable(self.edges.as_fd())], left);
    }

    /// The bell was emptied: has the sleeper look, whose ring it may have been.
    pub(super) fn nudge(&self) {
        // Our own; it cannot be refused.
        let _ = self.nudge.ring();
    }
}
