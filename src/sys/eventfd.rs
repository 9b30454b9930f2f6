//! `eventfd`: a kernel counter to sleep on, shared by inheritance or `SCM_RIGHTS`.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::own_fd::OwnFd;
use super::poll::{PollFd, poll};
use super::{check, named, retry};

/// A non-blocking, close-on-exec eventfd.
#[derive(Debug)]
pub struct EventFd(OwnFd);

impl EventFd {
    /// Creates an eventfd with the count 0: not readable until it is rung.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
            .map_err(|error| named("eventfd2", error))?;
        // SAFETY: the call just made this descriptor, and no other code has its number.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }.into()))
    }

    /// Makes it readable, for all processes that share it, until one drains it. A listener for
    /// edges notices every ring.
    ///
    /// Blocks only if a process has both filled the count and cleared `O_NONBLOCK`, and then until
    /// it is drained or [mended](Self::mend).
    pub fn ring(&self) -> io::Result<()> {
        self.0.check()?;
        match retry(|| self.add(1)) {
            // A process has filled the count. It is readable, but a listener for edges notices only
            // writes.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.drain()?;
                match retry(|| self.add(1)) {
                    // Filled again, which was an edge, too.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                    result => result,
                }
            }
            result => result,
        }
    }

    /// Like [`ring`](Self::ring), but never blocks, not even if a process has done both; costs one
    /// more system call.
    pub(crate) fn ring_nonblocking(&self) -> io::Result<()> {
        self.set_nonblocking()?;
        self.ring()
    }

    /// Repairs what other processes that share it may have changed, and releases a thread that
    /// blocks in a ring.
    pub(crate) fn mend(&self) -> io::Result<()> {
        self.set_nonblocking()?;
        let mut full = [PollFd::writable(self.as_fd())];
        if poll(&mut full, Some(Duration::ZERO))? == 0 {
            self.drain()?;
            // The listener may have missed the ring.
            self.ring()?;
        }
        Ok(())
    }

    /// Takes the count back to 0 and says whether it was rung since the last drain. Never waits,
    /// whatever flags those who share it have set.
    pub fn drain(&self) -> io::Result<bool> {
        self.0.check()?;
        let mut count = [0u8; 8];
        let buffer = libc::iovec { iov_base: count.as_mut_ptr().cast(), iov_len: count.len() };
        let read = retry(|| {
            // SAFETY: the one buffer is ours and has the length given.
            let read = unsafe {
                libc::preadv2(self.0.as_raw_fd(), &raw const buffer, 1, -1, libc::RWF_NOWAIT)
            };
            if read == -1 { Err(io::Error::last_os_error()) } else { Ok(read) }
        });
        match read {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns whether it still is the eventfd that this process made or was given.
    pub(crate) fn is_ours(&self) -> bool {
        self.0.is_ours()
    }

    /// Returns another descriptor of the same counter.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.as_fd().try_clone_to_owned().map(Self::from)
    }

    /// Has the tokio runtime of the caller listen to it, for edges: each ring is one.
    ///
    /// # Errors
    ///
    /// Whatever epoll refuses.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O.
    pub(crate) fn listen(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is owned by `self`, which the registration takes along and
        // gives out by shared reference only, so it stays open as long as it is registered.
        unsafe { AsyncFd::register(self) }.map_err(Into::into)
    }

    /// The flag belongs to all who share the eventfd, and any of them can clear it.
    fn set_nonblocking(&self) -> io::Result<()> {
        self.0.check()?;
        // SAFETY: takes no pointers.
        let flags = check(unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETFL) })?;
        if flags & libc::O_NONBLOCK == 0 {
            let flags = flags | libc::O_NONBLOCK;
            // SAFETY: as for the call before.
            check(unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETFL, flags) })?;
        }
        Ok(())
    }

    fn add(&self, count: u64) -> io::Result<()> {
        let count = count.to_ne_bytes();
        // Not `write`, at which the C library ends a thread that is cancelled.
        // SAFETY: the buffer is ours and has the length given.
        let written =
            unsafe { libc::syscall(libc::SYS_write, self.0.as_raw_fd(), count.as_ptr(), 8_usize) };
        if written == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for EventFd {
    /// Takes a descriptor that another process made with [`EventFd::new`].
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl From<EventFd> for OwnedFd {
    fn from(bell: EventFd) -> Self {
        bell.0.into()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::sync::Arc;

    use super::EventFd;
    use crate::sys::check;

    const FULL: u64 = u64::MAX - 1;

    /// What any process that shares it can do.
    fn clear_nonblocking(bell: &EventFd) {
        // SAFETY: takes no pointers.
        check(unsafe { libc::fcntl(bell.as_raw_fd(), libc::F_SETFL, 0) }).unwrap();
    }

    #[test]
    fn rung_twice_is_drained_once() {
        let bell = EventFd::new().unwrap();
        assert!(!bell.drain().unwrap());
        bell.ring().unwrap();
        bell.ring().unwrap();
        assert!(bell.drain().unwrap());
        assert!(!bell.drain().unwrap());
    }

    #[test]
    fn a_drain_never_waits_though_the_flag_was_cleared() {
        let bell = EventFd::new().unwrap();
        clear_nonblocking(&bell);
        assert!(!bell.drain().unwrap());
        bell.ring().unwrap();
        assert!(bell.drain().unwrap());
    }

    #[tokio::test]
    async fn who_listens_for_edges_hears_a_ring_though_the_count_was_filled() {
        let bell = EventFd::new().unwrap();
        let heard = bell.try_clone().unwrap().listen().unwrap();
        for _ in 0..3 {
            bell.drain().unwrap();
            bell.add(FULL).unwrap();
            heard.readable().await.unwrap().clear_ready();
            bell.ring().unwrap();
            heard.readable().await.unwrap().clear_ready();
        }
    }

    #[test]
    fn a_wary_ring_never_waits_though_the_flag_was_cleared_and_the_count_filled() {
        let bell = EventFd::new().unwrap();
        bell.add(FULL).unwrap();
        clear_nonblocking(&bell);
        bell.ring_nonblocking().unwrap();
        assert!(bell.drain().unwrap());
    }

    #[test]
    fn mending_lets_go_who_waits_in_a_ring() {
        let bell = Arc::new(EventFd::new().unwrap());
        bell.add(FULL).unwrap();
        clear_nonblocking(&bell);
        let ringer = {
            let bell = Arc::clone(&bell);
            std::thread::spawn(move || bell.ring().unwrap())
        };
        while !ringer.is_finished() {
            bell.mend().unwrap();
            std::thread::yield_now();
        }
        ringer.join().unwrap();
        assert!(bell.drain().unwrap());
    }
}
