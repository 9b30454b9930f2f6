//! What a worker says in a program that is built with `panic = "abort"`.
//!
//! There no code can catch a panic: the hook runs, and the process ends. So the hook completes the
//! task whose future panicked, RUNNING → DONE, and the worker's death does the rest: recovery finds
//! the record by its owner and delivers the outcome (C6 in `table/README.md`).
//!
//! The hook interrupts code that holds the engine, so nothing of the engine is touched: it has a
//! mapping of the results of its own and a block there that was set aside when the worker started.
//! It speaks once, only on the thread that polls tasks, and only for the task that is being polled.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::arena::Block;
use crate::control::{Control, Phase};
use crate::shm::Region;
use crate::table::{OutputDesc, Place};
use crate::task::entry::Output;
use crate::task::exception::{self, LiveError};
use crate::task::{Status, TaskPanic};
use crate::view;

use super::claimed::{Claimed, now};

/// Whether panics end this program.
pub(super) const NEEDED: bool = cfg!(panic = "abort");

/// Bytes set aside.
pub(super) const ROOM: usize = 64 << 10;
/// Where texts are cut, so that they fit with their lengths.
const LONGEST: [usize; 3] = [16 << 10, 4 << 10, 40 << 10];

thread_local! {
    static WORDS: RefCell<Option<LastWords>> = const { RefCell::new(None) };
    static SUBJECT: Cell<Option<Subject>> = const { Cell::new(None) };
}

/// What it takes to complete a task without the engine.
#[derive(Debug)]
pub(super) struct LastWords {
    pub(super) control: Arc<Control>,
    pub(super) outputs: Region,
    pub(super) slot: usize,
    pub(super) block: Block,
}

/// Whose code runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject {
    /// The initializer's.
    Initializer,
    /// A task's, with when it started and its function's name.
    Task(Claimed, u64, fn() -> &'static str),
}

/// Gives the calling thread, which is the one that polls tasks, its last words.
pub(super) fn prepare(words: LastWords) {
    WORDS.set(Some(words));
}

/// Runs code of `subject`, which the hook completes should it panic.
pub(super) fn during<R>(subject: impl FnOnce() -> Option<Subject>, code: impl FnOnce() -> R) -> R {
    if !NEEDED {
        return code();
    }
    let outer = SUBJECT.replace(subject());
    let result = code();
    SUBJECT.set(outer);
    result
}

/// Completes the task that panicked on this thread. Returns false if no task was being polled.
pub(super) fn speak(panic: &TaskPanic) -> bool {
    // Taken, so that a panic in here finds nothing more to say.
    let words = WORDS.try_with(|words| words.try_borrow_mut().ok()?.take()).ok().flatten();
    let (Some(words), Some(subject)) = (words, SUBJECT.take()) else { return false };
    match subject {
        Subject::Initializer => words.fail(panic),
        Subject::Task(task, started, name) => {
            let told = words.complete(task, started, panic);
            // User code, and the last: should it panic, the outcome is out.
            exception::tell(&LiveError::of_panic(name(), panic));
            return told;
        }
    }
    true
}

impl LastWords {
    fn complete(&self, task: Claimed, started: u64, panic: &TaskPanic) -> bool {
        let mut output = Output::default();
        if output.set(&cut(panic)).is_err() {
            return false;
        }
        let bytes = output.as_slice();
        let place = self.put(bytes);
        let elapsed_ns = now().saturating_sub(started);
        let status = Status::Panicked as u8;
        let output = OutputDesc { status, elapsed_ns, len: bytes.len() as u32, place };
        let record = &self.control.records()[task.record as usize];
        record.describe_output(output, &[]);
        // C5 and C6 as in `Engine::complete`; refused if the host has cancelled the task.
        let committed = record.try_commit(task.word).is_ok();
        if committed {
            self.control.report(self.slot).note_completed();
        }
        committed
    }

    fn fail(&self, panic: &TaskPanic) {
        let text = format!("the task panicked: {}", cut(panic));
        let bytes = text.as_bytes();
        let report = self.control.report(self.slot);
        self.put(bytes);
        report.set_text(self.block, bytes.len() as u32);
        report.set_phase(Phase::InitFailed);
    }

    /// Writes what fits into the block by [`cut`].
    fn put(&self, bytes: &[u8]) -> Place {
        self.outputs.write(self.block.offset(), bytes);
        Place::Block(self.block)
    }
}

fn cut(panic: &TaskPanic) -> TaskPanic {
    let [message, location, backtrace] = LONGEST;
    TaskPanic::new(
        view::cut(panic.message(), message).to_owned(),
        view::cut(panic.location(), location).to_owned(),
        view::cut(panic.backtrace(), backtrace).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_panic_fits() {
        let long = "ü".repeat(1 << 20);
        let panic = TaskPanic::new(long.clone(), long.clone(), long);
        let mut output = Output::default();
        output.set(&cut(&panic)).unwrap();
        assert!(output.as_slice().len() <= ROOM);
        assert!(format!("the task panicked: {}", cut(&panic)).len() <= ROOM);
    }
}
