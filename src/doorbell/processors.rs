//! Where each side runs: a side whose partner was last on its own processor keeps it from running
//! while it spins.
//!
//! All accesses are Relaxed: what is read here decides how to wait, never whether.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::slot_set::SlotSet;

/// A view of the words that say on which processors the host and the workers were seen last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processors<'m> {
    /// The host's, then one for each worker slot: the processor's number and 1, 0 for unknown.
    words: &'m [AtomicU64],
    sleepers: SlotSet<'m>,
}

/// With more worker slots than this none is looked at, and one of them is taken to run elsewhere.
const MANY: usize = 64;

impl<'m> Processors<'m> {
    /// Returns the view of `words`, one more than there are worker slots.
    pub(crate) fn new(words: &'m [AtomicU64], sleepers: SlotSet<'m>) -> Self {
        Self { words, sleepers }
    }

    /// A thread of the host waits on `processor`.
    pub(crate) fn set_host(self, processor: Option<u32>) {
        set(&self.words[0], processor);
    }

    /// The worker in `slot` runs on `processor`.
    pub(crate) fn set_worker(self, slot: usize, processor: Option<u32>) {
        set(&self.words[slot + 1], processor);
    }

    /// Returns whether the host may be running beside a worker that runs on `own`.
    pub(crate) fn may_host_run(self, own: Option<u32>) -> bool {
        may_run(self.words[0].load(Relaxed), own)
    }

    /// Returns whether a worker that is not asleep may be running beside a thread that runs on
    /// `own`.
    pub(crate) fn may_worker_run(self, own: Option<u32>) -> bool {
        let workers = &self.words[1..];
        if workers.len() > MANY {
            return true;
        }
        let mut is_any_known = false;
        let mut runs = |(slot, word): (usize, &AtomicU64)| {
            let seen = word.load(Relaxed);
            is_any_known |= seen != 0;
            seen != 0 && may_run(seen, own) && !self.sleepers.has(slot)
        };
        workers.iter().enumerate().any(&mut runs) || !is_any_known
    }
}

fn set(word: &AtomicU64, processor: Option<u32>) {
    let now = processor.map_or(0, |processor| u64::from(processor) + 1);
    // Read first: the line stays with all who read it while nothing changes.
    if word.load(Relaxed) != now {
        word.store(now, Relaxed);
    }
}

fn may_run(seen: u64, own: Option<u32>) -> bool {
    seen == 0 || own.is_none_or(|own| seen != u64::from(own) + 1)
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_partner_runs_elsewhere_or_not_at_all() {
        let words: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        let asleep = AtomicU64::new(0);
        let sleepers = SlotSet::new(std::slice::from_ref(&asleep));
        let seen = Processors::new(&words, sleepers);
        assert!(seen.may_host_run(Some(0)) && seen.may_worker_run(Some(0)), "nothing is known");
        seen.set_host(Some(0));
        assert!(!seen.may_host_run(Some(0)) && seen.may_host_run(Some(1)));
        assert!(seen.may_host_run(None), "the caller does not know where it is");
        seen.set_worker(1, Some(3));
        assert!(!seen.may_worker_run(Some(3)) && seen.may_worker_run(Some(0)));
        seen.set_worker(2, Some(1));
        assert!(seen.may_worker_run(Some(3)));
        sleepers.insert(2);
        assert!(!seen.may_worker_run(Some(3)), "the one elsewhere sleeps");
        seen.set_worker(2, None);
        seen.set_worker(1, None);
        assert!(seen.may_worker_run(Some(3)), "nothing is known any more");
    }
}
