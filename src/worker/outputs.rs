//! The worker's result arena: it alone allocates there, the host hands blocks back.
//!
//! `arena/README.md` has the rules, those of loans included.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::arena::{AllocError, Allocator, Block};
use crate::control::Control;
use crate::ring::HandbackReader;
use crate::shm::Region;
use crate::sync::atomic::Ordering::Acquire;
use crate::sync::crash::{self, Point};
use crate::sync::lock;
use crate::sys::fd;

/// Bytes from which on the system writes them: a fault for each page would cost more.
const UNMAPPED: usize = 1 << 20;

/// The result arena of this incarnation, which its engine and its tasks allocate from.
#[derive(Clone, Debug)]
pub(crate) struct Outputs(Arc<Mutex<Arena>>);

#[derive(Debug)]
struct Arena {
    region: Region,
    allocator: Allocator,
    handback: HandbackReader,
    control: Arc<Control>,
    slot: usize,
    /// Bytes that are out of use for good.
    set_aside: usize,
}

impl Outputs {
    /// Over the mapped `region` of the worker in `slot`, with the hand-back lane read from
    /// `handback_start` on.
    pub(crate) fn new(
        region: Region,
        control: Arc<Control>,
        slot: usize,
        handback_start: u64,
    ) -> Self {
        let allocator = Allocator::new(region.len());
        let handback = HandbackReader::at(handback_start);
        Self(Arc::new(Mutex::new(Arena {
            region,
            allocator,
            handback,
            control,
            slot,
            set_aside: 0,
        })))
    }

    /// Puts `bytes` into a block.
    ///
    /// # Errors
    ///
    /// As the allocator; [`AllocError::Full`] may pass when the host hands blocks back, unless
    /// [`only_loans`](Self::only_loans).
    pub(crate) fn store(&self, bytes: &[u8]) -> Result<Block, AllocError> {
        let mut arena = self.lock();
        let block = arena.allocate(bytes.len())?;
        arena.write(block.offset(), bytes);
        // A2: dies here → the same, with bytes that no record names.
        crash::here(Point::A2);
        Ok(block)
    }

    /// Puts the `len` bytes of all `parts` into a block.
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store).
    pub(crate) fn store_parts(&self, parts: &[&[u8]], len: usize) -> Result<Block, AllocError> {
        let mut arena = self.lock();
        let block = arena.allocate(len)?;
        let mut at = block.offset();
        for part in parts {
            arena.write(at, part);
            at += part.len();
        }
        crash::here(Point::A2);
        Ok(block)
    }

    /// Gives memory back to the system if much of it is not in use. Returns whether blocks are out
    /// with whose return there may be more to give.
    pub(super) fn give_back(&self) -> bool {
        let mut arena = self.lock();
        arena.take_back();
        let Arena { allocator, region, set_aside, .. } = &mut *arena;
        if allocator.has_slack() {
            allocator.give_back(|at, len| region.release(at, len));
        }
        allocator.keeps_much() && allocator.used() > *set_aside
    }

    /// Returns a block of `len` bytes for a task to fill in place.
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store).
    pub(crate) fn loan(&self, len: usize) -> Result<OutputLoan, AllocError> {
        let mut arena = self.lock();
        let block = arena.allocate(len)?;
        Ok(OutputLoan { outputs: self.clone(), block, len, published: false })
    }

    /// Returns whether the arena's descriptor is still this process's.
    pub(super) fn are_open(&self) -> bool {
        fd::is_open(self.lock().region.as_fd())
    }

    /// Returns whether all blocks that are out are borrowed by receivers: waiting for room may be
    /// for ever then.
    pub(crate) fn only_loans(&self) -> bool {
        let arena = self.lock();
        // Acquire: pairs with the Release in `HostQueue::end_loan`. A loan that is not counted any
        // more was handed back, or its block is about to be, with a ring for the worker that waits.
        let lent = arena.control.lent(arena.slot).load(Acquire);
        (arena.allocator.used() - arena.set_aside) as u64 <= lent
    }

    /// Takes a block of `len` bytes out of use, and gives it with another mapping of the arena.
    pub(super) fn set_aside(&self, len: usize) -> io::Result<(Block, Region)> {
        let mut arena = self.lock();
        let block = arena.allocate(len).map_err(|error| io::Error::other(format!("{error:?}")))?;
        arena.allocator.keep(block);
        arena.set_aside += block.size();
        Ok((block, Region::open(arena.region.as_fd().try_clone_to_owned()?)?))
    }

    /// Says again how far the hand-back lane is read.
    pub(super) fn say_taken(&self) {
        let arena = self.lock();
        arena.handback.say(arena.control.report(arena.slot).handback_taken());
    }

    /// Frees a block that the host never saw, unless a false word of the hand-back lane did so.
    pub(crate) fn discard(&self, block: Block) {
        let _ = self.lock().allocator.free(block);
    }

    fn lock(&self) -> MutexGuard<'_, Arena> {
        lock(&self.0)
    }
}

impl Arena {
    /// Frees the blocks that the host has handed back.
    fn take_back(&mut self) {
        let control = &self.control;
        let taken = control.report(self.slot).handback_taken();
        while let Some(block) = self.handback.take(control.handback(self.slot), taken) {
            // A3: dies here → as A1; the host's next position is sent with the next fork order.
            crash::here(Point::A3);
            if !self.allocator.free(block) {
                self.handback.refuse(taken);
                break;
            }
        }
    }

    /// Puts `bytes` at `offset`, in a block that was allocated.
    fn write(&self, offset: usize, bytes: &[u8]) {
        let is_large = bytes.len() >= UNMAPPED;
        if !is_large || self.region.write_unmapped(offset, bytes).is_err() {
            self.region.write(offset, bytes);
        }
    }

    fn allocate(&mut self, len: usize) -> Result<Block, AllocError> {
        self.take_back();
        if u32::try_from(len).is_err() {
            // A record says the length in 32 bits.
            return Err(AllocError::TooLarge);
        }
        let region = &self.region;
        let block = self.allocator.allocate(len, |at, len| region.reserve(at, len))?;
        // A1: dies here → RUNNING; the arena goes with the incarnation.
        crash::here(Point::A1);
        Ok(block)
    }
}

/// Returns why an output of `len` bytes has no place.
#[cold]
pub(super) fn no_space(len: usize, error: &AllocError) -> String {
    match error {
        AllocError::TooLarge => {
            format!("{len} bytes are more than a result arena has: raise output_arena")
        }
        AllocError::Reserve(error) => format!("the system has no memory for {len} bytes: {error}"),
        AllocError::Full => format!(
            "{len} bytes found no room beside outputs that are borrowed: release some, or raise \
             output_arena"
        ),
    }
}

/// Why a task is given no block to fill.
#[derive(Debug)]
pub(crate) enum LoanError {
    /// It cannot have one at this moment.
    Misuse(&'static str),
    /// The arena has none.
    Arena(AllocError),
}

/// A block that a task fills in place; it goes back if it does not become an output.
#[derive(Debug)]
pub(crate) struct OutputLoan {
    outputs: Outputs,
    block: Block,
    len: usize,
    /// The block is not ours to free.
    published: bool,
}

impl OutputLoan {
    /// Returns where it is in this process.
    pub(crate) fn data(&self) -> *mut u8 {
        self.outputs.lock().region.address(self.block.offset(), self.len)
    }

    /// Returns the number of its bytes that are output.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Lets only the first `len` bytes count.
    pub(crate) fn trim(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Returns the block, which is the caller's to publish.
    pub(crate) fn into_block(mut self) -> (Block, u32) {
        self.published = true;
        (self.block, self.len as u32)
    }
}

impl Drop for OutputLoan {
    fn drop(&mut self) {
        if !self.published {
            self.outputs.discard(self.block);
        }
    }
}
