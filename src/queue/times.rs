//! How long tasks waited and ran, by function: always on. Each queue has its own, written under
//! its mutex only, so that a task costs plain additions and readers need no lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::stats::{BUCKETS, HISTOGRAM, LONGEST, bucket_of};
use crate::task::function::MAX_FUNCTIONS;
use crate::task::{Outcome, TaskError};
use crate::view::FunctionStats;

use super::counters::{KINDS, kind_of};

/// The longest duration that is added, 13 days: output descriptors hold no longer ones.
const LONGEST_NS: u64 = 1 << 50;

/// A histogram that is being added to.
#[derive(Debug)]
pub(crate) struct Durations {
    buckets: [AtomicUsize; BUCKETS],
    sum_ns: AtomicUsize,
    longest_ns: AtomicUsize,
}

impl Default for Durations {
    fn default() -> Self {
        let zero = || AtomicUsize::new(0);
        Self { buckets: std::array::from_fn(|_| zero()), sum_ns: zero(), longest_ns: zero() }
    }
}

impl Durations {
    /// Adds a duration of `ns` nanoseconds. The caller is the only writer.
    #[inline]
    fn add(&self, ns: u64) {
        // Limited, so that a faulty worker's time cannot spoil the sum for good.
        let ns = ns.min(LONGEST_NS);
        add(&self.buckets[bucket_of(ns)], 1);
        add(&self.sum_ns, ns as usize);
        if ns as usize > self.longest_ns.load(Relaxed) {
            self.longest_ns.store(ns as usize, Relaxed);
        }
    }

    /// Adds the counts and the sum of all durations to `all`, which has the longest, too.
    pub(crate) fn add_to(&self, all: &mut [u64; HISTOGRAM]) {
        for (all, number) in all.iter_mut().zip(self.buckets.iter().chain([&self.sum_ns])) {
            // Saturating: a worker may have written any times.
            *all = all.saturating_add(number.load(Relaxed) as u64);
        }
        all[LONGEST] = all[LONGEST].max(self.longest_ns.load(Relaxed) as u64);
    }
}

/// Adds to a number that no other thread writes meanwhile: no locked instruction.
fn add(number: &AtomicUsize, n: usize) {
    number.store(number.load(Relaxed).saturating_add(n), Relaxed);
}

/// How the tasks of a function ended, and how long they took.
#[derive(Debug, Default)]
pub(crate) struct Times {
    ok: AtomicUsize,
    errors: [AtomicUsize; KINDS],
    pub(crate) waited: Durations,
    pub(crate) ran: Durations,
}

impl Times {
    /// Adds the times of a task, if its worker has written some.
    #[inline(always)] // once a task
    fn add(&self, waited_ns: u64, ran_ns: u64) {
        if waited_ns != 0 || ran_ns != 0 {
            self.waited.add(waited_ns);
            self.ran.add(ran_ns);
        }
    }

    /// Adds how tasks ended to `all`.
    pub(crate) fn add_outcomes_to(&self, all: &mut FunctionStats) {
        let into = [
            &mut all.ok,
            &mut all.failed,
            &mut all.panicked,
            &mut all.cancelled,
            &mut all.timed_out,
            &mut all.worker_lost,
            &mut all.pool_closed,
            &mut all.other,
        ];
        for (into, number) in into.into_iter().zip([&self.ok].into_iter().chain(&self.errors)) {
            *into = into.saturating_add(number.load(Relaxed) as u64);
        }
    }
}

/// The times of all functions, by number; each made when the first task of its function ends.
#[derive(Debug)]
pub(crate) struct AllTimes(Box<[OnceLock<Box<Times>>]>);

impl Default for AllTimes {
    fn default() -> Self {
        Self((0..MAX_FUNCTIONS).map(|_| OnceLock::new()).collect())
    }
}

impl AllTimes {
    /// Records how a task ended that a worker has finished, and its times, if the worker has
    /// written some; one caller at a time.
    pub(super) fn note(&self, function: u32, outcome: &Outcome) {
        let Outcome { waited_ns, ran_ns, .. } = *outcome;
        match &outcome.result {
            Ok(_) => self.note_value(function, waited_ns, ran_ns),
            Err(error) => {
                let Some(times) = self.of(function) else { return };
                add(&times.errors[kind_of(error)], 1);
                times.add(waited_ns, ran_ns);
            }
        }
    }

    /// Records that a worker has finished a task with a value; likewise.
    #[inline(always)] // once a task
    pub(super) fn note_value(&self, function: u32, waited_ns: u64, ran_ns: u64) {
        let Some(times) = self.of(function) else { return };
        add(&times.ok, 1);
        times.add(waited_ns, ran_ns);
    }

    /// Records that the host ended a task; likewise.
    pub(super) fn note_error(&self, function: u32, error: &TaskError) {
        if let Some(times) = self.of(function) {
            add(&times.errors[kind_of(error)], 1);
        }
    }

    #[inline]
    fn of(&self, function: u32) -> Option<&Times> {
        Some(self.0.get(function as usize)?.get_or_init(Box::default))
    }

    /// Returns the times of each function that has some, with its number.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Times)> {
        self.0.iter().enumerate().filter_map(|(i, times)| Some((i as u32, &**times.get()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_once_each() {
        let durations = Durations::default();
        for ns in [0, 1, 2, 3, 4, 1 << 40, u64::MAX / 2] {
            durations.add(ns);
        }
        let mut counts = [0; HISTOGRAM];
        durations.add_to(&mut counts);
        assert_eq!(&counts[..5], [1; 5]);
        assert_eq!((counts[bucket_of(1 << 40)], counts[bucket_of(LONGEST_NS)]), (1, 1));
        assert!(counts[BUCKETS] <= 2 * LONGEST_NS, "a scribbled time spoils the sum");
        assert_eq!(counts[LONGEST], LONGEST_NS);
    }
}
