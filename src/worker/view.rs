//! What the code of a task sees of its own record: its attempt, whether it is cancelled, and the
//! word that says how far it is.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::control::Control;
use crate::sys::forked;
use crate::table::{Owner, State, StateWord};

/// A worker's own records, for code that runs in its tasks.
#[derive(Clone, Debug)]
pub(crate) struct View {
    control: Arc<Control>,
    slot: usize,
    me: Owner,
    /// Tells this process from a child that a task forks, which has none of this memory.
    generation: u32,
}

/// One attempt of a task, to be looked at from any thread of its worker.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    control: Arc<Control>,
    record: u32,
    /// RUNNING or CANCELLING, when it was made.
    word: StateWord,
    generation: u32,
}

impl View {
    /// Returns the view of the worker in `slot`, which is `me`.
    pub(super) fn new(control: Arc<Control>, slot: usize, me: Owner) -> Self {
        Self { control, slot, me, generation: forked::generation() }
    }

    /// Returns the record whose future is polled now, and its word.
    fn current(&self) -> Option<(u32, StateWord)> {
        if forked::generation() != self.generation {
            return None;
        }
        let index = self.control.report(self.slot).polled().record()?;
        let word = self.control.records().get(index as usize)?.state();
        let is_ours = matches!(word.state(), Some(State::Running | State::Cancelling));
        (is_ours && word.owner() == self.me).then_some((index, word))
    }

    /// Returns the attempt whose future is polled now.
    pub(crate) fn attempt(&self) -> Option<Attempt> {
        let (record, word) = self.current()?;
        let control = Arc::clone(&self.control);
        Some(Attempt { control, record, word, generation: self.generation })
    }

    /// Returns whether the task whose future is polled now is cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.current().is_some_and(|(_, word)| word.state() == Some(State::Cancelling))
    }

    /// Says how far the task is whose future is polled now. False if there is none.
    ///
    /// The record is this worker's as long as the poll lasts, so no other code writes the words.
    pub(crate) fn set_progress(&self, progress: u64) -> bool {
        let Some((index, word)) = self.current() else { return false };
        self.control.records()[index as usize].set_progress(word.generation(), progress);
        true
    }
}

impl Attempt {
    /// Returns its number, from 1.
    pub(crate) fn number(&self) -> u32 {
        u32::from(self.control.records()[self.record as usize].call().attempts) + 1
    }

    /// Returns whether it is cancelled, or over.
    pub(crate) fn is_over(&self) -> bool {
        if forked::generation() != self.generation {
            return true;
        }
        let now = self.control.records()[self.record as usize].state();
        let same = (now.generation(), now.owner()) == (self.word.generation(), self.word.owner());
        !(same && now.state() == Some(State::Running))
    }
}
