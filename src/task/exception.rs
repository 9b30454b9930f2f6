//! The exception handler: called with a task's error in the worker, while it is still the live
//! value.
#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::failure::{TaskPanic, panic_text};

/// An error or a panic of a task, before it becomes text; see
/// [`PoolBuilder::exception_handler`](crate::PoolBuilder::exception_handler).
pub struct LiveError<'e> {
    function: &'static str,
    what: What<'e>,
}

enum What<'e> {
    Error { any: &'e dyn Any, text: &'e dyn fmt::Display },
    Panic(&'e TaskPanic),
}

impl<'e> LiveError<'e> {
    pub(crate) fn error<E: fmt::Display + 'static>(function: &'static str, error: &'e E) -> Self {
        Self { function, what: What::Error { any: error, text: error } }
    }

    pub(crate) fn of_panic(function: &'static str, panic: &'e TaskPanic) -> Self {
        Self { function, what: What::Panic(panic) }
    }

    /// Returns the task function's name.
    #[must_use]
    pub fn function(&self) -> &'static str {
        self.function
    }

    /// Returns the error itself, if it is an `E`.
    #[must_use]
    pub fn downcast_ref<E: 'static>(&self) -> Option<&E> {
        match self.what {
            What::Error { any, .. } => any.downcast_ref(),
            What::Panic(_) => None,
        }
    }

    /// Returns the panic, if it is one.
    #[must_use]
    pub fn panic(&self) -> Option<&TaskPanic> {
        match self.what {
            What::Panic(panic) => Some(panic),
            What::Error { .. } => None,
        }
    }
}

impl fmt::Display for LiveError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Error { text, .. } => text.fmt(f),
            What::Panic(panic) => panic.fmt(f),
        }
    }
}

impl fmt::Debug for LiveError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveError({}: {self})", self.function)
    }
}

type Handler = for<'e> fn(&LiveError<'e>);

thread_local! {
    static HANDLER: Cell<Option<Handler>> = const { Cell::new(None) };
}

/// Sets the handler of this worker's executor thread.
pub(crate) fn set_handler(handler: Handler) {
    HANDLER.set(Some(handler));
}

/// Tells the handler, if there is one. A handler that panics is logged, and the task's own error
/// goes its way.
pub(crate) fn tell(error: &LiveError<'_>) {
    let Some(handler) = HANDLER.get() else { return };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| handler(error))) {
        let text = panic_text(&*payload);
        let function = error.function();
        crate::sys::stderr::line(&format!(
            "aiopool: the exception handler failed on the error of {function}: {text}"
        ));
        // The payload's own drop is user code, too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
}
