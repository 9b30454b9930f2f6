//! How long tasks waited and ran, by function: always on. Each queue has its own, written under
//! its mutex only, so that a task costs plain additions and readers need no lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::stats::{BUCKETS, HISTOGRAM};
use crate::task::Outcome;
use crate::task::function::MAX_FUNCTIONS;

/// 13 days; descriptors cannot say more either.
const LONGEST_NS: u64 = 1 << 50;

/// A histogram that is being added to: bucket `i` counts durations below `2^i` nanoseconds and
/// not below half of that.
#[derive(Debug)]
pub(crate) struct Durations {
    buckets: [AtomicUsize; BUCKETS],
    sum_ns: AtomicUsize,
}

impl Default for Durations {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicUsize::new(0)), sum_ns: AtomicUsize::new(0) }
    }
}

impl Durations {
    /// Adds a duration of `ns` nanoseconds. The caller is the only writer.
    fn add(&self, ns: u64) {
        // More than any task took: what a worker tells is not to spoil the sum for good.
        let ns = ns.min(LONGEST_NS);
        let bucket = (u64::BITS - ns.leading_zeros()) as usize;
        add(&self.buckets[bucket.min(BUCKETS - 1)], 1);
        add(&self.sum_ns, ns as usize);
    }

    /// Adds the counts, and behind them the sum of all durations in nanoseconds, to `all`.
    pub(crate) fn add_to(&self, all: &mut [u64; HISTOGRAM]) {
        for (all, number) in all.iter_mut().zip(self.buckets.iter().chain([&self.sum_ns])) {
            // Saturating: a worker may have written any times.
            *all = all.saturating_add(number.load(Relaxed) as u64);
        }
    }
}

/// Adds to a number that no other thread writes meanwhile: no locked instruction.
fn add(number: &AtomicUsize, n: usize) {
    number.store(number.load(Relaxed).saturating_add(n), Relaxed);
}

/// The two histograms of a function.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) waited: Durations,
    pub(crate) ran: Durations,
}

/// Those of all functions, by number; made when the first task of a function ends.
#[derive(Debug)]
pub(crate) struct AllTimes(Box<[OnceLock<Box<Times>>]>);

impl Default for AllTimes {
    fn default() -> Self {
        Self((0..MAX_FUNCTIONS).map(|_| OnceLock::new()).collect())
    }
}

impl AllTimes {
    /// Records a task's times, if a worker has written some; one caller at a time.
    pub(super) fn note(&self, function: u32, outcome: &Outcome) {
        let Outcome { waited_ns, ran_ns, .. } = *outcome;
        if waited_ns == 0 && ran_ns == 0 {
            return;
        }
        if let Some(times) = self.0.get(function as usize) {
            let times = times.get_or_init(Box::default);
            times.waited.add(waited_ns);
            times.ran.add(ran_ns);
        }
    }

    /// Returns the functions that have some, by number.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Times)> {
        self.0.iter().enumerate().filter_map(|(i, times)| Some((i as u32, &**times.get()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_between_the_powers_of_two() {
        let durations = Durations::default();
        for ns in [0, 1, 2, 3, 4, 1 << 40, u64::MAX / 2] {
            durations.add(ns);
        }
        let mut counts = [0; HISTOGRAM];
        durations.add_to(&mut counts);
        assert_eq!(&counts[..4], [1, 1, 2, 1]);
        assert_eq!((counts[41], counts[BUCKETS - 1]), (1, 1));
        assert!(counts[BUCKETS] <= 2 * LONGEST_NS, "a scribbled time spoils the sum");
    }
}
