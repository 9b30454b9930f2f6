//! Panics of user code: caught, and reported with message, place and backtrace.
#![forbid(unsafe_code)]

use std::any::Any;
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

/// Installs the worker's panic hook over the one there is: what is caught is recorded, what is not
/// goes on to that one. Once more after the initializer, which may have set a hook of its own.
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
        let panic = take(payload.as_ref());
        // The payload's own drop is user code, too.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
        panic
    })
}

/// Returns the panic that this thread recorded last; where a task has replaced the hook, what the
/// payload says.
fn take(payload: &(dyn Any + Send)) -> TaskPanic {
    LAST.with(|last| last.borrow_mut().take()).unwrap_or_else(|| {
        TaskPanic::new(panic_text(payload).to_owned(), String::new(), String::new())
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
