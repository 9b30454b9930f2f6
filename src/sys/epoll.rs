//! `epoll`: waiting for the edges of descriptors.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{check, retry};

/// Readable after one of its descriptors was written to, until that event is consumed; what was
/// written may stay where it is. What another reader has read meanwhile is not reported.
#[derive(Debug)]
pub(crate) struct Edges(OwnedFd);

impl Edges {
    /// Returns the edges of `fds`.
    pub(crate) fn of(fds: &[BorrowedFd<'_>]) -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call just made this descriptor, and no other code has its number.
        let edges = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        for fd in fds {
            let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
            let mut event = libc::epoll_event { events, u64: 0 };
            let (epoll, fd) = (edges.0.as_raw_fd(), fd.as_raw_fd());
            // SAFETY: the event is ours, and is only read.
            check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        }
        Ok(edges)
    }

    /// Takes note of all edges up to now.
    pub(crate) fn take(&self) -> io::Result<()> {
        const MOST: usize = 8;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        retry(|| {
            // SAFETY: there is room for as many events.
            check(unsafe {
                libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), MOST as i32, 0)
            })
        })?;
        Ok(())
    }
}

impl AsFd for Edges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns whether this process has an epoll instance; true where the system does not say.
pub(crate) fn any() -> bool {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return true };
    descriptors.flatten().any(|descriptor| {
        let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
        target.to_string_lossy().contains("[eventpoll]")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::eventfd::EventFd;
    use crate::sys::poll::{PollFd, poll};

    fn told(edges: &Edges) -> bool {
        poll(&mut [PollFd::readable(edges.as_fd())], Some(Duration::ZERO)).unwrap() == 1
    }

    #[test]
    fn each_ring_is_told_once_though_nobody_drains() {
        let (one, other) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let edges = Edges::of(&[one.as_fd(), other.as_fd()]).unwrap();
        assert!(!told(&edges));
        for bell in [&one, &one, &other] {
            bell.ring().unwrap();
            assert!(told(&edges));
            edges.take().unwrap();
            assert!(!told(&edges));
        }
        one.ring().unwrap();
        one.drain().unwrap();
        assert!(!told(&edges));
    }
}
