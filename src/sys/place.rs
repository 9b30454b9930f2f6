//! Where a process is: its directories, its mask for new files, its namespaces.
#![allow(unsafe_code)] // calls into libc

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::check;

/// Opens a directory only to be gone to, which takes no right to read it.
pub(crate) fn open_directory(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    Ok(File::options().read(true).custom_flags(flags).open(path)?.into())
}

/// Tells the file behind a path from every other.
pub(crate) fn identity(path: impl AsRef<Path>) -> io::Result<(u64, u64)> {
    let file = std::fs::metadata(path).map_err(|error| super::named("statx", error))?;
    Ok((file.dev(), file.ino()))
}

/// Makes a directory the working directory.
pub(crate) fn go_to(directory: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::fchdir(directory.as_raw_fd()) }).map(drop)
}

/// Makes the working directory the root directory.
pub(crate) fn take_root_here() -> io::Result<()> {
    // SAFETY: the path is a C string.
    check(unsafe { libc::chroot(c".".as_ptr()) }).map(drop)
}

/// The bits that new files of this process lack.
pub(crate) fn file_mask() -> io::Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = mask.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok());
    mask.ok_or_else(|| io::Error::other("/proc/self/status has no Umask"))
}

/// Sets the bits that new files of this process lack.
pub(crate) fn set_file_mask(mask: u32) {
    // SAFETY: takes a number only, and cannot fail.
    unsafe { libc::umask(mask as libc::mode_t) };
}

/// The namespaces in the order in which they can be entered: the rights to enter the others may
/// come with the first.
///
/// A process never changes its own process and time namespaces, only its children's.
pub(crate) const NAMESPACES: [&str; 8] =
    ["user", "mnt", "uts", "ipc", "net", "cgroup", "pid_for_children", "time_for_children"];

/// Tells a namespace of a process (`self`, `thread-self` or a number) from every other. `None`
/// where the kernel has no namespaces of that kind.
pub(crate) fn namespace(process: &str, kind: &str) -> io::Result<Option<(u64, u64)>> {
    match identity(format!("/proc/{process}/ns/{kind}")) {
        Ok(identity) => Ok(Some(identity)),
        // A namespace that was not made yet has a name without a file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a namespace of a process, to be entered.
pub(crate) fn open_namespace(process: u32, kind: &str) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/{process}/ns/{kind}"))?.into())
}

/// Moves this process, which has one thread, into a namespace.
pub(crate) fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::setns(namespace.as_raw_fd(), 0) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_where_it_is() {
        assert_eq!(identity(".").unwrap(), identity("/proc/self/cwd").unwrap());
        assert!(file_mask().unwrap() <= 0o777);
        assert_eq!(namespace("self", "mnt").unwrap(), namespace("thread-self", "mnt").unwrap());
        assert_eq!(namespace("self", "no such kind").unwrap(), None);
        open_directory("/").unwrap();
    }
}
