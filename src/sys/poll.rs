//! `poll`: waiting for several descriptors at once.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::check;

/// One descriptor to wait for, and after [`poll`] what was found there.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct PollFd<'fd> {
    raw: libc::pollfd,
    fd: PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> PollFd<'fd> {
    /// Waits until something can be read, or the other end is gone.
    pub fn readable(fd: BorrowedFd<'fd>) -> Self {
        Self::new(fd, libc::POLLIN)
    }

    /// Waits until something can be written, or the other end is gone.
    pub(crate) fn writable(fd: BorrowedFd<'fd>) -> Self {
        Self::new(fd, libc::POLLOUT)
    }

    /// Waits until something can be read or written, or the other end is gone.
    pub(crate) fn either(fd: BorrowedFd<'fd>) -> Self {
        Self::new(fd, libc::POLLIN | libc::POLLOUT)
    }

    fn new(fd: BorrowedFd<'fd>, events: libc::c_short) -> Self {
        Self { raw: libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }, fd: PhantomData }
    }

    /// Returns whether what was waited for is there, or an error or hang-up: a read or write will
    /// not block.
    pub(crate) fn is_ready(&self) -> bool {
        self.raw.revents != 0
    }
}

impl std::fmt::Debug for PollFd<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PollFd")
            .field("fd", &self.raw.fd)
            .field("events", &self.raw.events)
            .field("revents", &self.raw.revents)
            .finish()
    }
}

/// Waits until one of `fds` is ready or `timeout` is over (`None`: no limit).
///
/// Says how many are ready, 0 after the timeout. A signal does not end the wait, nor lengthen it.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    // A time-out past the end of the clock is as good as none.
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let spec = left.map(|left| libc::timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `PollFd` is a transparent `pollfd`, the count is the slice's, and `spec` is null
        // or points at a timespec that lives until the call returns.
        let ready = check(unsafe {
            libc::ppoll(fds.as_mut_ptr().cast(), fds.len() as libc::nfds_t, spec, std::ptr::null())
        });
        match ready {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ready => return ready.map(|count| count as usize),
        }
    }
}

/// Returns whether `fd` is readable now, or can tell nothing any more.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::readable(fd)], Some(Duration::ZERO)).map_or(true, |ready| ready > 0)
}

/// Descriptors to wait for, each with a token that says what it stands for.
#[derive(Debug)]
pub(crate) struct PollSet<'fd, T> {
    fds: Vec<PollFd<'fd>>,
    tokens: Vec<T>,
}

impl<'fd, T> PollSet<'fd, T> {
    /// Makes a set without descriptors.
    pub(crate) fn new() -> Self {
        Self { fds: Vec::new(), tokens: Vec::new() }
    }

    /// Adds a descriptor. Several may have the same token.
    pub(crate) fn add(&mut self, token: T, fd: PollFd<'fd>) {
        self.fds.push(fd);
        self.tokens.push(token);
    }

    /// Waits as [`poll`] does, in the middle of `around`, which calls what it is given. Returns the
    /// tokens of the descriptors that are ready, in the order in which they were added.
    pub(crate) fn wait(
        mut self,
        timeout: Option<Duration>,
        around: impl FnOnce(&mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize>,
    ) -> io::Result<Vec<T>> {
        around(&mut || poll(&mut self.fds, timeout))?;
        let all = self.tokens.into_iter().zip(&self.fds);
        Ok(all.filter(|(_, fd)| fd.is_ready()).map(|(token, _)| token).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::eventfd::EventFd;

    #[test]
    fn finds_the_one_that_is_ready() {
        let (silent, rung) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        rung.ring().unwrap();
        let mut fds = [PollFd::readable(silent.as_fd()), PollFd::readable(rung.as_fd())];
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        assert!(!fds[0].is_ready() && fds[1].is_ready());
    }

    #[test]
    fn a_set_names_what_is_ready_by_its_token() {
        let bells: Vec<EventFd> = (0..4).map(|_| EventFd::new().unwrap()).collect();
        bells[1].ring().unwrap();
        bells[3].ring().unwrap();
        let mut set = PollSet::new();
        for (token, bell) in bells.iter().enumerate() {
            set.add(token, PollFd::readable(bell.as_fd()));
        }
        assert_eq!(set.wait(None, |poll| poll()).unwrap(), [1, 3]);
    }

    #[test]
    fn gives_up_after_the_timeout() {
        let silent = EventFd::new().unwrap();
        let mut fds = [PollFd::readable(silent.as_fd())];
        assert_eq!(poll(&mut fds, Some(Duration::from_millis(3))).unwrap(), 0);
        assert_eq!(poll(&mut fds, Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn sees_the_other_end_go() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        let mut fds = [PollFd::readable(ours.as_fd())];
        assert_eq!(poll(&mut fds, Some(Duration::MAX)).unwrap(), 1);
        assert!(fds[0].is_ready());
    }
}
