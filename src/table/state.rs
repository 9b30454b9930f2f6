//! The state word of a record: what the task is doing, and for whom.
//!
//! A word is written `{ generation:32, incarnation:12, slot:12, state:8 }`, highest bits first.
//! Every change of it is one compare-and-swap (or, in the states that have a single writer, one
//! store), so that a process that dies leaves either the old word or the new one.

use super::owner::WorkerId;

/// Where a task is in its life. The numbers are part of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Unused: the host may fill it.
    Free = 0,
    /// Filled and in a task ring, for any worker of the queue to claim.
    Queued = 1,
    /// A worker's; no user code has run.
    Claimed = 2,
    /// A worker's; user code, decoding included, may have run.
    Running = 3,
    /// A worker's last word: the output is written.
    Done = 4,
    /// Cancelled by the host before a worker claimed it.
    Cancelled = 5,
    /// Cancelled by the host while a worker has it; the outcome is already delivered.
    Cancelling = 6,
    /// The host's: waits for the back-off of a retry.
    Held = 7,
}

impl State {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Free,
            1 => Self::Queued,
            2 => Self::Claimed,
            3 => Self::Running,
            4 => Self::Done,
            5 => Self::Cancelled,
            6 => Self::Cancelling,
            7 => Self::Held,
            _ => return None,
        })
    }
}

/// The worker that a state word names: its slot in the queue and the low bits of its incarnation.
///
/// A slot is given to the next incarnation only after the last one was recovered, so the
/// incarnation here is a second lock on the same door: it makes a stray store by a process that
/// was declared dead visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u32);

const SLOT_BITS: u32 = 12;
const OWNER_MASK: u32 = (1 << 24) - 1;

impl Owner {
    /// The owner in words without one.
    pub(crate) const NOBODY: Self = Self(0);
    /// The most worker slots a queue can have.
    pub(crate) const MAX_SLOTS: u32 = 1 << SLOT_BITS;
    /// The most workers a queue can have. Each takes two slots, since a replacement starts while
    /// its predecessor finishes; one pair of slots is left over.
    pub(crate) const MAX_SEATS: u32 = Self::MAX_SLOTS / 2 - 1;

    /// Returns the owner that stands for `id` in its queue's state words.
    pub fn of(id: WorkerId) -> Self {
        Self(((id.incarnation << SLOT_BITS) | u32::from(id.slot)) & OWNER_MASK)
    }

    /// Returns the worker slot, 0-based.
    pub(crate) fn slot(self) -> usize {
        (self.0 & (Self::MAX_SLOTS - 1)) as usize
    }
}

/// One value of a record's state word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateWord(u64);

impl StateWord {
    /// `{ generation, owner, state }` as a word.
    pub(crate) fn new(generation: u32, owner: Owner, state: State) -> Self {
        Self(u64::from(generation) << 32 | u64::from(owner.0) << 8 | state as u64)
    }

    /// Returns a word as read from shared memory, whatever it holds.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the word to store.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Returns the number of this use of the record; each QUEUED has a new one.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the worker that has the task; meaningful in CLAIMED, RUNNING, DONE and CANCELLING.
    pub(crate) fn owner(self) -> Owner {
        Owner((self.0 >> 8) as u32 & OWNER_MASK)
    }

    /// Returns the state, or `None` for a byte that no correct process writes.
    pub fn state(self) -> Option<State> {
        State::from_bits(self.0 as u8)
    }

    /// Returns the word of the same use of the record, in another state with another owner.
    pub(crate) fn with(self, owner: Owner, state: State) -> Self {
        Self::new(self.generation(), owner, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner::of(WorkerId { queue: 3, slot: 4095, incarnation: 0xABCD })
    }

    #[test]
    fn a_word_gives_back_what_was_put_in() {
        for state in (0..8).map(|bits| State::from_bits(bits).unwrap()) {
            let word = StateWord::new(u32::MAX, owner(), state);
            assert_eq!(word.generation(), u32::MAX);
            assert_eq!(word.owner(), owner());
            assert_eq!(word.owner().slot(), 4095);
            assert_eq!(word.state(), Some(state));
            assert_eq!(StateWord::from_bits(word.bits()), word);
        }
    }

    #[test]
    fn an_unknown_state_is_not_a_state() {
        assert_eq!(StateWord::from_bits(0xFF).state(), None);
        assert_eq!(StateWord::from_bits(8).state(), None);
    }
}
