//! Where a thread runs, for as long as a block takes, and whether it was left alone there.
#![forbid(unsafe_code)]

use std::io;

use aiopool::internals::sys::Mask;

/// The calling thread stays on one processor until this is dropped.
pub struct Pinned(Mask);

impl Pinned {
    /// To processor number `index` of those that this process may use, or of as many as there are.
    pub fn to(index: usize) -> io::Result<Self> {
        let before = Mask::of_this_thread()?;
        let allowed = before.processors();
        Mask::single(allowed[index % allowed.len()]).apply()?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed before; if it is no more, the kernel has moved the thread itself.
        let _ = self.0.apply();
    }
}

/// Returns how often the calling thread lost its processor to another thread; 0 where the kernel
/// does not count.
pub(super) fn interruptions() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let count = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
