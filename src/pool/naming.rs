//! Options of a pool that say how observers see it.

use std::time::Duration;

use super::PoolBuilder;

impl PoolBuilder {
    /// Names the pool for those who [observe](crate::view) it, as `aiopool top NAME` does: 1 to 32
    /// letters, digits, dots, dashes and underscores. The default is the program's name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets programs of this user and of root look at the pool, which is the default: `aiopool ps`
    /// and `aiopool top`. They can read numbers, names of functions and texts of errors, and
    /// nothing else; [`view`](crate::view) says how. A pool that cannot listen runs all the same.
    ///
    /// `AIOPOOL_OBSERVE=0` in the environment turns it off for every pool of a process.
    #[must_use]
    pub fn observable(mut self, yes: bool) -> Self {
        self.observable = yes;
        self
    }

    /// Makes each poll of a task that lasts longer than `after` an event, once: in
    /// [`Pool::snapshot`](crate::Pool::snapshot), in `aiopool top` and in timelines. Such a task
    /// holds up the others of its worker; `aiopool stack` says where it is. The default is none:
    /// `aiopool top` shows what is blocked all the same. A worker of a start command has a loop of
    /// its own: there it is a task that was given to the loop (in Python: a function, or the first
    /// step of a coroutine) and from which it has not come back to ask for the next.
    #[must_use]
    pub fn blocked_after(mut self, after: Duration) -> Self {
        self.blocked_after = Some(after);
        self
    }

    /// Makes it pool number `id`, one of `supervisor::next_id`, so that a caller knows which pool a
    /// message is about before the pool is built.
    #[cfg(feature = "capi")]
    pub(crate) fn id(mut self, id: usize) -> Self {
        self.id = Some(id);
        self
    }

    /// Publishes the pool's numbers under `name`, for [`observe`](crate::observe),
    /// `aiopool stats` and programs in other languages: in shared memory that its owner can read,
    /// as `/dev/shm/aiopool.<name>`.
    ///
    /// Nothing but numbers goes out and nothing comes in. The page goes with the pool, and also
    /// when the host is killed.
    #[cfg(feature = "stats-page")]
    #[must_use]
    pub fn stats_page(mut self, name: impl Into<String>) -> Self {
        self.stats_page = Some(name.into());
        self
    }

    /// Gives the pool's [metrics](crate::Snapshot::metrics) once a second to the recorder of the
    /// `metrics` crate that the program has installed, and once more at the pool's end: under the
    /// names that `aiopool dashboard --metrics` has, so that `docs/grafana.json` shows them, too.
    ///
    /// A thread of the pool's calls the recorder; no task waits for it. Two kinds of number are
    /// given in a form that the facade has no better one for: processor time is a gauge, and a
    /// histogram is a counter for each of its buckets, named as Prometheus names them. (The
    /// facade's own histograms want one call for each task.)
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self, yes: bool) -> Self {
        self.metrics = yes;
        self
    }
}
