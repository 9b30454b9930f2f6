//! When to spin before going to sleep, learned from the waits there were.
//!
//! The rent-or-buy rule: a wait that is shorter than a sleep and its wake-up is cheaper spun
//! through; a longer one is cheaper slept through. Spinning for at most the price of a sleep costs
//! at most twice the best choice. Whether the next wait will be short is estimated from the last.
//!
//! A waiter that another program kept from running while it spun learns of a long wait by that, as
//! it does where its partner was kept from running, and sleeps through the next ones.
#![forbid(unsafe_code)]

use super::spin_hint;

/// One wait in this many spins whatever the estimate. While a thread sleeps, the wait that it
/// measures is mostly its own wake-up, so it would never notice that spinning pays again.
const PROBE: u32 = 16;

/// Checks for a result between two readings of the clock.
const TURNS: u32 = 16;

/// Decides whether one waiter spins, and spins for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpinPolicy {
    /// The price of a sleep and its wake-up, in nanoseconds; 0 never spins.
    price_ns: u64,
    /// A running average of how long waits took, in nanoseconds.
    average_ns: u64,
    /// Waits since the last one that spun.
    skipped: u32,
}

impl SpinPolicy {
    /// Creates a policy that expects the first wait to be short.
    pub(crate) const fn new(price_ns: u64) -> Self {
        Self { price_ns, average_ns: 0, skipped: 0 }
    }

    /// Returns whether waits have lately been shorter than `ns` on average.
    pub(crate) fn is_below(&self, ns: u64) -> bool {
        self.average_ns < ns
    }

    /// Returns whether the wait that begins now is to spin.
    pub(crate) fn should_spin(&mut self) -> bool {
        let pays = self.average_ns <= self.price_ns || self.skipped >= PROBE;
        if self.price_ns > 0 && pays {
            self.skipped = 0;
            return true;
        }
        self.skipped += 1;
        false
    }

    /// Calls `check` until it finds something, for at most the price of a sleep. Returns what it
    /// found, and the time by `clock`, in nanoseconds.
    ///
    /// `check` is told which calls are the last before the clock is read, for a check that is too
    /// expensive for every turn. If `crowded`, the processor is offered to others at each of those.
    pub(crate) fn spin<T>(
        &mut self,
        clock: impl Fn() -> u64,
        crowded: bool,
        mut check: impl FnMut(bool) -> Option<T>,
    ) -> Option<(T, u64)> {
        let start = clock();
        loop {
            for turn in 1..=TURNS {
                if let Some(found) = check(turn == TURNS) {
                    let now = clock();
                    // It is proved that spinning pays, whatever the average was.
                    self.average_ns = self.average_ns.min(self.price_ns);
                    self.learn(now.saturating_sub(start));
                    return Some((found, now));
                }
                spin_hint();
            }
            let now = clock();
            if now.saturating_sub(start) > self.price_ns {
                // How much longer the wait takes is not known: long.
                self.learn(2 * self.price_ns);
                return None;
            }
            if crowded {
                std::thread::yield_now();
            }
        }
    }

    /// Notes that the waiter slept for `ns` nanoseconds.
    ///
    /// A long sleep counts for two prices: a pause in a busy spell must not end the spinning. A
    /// short one proves nothing: where processors are scarce, the other side may run just because
    /// this one sleeps.
    pub(crate) fn slept(&mut self, ns: u64) {
        self.learn(ns.min(2 * self.price_ns).max(self.average_ns));
    }

    fn learn(&mut self, ns: u64) {
        self.average_ns = (self.average_ns * 3 + ns) / 4;
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    const PRICE: u64 = 1000;

    /// Spins with a clock that goes on by 100 at each reading, until the check numbered `found`.
    fn spin(policy: &mut SpinPolicy, found: u32) -> bool {
        let (time, checks) = (Cell::new(0), Cell::new(0));
        let clock = || time.replace(time.get() + 100);
        let check = |_| {
            checks.set(checks.get() + 1);
            (checks.get() == found).then_some(())
        };
        policy.spin(clock, false, check).is_some()
    }

    #[test]
    fn long_waits_end_the_spinning_and_a_probe_that_finds_something_begins_it_again() {
        let mut policy = SpinPolicy::new(PRICE);
        assert!(policy.should_spin());
        policy.slept(u64::MAX);
        assert!(policy.should_spin(), "one long wait is not enough");
        (0..8).for_each(|_| policy.slept(u64::MAX));
        let skipped = (0..100).take_while(|_| !policy.should_spin()).count();
        assert_eq!(skipped, PROBE as usize);
        assert!(spin(&mut policy, 3));
        assert!(policy.should_spin(), "it was proved that spinning pays");
    }

    #[test]
    fn a_spin_ends_when_it_has_cost_as_much_as_a_sleep() {
        let mut policy = SpinPolicy::new(PRICE);
        assert!(!spin(&mut policy, u32::MAX));
        assert!(spin(&mut policy, 10 * TURNS), "the clock goes on by a tenth of it in a round");
    }

    #[test]
    fn a_short_sleep_proves_nothing() {
        let mut policy = SpinPolicy::new(PRICE);
        (0..8).for_each(|_| policy.slept(u64::MAX));
        (0..8).for_each(|_| policy.slept(1));
        assert!(!policy.should_spin());
    }

    #[test]
    fn after_it_was_kept_from_running_it_sleeps_until_a_probe_pays() {
        let mut policy = SpinPolicy::new(PRICE);
        // The clock goes on by a hundred prices while something is found.
        let time = Cell::new(0);
        let clock = || time.replace(time.get() + 100 * PRICE);
        assert!(policy.should_spin() && policy.spin(clock, false, |_| Some(())).is_some());
        let slept = (0..100).take_while(|_| !policy.should_spin()).count();
        assert_eq!(slept, PROBE as usize);
        assert!(spin(&mut policy, 1) && policy.should_spin());
    }

    #[test]
    fn without_a_price_nobody_spins() {
        let mut policy = SpinPolicy::new(0);
        assert!((0..40).all(|_| !policy.should_spin()));
    }
}
