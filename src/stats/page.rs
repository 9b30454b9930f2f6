//! The host's end of the page.

#![allow(unsafe_code)] // An island: words in memory that the system mapped.

use std::os::fd::AsFd;

use shared_memory::{Shmem, ShmemConf, ShmemError};

use super::{
    HEADER, LAYOUT_VERSION, MADE, MAGIC, NUMBERS, Numbers, PID, SEQUENCE, WORDS, WRITTEN, path_of,
    reader,
};
use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release, fence};
use crate::sys::clock::monotonic_ns;
use crate::sys::memfd;

/// A page that this process made; gone with it.
pub(crate) struct Page {
    memory: Shmem,
    pid: u32,
}

/// A page that will be made. The process that removes what dead hosts leave behind hears of it
/// first: the host can die at any time after.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    name: String,
    path: String,
    made: u64,
}

impl Promise {
    /// Prepares the page called `name`; nothing is made yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] if that is no name.
    pub(crate) fn new(name: String) -> Result<Self> {
        let path = path_of(&name).map_err(|allowed| refuse(&name, allowed.to_owned()))?;
        Ok(Self { name, path, made: monotonic_ns() })
    }

    /// Returns the file, and the word that will tell this page from every other of that name.
    pub(crate) fn identity(&self) -> (String, u64) {
        (self.path.clone(), self.made)
    }
}

fn refuse(name: &str, allowed: String) -> Error {
    Error::InvalidOption { name: "stats_page", value: name.to_owned(), allowed }
}

// SAFETY: the mapping is owned and stays until the drop; all accesses to it are of atomics.
unsafe impl Send for Page {}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Page").field(&self.memory.get_os_id()).finish()
    }
}

impl Page {
    /// Makes the page. One of its name that a dead host left behind is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] if a living host's page has the name; [`Error::System`] what the
    /// system refuses.
    pub(crate) fn create(promise: &Promise) -> Result<Self> {
        let Promise { name, path, made: at } = promise;
        let id = format!("/aiopool.{name}");
        let create = || ShmemConf::new().os_id(&id).size(WORDS * 8).create();
        let mut made = create();
        if matches!(made, Err(ShmemError::MappingIdExists)) {
            match reader::host_of(path) {
                Some(pid) if std::path::Path::new(&format!("/proc/{pid}")).exists() => {
                    return Err(refuse(
                        name,
                        format!("a name that no pool has; process {pid} has it"),
                    ));
                }
                // Host and zygote were killed at once, or it is no page at all.
                _ => {
                    let _ = std::fs::remove_file(path);
                    made = create();
                }
            }
        }
        let memory = made.map_err(|error| {
            Error::system("make the stats page in /dev/shm", std::io::Error::other(error))
        })?;
        // Before the first store: a page that the file system has no room for is a signal then.
        let file = std::fs::File::options().write(true).open(path);
        file.and_then(|file| memfd::reserve(file.as_fd(), 0, (WORDS * 8) as u64)).map_err(
            |error| {
                let what = "reserve the stats page: is /dev/shm full, or smaller than a page has \
                    to be (df /dev/shm)";
                Error::system(what, error)
            },
        )?;
        let page = Self { memory, pid: std::process::id() };
        let words = page.words();
        words[1].store((NUMBERS.len() as u64) << 32 | LAYOUT_VERSION, Relaxed);
        words[PID].store(u64::from(page.pid), Relaxed);
        words[MADE].store(*at, Relaxed);
        // Release: who sees the magic sees the rest of the header.
        words[0].store(MAGIC, Release);
        Ok(page)
    }

    /// Writes all numbers.
    pub(crate) fn write(&self, numbers: &Numbers) {
        let words = self.words();
        let sequence = words[SEQUENCE].load(Relaxed) | 1;
        words[SEQUENCE].store(sequence, Relaxed);
        // Release: a reader that sees one of the words below sees the odd number.
        fence(Release);
        words[WRITTEN].store(monotonic_ns(), Relaxed);
        let values = numbers.numbers.iter().chain(&numbers.waited).chain(&numbers.ran);
        words[HEADER..].iter().zip(values).for_each(|(word, value)| word.store(*value, Relaxed));
        // Release: a reader that sees this number sees the words above.
        words[SEQUENCE].store(sequence + 1, Release);
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has at least `WORDS * 8` bytes, is aligned to a page, and lives as
        // long as `self`; others write there only with the owner's rights, and then spoil numbers
        // that this process does not read.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast::<AtomicU64>(), WORDS) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // A forked child's copy must not take the name from its parent's page.
        self.memory.set_owner(self.pid == std::process::id());
    }
}
