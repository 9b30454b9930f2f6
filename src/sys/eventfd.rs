//! `eventfd`: a kernel counter to sleep on, shared by inheritance or `SCM_RIGHTS`.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

use super::{check, retry};

/// A non-blocking, close-on-exec eventfd.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    /// A new one with the count 0: not readable until it is rung.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the call just made this descriptor and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes it readable, for all who share it, until somebody drains it.
    pub(crate) fn ring(&self) -> io::Result<()> {
        match retry(|| self.add(1)) {
            // The count is at its maximum, hence not 0: it rings already.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    /// Takes the count back to 0 and says whether it was rung since the last drain.
    pub(crate) fn drain(&self) -> io::Result<bool> {
        let mut count = [0u8; 8];
        let read = retry(|| {
            // SAFETY: the buffer is ours and has the length given.
            let read = unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
            if read == -1 { Err(io::Error::last_os_error()) } else { Ok(read) }
        });
        match read {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Another descriptor of the same counter.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
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

    fn add(&self, count: u64) -> io::Result<()> {
        let count = count.to_ne_bytes();
        // SAFETY: the buffer is ours and has the length given.
        let written = unsafe { libc::write(self.0.as_raw_fd(), count.as_ptr().cast(), 8) };
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
        Self(fd)
    }
}

impl From<EventFd> for OwnedFd {
    fn from(bell: EventFd) -> Self {
        bell.0
    }
}

#[cfg(test)]
mod tests {
    use super::EventFd;

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
    fn ringing_a_full_count_is_no_error() {
        let bell = EventFd::new().unwrap();
        bell.add(u64::MAX - 1).unwrap();
        bell.ring().unwrap();
        assert!(bell.drain().unwrap());
    }
}
