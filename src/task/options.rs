//! What a caller can ask for a task besides its call.

use std::time::Duration;

use super::error::TaskError;
use super::predicate::{self, Ended, Predicate};

/// Options of a task; the default is one attempt without limits in the ordinary priority class.
///
/// ```
/// use std::time::Duration;
/// let options = aiopool::TaskOptions::new().retries(3).timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOptions {
    // In nanoseconds, [`NEVER`] for none: options are copied for each task.
    timeout_ns: u64,
    queue_ttl_ns: u64,
    backoff_ms: u32,
    longest_backoff_ms: u32,
    pub(crate) retries: u32,
    /// The number of the predicate; see [`predicate`].
    retry_if: u16,
    pub(crate) priority: u8,
    // Bits: truths, with values that they never have for an `Option` to use, would have a copy of
    // what holds them go in pieces, and a load across pieces waits for all of them.
    flags: u8,
}

const _: () = assert!(size_of::<TaskOptions>() == 32);

const RETRY_ON_ERROR: u8 = 1;
const LEND_OUTPUT: u8 = 2;
const RETRY_ON_TIMEOUT: u8 = 4;
const JITTER: u8 = 8;
const ALONE: u8 = 16;
const LEND_LARGE: u8 = 32;
const ELSEWHERE: u8 = 64;

/// The longest pause unless the caller says otherwise: a minute.
const LONGEST_BACKOFF_MS: u32 = 60_000;

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            timeout_ns: NEVER,
            queue_ttl_ns: NEVER,
            backoff_ms: 0,
            longest_backoff_ms: LONGEST_BACKOFF_MS,
            retries: 0,
            retry_if: predicate::NONE,
            priority: 0,
            flags: 0,
        }
    }
}

impl TaskOptions {
    /// Returns the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long one attempt may run, from its start in a worker. Then the task ends with
    /// [`TaskError::TimedOut`](crate::TaskError::TimedOut): its future is dropped, and a worker
    /// that does not get round to that within the pool's grace period is killed.
    ///
    /// This is the only thing that ends a task whose function never returns, and one whose worker
    /// is stopped (`SIGSTOP`, a frozen control group): the pool cannot tell either from a long
    /// computation, and a stopped worker may go on. Without a timeout they wait, until they are
    /// cancelled or the pool ends; both deliver an outcome at once.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout_ns = nanoseconds(limit);
        self
    }

    /// Sets how long the task may wait for a worker, from its submission.
    #[must_use]
    pub fn queue_ttl(mut self, limit: Duration) -> Self {
        self.queue_ttl_ns = nanoseconds(limit);
        self
    }

    /// Sets how many more attempts the task gets when its worker dies. The default is 0: user code
    /// never runs twice unless its caller allowed it.
    ///
    /// For other ends see [`retry_on_error`](Self::retry_on_error),
    /// [`retry_on_timeout`](Self::retry_on_timeout) and [`retry_if`](Self::retry_if). An attempt
    /// that ended because of another task in the worker is made again without being counted: its
    /// worker died while other tasks were running in it, too, or another task
    /// [blocked](crate::TaskError::NeighbourBlocked) it. No attempt begins before nothing is left
    /// of the one before.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Lets the retries count for an error returned by the task function and a panic, too.
    #[must_use]
    pub fn retry_on_error(mut self, yes: bool) -> Self {
        self.set(RETRY_ON_ERROR, yes);
        self
    }

    /// Lets the retries count for an attempt that ran longer than its [`timeout`](Self::timeout),
    /// too. The next one begins when the worker has dropped it, or is dead. A task that was not
    /// started within its [`queue_ttl`](Self::queue_ttl) is over.
    #[must_use]
    pub fn retry_on_timeout(mut self, yes: bool) -> Self {
        self.set(RETRY_ON_TIMEOUT, yes);
        self
    }

    /// Has `predicate` decide whether an attempt that ended so is made again, as long as there are
    /// [`retries`](Self::retries): in place of `retry_on_error` and `retry_on_timeout`, and for the
    /// death of a worker, too. It is asked about `Failed`, `Panicked`, `TimedOut` of a task that
    /// was running, `NeighbourBlocked` and `WorkerLost`.
    ///
    /// It runs on a thread of the host that receives outcomes, perhaps the pool's own, and is not
    /// to wait. One that panics counts as `false`.
    ///
    /// ```
    /// use aiopool::{TaskError, TaskOptions};
    ///
    /// let options = TaskOptions::new().retries(3).retry_if(|error| match error {
    ///     TaskError::Failed(failure) => failure.message().contains("try again"),
    ///     TaskError::TimedOut { .. } => true,
    ///     _ => false,
    /// });
    /// ```
    #[must_use]
    pub fn retry_if(mut self, predicate: fn(&TaskError) -> bool) -> Self {
        // A program of more predicates than there are numbers is none.
        let number = predicate::number(Predicate::Rust(predicate));
        self.retry_if = number.expect("a program has fewer than 65,536 predicates");
        self
    }

    /// Has a function of another language decide as that of [`retry_if`](Self::retry_if) does,
    /// through `call`. None if too many have decided before.
    pub(crate) fn retry_if_foreign(
        mut self,
        address: usize,
        call: fn(usize, &Ended<'_>) -> bool,
    ) -> Option<Self> {
        self.retry_if = predicate::number(Predicate::Foreign(address, call))?;
        Some(self)
    }

    /// Sets how long to wait before the second attempt, in whole milliseconds, rounded up; doubled
    /// for each one after, at most [`longest_backoff`](Self::longest_backoff). The default is not
    /// to wait.
    #[must_use]
    pub fn backoff(mut self, first: Duration) -> Self {
        self.backoff_ms = milliseconds(first);
        self
    }

    /// Sets the longest pause between two attempts; the default is a minute. A first pause that is
    /// longer stays what it is.
    #[must_use]
    pub fn longest_backoff(mut self, limit: Duration) -> Self {
        self.longest_backoff_ms = milliseconds(limit);
        self
    }

    /// Shortens each pause by chance, down to half of it, so that tasks that failed together do not
    /// come back together.
    #[must_use]
    pub fn jitter(mut self, yes: bool) -> Self {
        self.set(JITTER, yes);
        self
    }

    /// Has the task run with no other beside it in its worker, so that its crash costs no other.
    /// It waits until a worker has nothing else, and other tasks wait for it: what it costs is the
    /// worker's concurrency. See [`PoolBuilder::probation`](crate::PoolBuilder::probation) for a
    /// pool that decides so itself.
    #[must_use]
    pub fn alone(mut self, yes: bool) -> Self {
        self.set(ALONE, yes);
        self
    }

    /// Sets the priority class, 0 the most urgent, below the pool's number of classes.
    #[must_use]
    pub fn priority(mut self, class: u8) -> Self {
        self.priority = class;
        self
    }

    /// Has a large output lent to its receiver instead of copied out.
    pub(crate) fn lend_output(mut self, yes: bool) -> Self {
        self.set(LEND_OUTPUT, yes);
        self
    }

    /// Has an output that is worth it lent to a receiver that takes it at once.
    pub(crate) fn lend_large(mut self) -> Self {
        self.set(LEND_LARGE, true);
        self
    }

    /// Returns the options of a call from C: times in milliseconds, 0 for a limit that there is
    /// not.
    #[inline]
    pub(crate) fn of_milliseconds(run_limit: u64, wait_limit: u64, backoff: u64) -> Self {
        let limit = |ms: u64| if ms == 0 { NEVER } else { ms.saturating_mul(1_000_000) };
        Self {
            timeout_ns: limit(run_limit),
            queue_ttl_ns: limit(wait_limit),
            backoff_ms: u32::try_from(backoff).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    /// Makes these the options of one attempt of a task whose attempts another machine counts and
    /// decides about: `before` were made elsewhere. They need no pause, so that its place has the
    /// count.
    pub(crate) fn decided_elsewhere(mut self, before: u32) -> Self {
        self.set(ELSEWHERE, true);
        self.backoff_ms = before;
        self
    }

    /// Returns whether another machine decides about the task's attempts.
    pub(crate) fn is_decided_elsewhere(&self) -> bool {
        self.flags & ELSEWHERE != 0
    }

    /// Returns how many attempts were made elsewhere before the first one here.
    #[inline]
    pub(crate) fn attempts_before(&self) -> u32 {
        if self.is_decided_elsewhere() { self.backoff_ms } else { 0 }
    }

    fn set(&mut self, flag: u8, yes: bool) {
        self.flags = if yes { self.flags | flag } else { self.flags & !flag };
    }

    /// Returns whether an error and a panic count as an attempt.
    pub(crate) fn retries_on_error(&self) -> bool {
        self.flags & RETRY_ON_ERROR != 0
    }

    /// Returns whether an attempt that ran out of time counts as an attempt.
    pub(crate) fn retries_on_timeout(&self) -> bool {
        self.flags & RETRY_ON_TIMEOUT != 0
    }

    /// Returns what decides whether an attempt is made again.
    pub(crate) fn predicate(&self) -> Option<Predicate> {
        predicate::of(self.retry_if)
    }

    /// Returns whether nothing is to run beside the task.
    #[inline]
    pub(crate) fn runs_alone(&self) -> bool {
        self.flags & ALONE != 0
    }

    /// Returns whether an output stays in the worker's result arena for its receiver to borrow, if
    /// it `is_large` or not.
    pub(crate) fn lends_output(&self, is_large: bool) -> bool {
        let asked = if is_large { LEND_OUTPUT | LEND_LARGE } else { LEND_OUTPUT };
        self.flags & asked != 0
    }

    /// Returns how long an attempt may run.
    pub(crate) fn run_limit(&self) -> Option<Duration> {
        limit(self.timeout_ns)
    }

    /// Returns how long the task may wait for a worker.
    pub(crate) fn wait_limit(&self) -> Option<Duration> {
        limit(self.queue_ttl_ns)
    }

    /// Returns whether the second attempt follows the first at once.
    pub(crate) fn retries_at_once(&self) -> bool {
        self.backoff_ms == 0 || self.is_decided_elsewhere()
    }

    /// Returns whether nothing is to happen at a certain time after the submission.
    pub(crate) fn has_no_timers(&self) -> bool {
        self.timeout_ns == NEVER && self.queue_ttl_ns == NEVER
    }

    /// Returns the pause before attempt `attempt` (the second is 2).
    pub(crate) fn pause_before(&self, attempt: u32) -> Duration {
        if self.is_decided_elsewhere() {
            return Duration::ZERO;
        }
        let doublings = attempt.saturating_sub(2).min(31);
        let backoff = Duration::from_millis(self.backoff_ms.into());
        let longest = Duration::from_millis(self.longest_backoff_ms.into());
        backoff.saturating_mul(1 << doublings).min(longest.max(backoff))
    }

    /// Returns the pause before attempt `attempt`, shortened by the `chance` of a number where the
    /// caller wants that.
    pub(crate) fn pause_by_chance(&self, attempt: u32, chance: u64) -> Duration {
        let pause = self.pause_before(attempt);
        if self.flags & JITTER == 0 {
            return pause;
        }
        let part = (mix(chance) >> 40) as f64 / (1_u64 << 24) as f64;
        pause.mul_f64(1.0 - part / 2.0)
    }
}

/// No limit: a time that no process lives to see.
const NEVER: u64 = u64::MAX;

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Makes numbers that are near each other far apart (the finaliser of splitmix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

fn limit(ns: u64) -> Option<Duration> {
    (ns != NEVER).then(|| Duration::from_nanos(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_stay_at_a_minute() {
        let options = TaskOptions::new().backoff(Duration::from_secs(1));
        let pauses: Vec<u64> = (2..12).map(|n| options.pause_before(n).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(TaskOptions::new().pause_before(9), Duration::ZERO);
        let short = options.longest_backoff(Duration::from_secs(3));
        assert_eq!([2, 3, 4].map(|n| short.pause_before(n).as_secs()), [1, 2, 3]);
        let long = short.backoff(Duration::from_secs(7));
        assert_eq!([2, 9].map(|n| long.pause_before(n).as_secs()), [7, 7]);
        let little = TaskOptions::new().backoff(Duration::from_nanos(1));
        assert_eq!(little.pause_before(2), Duration::from_millis(1));
    }

    #[test]
    fn jitter_takes_up_to_half_of_a_pause_away_and_differs() {
        let pause = Duration::from_secs(8);
        let options = TaskOptions::new().backoff(pause).jitter(true);
        let pauses: Vec<Duration> = (0..1000).map(|n| options.pause_by_chance(2, n)).collect();
        assert!(pauses.iter().all(|&by_chance| by_chance <= pause && by_chance >= pause / 2));
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*most - *least > pause / 3, "{least:?} to {most:?}");
        assert_eq!(TaskOptions::new().backoff(pause).pause_by_chance(2, 7), pause);
    }

    #[test]
    fn a_predicate_is_found_again_by_its_number() {
        let options = TaskOptions::new().retry_if(|error| matches!(error, TaskError::Cancelled));
        let says = |options: TaskOptions, error: &TaskError| {
            options.predicate().unwrap().says(&Ended { error, attempt: 2, token: 7 })
        };
        assert!(says(options, &TaskError::Cancelled));
        assert!(!says(options, &TaskError::Value(String::new())));
        let foreign =
            |address, ended: &Ended<'_>| address as u64 == ended.token && ended.attempt == 2;
        let [seven, nine] = [7, 9].map(|at| TaskOptions::new().retry_if_foreign(at, foreign));
        assert!(says(seven.unwrap(), &TaskError::Cancelled));
        assert!(!says(nine.unwrap(), &TaskError::Cancelled));
        assert_eq!(seven, TaskOptions::new().retry_if_foreign(7, foreign));
        assert!(TaskOptions::new().predicate().is_none());
        let again = || options.retry_if(|_| true);
        assert_eq!(again(), again());
    }
}
