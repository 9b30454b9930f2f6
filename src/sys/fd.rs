//! The table of open descriptors of this process.
#![allow(unsafe_code)] // calls into libc

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use super::check;

/// The descriptors that every program takes for its input, output and error output.
const STDIO: std::ops::RangeInclusive<RawFd> = 0..=2;

/// Returns whether the descriptor is still there: code that owns nothing of it may have closed its
/// number.
pub(crate) fn is_open(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: takes no pointers.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) != -1 }
}

/// Returns whether the descriptor is closed when this process executes a program.
#[cfg(test)]
pub(crate) fn is_close_on_exec(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: takes no pointers.
    Ok(check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) })? & libc::FD_CLOEXEC != 0)
}

/// Chooses whether the descriptor is closed when this process executes a program.
pub(crate) fn set_close_on_exec(fd: BorrowedFd<'_>, close: bool) -> io::Result<()> {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: takes no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) }).map(drop)
}

/// Returns the same open file under a number that is not one of standard input, output and error.
///
/// A program that was started without these gets their numbers for whatever it opens first.
pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if !STDIO.contains(&fd.as_raw_fd()) {
        return Ok(fd);
    }
    // SAFETY: takes no pointers.
    let copy =
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, STDIO.end() + 1) })?;
    // SAFETY: the call just made this descriptor, and no other code has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Makes `number`, 1 or 2, another name of `file`.
pub(crate) fn replace_output(number: RawFd, file: BorrowedFd<'_>) -> io::Result<()> {
    assert!([1, 2].contains(&number), "{number} is no standard output");
    // SAFETY: takes no pointers. What is written to that number goes elsewhere from now on, which
    // is what the caller asks for.
    check(unsafe { libc::dup2(file.as_raw_fd(), number) }).map(drop)
}

/// Returns whether no file has `number`.
fn is_free(number: RawFd) -> bool {
    // SAFETY: takes no pointers; a number that is not open answers `EBADF`.
    unsafe { libc::fcntl(number, libc::F_GETFD) == -1 }
}

fn open_null() -> io::Result<OwnedFd> {
    std::fs::File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from)
}

/// Opens `/dev/null` under those of the three standard numbers that are free.
///
/// A program that runs without them prints under those numbers all the same, into whatever it
/// opens next.
pub(crate) fn fill_stdio() -> io::Result<()> {
    while STDIO.into_iter().any(is_free) {
        // Under the lowest free number, unless another thread was quicker.
        let null = open_null()?;
        if STDIO.contains(&null.as_raw_fd()) {
            set_close_on_exec(null.as_fd(), false)?;
            let _ = null.into_raw_fd();
        }
    }
    Ok(())
}

/// Opens `/dev/null` under those of the three standard numbers that are free, and as standard
/// input in any case.
pub(crate) fn silence_stdin() -> io::Result<()> {
    // Opened above the three, so that what it is copied to is never itself.
    let null = above_stdio(open_null()?)?;
    for number in STDIO {
        if number == 0 || is_free(number) {
            // SAFETY: takes no pointers. Readers of standard input read nothing from now on, which
            // is what the caller asks for; the free numbers have no owner.
            check(unsafe { libc::dup2(null.as_raw_fd(), number) })?;
        }
    }
    Ok(())
}

/// Closes every descriptor but the three standard ones and those of `keep`.
///
/// # Safety
///
/// No code uses, or closes by dropping, an owner of a descriptor that is closed here: its number
/// may be another file's by then.
pub(crate) unsafe fn close_all_except(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.to_vec();
    keep.sort_unstable();
    let mut first = STDIO.end() + 1;
    for fd in keep {
        if fd > first {
            close_range(first as u32, fd as u32 - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first as u32, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    let flags: libc::c_long = 0;
    let (from, to) = (first as libc::c_long, last as libc::c_long);
    // SAFETY: takes no pointers; the caller of the only caller vouches for the owners.
    if unsafe { libc::syscall(libc::SYS_close_range, from, to, flags) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // A container's filter may be older than the call.
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
        return Err(error);
    }
    for fd in open_fds()? {
        if (first..=last).contains(&(fd as u32)) {
            // SAFETY: takes no pointers; the directory that was listed is closed by now and answers
            // `EBADF`.
            unsafe { libc::close(fd) };
        }
    }
    Ok(())
}

/// Closes a descriptor by its number.
///
/// # Safety
///
/// As for [`close_all_except`].
pub(crate) unsafe fn close(fd: RawFd) {
    // SAFETY: takes no pointers; the caller vouches for the owner. There is nothing to be done
    // about an error: the number is free in any case.
    unsafe { libc::close(fd) };
}

/// Closes what this program was started with, the three standard ones and those that it has made
/// close-on-exec itself excepted.
///
/// # Safety
///
/// As for [`close_all_except`].
pub(crate) unsafe fn close_inherited() -> io::Result<()> {
    for fd in open_fds()?.into_iter().filter(|fd| !STDIO.contains(fd)) {
        // SAFETY: takes no pointers; a number that is not open answers -1.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if flags != -1 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: the caller vouches for it.
            unsafe { close(fd) };
        }
    }
    Ok(())
}

/// Returns how many descriptors this process has open.
pub(crate) fn count_open() -> io::Result<usize> {
    // One of those listed is the listing itself.
    Ok(open_fds()?.len() - 1)
}

fn open_fds() -> io::Result<Vec<RawFd>> {
    std::fs::read_dir("/proc/self/fd")
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => {
                io::Error::new(error.kind(), format!("{error}: raise ulimit -n (RLIMIT_NOFILE)"))
            }
            Some(libc::ENOENT) => io::Error::new(error.kind(), format!("{error}: mount /proc")),
            _ => error,
        })?
        .map(|entry| {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            number.ok_or_else(|| io::Error::other("an entry of /proc/self/fd is not a number"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::eventfd::EventFd;

    #[test]
    fn close_on_exec_is_what_was_set() {
        let bell = EventFd::new().unwrap();
        for close in [false, true] {
            set_close_on_exec(bell.as_fd(), close).unwrap();
            assert_eq!(is_close_on_exec(bell.as_fd()).unwrap(), close);
        }
    }

    #[test]
    fn open_descriptors_are_counted() {
        // Other tests open and close meanwhile: only what holds whatever they do is asserted.
        let bells: Vec<_> = (0..50).map(|_| EventFd::new().unwrap()).collect();
        assert!(count_open().unwrap() >= bells.len());
        let listed = open_fds().unwrap();
        assert!(bells.iter().all(|bell| listed.contains(&bell.as_fd().as_raw_fd())));
    }

    #[test]
    fn a_high_descriptor_stays_what_it_is() {
        let bell: OwnedFd = EventFd::new().unwrap().into();
        let number = bell.as_raw_fd();
        assert_eq!(above_stdio(bell).unwrap().as_raw_fd(), number);
    }
}
