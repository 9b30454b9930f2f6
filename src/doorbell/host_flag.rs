//! The host's side of the doorbell: one word, `{ epoch:63, armed:1 }`, per queue.
//!
//! The host arms it before it sleeps; a worker that completes rings only if it is armed. Arming is
//! a new epoch each time, and a worker clears by compare-and-swap on the epoch it saw, *after* it
//! rang: a worker that is stopped between the two cannot wipe out a later arming (model: a blind
//! clear loses a wake-up), and one that dies between them leaves the flag set, which costs a
//! second ring and nothing else.

use crate::sync::atomic::{
    AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst, fence,
};

const ARMED: u64 = 1;
/// More than there are workers and threads that change the flag at one time.
const TURNS: u32 = 10_000;

/// A view of a queue's host flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostFlag<'m>(&'m AtomicU64);

/// A flag that was seen armed: ring, then [`HostFlag::rung`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Armed(u64);

impl<'m> HostFlag<'m> {
    /// Returns the flag that is `word`.
    pub(crate) fn new(word: &'m AtomicU64) -> Self {
        Self(word)
    }

    /// The host is about to wait: it looks at the lanes once more *after* this.
    pub(crate) fn arm(self) {
        let mut seen = self.0.load(Relaxed);
        let mut turns = 0;
        loop {
            let next = (seen | ARMED).wrapping_add(2);
            // Release: pairs with the Acquire in `armed`, so that whom the worker rings sees who
            // parked before this. The fence below orders it before the look that follows.
            match self.0.compare_exchange(seen, next, Release, Relaxed) {
                Ok(_) => break,
                Err(now) if turns < TURNS => seen = now,
                // Each worker clears an arming once: only who scribbles comes between so often.
                Err(_) => break self.0.store(next, Release),
            }
            turns += 1;
        }
        // In truth others come between the change and the fence, too; without a step between them
        // loom takes the two for one.
        #[cfg(aiopool_loom)]
        let _ = self.0.load(Relaxed);
        // SeqCst fence, B1: pairs with the one in `armed`. Either the worker sees the flag or the
        // host's next look sees the worker's lane word.
        fence(SeqCst);
    }

    /// The host is awake: no need to ring. For a host with one thread that waits: with several, one
    /// must not disarm for the others.
    pub(crate) fn disarm(self) {
        let seen = self.0.load(Relaxed);
        if seen & ARMED != 0 {
            let _ = self.0.compare_exchange(seen, seen & !ARMED, Relaxed, Relaxed);
        }
    }

    /// A worker has published a lane word: must it ring?
    pub(crate) fn armed(self) -> Option<Armed> {
        // SeqCst fence, B2: pairs with the one in `arm`.
        fence(SeqCst);
        // Acquire: pairs with the Release in `arm`.
        let seen = self.0.load(Acquire);
        (seen & ARMED != 0).then_some(Armed(seen))
    }

    /// The worker has rung for the arming it saw.
    pub(crate) fn rung(self, Armed(seen): Armed) {
        // B3: dies before this → still armed, the next completion rings once more.
        let _ = self.0.compare_exchange(seen, seen & !ARMED, Relaxed, Relaxed);
    }
}

#[cfg(all(test, not(aiopool_loom)))]
mod tests {
    use super::*;
    use crate::sync::racing::restless;

    #[test]
    fn a_flag_that_never_stands_still_is_armed_all_the_same() {
        let word = AtomicU64::new(0);
        restless(1 << 40, || HostFlag::new(&word).arm());
        assert!(HostFlag::new(&word).armed().is_some());
    }
}
