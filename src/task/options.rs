//! What a caller can ask for a task besides its call.

use std::time::Duration;

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
    backoff_ns: u64,
    pub(crate) retries: u32,
    pub(crate) priority: u8,
    // Packed into one byte on purpose: `bool`s have niches, so the struct would be copied field by
    // field, and a later wide load would stall on store forwarding.
    flags: u8,
}

const RETRY_ON_ERROR: u8 = 1;
const LEND_OUTPUT: u8 = 2;

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            timeout_ns: NEVER,
            queue_ttl_ns: NEVER,
            backoff_ns: 0,
            retries: 0,
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

    /// Sets how long to wait before the second attempt; doubled for each one after, at most a
    /// minute.
    #[must_use]
    pub fn backoff(mut self, first: Duration) -> Self {
        self.backoff_ns = nanoseconds(first);
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

    fn set(&mut self, flag: u8, yes: bool) {
        self.flags = if yes { self.flags | flag } else { self.flags & !flag };
    }

    /// Returns whether an error and a panic count as an attempt.
    pub(crate) fn retries_on_error(&self) -> bool {
        self.flags & RETRY_ON_ERROR != 0
    }

    /// Returns whether a large output stays in the worker's result arena for its receiver to
    /// borrow.
    pub(crate) fn lends_output(&self) -> bool {
        self.flags & LEND_OUTPUT != 0
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
        self.backoff_ns == 0
    }

    /// Returns whether nothing is to happen at a certain time after the submission.
    pub(crate) fn has_no_timers(&self) -> bool {
        self.timeout_ns == NEVER && self.queue_ttl_ns == NEVER
    }

    /// Returns the pause before attempt `attempt` (the second is 2).
    pub(crate) fn pause_before(&self, attempt: u32) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        let doublings = attempt.saturating_sub(2).min(31);
        let backoff = Duration::from_nanos(self.backoff_ns);
        backoff.saturating_mul(1 << doublings).min(LONGEST.max(backoff))
    }
}

/// No limit: a time that no process lives to see.
const NEVER: u64 = u64::MAX;

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
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
    }
}
