//! Durations counted by powers of two.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Buckets of a histogram.
pub(crate) const BUCKETS: usize = 48;

/// How many durations fell between which powers of two nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    sum_ns: u64,
}

impl Histogram {
    /// Makes a histogram from counts, of which number `i` is of durations below `2^i` ns and not
    /// below half of it.
    pub(crate) fn new(counts: &[u64], sum_ns: u64) -> Self {
        Self { counts: counts.to_vec(), sum_ns }
    }

    /// Returns how many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        // Another program may have written anything.
        self.counts.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Returns their sum.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// Returns their mean; zero if there is none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.checked_div(self.count()).unwrap_or(0))
    }

    /// Returns a duration that the given share of them, 0 to 1, does not exceed: the upper end of a
    /// bucket, so at most twice the exact one. Zero if there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let count = self.count();
        if count == 0 {
            return Duration::ZERO;
        }
        let wanted = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (upper, count) in self.buckets() {
            seen = count.saturating_add(seen);
            if seen >= wanted {
                return upper;
            }
        }
        Duration::MAX
    }

    /// Returns each bucket's upper end, exclusive, and its count. The last one counts all that is
    /// longer.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.counts.iter().enumerate().map(|(i, &count)| (Duration::from_nanos(1 << i), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_ends_of_buckets() {
        let mut counts = [0; BUCKETS];
        (counts[10], counts[20]) = (90, 10);
        let histogram = Histogram::new(&counts, 200_000);
        assert_eq!(histogram.count(), 100);
        assert_eq!(histogram.mean(), Duration::from_micros(2));
        assert_eq!(histogram.quantile(0.5), Duration::from_nanos(1 << 10));
        assert_eq!(histogram.quantile(0.9), Duration::from_nanos(1 << 10));
        assert_eq!(histogram.quantile(0.99), Duration::from_nanos(1 << 20));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
