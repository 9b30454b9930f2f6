//! Questions that another crate answers with a panic when the answer is no.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// This thread asks such a question.
    static ASKS: Cell<bool> = const { Cell::new(false) };
}

/// Returns what `call` returns, or `None` if it panics, of which the program's panic hook does not
/// hear. It ends a program that is built with `panic = "abort"`.
pub(crate) fn ask<R>(call: impl FnOnce() -> R) -> Option<R> {
    static HOOK: Once = Once::new();
    // A thread that panics already cannot set a hook: then the hook there is hears of it.
    if !std::thread::panicking() {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if !ASKS.get() {
                    before(info);
                }
            }));
        });
    }
    ASKS.set(true);
    let answer = panic::catch_unwind(AssertUnwindSafe(call));
    ASKS.set(false);
    answer.ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_is_no_and_another_question_is_asked_after_it() {
        assert_eq!(super::ask(|| 7), Some(7));
        assert_eq!(super::ask(|| -> u32 { panic!("no") }), None);
        assert_eq!(super::ask(|| 8), Some(8));
    }
}
