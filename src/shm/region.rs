//! A region: a mapped memfd without a name, that cannot be resized or inherited by accident.
//!
//! **Copies that may race.** [`Region::write`], [`Region::read`] and [`Region::read_to`] copy plain
//! bytes. Between processes that keep the protocol they never race: the words of the task table
//! order every copy against its writer. A faulty process can write while the host reads. By the
//! letter of Rust's memory model that is a data race, and undefined, as it is for every program
//! that reads memory which another process can write; Miri, which cannot map a file between
//! processes, says nothing about it. What it rests on is how compilers treat `copy_nonoverlapping`
//! of raw pointers: a `memcpy` of memory that they know nothing of, whose result may be torn.
//! So every such copy goes into memory of this process first, and what is decoded or
//! bounds-checked is the copy, read once: a torn copy is wrong bytes, which the host expects of a
//! faulty worker, and never a value that changes between a check and its use. Words that several
//! processes write are atomics, which cannot race.

#![allow(unsafe_code)] // An island: raw memory that other processes map too.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::sync::atomic::AtomicU64;
use crate::sys::memfd;
use crate::sys::own_fd::OwnFd;
use crate::sys::rlimit::named_space;

use super::private::PrivateMap;

/// A mapped memfd.
///
/// Other processes may write to it at any time, so nothing here gives out a reference to plain
/// bytes: words are atomics, bytes are copied in and out.
#[derive(Debug)]
pub struct Region {
    fd: OwnFd,
    map: MmapRaw,
    writable: bool,
}

impl Region {
    /// Creates a new region of `len` bytes, all zero, mapped to be written; its size is sealed, and
    /// so are its seals: no process that has it can keep others from mapping it.
    ///
    /// Pages are not reserved; see [`Region::reserve`].
    ///
    /// # Errors
    ///
    /// Whatever memfd_create, ftruncate, fcntl or mmap refuse.
    pub fn create(name: &CStr, len: usize) -> io::Result<Self> {
        let fd = memfd::create(name)?;
        memfd::set_len(fd.as_fd(), len as u64)?;
        memfd::add_seals(fd.as_fd(), memfd::SEAL_SIZE | memfd::SEAL_SEALS)?;
        let map = MmapOptions::new().len(len).map_raw(&fd).map_err(named_space)?;
        Ok(Self { fd: fd.into(), map, writable: true })
    }

    /// Maps a region that another process created, to be written.
    ///
    /// # Errors
    ///
    /// As mmap, or if the size of the file is not sealed.
    pub(crate) fn open(fd: OwnedFd) -> io::Result<Self> {
        let len = sealed_len(fd.as_fd())?;
        let map = MmapOptions::new().len(len).map_raw(&fd).map_err(named_space)?;
        Ok(Self { fd: fd.into(), map, writable: true })
    }

    /// Maps another process's region for reading only.
    ///
    /// # Errors
    ///
    /// As mmap, or if the size of the file is not sealed.
    pub(crate) fn open_read_only(fd: OwnedFd) -> io::Result<Self> {
        let len = sealed_len(fd.as_fd())?;
        let map = MmapOptions::new().len(len).map_raw_read_only(&fd).map_err(named_space)?;
        Ok(Self { fd: fd.into(), map, writable: false })
    }

    /// Returns a descriptor with which the region can be read and not written, for the processes
    /// that only read it.
    ///
    /// # Errors
    ///
    /// As [`memfd::open_read_only`].
    pub(crate) fn reader(&self) -> io::Result<OwnedFd> {
        memfd::open_read_only(self.fd.as_fd())
    }

    /// Has the system set `len` bytes from `offset` on aside, so that touching them cannot fail.
    pub fn reserve(&self, offset: usize, len: usize) -> io::Result<()> {
        memfd::reserve(self.fd.as_fd(), offset as u64, len as u64)
    }

    /// Gives `len` bytes from `offset` back to the system: they read as zeros, and have to be
    /// [reserved](Self::reserve) before they are touched again.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(crate) fn release(&self, offset: usize, len: usize) -> io::Result<()> {
        memfd::release(self.fd.as_fd(), offset as u64, len as u64)
    }

    /// Keeps the mapping out of children that this process forks.
    pub(crate) fn keep_from_children(&self) -> io::Result<()> {
        self.map.advise(Advice::DontFork)
    }

    /// Returns how many bytes of it the system has set aside; 0 if it does not say.
    pub(crate) fn taken(&self) -> u64 {
        memfd::taken(self.fd.as_fd()).unwrap_or(0)
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// `count` words from byte `offset` on.
    ///
    /// # Panics
    ///
    /// If they do not lie within the region or `offset` is not a multiple of 8.
    #[inline]
    pub fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        assert!(self.writable, "atomic words need a writable mapping");
        let start = self.check(offset, count * size_of::<AtomicU64>());
        assert!(offset.is_multiple_of(8));
        // SAFETY: in bounds and aligned (checked above, the mapping is page-aligned), initialised
        // (zero pages), valid as long as `self`; every process accesses them as atomics.
        unsafe { std::slice::from_raw_parts(start.cast(), count) }
    }

    /// Copies `bytes` to `offset`; the caller is the only one who uses these bytes now.
    ///
    /// # Panics
    ///
    /// If they do not fit into the region or it is mapped read-only.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(self.writable, "the region is mapped read-only");
        let to = self.check(offset, bytes.len());
        // SAFETY: in bounds; `bytes` cannot overlap, since no reference into a region exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }

    /// Has the system copy `bytes` to `offset`, which does not map the pages here, nor clear those
    /// that are new; the caller is the only one who uses these bytes now.
    ///
    /// # Errors
    ///
    /// What the system refuses: then part of it may have been copied.
    ///
    /// # Panics
    ///
    /// As [`write`](Self::write).
    pub(crate) fn write_unmapped(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        assert!(self.writable, "the region is mapped read-only");
        self.check(offset, bytes.len());
        memfd::write(self.fd.as_fd(), offset as u64, bytes)
    }

    /// Maps `len` bytes from `offset` once more, as memory of this process alone: a page that is
    /// written here becomes a copy, and until then it shows what the region has.
    ///
    /// # Errors
    ///
    /// As mmap.
    ///
    /// # Panics
    ///
    /// If they do not lie within the region.
    pub(crate) fn map_copy(&self, offset: usize, len: usize) -> io::Result<PrivateMap> {
        self.check(offset, len);
        // SAFETY: the file cannot shrink (its size is sealed), and no reference to these bytes is
        // made here. The caller answers for what the worker writes to them meanwhile.
        let map = unsafe { MmapOptions::new().offset(offset as u64).len(len).map_copy(&self.fd) };
        map.map(PrivateMap::new)
    }

    /// Copies `into.len()` bytes from `offset` out.
    ///
    /// # Panics
    ///
    /// If they do not lie within the region.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.check(offset, into.len());
        // SAFETY: in bounds; `into` cannot overlap. Copies that may race: see above.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) }
    }

    /// Copies `len` bytes from `offset` to the end of `into`.
    ///
    /// # Panics
    ///
    /// If they do not lie within the region.
    pub(crate) fn read_to(&self, offset: usize, len: usize, into: &mut Vec<u8>) {
        let from = self.check(offset, len);
        into.reserve(len);
        // SAFETY: in bounds on both sides (reserved above), and initialised by the copy. Copies
        // that may race: see above.
        unsafe {
            std::ptr::copy_nonoverlapping(from, into.as_mut_ptr().add(into.len()), len);
            into.set_len(into.len() + len);
        }
    }

    /// Copies as many bytes from `offset` as `into` has; all of it is initialised then.
    ///
    /// # Panics
    ///
    /// If they do not lie within the region.
    pub(crate) fn read_new(&self, offset: usize, into: &mut [MaybeUninit<u8>]) {
        let from = self.check(offset, into.len());
        // SAFETY: in bounds; `into` cannot overlap. Copies that may race: see above.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr().cast(), into.len()) }
    }

    /// Returns the `len` bytes at `offset` of a region that only its owner can write: as long as
    /// the protocol says that it leaves them alone.
    ///
    /// # Panics
    ///
    /// If they do not lie within the region or it is mapped to be written.
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        assert!(!self.writable, "bytes are shown of a read-only mapping");
        let start = self.check(offset, len);
        // SAFETY: in bounds, and initialised (the file's pages). The one process that can write
        // them is the host, and the block of an input is written before its task is queued and not
        // again before the task is over (`arena/README.md`); the caller reads no longer than that.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Returns where `len` bytes at `offset` are in this process.
    ///
    /// # Panics
    ///
    /// If they do not lie within the region.
    pub(crate) fn address(&self, offset: usize, len: usize) -> *mut u8 {
        self.check(offset, len)
    }

    #[inline]
    fn check(&self, offset: usize, len: usize) -> *mut u8 {
        if offset.checked_add(len).is_none_or(|end| end > self.map.len()) {
            outside(offset, len, self.map.len());
        }
        // SAFETY: within the mapping, as just checked.
        unsafe { self.map.as_mut_ptr().add(offset) }
    }
}

/// Apart from the check, which is in every step of a task.
#[cold]
fn outside(offset: usize, len: usize, region: usize) -> ! {
    panic!("{len} bytes at {offset} are outside a region of {region}")
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn sealed_len(fd: BorrowedFd<'_>) -> io::Result<usize> {
    if memfd::seals(fd)? & memfd::SEAL_SIZE != memfd::SEAL_SIZE {
        return Err(io::Error::other("the region's size is not sealed"));
    }
    usize::try_from(memfd::len(fd)?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::Ordering::Relaxed;

    #[test]
    fn two_mappings_see_one_memory() {
        let host = Region::create(c"test", 8192).unwrap();
        let fd = host.reader().unwrap();
        let worker = Region::open_read_only(fd).unwrap();
        host.write(4090, b"across pages");
        let mut back = Vec::new();
        worker.read_to(4090, 12, &mut back);
        assert_eq!(back, b"across pages");
        host.words(0, 1)[0].store(7, Relaxed);
        let mut word = [0; 8];
        worker.read(0, &mut word);
        assert_eq!(u64::from_le_bytes(word), 7);
    }

    #[test]
    fn a_readers_descriptor_is_good_for_reading_only_and_the_writer_still_punches() {
        let host = Region::create(c"test", 8192).unwrap();
        let reader = host.reader().unwrap();
        host.write(4096, b"there");
        let theirs = || reader.try_clone().unwrap();
        assert!(Region::open(theirs()).is_err(), "writable by a reader's descriptor");
        let worker = Region::open_read_only(theirs()).unwrap();
        let page = worker.address(0, 4096).cast();
        // SAFETY: a page of this test's own mapping.
        let changed = unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(changed, -1, "a reader's mapping was made writable");
        assert!(memfd::release(reader.as_fd(), 4096, 4096).is_err(), "a reader punches holes");
        assert!(memfd::add_seals(reader.as_fd(), libc::F_SEAL_FUTURE_WRITE).is_err());
        assert_eq!(worker.bytes(4096, 5), b"there");
        host.release(4096, 4096).unwrap();
        assert_eq!(worker.bytes(4096, 5), [0; 5]);
    }

    #[test]
    fn whoever_has_a_region_cannot_seal_it_against_others() {
        let region = Region::create(c"test", 4096).unwrap();
        let theirs = region.as_fd().try_clone_to_owned().unwrap();
        assert!(memfd::add_seals(theirs.as_fd(), libc::F_SEAL_FUTURE_WRITE).is_err());
        assert!(Region::open(theirs).is_ok());
    }

    #[test]
    fn an_unsealed_file_is_refused() {
        let fd = memfd::create(c"test").unwrap();
        assert!(Region::open(fd).is_err());
    }

    #[test]
    #[should_panic(expected = "outside a region")]
    fn out_of_bounds_is_refused() {
        Region::create(c"test", 4096).unwrap().read(4090, &mut [0; 8]);
    }
}
