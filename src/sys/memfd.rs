//! `memfd`: memory with a descriptor and no name anywhere.
#![allow(unsafe_code)] // calls into libc

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::rlimit::{self, Resource};
use super::{check, memory, named, retry};

/// The size cannot change any more: no process that maps the file can get a `SIGBUS`.
pub(crate) const SEAL_SIZE: i32 = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK;
/// No more seals.
pub(crate) const SEAL_SEALS: i32 = libc::F_SEAL_SEAL;

/// Returns a new empty file in memory: close-on-exec, sealable, not executable where the kernel can
/// say so.
///
/// `name` only shows in `/proc/*/maps`; two files may have the same.
pub(crate) fn create(name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    match create_with(name, flags | libc::MFD_NOEXEC_SEAL) {
        // Linux before 6.3 does not know the flag.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create_with(name, flags),
        result => result,
    }
}

fn create_with(name: &CStr, flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: `name` is a C string that lives across the call.
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), flags) })
        .map_err(|error| named("memfd_create", error))?;
    // SAFETY: the call just made this descriptor, and no other code has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens the file once more, to be read only, and has no later opening succeed but its owner's: who
/// is given the descriptor can neither write nor map to write, nor make such a mapping writable,
/// nor change the file.
///
/// # Errors
///
/// What `open` of `/proc/self/fd` refuses: that may not be mounted.
pub(crate) fn open_read_only(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let read_only = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    // Other users could open what they were given by its name in `/proc`, to be written.
    // SAFETY: takes no pointers.
    check(unsafe { libc::fchmod(file.as_raw_fd(), 0) })?;
    Ok(read_only.into())
}

/// Sets the file's length; what is new reads as zeros and takes no memory yet.
///
/// # Errors
///
/// `FileTooLarge` where this process may not have files of that size (`RLIMIT_FSIZE`): the system's
/// own answer would be a signal that ends the process.
pub(crate) fn set_len(file: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    if len > rlimit::get(Resource::FileSize)?.soft {
        let text = "larger than a file may be here: raise ulimit -f (RLIMIT_FSIZE)";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let len = offset(len)?;
    // SAFETY: takes no pointers.
    retry(|| check(unsafe { libc::ftruncate(file.as_raw_fd(), len) })).map(drop)
}

/// Takes the memory of `[start, start + len)` now, so that touching it later cannot fail.
///
/// What the machine or the control group does not have is refused *before* the system call:
/// `fallocate` itself never says no to memory, it fills page after page until the kernel's OOM
/// killer has ended every process it could find. The look is no reservation: two callers at once
/// may both pass it.
///
/// # Errors
///
/// `ENOMEM` when less than `len` is available, `ENOSPC` when the file system is full, `EPERM`
/// beyond the end of a sealed file.
pub(crate) fn reserve(file: BorrowedFd<'_>, start: u64, len: u64) -> io::Result<()> {
    if len > memory::available() {
        return Err(io::Error::from_raw_os_error(libc::ENOMEM));
    }
    let (start, len) = (offset(start)?, offset(len)?);
    // SAFETY: takes no pointers.
    retry(|| check(unsafe { libc::fallocate(file.as_raw_fd(), 0, start, len) })).map(drop)
}

/// Writes all of `bytes` at `start`.
///
/// # Errors
///
/// `EPERM` for a file that is sealed against writes, `FileTooLarge` where the system would send a
/// signal that ends the process; what the system refuses, after which a part may be written.
pub(crate) fn write(file: BorrowedFd<'_>, start: u64, bytes: &[u8]) -> io::Result<()> {
    if start + bytes.len() as u64 > rlimit::get(Resource::FileSize)?.soft {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // SAFETY: an open descriptor, which is not closed here.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(file.as_raw_fd()) });
    file.write_all_at(bytes, start)
}

/// Gives the memory of `[start, start + len)` back; it reads as zeros from then on.
///
/// # Errors
///
/// What the system refuses.
pub(crate) fn release(file: BorrowedFd<'_>, start: u64, len: u64) -> io::Result<()> {
    let (start, len) = (offset(start)?, offset(len)?);
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: takes no pointers.
    retry(|| check(unsafe { libc::fallocate(file.as_raw_fd(), mode, start, len) })).map(drop)
}

/// Adds seals; they can never be taken off.
pub(crate) fn add_seals(file: BorrowedFd<'_>, seals: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

/// Returns the seals that are on the file.
pub(crate) fn seals(file: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) })
}

/// Returns the file's length in bytes.
pub(crate) fn len(file: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(stat(file)?.st_size as u64)
}

/// Returns how many bytes of memory the file has.
pub(crate) fn taken(file: BorrowedFd<'_>) -> io::Result<u64> {
    // In units of 512 bytes, whatever the file system's are.
    Ok(stat(file)?.st_blocks as u64 * 512)
}

fn stat(file: BorrowedFd<'_>) -> io::Result<libc::stat> {
    // SAFETY: all-zero is a valid `stat`, a plain C struct of integers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is writable and of the type the call fills in.
    check(unsafe { libc::fstat(file.as_raw_fd(), &mut stat) })?;
    Ok(stat)
}

fn offset(value: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_sealed_file_keeps_its_size() {
        let file = create(c"aiopool-test").unwrap();
        set_len(file.as_fd(), 8192).unwrap();
        reserve(file.as_fd(), 0, 8192).unwrap();
        add_seals(file.as_fd(), SEAL_SIZE).unwrap();
        assert_eq!(len(file.as_fd()).unwrap(), 8192);
        assert_eq!(seals(file.as_fd()).unwrap() & SEAL_SIZE, SEAL_SIZE);
        for size in [4096, 16384] {
            let refused = set_len(file.as_fd(), size).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        }
        assert_eq!(reserve(file.as_fd(), 8192, 1).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn an_impossible_length_is_an_error() {
        let file = create(c"aiopool-test").unwrap();
        assert_eq!(set_len(file.as_fd(), u64::MAX).unwrap_err().raw_os_error(), Some(libc::EFBIG));
    }

    #[test]
    fn more_than_the_machine_has_is_refused_before_the_call() {
        let file = create(c"aiopool-test").unwrap();
        set_len(file.as_fd(), 4096).unwrap();
        // Sealed first: should the look be missing, the kernel answers `EPERM` and takes nothing.
        // Never reserve that much of an unsealed file, not even in a test: it empties the machine.
        add_seals(file.as_fd(), SEAL_SIZE).unwrap();
        let refused = reserve(file.as_fd(), 0, 1 << 62).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOMEM));
    }
}
