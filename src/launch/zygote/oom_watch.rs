//! Distinguishes a worker that the kernel killed for want of memory from one that a process killed.

use std::time::{Duration, Instant};

use crate::sys::oom::KillCount;

/// How long a counted kill may be ahead of the death it caused.
const KEPT: Duration = Duration::from_secs(5);

/// Assigns the kills that the kernel counted to the deaths that are found.
///
/// The count is the control group's, which may hold other processes: a kill of one of those is
/// taken for a worker's only when a worker dies of `SIGKILL` soon after the look that saw it.
#[derive(Debug)]
pub(super) struct OomWatch {
    count: KillCount,
    seen: Option<u64>,
    /// Kills that no death was found for yet, and when the last of them was first seen.
    unassigned: u64,
    since: Instant,
}

impl OomWatch {
    pub(super) fn new() -> Self {
        let mut count = KillCount::default();
        Self { seen: count.read(), count, unassigned: 0, since: Instant::now() }
    }

    /// Dates what was counted so far: done before a worker starts, so that an old kill is old.
    pub(super) fn look(&mut self) {
        let count = self.count.read();
        self.update(count, Instant::now());
    }

    /// Returns whether a death by `SIGKILL` that the pool did not order was the kernel's doing.
    pub(super) fn explains_a_death(&mut self) -> bool {
        self.look();
        self.assign()
    }

    fn update(&mut self, count: Option<u64>, now: Instant) {
        if now.duration_since(self.since) > KEPT {
            self.unassigned = 0;
        }
        if let (Some(seen), Some(count)) = (self.seen, count)
            && count > seen
        {
            self.unassigned += count - seen;
            self.since = now;
        }
        self.seen = count.or(self.seen);
    }

    fn assign(&mut self) -> bool {
        let explained = self.unassigned > 0;
        self.unassigned = self.unassigned.saturating_sub(1);
        explained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(count: u64, since: Instant) -> OomWatch {
        OomWatch { count: KillCount::default(), seen: Some(count), unassigned: 0, since }
    }

    #[test]
    fn each_counted_kill_explains_one_death() {
        let now = Instant::now();
        let mut watch = seen(3, now);
        watch.update(Some(3), now);
        assert!(!watch.assign());
        watch.update(Some(5), now);
        assert_eq!([watch.assign(), watch.assign(), watch.assign()], [true, true, false]);
    }

    #[test]
    fn an_old_kill_and_a_lost_count_explain_nothing() {
        let now = Instant::now();
        let mut watch = seen(0, now);
        watch.update(Some(2), now);
        watch.update(None, now + KEPT + Duration::from_secs(1));
        assert!(!watch.assign());
        watch.update(Some(2), now + KEPT * 2);
        assert!(!watch.assign());
    }
}
