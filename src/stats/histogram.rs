//! Durations counted in buckets: four an octave.
#![forbid(unsafe_code)]

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets of a histogram: four for each power of two nanoseconds up to 2^50, which is 13 days.
pub(crate) const BUCKETS: usize = 200;

/// Numbers of a histogram: its counts, their sum and the longest.
pub(crate) const HISTOGRAM: usize = BUCKETS + 2;
pub(crate) const SUM: usize = BUCKETS;
pub(crate) const LONGEST: usize = BUCKETS + 1;

/// How many durations fell into which quarters of powers of two nanoseconds.
///
/// Histograms of several pools or moments can be [merged](Self::merge).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Listed", from = "Listed")]
pub struct Histogram {
    counts: Vec<u64>,
    sum_ns: u64,
    longest_ns: u64,
}

/// Returns the bucket of a duration.
#[inline]
pub(crate) fn bucket_of(ns: u64) -> usize {
    if ns < 4 {
        return ns as usize;
    }
    let octave = ns.ilog2() as usize;
    let quarter = (ns >> (octave - 2)) as usize & 3;
    ((octave - 1) * 4 + quarter).min(BUCKETS - 1)
}

/// Returns a bucket's upper end, exclusive, in nanoseconds.
fn upper_end(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64 + 1;
    }
    let (octave, quarter) = (bucket / 4 + 1, bucket as u64 % 4);
    (5 + quarter) << (octave - 2)
}

impl Histogram {
    /// Makes a histogram from [`HISTOGRAM`] numbers.
    pub(crate) fn new(numbers: &[u64]) -> Self {
        Self {
            counts: numbers[..BUCKETS].to_vec(),
            sum_ns: numbers[SUM],
            longest_ns: numbers[LONGEST],
        }
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

    /// Returns the longest of them; zero if there is none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.longest_ns)
    }

    /// Returns a duration that the given share of them, 0 to 1, does not exceed: the upper end of a
    /// bucket, so at most a quarter more than the exact one, and never more than the longest. Zero
    /// if there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let count = self.count();
        if count == 0 {
            return Duration::ZERO;
        }
        // A float may round up what another program has written there.
        let wanted = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        for (upper, count) in self.buckets() {
            seen = count.saturating_add(seen);
            if seen >= wanted {
                return if self.longest_ns > 0 { upper.min(self.max()) } else { upper };
            }
        }
        self.max()
    }

    /// Returns each bucket's upper end, exclusive, and its count. The last one counts all that is
    /// longer.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.counts.iter().enumerate().map(|(i, &n)| (Duration::from_nanos(upper_end(i)), n))
    }

    /// Adds the durations of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    /// Returns what was counted after `earlier`, a histogram of the same durations. Its longest is
    /// the upper end of its last bucket, or the longest of all where that is less.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let counts: Vec<u64> =
            self.counts.iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect();
        let last = counts.iter().rposition(|&count| count > 0);
        Self {
            sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns),
            longest_ns: last.map_or(0, |last| upper_end(last).min(self.longest_ns)),
            counts,
        }
    }
}

/// A histogram as a text has it: the buckets that are not empty, by their upper ends, and what
/// readers would compute from them.
#[derive(Serialize, Deserialize)]
struct Listed {
    #[serde(default)]
    count: u64,
    sum_ns: u64,
    max_ns: u64,
    #[serde(default)]
    p50_ns: u64,
    #[serde(default)]
    p90_ns: u64,
    #[serde(default)]
    p99_ns: u64,
    buckets: Vec<(u64, u64)>,
}

impl From<Histogram> for Listed {
    fn from(histogram: Histogram) -> Self {
        let ns = |share| histogram.quantile(share).as_nanos() as u64;
        let buckets = histogram.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        Self {
            count: histogram.count(),
            sum_ns: histogram.sum_ns,
            max_ns: histogram.longest_ns,
            p50_ns: ns(0.5),
            p90_ns: ns(0.9),
            p99_ns: ns(0.99),
            buckets: buckets.map(|(at, &count)| (upper_end(at), count)).collect(),
        }
    }
}

impl From<Listed> for Histogram {
    fn from(listed: Listed) -> Self {
        let mut counts = vec![0_u64; if listed.buckets.is_empty() { 0 } else { BUCKETS }];
        for (upper, count) in listed.buckets {
            let counted = &mut counts[bucket_of(upper.saturating_sub(1))];
            *counted = counted.saturating_add(count);
        }
        Self { counts, sum_ns: listed.sum_ns, longest_ns: listed.max_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: impl IntoIterator<Item = u64>) -> Histogram {
        let mut numbers = [0; HISTOGRAM];
        for ns in durations {
            numbers[bucket_of(ns)] += 1;
            numbers[SUM] += ns;
            numbers[LONGEST] = numbers[LONGEST].max(ns);
        }
        Histogram::new(&numbers)
    }

    #[test]
    fn counts_that_no_float_holds_have_their_quantiles_in_order() {
        let mut histogram = Histogram { counts: vec![0; BUCKETS], ..Histogram::default() };
        histogram.counts[1] = 17_912_387_562_628_289_799;
        assert!(histogram.quantile(0.5) <= histogram.quantile(1.0), "{histogram:?}");
    }

    #[test]
    fn each_duration_is_below_its_buckets_end_and_not_below_the_one_before() {
        let mut checked = 0;
        for octave in 0..49 {
            for ns in [1_u64 << octave, (1 << octave) + (1 << octave) / 3, (2 << octave) - 1] {
                let bucket = bucket_of(ns);
                assert!(ns < upper_end(bucket), "{ns}");
                assert!(bucket == 0 || ns >= upper_end(bucket - 1), "{ns}");
                assert!(ns < 4 || upper_end(bucket) <= ns + ns / 4 + 1, "{ns}");
                checked += 1;
            }
        }
        assert_eq!(checked, 147);
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn quantiles_are_upper_ends_of_buckets_and_no_more_than_the_longest() {
        let histogram = of(std::iter::repeat_n(1_000, 90).chain([1_500_000; 10]));
        assert_eq!(histogram.count(), 100);
        assert_eq!(histogram.quantile(0.5), Duration::from_nanos(1 << 10));
        assert_eq!(histogram.quantile(0.9), Duration::from_nanos(1 << 10));
        assert_eq!(histogram.quantile(0.99), Duration::from_nanos(1_500_000));
        assert_eq!(histogram.max(), Duration::from_nanos(1_500_000));
        assert_eq!(histogram.mean(), Duration::from_nanos(150_900));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn histograms_merge_and_subtract_and_come_back_from_a_text() {
        let (mut first, second) = (of([5, 900, 900]), of([7, 1 << 30]));
        let before = first.clone();
        first.merge(&second);
        assert_eq!(first, of([5, 900, 900, 7, 1 << 30]));
        let since = first.since(&before);
        assert_eq!((since.count(), since.max()), (2, Duration::from_nanos(1 << 30)));
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), first);
        let hostile = r#"{"sum_ns":1,"max_ns":2,"buckets":[[18446744073709551615,3],[0,4]]}"#;
        assert_eq!(serde_json::from_str::<Histogram>(hostile).unwrap().count(), 7);
    }
}
