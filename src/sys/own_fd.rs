//! A descriptor that is recognised before it is used or closed.
//!
//! A daemonizer closes every number that may be open, also of libraries, and opens files of its own
//! under them. Bytes for a doorbell would then go into a file of the user's, and the end of a pool
//! would close it.
#![allow(unsafe_code)] // calls into libc

use std::collections::BTreeSet;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;
use super::forked::PerProcess;

/// What a descriptor refers to: device, inode and kind of file. Two eventfds are alike in it, and
/// so are two of any kind that has no inode of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    kind: u32,
}

/// The numbers of all of this process.
static OPEN: PerProcess<BTreeSet<RawFd>> = PerProcess::new(|_| BTreeSet::new());

/// Closes all of them, in a copy of the process that the objects are not for.
///
/// # Safety
///
/// Nothing uses or drops them after this.
pub(crate) unsafe fn close_all() {
    for number in std::mem::take(&mut *OPEN.write()) {
        // SAFETY: the caller vouches for it.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}

/// Like [`OwnedFd`], which it closes only while it refers to what it did at first.
#[derive(Debug)]
pub(crate) struct OwnFd {
    fd: ManuallyDrop<OwnedFd>,
    /// `None` where the system would not say; then it is closed as any other.
    identity: Option<Identity>,
}

impl OwnFd {
    /// Returns whether the number still refers to what it did at first.
    pub(crate) fn is_ours(&self) -> bool {
        self.identity.is_none_or(|own| identity(self.fd.as_fd()).is_ok_and(|now| now == own))
    }

    /// Refuses a number that is not ours any more.
    ///
    /// # Errors
    ///
    /// A text that says so.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_ours() { Ok(()) } else { Err(io::Error::other(TAKEN)) }
    }
}

/// What is wrong with a pool whose descriptors were closed.
pub(crate) const TAKEN: &str = "other code of this process has closed descriptors of the pool, as \
    programs do that become daemons: build pools after that";

fn identity(fd: BorrowedFd<'_>) -> io::Result<Identity> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the call fills what the pointer points to, or fails.
    check(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: it has not failed.
    let stat = unsafe { stat.assume_init() };
    Ok(Identity { device: stat.st_dev, inode: stat.st_ino, kind: stat.st_mode & libc::S_IFMT })
}

/// Returns what `/proc` calls the kind of a descriptor without an inode of its own.
fn label(fd: RawFd) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

impl From<OwnedFd> for OwnFd {
    fn from(fd: OwnedFd) -> Self {
        let identity = identity(fd.as_fd()).ok();
        OPEN.write().insert(fd.as_raw_fd());
        Self { fd: ManuallyDrop::new(fd), identity }
    }
}

impl From<OwnFd> for OwnedFd {
    fn from(own: OwnFd) -> Self {
        let mut own = ManuallyDrop::new(own);
        OPEN.write().remove(&own.as_raw_fd());
        // SAFETY: `own` is not dropped, so nothing uses the field after this.
        unsafe { ManuallyDrop::take(&mut own.fd) }
    }
}

impl AsFd for OwnFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for OwnFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for OwnFd {
    fn drop(&mut self) {
        OPEN.write().remove(&self.as_raw_fd());
        // A pool has eventfds and pidfds; an epoll or timerfd of the same inode is not its own.
        let of_another_kind = self.identity.is_some_and(|own| own.kind == 0)
            && label(self.fd.as_raw_fd()).is_some_and(|label| {
                let label = label.to_string_lossy();
                !label.contains("eventfd") && !label.contains("pidfd")
            });
        if self.is_ours() && !of_another_kind {
            // SAFETY: this is the drop, after which nothing uses the field.
            unsafe { ManuallyDrop::drop(&mut self.fd) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_number_that_has_become_another_files_is_neither_used_nor_closed() {
        let make = || File::from(crate::sys::memfd::create(c"test").unwrap());
        let own = OwnFd::from(OwnedFd::from(make()));
        own.check().unwrap();
        // Under our number lies a file of the user's from here on.
        let theirs = make();
        // SAFETY: takes no pointers; the number is open, and its owner learns of it by this test.
        assert!(unsafe { libc::dup2(theirs.as_raw_fd(), own.as_raw_fd()) } >= 0);
        let number = own.as_raw_fd();
        assert!(own.check().unwrap_err().to_string().contains("daemons"));
        drop(own);
        // SAFETY: takes no pointers.
        assert!(unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0, "theirs was closed");
        (&theirs).write_all(b"x").unwrap();
        // SAFETY: the duplicate made above has no other owner.
        assert_eq!(unsafe { libc::close(number) }, 0);
    }
}
