//! Floor 2: a pool's numbers, and the page on which observers find them.
//!
//! The page is memory with a name, which only its host writes: a header, the numbers in the order
//! of [`NUMBERS`], and two histograms. All are 64-bit words in the machine's byte order.
//!
//! | word | what |
//! |---|---|
//! | 0 | [`MAGIC`] |
//! | 1 | [`LAYOUT_VERSION`]`, the number of NUMBERS in the upper half |
//! | 2 | the host's process id |
//! | 3 | the sequence: odd while the host writes, another number after it has |
//! | 4 | when it was written last, `CLOCK_MONOTONIC` in nanoseconds |
//! | 5 | when it was made, likewise; no other page of this host was made then |
//! | 6… | the numbers |
//! | then | 200 counts, a sum and the longest: how long tasks waited; likewise how long they ran |
//!
//! New numbers come after the ones there are; the version says so.

#![cfg(not(aiopool_loom))]

mod histogram;
#[cfg(feature = "stats-page")]
mod page;
mod reader;

pub use histogram::Histogram;
pub(crate) use histogram::{BUCKETS, HISTOGRAM, LONGEST, bucket_of};
#[cfg(feature = "stats-page")]
pub(crate) use page::{Page, Promise};
#[cfg(aiopool_fuzz)]
pub use reader::read_anything as fuzz_page;
pub(crate) use reader::remove;
pub use reader::{PageStats, observe};

/// The first word of a page: "aiopool" and a zero.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"aiopool\0");

/// The layout above.
pub(crate) const LAYOUT_VERSION: u64 = 2;

pub(crate) const PID: usize = 2;
pub(crate) const SEQUENCE: usize = 3;
pub(crate) const WRITTEN: usize = 4;
pub(crate) const MADE: usize = 5;
pub(crate) const HEADER: usize = 6;

/// The numbers of a page, in order.
pub(crate) const NUMBERS: [&str; 21] = [
    "submitted",
    "queued",
    "running",
    "ok",
    "failed",
    "panicked",
    "cancelled",
    "timed_out",
    "worker_lost",
    "pool_closed",
    "other",
    "retries",
    "requeued",
    "deaths",
    "recycled",
    "killed_for_deadline",
    "killed_for_damage",
    "workers",
    "cpu_ns",
    "input_bytes",
    "free_records",
];

/// Words of a page.
pub(crate) const WORDS: usize = HEADER + NUMBERS.len() + 2 * HISTOGRAM;

/// All that a page says besides its header.
#[cfg(feature = "stats-page")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) numbers: [u64; NUMBERS.len()],
    pub(crate) waited: [u64; HISTOGRAM],
    pub(crate) ran: [u64; HISTOGRAM],
}

/// Returns the file of the page called `name`, or why that is no name.
pub(crate) fn path_of(name: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err("1 to 64 letters, digits, dots, dashes and underscores");
    }
    Ok(format!("/dev/shm/aiopool.{name}"))
}
