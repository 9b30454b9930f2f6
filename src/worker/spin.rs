//! How long to look for work before sleeping: learned from the gaps there were.
//!
//! A sleep costs a wake-up, tens of microseconds on a virtual machine. If work has lately come
//! within that time, spinning for as long is cheaper than sleeping (the rent-or-buy rule: spin at
//! most what a sleep costs); if it has not, spinning is a waste.
#![forbid(unsafe_code)]

use crate::sync::spin_hint;

use super::claimed::now;

/// Every n-th idle spell spins regardless of the average.
const PROBE: u32 = 16;

/// The spin budget of one worker.
#[derive(Debug)]
pub(super) struct Spin {
    /// What a wake-up costs, about, in nanoseconds.
    budget: u64,
    searchers: u32,
    /// Another process may have work for this processor while this one looks for some.
    crowded: bool,
    /// Average gap between becoming idle and the next work, in nanoseconds.
    gap: u64,
    idle_since: Option<u64>,
    /// Idle spells in a row that did not spin.
    skipped: u32,
    /// The time, as last read.
    now: Option<u64>,
}

impl Spin {
    pub(super) fn new(budget: u64, searchers: u32, crowded: bool) -> Self {
        Self { budget, searchers, crowded, gap: 0, idle_since: None, skipped: 0, now: None }
    }

    /// Returns how many workers of the queue may search at once.
    pub(super) fn searchers(&self) -> u32 {
        self.searchers
    }

    /// Returns the time now, read at most once between two polls of user code.
    pub(super) fn now(&mut self) -> u64 {
        *self.now.get_or_insert_with(now)
    }

    /// User code has just run; this is the time.
    pub(super) fn set_now(&mut self, time: u64) {
        self.now = Some(time);
    }

    /// User code has just run, for an unknown time.
    pub(super) fn forget_now(&mut self) {
        self.now = None;
    }

    /// Returns whether work has lately come soon enough. Now and then yes whatever the average: a
    /// gap in which worker and caller sleep is mostly wake-ups, so sleeping alone would never show
    /// that spinning has come to be worth it again.
    pub(super) fn worth_it(&mut self) -> bool {
        if self.budget > 0 && (self.gap <= self.budget || self.skipped >= PROBE) {
            self.skipped = 0;
            return true;
        }
        self.skipped += 1;
        false
    }

    /// Spins until `found`, for as long as a sleep would cost. False if it never was.
    pub(super) fn until(&mut self, found: impl Fn() -> bool) -> bool {
        let start = *self.idle_since.get_or_insert_with(now);
        loop {
            for _ in 0..32 {
                if found() {
                    // Proof that it is worth it, whatever the average was.
                    self.gap = self.gap.min(self.budget);
                    self.learn(start);
                    return true;
                }
                spin_hint();
            }
            if now().saturating_sub(start) > self.budget {
                return false;
            }
            if self.crowded {
                std::thread::yield_now();
            }
        }
    }

    /// The worker goes to sleep.
    pub(super) fn rest(&mut self) {
        self.idle_since.get_or_insert_with(now);
        self.now = None;
    }

    /// The worker is awake.
    pub(super) fn wake(&mut self) {
        self.now = None;
        if let Some(since) = self.idle_since {
            self.learn(since);
        }
    }

    fn learn(&mut self, since: u64) {
        self.idle_since = None;
        let time = now();
        self.now = Some(time);
        // A gap counts for at most two budgets: a pause in a busy spell must not end the spinning.
        let gap = time.saturating_sub(since).min(self.budget.saturating_mul(2));
        self.gap = (self.gap * 3 + gap) / 4;
    }
}
