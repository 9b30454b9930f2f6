//! The worker's result arena: it alone allocates there, the host hands blocks back.
#![forbid(unsafe_code)]

use crate::arena::{AllocError, Allocator, Block};
use crate::control::Control;
use crate::ring::HandbackReader;
use crate::shm::Region;
use crate::sync::crash::{self, Point};

/// The result arena of this incarnation.
#[derive(Debug)]
pub(crate) struct Outputs {
    region: Region,
    allocator: Allocator,
    handback: HandbackReader,
}

impl Outputs {
    /// Over the mapped `region`, with the hand-back lane read from `handback_start` on.
    pub(crate) fn new(region: Region, handback_start: u64) -> Self {
        let allocator = Allocator::new(region.len());
        Self { region, allocator, handback: HandbackReader::at(handback_start) }
    }

    /// Puts `bytes` into a block.
    ///
    /// # Errors
    ///
    /// As the allocator; [`AllocError::Full`] may pass when the host hands blocks back.
    pub(crate) fn store(
        &mut self,
        control: &Control,
        slot: usize,
        bytes: &[u8],
    ) -> Result<Block, AllocError> {
        self.take_back(control, slot);
        let region = &self.region;
        let block = self.allocator.allocate(bytes.len(), |at, len| region.reserve(at, len))?;
        // A1: dies here → RUNNING; the arena goes with the incarnation.
        crash::here(Point::A1);
        region.write(block.offset(), bytes);
        // A2: dies here → the same, with bytes that nobody names.
        crash::here(Point::A2);
        Ok(block)
    }

    /// Frees what the host has handed back.
    pub(crate) fn take_back(&mut self, control: &Control, slot: usize) {
        let (lane, taken) = (control.handback(slot), control.report(slot).handback_taken());
        while let Some(block) = self.handback.take(lane, taken) {
            // A3: dies here → as A1; the host's next position is sent with the next fork order.
            crash::here(Point::A3);
            self.allocator.free(block);
        }
    }

    /// Frees a block that the host never saw.
    pub(crate) fn discard(&mut self, block: Block) {
        self.allocator.free(block);
    }
}
