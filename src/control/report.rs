//! A worker's own line: what it tells the host about itself. Only that worker writes it.
#![forbid(unsafe_code)]

use crate::arena::Block;
use crate::doorbell::WantsRoom;
use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// How far a worker has come. The numbers are part of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Phase {
    /// Forked; its initializer has not returned.
    Starting = 0,
    /// Takes tasks.
    Ready = 1,
    /// Takes no more tasks and leaves when those it has are done.
    Retiring = 2,
    /// Its initializer failed; the text is in its result arena.
    InitFailed = 3,
    /// Nothing is in flight any more and its exit hook has run.
    Leaving = 4,
}

/// A view of a worker's line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'m>(&'m [AtomicU64]);

const PHASE: usize = 0;
const COMPLETED: usize = 1;
const HANDBACK_TAKEN: usize = 2;
const TEXT: usize = 3;
const WANTS_ROOM: usize = 4;

impl<'m> Report<'m> {
    pub(super) fn new(line: &'m [AtomicU64]) -> Self {
        Self(line)
    }

    /// The host wipes the line before a new incarnation is ordered.
    pub(crate) fn reset(self, handback_start: u64) {
        self.0.iter().for_each(|word| word.store(0, Relaxed));
        self.0[HANDBACK_TAKEN].store(handback_start, Relaxed);
    }

    /// The worker has come to `phase`; it rings the supervisor after this.
    pub(crate) fn set_phase(self, phase: Phase) {
        // Release: pairs with the Acquire in `phase` (the text of a failure).
        self.0[PHASE].store(phase as u64, Release);
    }

    /// Returns the phase that the worker has reported.
    pub(crate) fn phase(self) -> Option<Phase> {
        // Acquire: pairs with the Release in `set_phase`.
        Some(match self.0[PHASE].load(Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Retiring,
            3 => Phase::InitFailed,
            4 => Phase::Leaving,
            _ => return None,
        })
    }

    /// The worker says where in its result arena the text of its failure is.
    pub(crate) fn set_text(self, block: Block, len: u32) {
        self.0[TEXT].store(u64::from(len) << 32 | u64::from(block.bits()), Relaxed);
    }

    /// Returns where the text of a failure is, as the worker says.
    pub(crate) fn text(self) -> (Block, u32) {
        let word = self.0[TEXT].load(Relaxed);
        (Block::from_bits(word as u32), (word >> 32) as u32)
    }

    /// One more task was completed.
    pub(crate) fn count_completed(self) {
        // Relaxed load and store: the worker is the only writer.
        self.0[COMPLETED].store(self.0[COMPLETED].load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Tasks completed in this incarnation.
    pub(crate) fn completed(self) -> u64 {
        self.0[COMPLETED].load(Relaxed)
    }

    /// Returns how far the worker has read its hand-back lane.
    pub(crate) fn handback_taken(self) -> &'m AtomicU64 {
        &self.0[HANDBACK_TAKEN]
    }

    /// Returns whether outputs wait for room in the result arena.
    pub(crate) fn wants_room(self) -> WantsRoom<'m> {
        WantsRoom::new(&self.0[WANTS_ROOM])
    }
}
