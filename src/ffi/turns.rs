//! Waits in turns, between which a thread that waits can be cancelled (`pthread_cancel`).
//!
//! A call is never cancelled half done: what it holds and what it has promised to other threads
//! would stay as it is. Between two turns it holds nothing.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::status::*;

/// How long a turn is: a thread that waits for hours wakes once in this time, and one that is
/// cancelled ends within it.
const TURN: Duration = Duration::from_secs(1);

/// A call that waits.
#[derive(Clone, Copy, Default)]
struct Call {
    /// When it gives up; `None` inside for never.
    until: Option<Option<Instant>>,
    /// The turn ends before that.
    is_cut: bool,
    /// Tasks that it has submitted in the turns before.
    submitted: usize,
}

thread_local! {
    static CALL: Cell<Call> = const { Cell::new(Call { until: None, is_cut: false, submitted: 0 }) };
}

/// Begins a call that waits.
pub(super) fn begin() {
    CALL.set(Call::default());
}

/// Returns whether a call of which a turn has ended with `status` needs another one.
pub(super) fn goes_on(status: aiopool_status) -> bool {
    status == AIOPOOL_ERR_TIMEOUT && CALL.get().is_cut
}

/// Returns when the turn of a call with `timeout_ms` ends; `None` for never.
pub(super) fn deadline(timeout_ms: u64) -> Option<Instant> {
    let (mut call, now) = (CALL.get(), Instant::now());
    let until = *call.until.get_or_insert_with(|| match timeout_ms {
        AIOPOOL_FOREVER => None,
        _ => now.checked_add(Duration::from_millis(timeout_ms)),
    });
    let end = now + TURN;
    call.is_cut = until.is_none_or(|until| until > end);
    CALL.set(call);
    if call.is_cut { Some(end) } else { until }
}

/// Runs `function`, which may make calls of its own, inside of a call that waits.
pub(super) fn aside(function: impl FnOnce()) {
    let call = CALL.get();
    function();
    CALL.set(call);
}

/// Returns how many tasks this call has submitted in the turns before.
pub(super) fn submitted() -> usize {
    CALL.get().submitted
}

/// Takes note of tasks that this call has submitted, in all.
pub(super) fn set_submitted(count: usize) {
    CALL.set(Call { submitted: count, ..CALL.get() });
}
