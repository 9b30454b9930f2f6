//! A worker's look for work before it sleeps, and the time as it knows it.
#![forbid(unsafe_code)]

use crate::sync::SpinPolicy;

use super::claimed::now;

/// When one worker spins, and what time it is.
#[derive(Debug)]
pub(super) struct Spin {
    policy: SpinPolicy,
    searchers: u32,
    /// Another process may have work for this processor while this one searches for some.
    crowded: bool,
    /// When the worker went to sleep, if it sleeps.
    asleep_since: Option<u64>,
    /// The time, as last read.
    now: Option<u64>,
}

impl Spin {
    /// Creates the state of a worker that spins for at most `price_ns` nanoseconds at a time.
    pub(super) fn new(price_ns: u64, searchers: u32, crowded: bool) -> Self {
        let policy = SpinPolicy::new(price_ns);
        Self { policy, searchers, crowded, asleep_since: None, now: None }
    }

    /// Returns how many workers of the queue may search at once.
    pub(super) fn searchers(&self) -> u32 {
        self.searchers
    }

    /// Returns the time now, read at most once between two polls of user code.
    pub(super) fn now(&mut self) -> u64 {
        *self.now.get_or_insert_with(now)
    }

    /// Notes that it is `time` now, after a poll of user code.
    pub(super) fn set_now(&mut self, time: u64) {
        self.now = Some(time);
    }

    /// Notes that user code has run, for an unknown time.
    pub(super) fn forget_now(&mut self) {
        self.now = None;
    }

    /// Returns whether to spin before sleeping.
    pub(super) fn worth_it(&mut self) -> bool {
        self.policy.should_spin()
    }

    /// Spins until `found`, for as long as a sleep would cost. False if it never was.
    pub(super) fn until(&mut self, found: impl Fn() -> bool) -> bool {
        let found = self.policy.spin(now, self.crowded, |_| found().then_some(()));
        let Some(((), time)) = found else { return false };
        self.now = Some(time);
        true
    }

    /// Does the same, and ends when it `gives_way`, which is asked from time to time.
    pub(super) fn until_or(
        &mut self,
        found: impl Fn() -> bool,
        mut gives_way: impl FnMut() -> bool,
    ) -> bool {
        let check = |last| match found() {
            true => Some(true),
            false => (last && gives_way()).then_some(false),
        };
        let found = self.policy.spin(now, self.crowded, check);
        self.now = None;
        found.is_some_and(|(found, _)| found)
    }

    /// Notes that the worker goes to sleep.
    pub(super) fn rest(&mut self) {
        self.asleep_since.get_or_insert_with(now);
        self.now = None;
    }

    /// Notes that the worker is awake.
    pub(super) fn wake(&mut self) {
        self.now = None;
        if let Some(since) = self.asleep_since.take() {
            let slept = self.now().saturating_sub(since);
            self.policy.slept(slept);
        }
    }
}
