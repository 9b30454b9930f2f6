//! The request arena: inputs over the inline size, and the table of function entries.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crate::arena::{AllocError, Allocator, Block};
use crate::error::{Error, Result};
use crate::shm::Region;
use crate::sync::lock;
use crate::sys::own_fd::OwnFd;
use crate::task::entry::Target;
use crate::task::function::{self, FunctionEntry};

/// A pool's request arena; only the host writes it.
#[derive(Debug)]
pub struct Inputs {
    region: Region,
    /// What the pool's other processes are given, to read only.
    reader: OwnFd,
    allocator: Mutex<Allocator>,
    functions: Mutex<Functions>,
    /// Submitters that found no room; all are woken when a block is freed.
    waiting: Mutex<Vec<Waker>>,
    freed: AtomicBool,
}

#[derive(Debug, Default)]
struct Functions {
    by_entry: HashMap<FunctionEntry, u32>,
    names: Vec<&'static str>,
}

impl Inputs {
    /// Creates a new arena of `len` bytes, a power of two.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn create(len: usize) -> io::Result<Self> {
        let region = Region::create(c"aiopool-requests", len)?;
        let mut allocator = Allocator::new(len);
        let table = allocator
            .allocate(function::TABLE, |at, len| region.reserve(at, len))
            .map_err(|error| match error {
                AllocError::Reserve(error) => error,
                other => io::Error::other(format!("{other:?}")),
            })?;
        debug_assert_eq!(table.offset(), 0);
        // No process but this one can write it from here on.
        let reader = region.reader()?;
        Ok(Self {
            region,
            reader: reader.into(),
            allocator: Mutex::new(allocator),
            functions: Mutex::default(),
            waiting: Mutex::default(),
            freed: AtomicBool::new(false),
        })
    }

    /// Puts `bytes` into a block.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when there is no room now, [`Error::PayloadTooLarge`] when there never
    /// is, [`Error::System`] when the system has no memory.
    pub(crate) fn store(&self, bytes: &[u8]) -> Result<Block> {
        let block = self.allocate(bytes.len())?;
        self.region.write(block.offset(), bytes);
        Ok(block)
    }

    /// Puts the `len` bytes of all `parts` into a block.
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store).
    pub(crate) fn store_parts(&self, parts: &[&[u8]], len: usize) -> Result<Block> {
        let block = self.allocate(len)?;
        let mut at = block.offset();
        for part in parts {
            self.region.write(at, part);
            at += part.len();
        }
        Ok(block)
    }

    /// Returns a block of `len` bytes for the caller to write, and where it is.
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store).
    pub(crate) fn loan(&self, len: usize) -> Result<(Block, *mut u8)> {
        let block = self.allocate(len)?;
        Ok((block, self.region.address(block.offset(), len)))
    }

    fn allocate(&self, len: usize) -> Result<Block> {
        let mut allocator = lock(&self.allocator);
        allocator.allocate(len, |at, len| self.region.reserve(at, len)).map_err(|error| match error
        {
            AllocError::Full => Error::Full,
            AllocError::TooLarge => {
                Error::PayloadTooLarge { size: len, max: self.region.len() / 2 }
            }
            AllocError::Reserve(error) => {
                Error::system(format!("reserve memory for an input of {len} bytes"), error)
            }
        })
    }

    /// Frees a block whose task is over. [`wake_waiting`](Self::wake_waiting) follows, outside
    /// of all locks.
    pub(crate) fn free(&self, block: Block) {
        lock(&self.allocator).free(block);
        self.freed.store(true, Ordering::SeqCst);
    }

    /// Returns whether [`give_back`](Self::give_back) has much to give.
    pub(crate) fn has_slack(&self) -> bool {
        lock(&self.allocator).has_slack()
    }

    /// Gives memory that no input is in back to the system, if there is much of it.
    pub(crate) fn give_back(&self) {
        let mut allocator = lock(&self.allocator);
        if allocator.has_slack() {
            allocator.give_back(|at, len| self.region.release(at, len));
        }
    }

    /// Has `waker` woken when a block is freed; the caller tries once more after this.
    pub(crate) fn wait_for_room(&self, waker: &Waker) {
        let mut waiting = lock(&self.waiting);
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// Wakes the waiting submitters if a block was freed. The caller holds no lock.
    pub(crate) fn wake_waiting(&self) {
        // Read before the swap: most outcomes free nothing here, and a swap takes the cache line
        // away from other threads.
        if self.freed.load(Ordering::SeqCst) && self.freed.swap(false, Ordering::SeqCst) {
            let waiting = std::mem::take(&mut *lock(&self.waiting));
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Returns how many bytes there are for inputs.
    pub(crate) fn size(&self) -> usize {
        self.region.len() - function::TABLE
    }

    /// Returns the number of bytes in use by inputs.
    pub(crate) fn used(&self) -> usize {
        lock(&self.allocator).used() - function::TABLE
    }

    /// Returns the number of a function. Its first use gives it one.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] when the pool has used more functions than its table holds.
    pub(crate) fn function(&self, entry: FunctionEntry, name: &'static str) -> Result<u32> {
        let mut known = lock(&self.functions);
        if let Some(&number) = known.by_entry.get(&entry) {
            return Ok(number);
        }
        let number = known.names.len() as u32;
        if number >= function::MAX_FUNCTIONS {
            return Err(Error::Misuse("a pool cannot be given more than 1024 task functions"));
        }
        function::write(&self.region, number, &entry);
        known.by_entry.insert(entry, number);
        known.names.push(name);
        Ok(number)
    }

    /// Returns the number of a function that workers know by its name.
    ///
    /// # Errors
    ///
    /// As [`function`](Self::function), and for a name that the table cannot hold.
    pub(crate) fn function_by_name(&self, name: &str) -> Result<u32> {
        if name.is_empty() || name.len() > function::MAX_NAME {
            return Err(Error::Misuse("a function's name has 1 to 224 bytes"));
        }
        let entry =
            FunctionEntry { vtable: None, target: Target::default(), name: name.to_owned() };
        if let Some(&number) = lock(&self.functions).by_entry.get(&entry) {
            return Ok(number);
        }
        // Leaked on purpose: the table limits how many names a pool can have.
        self.function(entry, Box::leak(name.to_owned().into_boxed_str()))
    }

    /// Returns the name of function `number`.
    pub(crate) fn function_name(&self, number: u32) -> &'static str {
        lock(&self.functions).names.get(number as usize).copied().unwrap_or("?")
    }
}

/// The descriptor is for the pool's other processes.
impl AsFd for Inputs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
