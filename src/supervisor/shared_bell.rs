//! A doorbell that blocking callers share with an event loop, which empties it.
//!
//! Both wait for the same bell. A caller must not consume a ring that the loop has not seen, so
//! blocking callers wait for edges and never read the bell. The loop has to empty it, and may
//! consume a ring that a caller has not seen, so the thread that empties the bell nudges the
//! callers.

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

    /// Forgets rings up to now: the caller checks everything after this.
    pub(super) fn forget(&self) {
        // The descriptors are our own: at worst the caller checks once more.
        let _ = self.edges.take();
    }

    /// Sleeps until the bell rings or a thread calls [`nudge`](Self::nudge), at most for `left`.
    pub(super) fn sleep(&self, left: Option<Duration>) {
        let _ = poll(&mut [PollFd::readable(self.edges.as_fd())], left);
    }

    /// Wakes the sleeper, since the bell was emptied of a ring that may have been meant for it.
    pub(super) fn nudge(&self) {
        // Our own; it cannot be refused.
        let _ = self.nudge.ring();
    }
}
