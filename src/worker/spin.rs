//! How long to look for work before sleeping: learned from the gaps there were.
//!
//! A sleep costs a wake-up, tens of microseconds on a virtual machine. If work has lately come
//! within that time, spinning for as long is cheaper than sleeping (the rent-or-buy rule: spin at
//! most what a sleep costs); if it has not, spinning is a waste.
#![forbid(unsafe_code)]

use crate::sync::spin_hint;

use super::engine::now;

/// The spin budget of one worker.
#[derive(Debug)]
pub(super) struct Spin {
    /// What a wake-up costs, about, in nanoseconds.
    budget: u64,
    searchers: u32,
    /// Average gap between becoming idle and the next work, in nanoseconds.
    gap: u64,
    idle_since: Option<u64>,
    /// The time, as last read.
    now: Option<u64>,
}

impl Spin {
    pub(super) fn new(budget: u64, searchers: u32) -> Self {
        Self { budget, searchers, gap: 0, idle_since: None, now: None }
    }

    /// How many workers of the queue may search at once.
    pub(super) fn searchers(&self) -> u32 {
        self.searchers
    }

    /// The time now, read at most once between two polls of user code.
    pub(super) fn now(&mut self) -> u64 {
        *self.now.get_or_insert_with(now)
    }

    /// User code has just run; this is the time.
    pub(super) fn set_now(&mut self, time: u64) {
        self.now = Some(time);
    }

    /// Whether work has lately come soon enough.
    pub(super) fn worth_it(&self) -> bool {
        self.budget > 0 && self.gap <= self.budget
    }

    /// Spins until `found`, for as long as a sleep would cost. False if it never was.
    pub(super) fn until(&mut self, found: impl Fn() -> bool) -> bool {
        let start = *self.idle_since.get_or_insert_with(now);
        loop {
            for _ in 0..32 {
                if found() {
                    self.learn(start);
                    return true;
                }
                spin_hint();
            }
            if now().saturating_sub(start) > self.budget {
                return false;
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
        // A gap counts for at most eight budgets, so that a busy spell is noticed soon.
        let gap = time.saturating_sub(since).min(self.budget.saturating_mul(8));
        self.gap = (self.gap * 3 + gap) / 4;
    }
}
