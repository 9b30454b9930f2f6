//! The host's own entry for a record: the private memory that decides what was delivered.

use crate::arena::Block;
use crate::table::{Call, INLINE_INPUT, InputDesc, Place, State, StateWord};
use crate::task::{Outcome, TaskOptions};

/// The receiver of a task's outcome.
///
/// `deliver` is called once for each task, and the caller holds no lock of the queue. It must not
/// block.
pub trait Receiver: Send + Sync {
    /// Receives the `outcome` of the task that was submitted with `token`. Returns true if that
    /// woke a receiver counted in [`Common::park`](super::Common::park).
    fn deliver(&self, token: u64, outcome: Outcome) -> bool;

    /// Receives several outcomes at once and returns how many counted receivers it woke. Leaves
    /// `all` empty; it may be another list then, for its memory.
    fn deliver_all(&self, all: &mut Vec<Delivery>) -> usize {
        let deliver = |Delivery { token, outcome, .. }| usize::from(self.deliver(token, outcome));
        all.drain(..).map(deliver).sum()
    }
}

/// An outcome on its way to its receiver, and there until that takes it.
#[derive(Debug)]
pub struct Delivery {
    /// What the task ended with.
    pub(crate) outcome: Outcome,
    /// The task's number in its pool.
    pub(crate) task: u64,
    /// What the task was submitted with.
    pub(crate) token: u64,
}

/// A task whose outcome is not delivered yet.
pub(crate) struct Pending {
    /// The key of its outcome's receiver.
    pub(crate) receiver: usize,
    pub(crate) token: u64,
    /// The task's number in its pool.
    pub(crate) task: u64,
    pub(crate) function: u32,
    pub(crate) options: TaskOptions,
    pub(crate) submitted_ns: u64,
    /// Attempts that began, this one included.
    pub(crate) attempts: u32,
    /// Attempts that count against the retries.
    pub(crate) failures: u32,
    /// Attempts that ended with their worker and do not count against the retries: another task
    /// may have been the cause.
    pub(crate) spared: u32,
    /// Times the task was claimed by a worker that died before it ran anything.
    pub(crate) claim_losses: u32,
    /// Nothing else is to run beside it: it is a suspect, or its caller or the pool wants that.
    pub(crate) alone: bool,
    /// It is for one worker alone, and not to be queued for another.
    pub(crate) assigned: bool,
    /// What ended earlier attempts.
    pub(crate) earlier: EarlierAttempts,
}

impl Pending {
    /// Creates a task at its first attempt.
    #[inline]
    pub(super) fn new(
        receiver: usize,
        token: u64,
        task: u64,
        function: u32,
        options: &TaskOptions,
        submitted_ns: u64,
    ) -> Self {
        Self {
            receiver,
            token,
            task,
            function,
            options: *options,
            submitted_ns,
            attempts: 1,
            failures: 0,
            spared: 0,
            claim_losses: 0,
            alone: options.runs_alone(),
            assigned: false,
            earlier: EarlierAttempts::default(),
        }
    }

    /// Returns whether this is its first attempt, so that it owns no text of an earlier one.
    #[inline]
    pub(super) fn is_first(&self) -> bool {
        self.attempts == 1 && self.earlier.0.is_none()
    }

    /// Returns the number of this attempt, from 1: those that were made on other machines count.
    #[inline]
    pub(super) fn attempt(&self) -> u32 {
        self.options.attempts_before().saturating_add(self.attempts)
    }

    /// Returns what its record says of the call, at this attempt.
    #[inline]
    pub(super) fn call(&self) -> Call {
        let alone = if self.alone { Call::ALONE } else { 0 };
        let attempts = u16::try_from(self.attempt() - 1).unwrap_or(u16::MAX);
        Call { function: self.function, attempts, flags: alone | Call::tag(self.task) }
    }
}

/// What ended earlier attempts, oldest first: none of them, for most tasks.
// Boxed: the three words of a vector would be moved with every task, and few tasks need them.
#[allow(clippy::box_collection)]
#[derive(Clone, Debug, Default)]
pub(crate) struct EarlierAttempts(Option<Box<Vec<String>>>);

impl EarlierAttempts {
    pub(crate) fn push(&mut self, end: String) {
        self.0.get_or_insert_default().push(end);
    }

    pub(crate) fn to_vec(&self) -> Vec<String> {
        self.0.as_deref().cloned().unwrap_or_default()
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pending(task {}, attempt {})", self.task, self.attempts)
    }
}

/// The host's own copy of what a record says about its input.
#[derive(Clone, Debug)]
pub(crate) struct InputCopy {
    /// The descriptor, as it stands in the record.
    pub(crate) words: [u64; 2],
    inline: [u8; INLINE_INPUT],
}

impl Default for InputCopy {
    fn default() -> Self {
        Self { words: [0; 2], inline: [0; INLINE_INPUT] }
    }
}

impl InputCopy {
    /// Copies the descriptor and the inline `bytes`, if there are some.
    pub(crate) fn set(&mut self, words: [u64; 2], bytes: &[u8]) {
        self.words = words;
        // Most have none, and a copy of unknown length is a call.
        if !bytes.is_empty() {
            self.inline[..bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Returns the inline bytes; none if the input is elsewhere.
    pub(crate) fn inline(&self) -> &[u8] {
        let InputDesc { len, place } = InputDesc::from_words(self.words);
        let len = if place == Place::Inline { len as usize } else { 0 };
        &self.inline[..len.min(INLINE_INPUT)]
    }
}

/// What is special about a record's use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    #[default]
    Plain,
    /// Whether its large output is being copied: no lane word may have it received again.
    Copying,
    /// Its attempt is over, or cancelled and still its worker's, and its caller's predicate is
    /// asked for another one.
    Asked,
    /// It gets another attempt as soon as its worker has let go of this one.
    Granted,
}

/// What the host itself knows of the use of a record.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// The generation of its newest QUEUED.
    pub(crate) generation: u32,
    /// `{ class, position }` of its newest ring entry.
    pub(crate) place: u64,
    /// The task, until its outcome is delivered.
    pub(crate) pending: Option<Pending>,
    /// Its input as it was submitted, for another attempt: nothing in shared memory is trusted to
    /// still hold it.
    pub(crate) copy: InputCopy,
    /// What is special about it now.
    pub(crate) standing: Standing,
    /// The block its input is in, until the record is freed.
    pub(crate) input: Option<Block>,
    /// Whether the record is in use: not FREE.
    pub(crate) in_use: bool,
    /// HELD for a retry.
    pub(crate) held: bool,
}

impl Entry {
    /// Returns whether its attempt is over or cancelled, and what follows is decided or asked for.
    pub(crate) fn is_between_attempts(&self) -> bool {
        matches!(self.standing, Standing::Asked | Standing::Granted)
    }

    /// Returns whether the host knows that no attempt goes on which could still be the task's end.
    pub(crate) fn is_called_off(&self) -> bool {
        self.held || self.is_between_attempts()
    }

    /// Returns whether nothing is special about the record's use, and its input needs no block.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.standing == Standing::Plain && self.input.is_none()
    }

    /// Returns whether `word` says that the worker in `slot` has done what the record is used for
    /// now.
    #[inline]
    pub(super) fn is_done_by(&self, word: StateWord, slot: usize) -> bool {
        !self.held
            && self.knows(word)
            && word.state() == Some(State::Done)
            && word.owner().slot() == slot
    }

    /// Returns whether `word` belongs to the current use of the record.
    pub(crate) fn knows(&self, word: StateWord) -> bool {
        self.in_use && word.generation() == self.generation
    }
}

/// Where a task is: the record that it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) queue: u16,
    pub(crate) record: u32,
    /// The task's number, which no other task of the pool has.
    pub(crate) task: u64,
}
