//! Options of a pool that say how observers see it.

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
}
