//! What a worker does about its records when the host asks or has assigned it a task.
#![forbid(unsafe_code)]

use crate::table::State;
use crate::task::Status;

use super::claimed::{Claimed, now};
use super::engine::Engine;

impl Engine {
    /// Returns the tasks that the host has claimed for this worker and that it does not `have` yet.
    pub(crate) fn assigned(&mut self, have: impl Fn(u32) -> bool) -> Vec<Claimed> {
        let mut found = Vec::new();
        for index in 0..self.control.records().len() as u32 {
            let word = self.control.records()[index as usize].state();
            if word.owner() != self.me || have(index) {
                continue;
            }
            let task = Claimed { record: index, word };
            match word.state() {
                Some(State::Claimed) => found.push(task),
                // Cancelled before this worker came round to it.
                Some(State::Cancelling) => self.confirm(task, word),
                _ => {}
            }
        }
        found
    }

    /// Publishes what only this worker knows, over words that no correct process wrote and that no
    /// other process can tell from true ones: its position in its hand-back lane, and which of the
    /// tasks that it has by the records it does not `have`. Those end.
    ///
    /// A task that was CLAIMED may have been assigned since the question was asked. So it ends only
    /// if the answer before found the same word: the supervisor, which asks and assigns in one
    /// thread, has raised the flag for that task by then.
    pub(crate) fn answer(&mut self, have: impl Fn(u32) -> bool) {
        self.outputs.say_taken();
        let before = std::mem::take(&mut self.unexplained);
        for index in 0..self.control.records().len() as u32 {
            let word = self.control.records()[index as usize].state();
            if word.owner() != self.me || have(index) {
                continue;
            }
            let mut task = Claimed { record: index, word };
            match word.state() {
                Some(State::Claimed) if !before.contains(&(index, word)) => {
                    self.unexplained.push((index, word));
                }
                Some(State::Claimed) if !self.start(&mut task, now()) => continue,
                Some(State::Claimed | State::Running) => {
                    let text = format!("record {index} says that a worker has it which has not");
                    // Few enough bytes for the record itself: there is always room.
                    let _ = self.complete(task, Status::Damaged, text.as_bytes(), 0);
                }
                _ => self.confirm(task, word),
            }
        }
    }
}
