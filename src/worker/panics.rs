//! Panics of user code: caught, and reported with message, place and backtrace.
#![forbid(unsafe_code)]

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use crate::task::entry::Output;
use crate::task::{Status, TaskPanic, panic_text};

use super::last_words;

thread_local! {
    /// Whether this thread is in user code whose panics are caught.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<TaskPanic>> = const { RefCell::new(None) };
}

/// Installs the worker's panic hook: what is caught is recorded, what is not goes to stderr.
pub(super) fn install() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if CATCHING.get() {
            let panic = describe(info);
            if last_words::NEEDED && !last_words::speak(&panic) {
                before(info);
            }
            LAST.with(|last| *last.borrow_mut() = Some(panic));
        } else {
            before(info);
        }
    }));
}

/// Runs user code; the panic if it panicked.
pub(super) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, TaskPanic> {
    let outer = CATCHING.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(code));
    CATCHING.set(outer);
    result.map_err(|payload| {
        let panic = take();
        // The payload's own drop is user code, too.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
        panic
    })
}

/// The panic that this thread recorded last.
fn take() -> TaskPanic {
    LAST.with(|last| last.borrow_mut().take()).unwrap_or_else(|| {
        TaskPanic::new("a panic that no hook saw".to_owned(), String::new(), String::new())
    })
}

/// Makes `panic` a task's output.
pub(super) fn report(panic: &TaskPanic, output: &mut Output) -> Status {
    output.finish(panic, Status::Panicked)
}

fn describe(info: &PanicHookInfo<'_>) -> TaskPanic {
    TaskPanic::new(
        panic_text(info.payload()).to_owned(),
        info.location().map(ToString::to_string).unwrap_or_default(),
        Backtrace::force_capture().to_string(),
    )
}
