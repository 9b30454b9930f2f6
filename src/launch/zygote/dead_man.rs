//! The kernel's timer for a zygote that holds deadlines and is stopped: it ends the zygote, and
//! so its workers.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::sys::timer::{self, KillTimer};

/// How long after a deadline the kernel ends a zygote that has not acted on it. A zygote that runs
/// acts at once; an engine that leans on the deadline leaves two seconds.
const SPARE: Duration = Duration::from_secs(1);

/// The shortest pause between two looks at the deadlines.
const LEAST: Duration = Duration::from_millis(100);

/// Pushes the kernel's timer out as long as the zygote runs. It exists where a pool has a deadline.
#[derive(Debug, Default)]
pub(super) struct DeadMan {
    timer: Option<KillTimer>,
    set: bool,
}

impl DeadMan {
    /// Makes the timer, before the first pool opens that is to have one.
    pub(super) fn prepare(&mut self, has_deadline: bool) -> Result<(), String> {
        if has_deadline && self.timer.is_none() {
            let timer = KillTimer::new().map_err(|error| {
                format!("cannot make a timer for the deadline: {error}: raise RLIMIT_SIGPENDING")
            })?;
            self.timer = Some(timer);
        }
        Ok(())
    }

    /// Sets the timer by the earliest of the deadlines. Returns when to do so again: any of them
    /// may be moved without a word, so it is looked at when half of the time has passed.
    pub(super) fn look<'a>(
        &mut self,
        deadlines: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> Option<Duration> {
        let timer = self.timer.as_ref()?;
        let left = deadlines.filter_map(|deadline| timer::remaining(deadline).ok()).min();
        if left.is_some() || self.set {
            // Z13: where it cannot be set, the zygote's own look is left.
            self.set =
                timer.set(left.map(|left| left.saturating_add(SPARE))).is_ok() && left.is_some();
        }
        left.map(|left| (left / 2).max(LEAST))
    }
}
