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

/// Whose future a worker polls: `{ turn:32, record + 1:32 }`, 0 below for no task's. The turn is
/// another one at each poll, so a word that stands still says that one poll has not come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Polled(u64);

impl Polled {
    /// Returns the next turn, which is record `index`'s.
    #[inline]
    pub(crate) fn next(self, index: u32) -> Self {
        Self(((self.0 >> 32).wrapping_add(1) << 32) | (u64::from(index) + 1))
    }

    /// Returns the same turn, of no task.
    pub(crate) fn none(self) -> Self {
        Self(self.0 >> 32 << 32)
    }

    /// Returns the record whose task's future is polled.
    pub(crate) fn record(self) -> Option<u32> {
        (self.0 as u32).checked_sub(1)
    }
}

/// A view of a worker's line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report<'m>(&'m [AtomicU64]);

const PHASE: usize = 0;
const COMPLETED: usize = 1;
const HANDBACK_TAKEN: usize = 2;
const TEXT: usize = 3;
const WANTS_ROOM: usize = 4;
const POLLED: usize = 5;
const PROGRAM: usize = 6;
const BEGUN: usize = 7;

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

    /// A task was completed.
    pub(crate) fn note_completed(self) {
        self.0[COMPLETED].store(1, Relaxed);
    }

    /// Returns whether a task was completed in this incarnation.
    pub(crate) fn has_completed(self) -> bool {
        self.0[COMPLETED].load(Relaxed) != 0
    }

    /// The worker says whose future it polls from now on, before it does.
    pub(crate) fn set_polled(self, polled: Polled) {
        // Relaxed: the host reads it of a worker that stands still, or that is dead.
        self.0[POLLED].store(polled.0, Relaxed);
    }

    /// Returns whose future the worker polls, or polled when it died; a hint, as it is a worker's.
    pub(crate) fn polled(self) -> Polled {
        Polled(self.0[POLLED].load(Relaxed))
    }

    /// A worker with a loop of its own says which task it was given last, until it asks for the
    /// next: its loop has not come back from that. Nobody is charged for this word, since other
    /// tasks may be at work in other threads of it.
    pub(crate) fn set_begun(self, begun: Polled) {
        // Relaxed: as in `set_polled`.
        self.0[BEGUN].store(begun.0, Relaxed);
    }

    /// Returns what the worker's one thread is in, for those who look: the future that it polls, or
    /// the task that it has begun with a loop of its own.
    pub(crate) fn busy_with(self) -> Polled {
        let begun = || Polled(self.0[BEGUN].load(Relaxed));
        Some(self.polled()).filter(|polled| polled.record().is_some()).unwrap_or_else(begun)
    }

    /// The worker says which program it runs before it is ready, in a word of
    /// [`sys::program`](crate::sys::program).
    pub(crate) fn set_program(self, program: u64) {
        // Relaxed: the host reads it of a worker that has taken a task.
        self.0[PROGRAM].store(program, Relaxed);
    }

    /// Returns which program the worker runs, as it said when it started; `None` if it did not.
    pub(crate) fn program(self) -> Option<u64> {
        Some(self.0[PROGRAM].load(Relaxed)).filter(|&program| program != 0)
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
